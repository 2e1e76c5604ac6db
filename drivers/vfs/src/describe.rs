//! What is told of volumes, which other hosts may change at any moment: of one, and of all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use convoy_driver_sdk::protocol::{Health, ListVolumes, ListedVolumes, Snapshot, Volume};
use convoy_driver_sdk::{DriverError, Name};
use parking_lot::Mutex;

use crate::catalog::Catalog;
use crate::error::{VfsError, VfsResult, io_error};
use crate::layout::{Layout, VOLUMES};
use crate::record::{SnapshotRecord, VolumeRecord};
use crate::sizes;

/// As long as the coarsest clock of a file system ticks (FAT: two seconds), and a little.
const SETTLED: Duration = Duration::from_millis(2100);

pub(crate) fn volume(catalog: &Catalog, record: &VolumeRecord) -> Volume {
    let path = catalog.data(record);
    let health = if path.is_dir() {
        Health::Good
    } else {
        Health::Damaged(format!(
            "the data is not at {}: is the file system with the volumes mounted?",
            path.display()
        ))
    };
    let mut info = BTreeMap::from([
        ("Path".to_owned(), path.display().to_string()),
        ("PrepareForVM".to_owned(), record.prepare_for_vm.to_string()),
    ]);
    let mut size = record.size;
    if let Some(enforced) = sizes::enforced(catalog, record) {
        info.insert("SizeEnforced".to_owned(), enforced.is_ok().to_string());
        if let Err(obstacle) = enforced {
            let hint = obstacle.hint();
            info.insert("SizeNotEnforced".to_owned(), format!("{size} bytes, but {obstacle}: {hint}"));
            size = 0;
        }
    }
    Volume::new(record.name.clone(), size, record.created_time)
        // Of the others no kernel and no record says that they are mounted: the host keeps count.
        .mountpoint(Some(path).filter(|_| !record.mount_point.is_empty()))
        .info(info)
        .snapshots(record.snapshots.values().map(|of| snapshot(catalog, record, of)).collect())
        .health(health)
}

/// A volume whose record cannot be read: listed, so that its name is not taken for free.
pub(crate) fn damaged(name: Name, error: DriverError) -> Volume {
    let text = match error.hint {
        Some(hint) => format!("{}: {hint}", error.message),
        None => error.message,
    };
    Volume::damaged(name, text)
}

pub(crate) fn snapshot(catalog: &Catalog, volume: &VolumeRecord, snapshot: &SnapshotRecord) -> Snapshot {
    let mut info = BTreeMap::from([
        ("FilePath".to_owned(), catalog.snapshot_path(volume, snapshot).display().to_string()),
        ("VolumeUUID".to_owned(), snapshot.volume_uuid.clone()),
    ]);
    for (key, number) in [("Bytes", snapshot.bytes), ("Files", snapshot.files)] {
        info.extend(number.map(|number| (key.to_owned(), number.to_string())));
    }
    Snapshot::new(snapshot.name.clone(), volume.name.clone(), snapshot.created_time).info(info)
}

/// Lists volumes, and remembers the state of the directory of records and since when it has been that.
#[derive(Debug, Default)]
pub(crate) struct Lister(Mutex<Option<(String, Instant)>>);

impl Lister {
    /// Lists a page of the volumes, or says that nothing has changed since the caller's generation.
    pub(crate) fn list(&self, catalog: &Catalog, request: &ListVolumes) -> VfsResult<ListedVolumes> {
        // Before the reading: what changes meanwhile makes the next listing differ.
        let generation = self.generation(&catalog.layout)?;
        if generation.is_some() && generation == request.generation && request.after.is_none() {
            return Ok(ListedVolumes::default().unchanged(true).generation(generation));
        }
        let mut listed = ListedVolumes::default().generation(generation);
        let names = names(&catalog.layout, VOLUMES, &mut listed.warnings)?;
        if request.after.is_some() {
            // They were on the first page.
            listed.warnings.clear();
        }
        let (names, more) = request.page(names);
        listed.more = more;
        for name in names {
            match catalog.record(&name) {
                Ok(Some(record)) => listed.volumes.push(volume(catalog, &record)),
                // Deleted since the directory was read.
                Ok(None) => {}
                Err(error) => listed.volumes.push(damaged(name, error.into())),
            }
        }
        Ok(listed)
    }

    /// Names the state of the directory of records: each change of a record changes its times. `None` while
    /// the clock of the file system could give a further change the same times.
    fn generation(&self, layout: &Layout) -> VfsResult<Option<String>> {
        // Opening, not only looking, makes an NFS client ask its server.
        let meta = File::open(layout.config())
            .and_then(|dir| dir.metadata())
            .map_err(|error| gone(layout, error))?;
        let state = format!(
            "{}-{}.{:09}-{}.{:09}",
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec()
        );
        let mut last = self.0.lock();
        match &*last {
            Some((same, since)) if *same == state => Ok((since.elapsed() > SETTLED).then_some(state)),
            _ => {
                *last = Some((state, Instant::now()));
                Ok(None)
            }
        }
    }
}

/// Reads the names of all records whose files begin with `prefix`, sorted.
pub(crate) fn names(layout: &Layout, prefix: &str, warnings: &mut Vec<String>) -> VfsResult<Vec<Name>> {
    let config = layout.config();
    let mut names = Vec::new();
    for entry in fs::read_dir(&config).map_err(|error| gone(layout, error))? {
        let file = entry.map_err(io_error("read the directory", &config))?.file_name();
        let stem = file.to_str().and_then(|f| f.strip_prefix(prefix)?.strip_suffix(".json"));
        match stem.map(Name::parse) {
            None => {}
            Some(Ok(name)) => names.push(name),
            Some(Err(error)) => warnings.push(format!(
                "{}: {error}: rename the directory and the record (its file and its \"Name\") to use the \
                 volume",
                config.join(&file).display()
            )),
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn gone(layout: &Layout, error: io::Error) -> VfsError {
    match error.kind() {
        ErrorKind::NotFound => VfsError::PathGone(layout.path.clone()),
        _ => io_error("read the directory", &layout.config())(error),
    }
}
