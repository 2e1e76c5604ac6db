//! Which volumes there are: their records, where their data is, and the locks under which they are changed.
//!
//! Other hosts may share `vfs.path` and change any of it at any moment.

use std::fs::File;
use std::path::{Path, PathBuf};

use convoy_driver_sdk::records::{RecordError, RecordStore};
use convoy_driver_sdk::{Context, Name};
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC,
    XFS_SUPER_MAGIC, statfs,
};

use crate::error::{VfsError, VfsResult, io_error};
use crate::files::{exists, place};
use crate::layout::{KEPT, Layout, TREE, VOLUMES};
use crate::locks::Locks;
use crate::options::DriverOptions;
use crate::parcel::{DATA, Parcel};
use crate::record::{SnapshotRecord, VolumeRecord};
use crate::sync::{DirSync, PendingSync};
use crate::workspace::Workspace;

#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) layout: Layout,
    /// Bytes of an image whose size is not given.
    pub(crate) default_size: u64,
    /// Whether a size that the file system cannot enforce is refused.
    pub(crate) strict_size: bool,
    pub(crate) records: RecordStore<VolumeRecord>,
    /// Records of volumes that were deleted but for their data.
    pub(crate) kept: RecordStore<VolumeRecord>,
    pub(crate) locks: Locks,
    pub(crate) workspace: Workspace,
    /// Syncs `vfs.path`, where the names of volumes are.
    names: DirSync,
    /// Whether other hosts may change what is in `vfs.path`.
    shared: bool,
}

impl Catalog {
    /// Opens the records, and makes the directory for them if it is missing.
    pub(crate) fn open(options: DriverOptions) -> VfsResult<Self> {
        let DriverOptions { layout, default_size, strict_size, .. } = options;
        let config = layout.config();
        Ok(Self {
            default_size,
            strict_size,
            records: RecordStore::open(&config, VOLUMES, ".json")?,
            kept: RecordStore::open(&config, KEPT, ".json")?,
            locks: Locks::new(layout.lock()),
            workspace: Workspace::new(&layout),
            names: DirSync::new(layout.path.clone()),
            shared: !is_local(&layout.path),
            layout,
        })
    }

    /// Runs `change` under the volume's lock, which no other process on any host has meanwhile.
    pub(crate) fn locked<T>(
        &self,
        name: &Name,
        context: &Context,
        change: impl FnOnce() -> VfsResult<T>,
    ) -> VfsResult<T> {
        let _lock = self.locks.acquire(name, context)?;
        self.look_afresh(&[]);
        change()
    }

    /// Makes an NFS client ask its server what is in `vfs.path`, in the directory of the records, and in
    /// those `below` it, from the top down. What it remembers, of names that were not there above all, may
    /// be older than what another host did; opening a directory makes it ask, looking at it does not. Gives
    /// whether there is any use in looking again.
    pub(crate) fn look_afresh(&self, below: &[PathBuf]) -> bool {
        if self.shared {
            for dir in [&self.layout.path, &self.layout.config()].into_iter().chain(below) {
                // A failure shows in what follows.
                let _ = File::open(dir);
            }
        }
        self.shared
    }

    /// Reads the record of a volume, which has to say that it is this volume's.
    pub(crate) fn record(&self, name: &Name) -> Result<Option<VolumeRecord>, RecordError> {
        read(&self.records, name)
    }

    /// Reads the record of what is kept of a deleted volume.
    pub(crate) fn kept_record(&self, name: &Name) -> Result<Option<VolumeRecord>, RecordError> {
        read(&self.kept, name)
    }

    /// Reads the record of a volume that must exist.
    pub(crate) fn load(&self, name: &Name) -> VfsResult<VolumeRecord> {
        let found = match self.record(name)? {
            None if self.look_afresh(&[]) => self.record(name)?,
            found => found,
        };
        match found {
            Some(record) => Ok(record),
            None if self.layout.config().is_dir() => Err(VfsError::NoVolume(name.clone())),
            None => Err(VfsError::PathGone(self.layout.path.clone())),
        }
    }

    /// Where a volume's data is: in `vfs.path` as this host has it, or (a link or a move by the
    /// administrator) where the record says.
    pub(crate) fn data(&self, record: &VolumeRecord) -> PathBuf {
        let here = self.layout.volume(&record.name);
        if !exists(&here) && record.path.is_absolute() && record.path.is_dir() {
            record.path.clone()
        } else {
            here
        }
    }

    /// Finds the data of a volume, which must be there.
    pub(crate) fn present(&self, record: &VolumeRecord) -> VfsResult<PathBuf> {
        let path = self.data(record);
        if path.is_dir() || (self.look_afresh(&[]) && path.is_dir()) {
            Ok(path)
        } else {
            Err(VfsError::DataMissing { volume: record.name.clone(), path })
        }
    }

    /// The tree of a snapshot, or the archive of one made by 0.5.
    pub(crate) fn snapshot_path(&self, volume: &VolumeRecord, snapshot: &SnapshotRecord) -> PathBuf {
        if snapshot.is_tree() {
            self.layout.snapshot(&volume.name, &snapshot.name).join(TREE)
        } else {
            self.layout.archive(&snapshot.file_path)
        }
    }

    /// Finds the data of a snapshot, which must be there.
    pub(crate) fn present_snapshot(
        &self,
        volume: &VolumeRecord,
        snapshot: &SnapshotRecord,
    ) -> VfsResult<PathBuf> {
        let path = self.snapshot_path(volume, snapshot);
        if exists(&path) {
            return Ok(path);
        }
        Err(VfsError::SnapshotMissing { volume: volume.name.clone(), snapshot: snapshot.name.clone(), path })
    }

    /// Refuses a name under which there is a volume, or data that an earlier one left: nothing is restored
    /// over either.
    pub(crate) fn refuse_taken(&self, name: &Name) -> VfsResult<()> {
        if self.records.exists(name)? {
            return Err(VfsError::VolumeExists(name.clone()));
        }
        for path in [self.layout.volume(name), self.layout.snapshots(name)] {
            if exists(&path) {
                return Err(VfsError::KeptData(path));
            }
        }
        Ok(())
    }

    /// Makes a volume of a parcel whose contents are on stable storage.
    pub(crate) fn publish(&self, record: &VolumeRecord, parcel: &Parcel) -> VfsResult<()> {
        self.records.insert(&record.name, record)?;
        let target = self.layout.volume(&record.name);
        place(&parcel.join(DATA), &target).inspect_err(|_| self.undo_insert(&record.name))
    }

    /// Removes the record of a volume that could not be made.
    pub(crate) fn undo_insert(&self, name: &Name) {
        if let Err(error) = self.records.delete(name) {
            tracing::warn!(%name, %error, "cannot take back the record of a volume that could not be made");
        }
    }

    /// Begins to make the names in `vfs.path` durable.
    pub(crate) fn begin_sync(&self) -> PendingSync {
        self.names.begin()
    }

    /// Waits until the names in `vfs.path` are durable.
    pub(crate) fn end_sync(&self, pending: PendingSync) -> VfsResult<()> {
        pending.wait().map_err(io_error("sync the directory", &self.layout.path))
    }

    /// Makes the names in `vfs.path` durable.
    pub(crate) fn sync_names(&self) -> VfsResult<()> {
        self.end_sync(self.begin_sync())
    }
}

fn read(store: &RecordStore<VolumeRecord>, name: &Name) -> Result<Option<VolumeRecord>, RecordError> {
    match store.load(name)? {
        Some(record) if record.name != *name => {
            let reason = format!("it says that it is {}'s", record.name);
            Err(RecordError::Damaged { path: store.path(name), reason })
        }
        found => Ok(found),
    }
}

/// Whether a directory is on a file system of this host alone, as far as known: what is remembered of it is
/// true.
fn is_local(path: &Path) -> bool {
    const ZFS: FsType = FsType(0x2fc1_2fc1);
    const LOCAL: [FsType; 7] = [
        EXT4_SUPER_MAGIC,
        XFS_SUPER_MAGIC,
        BTRFS_SUPER_MAGIC,
        F2FS_SUPER_MAGIC,
        ZFS,
        TMPFS_MAGIC,
        OVERLAYFS_SUPER_MAGIC,
    ];
    statfs(path).is_ok_and(|found| LOCAL.contains(&found.filesystem_type()))
}
