//! Taking and deleting snapshots: frozen trees, and the archives of convoy 0.5.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use convoy_driver_sdk::protocol::{CreateSnapshot, DeleteSnapshot, Snapshot};
use convoy_driver_sdk::tree::{CopyOptions, CopyReport, Previous, StableStorage};
use convoy_driver_sdk::{Context, Name, atomic};

use crate::catalog::Catalog;
use crate::copy::copy;
use crate::error::{VfsError, VfsResult, io_error};
use crate::files::{exists, place, rename};
use crate::layout::{INDEX, SNAPSHOT_FILE, TREE};
use crate::parcel::{Kind, Parcel};
use crate::record::{SnapshotFile, SnapshotRecord, VolumeRecord};
use crate::{describe, project, quota};

/// Takes a snapshot. What did not change since the newest one is linked to it.
pub(crate) fn take(catalog: &Catalog, request: &CreateSnapshot, context: &Context) -> VfsResult<Snapshot> {
    let CreateSnapshot { volume, snapshot, .. } = request;
    catalog.locked(volume, context, || {
        let mut record = catalog.load(volume)?;
        if record.snapshots.contains_key(snapshot) {
            return Err(VfsError::SnapshotExists { volume: volume.clone(), snapshot: snapshot.clone() });
        }
        let data = catalog.present(&record)?;
        let parcel = catalog.workspace.parcel(Kind::Snapshot, volume, record.incarnation.as_ref())?;
        project::join(parcel.path(), &catalog.layout.config())?;
        let report = match freeze(catalog, &record, snapshot, &data, &parcel, context) {
            Ok(report) => report,
            Err(error) => {
                catalog.workspace.discard(parcel);
                return Err(error);
            }
        };
        // The last moment: nobody waits for it any more.
        context.check()?;
        let target = catalog.layout.snapshot(volume, snapshot);
        if exists(&target) {
            // Of an earlier volume of that name, or brought by somebody: it may be dear to somebody, and is
            // in the way.
            let why =
                format!("it was where snapshot {snapshot} of {volume} goes, and no record speaks of it");
            catalog.workspace.set_aside(&target, volume, &why)?;
        }
        let mut taken = SnapshotRecord::new(snapshot.clone(), &record, target.join(TREE));
        taken.bytes = Some(report.size);
        taken.files = Some(report.unchanged + report.reflinked + report.copied);
        record.snapshots.insert(snapshot.clone(), taken.clone());
        catalog.records.save(volume, &record)?;
        if let Err(error) = place(parcel.path(), &target) {
            record.snapshots.remove(snapshot);
            catalog.records.save(volume, &record)?;
            return Err(error);
        }
        parcel.keep();
        Ok(describe::snapshot(catalog, &record, &taken))
    })
}

/// Makes the snapshot in a parcel, and puts it on stable storage.
fn freeze(
    catalog: &Catalog,
    record: &VolumeRecord,
    snapshot: &Name,
    data: &Path,
    parcel: &Parcel,
    context: &Context,
) -> VfsResult<CopyReport> {
    let storage = StableStorage::of(parcel.path())?;
    let tree = parcel.join(TREE);
    fs::create_dir(&tree).map_err(io_error("make the directory", &tree))?;
    let previous = record.newest().map(|newest| catalog.layout.snapshot(&record.name, &newest.name));
    let options = CopyOptions {
        previous: previous.map(|dir| Previous { tree: dir.join(TREE), index: dir.join(INDEX) }),
        index: Some(parcel.join(INDEX)),
        aside: Some(quota::own_id(data)),
        ..CopyOptions::default()
    };
    let report = copy(data, &tree, options, context)?;
    quota::disown(&tree).map_err(io_error("take an attribute from", &tree))?;
    let file = SnapshotFile { name: snapshot.clone(), volume: record.name.clone() };
    let path = parcel.join(SNAPSHOT_FILE);
    let text = serde_json::to_vec(&file)
        .map_err(|e| VfsError::BadState { path: path.clone(), reason: e.to_string() })?;
    fs::write(&path, text).map_err(io_error("write", &path))?;
    storage.sync()?;
    tracing::info!(
        volume = %record.name, %snapshot, entries = report.entries, unchanged = report.unchanged,
        reflinked = report.reflinked, copied = report.copied, bytes = report.bytes, "took a snapshot"
    );
    Ok(report)
}

pub(crate) fn delete(catalog: &Catalog, request: &DeleteSnapshot, context: &Context) -> VfsResult<()> {
    let DeleteSnapshot { volume, snapshot, .. } = request;
    let parcel = catalog.locked(volume, context, || {
        let mut record = catalog.load(volume)?;
        let found = record.snapshot(snapshot)?.clone();
        let _claim = claim(catalog, &record, &found)?;
        if !found.is_tree() {
            let archive = catalog.snapshot_path(&record, &found);
            atomic::remove(&archive).map_err(io_error("remove", &archive))?;
            record.snapshots.remove(snapshot);
            catalog.records.save(volume, &record)?;
            return Ok(None);
        }
        let dir = catalog.layout.snapshot(volume, snapshot);
        let parcel = catalog.workspace.parcel(Kind::Snapshot, volume, record.incarnation.as_ref())?;
        if exists(&dir) {
            // Onto the empty parcel: a crash before the record is written puts it back.
            rename(&dir, parcel.path())?;
        }
        record.snapshots.remove(snapshot);
        if let Err(error) = catalog.records.save(volume, &record) {
            if exists(&parcel.join(SNAPSHOT_FILE)) {
                place(parcel.path(), &dir)?;
            }
            return Err(error.into());
        }
        // Only if that was the last one.
        let _ = fs::remove_dir(catalog.layout.snapshots(volume));
        Ok(Some(parcel))
    })?;
    if let Some(parcel) = parcel {
        catalog.workspace.discard(parcel);
    }
    Ok(())
}

/// Claims a snapshot for its deletion: fails while anybody reads it.
pub(crate) fn claim(
    catalog: &Catalog,
    volume: &VolumeRecord,
    snapshot: &SnapshotRecord,
) -> VfsResult<Option<File>> {
    flock(catalog, volume, snapshot, File::try_lock)
}

/// Claims a snapshot for reading: it cannot be deleted, by any process on any host, while the file is open.
pub(crate) fn claim_shared(
    catalog: &Catalog,
    volume: &VolumeRecord,
    snapshot: &SnapshotRecord,
) -> VfsResult<Option<File>> {
    flock(catalog, volume, snapshot, File::try_lock_shared)
}

fn flock(
    catalog: &Catalog,
    volume: &VolumeRecord,
    snapshot: &SnapshotRecord,
    lock: fn(&File) -> Result<(), TryLockError>,
) -> VfsResult<Option<File>> {
    let path = if snapshot.is_tree() {
        let dir = catalog.layout.snapshots(&volume.name);
        catalog.look_afresh(&[catalog.layout.config().join("snapshots"), dir.clone()]);
        dir.join(snapshot.name.as_str()).join(SNAPSHOT_FILE)
    } else {
        catalog.snapshot_path(volume, snapshot)
    };
    // NFS gives an exclusive lock only on a file that is open for writing.
    let file = match File::options().read(true).write(true).open(&path) {
        // Nothing there that could be read.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => File::open(&path),
        other => other,
    }
    .map_err(io_error("open", &path))?;
    match lock(&file) {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            Err(VfsError::SnapshotOpen { volume: volume.name.clone(), snapshot: snapshot.name.clone() })
        }
        Err(TryLockError::Error(e)) => Err(io_error("lock", &path)(e)),
    }
}
