//! Listing volumes, which other hosts may change at any moment.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use convoy_driver_sdk::protocol::{Health, ListVolumes, ListedVolumes, Volume};
use convoy_driver_sdk::{DriverError, Name, Timestamp};

use crate::driver::VfsDriver;
use crate::error::{VfsError, VfsResult, io_error};

/// As long as the coarsest clock of a file system ticks (FAT: two seconds), and a little.
const SETTLED: Duration = Duration::from_millis(2100);

/// What the files of records begin with: of volumes, and of what was kept of them.
pub(crate) const VOLUMES: &str = "vfs_volume_";
pub(crate) const KEPT: &str = "vfs_kept_";

/// The state of the directory of records, and since when it is known.
#[derive(Debug)]
pub(crate) struct CachedListing {
    state: String,
    since: Instant,
}

impl VfsDriver {
    pub(crate) fn list(&self, request: &ListVolumes) -> VfsResult<ListedVolumes> {
        // Before the reading: what changes meanwhile makes the next listing differ.
        let generation = self.generation()?;
        if generation.is_some() && generation == request.generation && request.after.is_none() {
            return Ok(ListedVolumes { unchanged: true, generation, ..ListedVolumes::default() });
        }
        let mut listed = ListedVolumes { generation, ..ListedVolumes::default() };
        let names = self.names(VOLUMES, &mut listed.warnings)?;
        if request.after.is_some() {
            // They were on the first page.
            listed.warnings.clear();
        }
        let (names, more) = request.page(names);
        listed.more = more;
        for name in names {
            match self.record(&name) {
                Ok(Some(record)) => listed.volumes.push(self.volume(&record)),
                // Deleted since the directory was read.
                Ok(None) => {}
                Err(error) => listed.volumes.push(damaged(name, error.into())),
            }
        }
        Ok(listed)
    }

    /// The names of all records whose files begin so, sorted.
    pub(crate) fn names(&self, prefix: &str, warnings: &mut Vec<String>) -> VfsResult<Vec<Name>> {
        let config = self.layout.config();
        let failed = io_error("read the directory", &config);
        let mut names = Vec::new();
        for entry in fs::read_dir(&config).map_err(|e| self.gone(e))? {
            let file = entry.map_err(&failed)?.file_name();
            let stem = file.to_str().and_then(|f| f.strip_prefix(prefix)?.strip_suffix(".json"));
            match stem.map(Name::parse) {
                None => {}
                Some(Ok(name)) => names.push(name),
                Some(Err(error)) => warnings.push(format!(
                    "{}: {error}: rename the directory and the record (its file and its \"Name\") to use the volume",
                    config.join(&file).display()
                )),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn gone(&self, error: std::io::Error) -> VfsError {
        if error.kind() == std::io::ErrorKind::NotFound {
            VfsError::PathGone(self.layout.path.clone())
        } else {
            io_error("read the directory", &self.layout.config())(error)
        }
    }

    /// Names the state of the directory of records: each change of a record changes its times. `None` while the clock of the file
    /// system could give a further change the same times.
    fn generation(&self) -> VfsResult<Option<String>> {
        // Opening, not only looking, makes an NFS client ask its server.
        let meta =
            File::open(self.layout.config()).and_then(|dir| dir.metadata()).map_err(|e| self.gone(e))?;
        let state = format!(
            "{}-{}.{:09}-{}.{:09}",
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec()
        );
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &*seen {
            Some(CachedListing { state: known, since }) if *known == state => {
                Ok((since.elapsed() > SETTLED).then_some(state))
            }
            _ => {
                *seen = Some(CachedListing { state, since: Instant::now() });
                Ok(None)
            }
        }
    }
}

/// A volume whose record cannot be read: listed, so that it is not taken for free.
fn damaged(name: Name, error: DriverError) -> Volume {
    let text = match error.hint {
        Some(hint) => format!("{}: {hint}", error.message),
        None => error.message,
    };
    Volume {
        name,
        size: 0,
        created: Timestamp::from_unix(0),
        mountpoint: None,
        info: std::collections::BTreeMap::new(),
        snapshots: Vec::new(),
        health: Health::Damaged(text),
    }
}
