//! Snapshots: frozen trees, and the archives of convoy 0.5.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use convoy_driver_sdk::context::Progress;
use convoy_driver_sdk::protocol::{
    CloseSnapshot, CreateSnapshot, DeleteSnapshot, OpenSnapshot, OpenedSnapshot, SameFile, Snapshot,
    SourceLocation,
};
use convoy_driver_sdk::tree::{
    CopyOptions, Observer, Previous, StableStorage, TreeError, TreeWriter, copy_tree, unpack_tar,
};
use convoy_driver_sdk::{Context, Name, atomic};
use flate2::bufread::MultiGzDecoder;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::driver::VfsDriver;
use crate::error::{VfsError, VfsResult, io_error, refuse_losses};
use crate::layout::{INDEX, SNAPSHOT_FILE, TREE};
use crate::options::CreateOptions;
use crate::project;
use crate::quota;
use crate::record::{SnapshotFile, SnapshotRecord, VolumeRecord};
use crate::workspace::{Kind, Parcel, exists, place};

/// A snapshot that is being read.
#[derive(Debug)]
pub(crate) struct OpenedHere {
    /// Keeps it from being deleted, by any process on any host.
    _claim: Option<File>,
    /// Where an archive was unpacked.
    unpacked: Option<Parcel>,
}

/// Shows a call's context to a copy.
pub(crate) struct Follow<'a> {
    context: &'a Context,
    done: std::sync::atomic::AtomicU64,
}

impl<'a> Follow<'a> {
    pub(crate) fn new(context: &'a Context) -> Self {
        Self { context, done: std::sync::atomic::AtomicU64::new(0) }
    }
}

impl Observer for Follow<'_> {
    fn advanced(&self, entries: u64, _bytes: u64) {
        let done = self.done.fetch_add(entries, std::sync::atomic::Ordering::Relaxed) + entries;
        if done.is_multiple_of(1000) {
            self.context.progress(Progress { done, total: None, unit: "files".to_owned(), note: None });
        }
    }

    fn stop(&self) -> bool {
        self.context.check().is_err()
    }
}

/// A copy that was stopped on request was cancelled, or ran out of time: the context knows which.
pub(crate) fn explain(error: TreeError, context: &Context) -> VfsError {
    match (&error, context.check()) {
        (TreeError::Cancelled, Err(why)) => why.into(),
        _ => error.into(),
    }
}

impl VfsDriver {
    /// What `FilePath` says: the tree of a snapshot, or the archive of one made by 0.5.
    pub(crate) fn snapshot_path(&self, volume: &VolumeRecord, snapshot: &SnapshotRecord) -> PathBuf {
        if snapshot.is_tree() {
            self.layout.snapshot(&volume.name, &snapshot.name).join(TREE)
        } else {
            self.layout.archive(&snapshot.file_path)
        }
    }

    pub(crate) fn take_snapshot(&self, request: &CreateSnapshot, context: &Context) -> VfsResult<Snapshot> {
        let CreateSnapshot { volume, snapshot, .. } = request;
        self.locked(volume, context, || {
            let mut record = self.load(volume)?;
            if record.snapshots.contains_key(snapshot) {
                return Err(VfsError::SnapshotExists { volume: volume.clone(), snapshot: snapshot.clone() });
            }
            let data = self.present(&record)?;
            let parcel = self.workspace.parcel(Kind::Snapshot, volume, record.incarnation.as_ref())?;
            let config = self.layout.config();
            project::join(parcel.path(), &config).map_err(io_error("set the project of", parcel.path()))?;
            match self.freeze(&record, snapshot, &data, &parcel, context) {
                Ok(()) => {}
                Err(error) => {
                    self.workspace.discard(parcel);
                    return Err(error);
                }
            }
            // The last moment: nobody waits for it any more.
            context.check()?;
            let target = self.layout.snapshot(volume, snapshot);
            if exists(&target) {
                // Of an earlier volume of that name, or brought by somebody: it may be dear to somebody, and
                // is in the way.
                let why =
                    format!("it was where snapshot {snapshot} of {volume} goes, and no record speaks of it");
                self.workspace.set_aside(&target, volume, &why)?;
            }
            let taken = SnapshotRecord::new(snapshot.clone(), &record, target.join(TREE));
            record.snapshots.insert(snapshot.clone(), taken.clone());
            self.records.save(volume, &record)?;
            if let Err(error) = place(parcel.path(), &target) {
                record.snapshots.remove(snapshot);
                self.records.save(volume, &record)?;
                return Err(error);
            }
            parcel.keep();
            Ok(self.snapshot(&record, &taken))
        })
    }

    /// Makes the snapshot in a parcel, and puts it on stable storage.
    fn freeze(
        &self,
        record: &VolumeRecord,
        snapshot: &Name,
        data: &Path,
        parcel: &Parcel,
        context: &Context,
    ) -> VfsResult<()> {
        let storage = StableStorage::of(parcel.path())?;
        let tree = parcel.join(TREE);
        fs::create_dir(&tree).map_err(io_error("make the directory", &tree))?;
        let previous = record.newest().map(|newest| self.layout.snapshot(&record.name, &newest.name));
        let follow = Follow::new(context);
        let options = CopyOptions {
            threads: 0,
            previous: previous.map(|dir| Previous { tree: dir.join(TREE), index: dir.join(INDEX) }),
            index: Some(parcel.join(INDEX)),
            observer: Some(&follow),
            aside: Some(quota::own_id(data)),
        };
        let report = copy_tree(data, &tree, &options).map_err(|e| explain(e, context))?;
        for warning in &report.warnings {
            tracing::warn!(volume = %record.name, %snapshot, "{warning}");
        }
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
        Ok(())
    }

    /// Claims a snapshot for its deletion: fails while anybody reads it.
    pub(crate) fn claim(&self, volume: &VolumeRecord, snapshot: &SnapshotRecord) -> VfsResult<Option<File>> {
        self.flock(volume, snapshot, FlockOperation::NonBlockingLockExclusive)
    }

    pub(crate) fn flock(
        &self,
        volume: &VolumeRecord,
        snapshot: &SnapshotRecord,
        operation: FlockOperation,
    ) -> VfsResult<Option<File>> {
        let path = if snapshot.is_tree() {
            let dir = self.layout.snapshots(&volume.name);
            self.look_afresh(&[self.layout.config().join("snapshots"), dir.clone()]);
            dir.join(snapshot.name.as_str()).join(SNAPSHOT_FILE)
        } else {
            self.snapshot_path(volume, snapshot)
        };
        // NFS gives an exclusive lock only on a file that is open for writing.
        let file = match File::options().read(true).write(true).open(&path) {
            // Nothing there that could be read.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => File::open(&path),
            other => other,
        }
        .map_err(io_error("open", &path))?;
        match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => {
                Err(VfsError::SnapshotOpen { volume: volume.name.clone(), snapshot: snapshot.name.clone() })
            }
            Err(e) => Err(io_error("lock", &path)(e)),
        }
    }

    pub(crate) fn find<'a>(
        &self,
        record: &'a VolumeRecord,
        snapshot: &Name,
    ) -> VfsResult<&'a SnapshotRecord> {
        record
            .snapshots
            .get(snapshot)
            .ok_or_else(|| VfsError::NoSnapshot { volume: record.name.clone(), snapshot: snapshot.clone() })
    }

    pub(crate) fn drop_snapshot(&self, request: &DeleteSnapshot, context: &Context) -> VfsResult<()> {
        let DeleteSnapshot { volume, snapshot } = request;
        let trash = self.locked(volume, context, || {
            let mut record = self.load(volume)?;
            let found = self.find(&record, snapshot)?.clone();
            let _claim = self.claim(&record, &found)?;
            if !found.is_tree() {
                let archive = self.snapshot_path(&record, &found);
                atomic::remove(&archive).map_err(io_error("remove", &archive))?;
                record.snapshots.remove(snapshot);
                self.records.save(volume, &record)?;
                return Ok(None);
            }
            let dir = self.layout.snapshot(volume, snapshot);
            let parcel = self.workspace.parcel(Kind::Snapshot, volume, record.incarnation.as_ref())?;
            if exists(&dir) {
                // Onto the empty parcel: a crash before the record is written puts it back.
                fs::rename(&dir, parcel.path()).map_err(io_error("move", &dir))?;
            }
            record.snapshots.remove(snapshot);
            if let Err(error) = self.records.save(volume, &record) {
                if exists(&parcel.join(SNAPSHOT_FILE)) {
                    place(parcel.path(), &dir)?;
                }
                return Err(error.into());
            }
            // Only if that was the last one.
            let _ = fs::remove_dir(self.layout.snapshots(volume));
            Ok(Some(parcel))
        })?;
        if let Some(parcel) = trash {
            self.workspace.discard(parcel);
        }
        Ok(())
    }

    pub(crate) fn open_for_reading(
        &self,
        request: &OpenSnapshot,
        context: &Context,
    ) -> VfsResult<OpenedSnapshot> {
        let OpenSnapshot { volume, snapshot, .. } = request;
        let record = self.load(volume)?;
        let found = self.find(&record, snapshot)?;
        let claim = self.flock(&record, found, FlockOperation::NonBlockingLockShared)?;
        let path = self.snapshot_path(&record, found);
        if !exists(&path) {
            return Err(VfsError::SnapshotMissing {
                volume: volume.clone(),
                snapshot: snapshot.clone(),
                path,
            });
        }
        let (path, unpacked) = if found.is_tree() {
            (path, None)
        } else {
            let parcel = self.workspace.parcel(Kind::Scratch, volume, None)?;
            (unpack(&path, &parcel, context)?, Some(parcel))
        };
        let handle = format!("snapshot-{}", self.number());
        let opened = OpenedHere { _claim: claim, unpacked };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(handle.clone(), opened);
        Ok(OpenedSnapshot {
            handle,
            location: SourceLocation::Tree { path, same_file: SameFile::BirthTime },
            restore_options: CreateOptions::for_restore(record.prepare_for_vm),
        })
    }

    pub(crate) fn close_reading(&self, request: &CloseSnapshot) {
        let closed = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&request.handle);
        if let Some(parcel) = closed.and_then(|opened| opened.unpacked) {
            self.workspace.discard(parcel);
        }
    }
}

/// Unpacks a snapshot of 0.5, to be read and thrown away.
fn unpack(archive: &Path, parcel: &Parcel, context: &Context) -> VfsResult<PathBuf> {
    let tree = parcel.join(TREE);
    fs::create_dir(&tree).map_err(io_error("make the directory", &tree))?;
    unpack_into(archive, &tree, context)?;
    Ok(tree)
}

/// Unpacks a snapshot of 0.5 into an empty directory.
pub(crate) fn unpack_into(archive: &Path, tree: &Path, context: &Context) -> VfsResult<()> {
    let writer = TreeWriter::new(tree)?;
    let file = File::open(archive).map_err(io_error("open", archive))?;
    let tar = MultiGzDecoder::new(BufReader::with_capacity(1 << 18, file));
    unpack_tar(tar, &writer, &|| context.check().is_ok()).map_err(|e| explain(e, context))?;
    refuse_losses(writer.finish()?.losses)
}
