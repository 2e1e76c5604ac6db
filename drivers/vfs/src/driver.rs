//! The driver: what the protocol asks, handed to the parts that do it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{
    AbortRestore, Capability, Check, Checked, CloneVolume, CloseSnapshot, CreateSnapshot, CreateVolume,
    DeleteKept, DeleteSnapshot, DeleteVolume, Description, FinishRestore, GetVolume, ListKept, ListVolumes,
    ListedKept, ListedVolumes, MountVolume, Mounted, Open, OpenSnapshot, Opened, OpenedSnapshot,
    PrepareRestore, PreparedRestore, Probed, ResizeVolume, RevertVolume, Snapshot, UnmountVolume, Volume,
};
use convoy_driver_sdk::records::RecordStore;
use convoy_driver_sdk::{Context, Driver, DriverError, Name, PROTOCOL_VERSION, Result, atomic};

use crate::error::{VfsError, VfsResult, io_error};
use crate::layout::Layout;
use crate::listing::{CachedListing, KEPT};
use crate::locks::Locks;
use crate::options::{DriverOptions, create_options, driver_options};
use crate::record::VolumeRecord;
use crate::restore::Restore;
use crate::shelter;
use crate::snapshots::OpenedHere;
use crate::sync::DirSync;
use crate::workspace::{Reconciler, Workspace};

/// Below this part of free space (a hundredth) a probe says so.
const LOW: u64 = 100;

/// Of `vfs.path`, where it is made: root alone gets through, to the volumes and whatever containers put into
/// them.
const DIR_MODE: u32 = 0o700;

/// Volumes as directories.
#[derive(Debug)]
pub struct VfsDriver {
    pub(crate) layout: Layout,
    pub(crate) default_size: u64,
    /// Whether a size that the file system cannot enforce is refused.
    pub(crate) strict_size: bool,
    pub(crate) records: RecordStore<VolumeRecord>,
    /// Records of volumes that were deleted but for their data.
    pub(crate) kept: RecordStore<VolumeRecord>,
    /// Whether other hosts may change what is in `vfs.path`.
    pub(crate) shared: bool,
    pub(crate) locks: Locks,
    /// Of `vfs.path`, where the names of volumes are.
    pub(crate) names: DirSync,
    pub(crate) workspace: Workspace,
    pub(crate) open: Mutex<HashMap<String, OpenedHere>>,
    pub(crate) restores: Mutex<HashMap<String, Restore>>,
    pub(crate) seen: Mutex<Option<CachedListing>>,
    numbers: AtomicU64,
}

impl VfsDriver {
    fn start(request: Open) -> VfsResult<(Self, Opened)> {
        let DriverOptions { layout, default_size, strict_size, unsaved } =
            DriverOptions::parse(request.root, &request.options, request.override_saved)?;
        let config = layout.config();
        atomic::create_dir(&layout.path, DIR_MODE).map_err(io_error("make the directory", &layout.path))?;
        let sheltered = shelter::take(&layout.path)?;
        let driver = Self {
            default_size,
            strict_size,
            records: RecordStore::volumes(&config, "vfs")?,
            kept: RecordStore::open(&config, KEPT, ".json")?,
            shared: !is_local(&layout.path),
            locks: Locks::new(layout.lock()),
            names: DirSync::new(layout.path.clone()),
            workspace: Workspace::new(&layout),
            open: Mutex::default(),
            restores: Mutex::default(),
            seen: Mutex::default(),
            numbers: AtomicU64::new(1),
            layout,
        };
        // Only when the place has proved to be usable.
        if let Some(state) = unsaved {
            state.save(&Layout::state_file(&driver.layout.root))?;
        }
        let (done, mut warnings) = driver.settle();
        warnings.extend(driver.no_locks().into_iter().chain(sheltered));
        let opened = Opened { recovered: done, warnings };
        Ok((driver, opened))
    }

    /// Finishes or undoes what processes left that are gone: what was done, and what could not be.
    pub(crate) fn settle(&self) -> (Vec<String>, Vec<String>) {
        let mut reconciler = Reconciler {
            layout: &self.layout,
            records: &self.records,
            kept: &self.kept,
            locks: &self.locks,
            workspace: &self.workspace,
            done: Vec::new(),
            warnings: Vec::new(),
        };
        reconciler.run();
        (reconciler.done, reconciler.warnings)
    }

    /// A share without locks must not be shared.
    pub(crate) fn no_locks(&self) -> Option<String> {
        let path = std::fs::canonicalize(&self.layout.path).ok()?;
        let table = MountTable::read().ok()?;
        let mount = table.containing(&path)?;
        let unlocked = |option: &String| {
            option == "nolock" || option.starts_with("local_lock=") && option != "local_lock=none"
        };
        mount.super_options.iter().chain(&mount.options).any(unlocked).then(|| {
            format!(
                "{} is mounted without locks between hosts: no other host may use these volumes",
                mount.mountpoint.display()
            )
        })
    }

    /// A number no other handle has.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn look(&self) -> VfsResult<Probed> {
        let path = &self.layout.path;
        if !self.layout.config().is_dir() {
            return Err(VfsError::PathGone(path.clone()));
        }
        let space = rustix::fs::statvfs(path).map_err(io_error("look at", path))?;
        let low = space.f_bavail < space.f_blocks / LOW;
        let message = low.then(|| {
            format!(
                "{} of {} bytes are free",
                space.f_bavail * space.f_frsize,
                space.f_blocks * space.f_frsize
            )
        });
        Ok(Probed { healthy: true, message })
    }
}

/// Whether a directory is on a file system of this host alone, as far as known: what is remembered of it is true.
fn is_local(path: &Path) -> bool {
    // ext2 to ext4, xfs, btrfs, f2fs, zfs, tmpfs, overlay: statfs(2).
    const LOCAL: [u64; 7] =
        [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0x0102_1994, 0x794c_7630];
    rustix::fs::statfs(path).is_ok_and(|system| {
        u64::try_from(system.f_type).is_ok_and(|kind| LOCAL.contains(&(kind & 0xffff_ffff)))
    })
}

impl Driver for VfsDriver {
    fn describe() -> Description {
        Description {
            name: Name::from_static("vfs"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION.to_owned(),
            summary: "volumes as directories, local or on NFS".to_owned(),
            capabilities: BTreeSet::from([
                Capability::Snapshots,
                Capability::ReadTree,
                Capability::RestoreTree,
                Capability::ResizeOffline,
                Capability::ResizeOnline,
                Capability::VmImages,
                Capability::Shared,
                Capability::Clone,
                Capability::Revert,
                Capability::Check,
                Capability::Kept,
            ]),
            options: driver_options(),
            create_options: create_options(),
            backup_scheme: None,
        }
    }

    fn open(request: Open, _context: &Context) -> Result<(Self, Opened)> {
        Ok(Self::start(request)?)
    }

    fn info(&self, _context: &Context) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::from([
            ("DefaultVolumeSize".to_owned(), self.default_size.to_string()),
            ("Path".to_owned(), self.layout.path.display().to_string()),
            ("Root".to_owned(), self.layout.root.display().to_string()),
        ]))
    }

    fn probe(&self, _context: &Context) -> Result<Probed> {
        Ok(self.look().unwrap_or_else(|error| {
            let error = DriverError::from(error);
            let hint = error.hint.map(|hint| format!(": {hint}")).unwrap_or_default();
            Probed { healthy: false, message: Some(format!("{}{hint}", error.message)) }
        }))
    }

    fn check(&self, request: Check, _context: &Context) -> Result<Checked> {
        Ok(self.check_all(request.repair)?)
    }

    fn close(&self, _context: &Context) -> Result<()> {
        // What was open is removed with its handles; restores that were not finished are undone.
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.restores.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.workspace.close();
        Ok(())
    }

    fn create_volume(&self, request: CreateVolume, context: &Context) -> Result<Volume> {
        Ok(self.create(request, context)?)
    }

    fn delete_volume(&self, request: DeleteVolume, context: &Context) -> Result<()> {
        Ok(self.delete(&request, context)?)
    }

    fn mount_volume(&self, request: MountVolume, _context: &Context) -> Result<Mounted> {
        Ok(self.mount(&request)?)
    }

    fn unmount_volume(&self, request: UnmountVolume, context: &Context) -> Result<()> {
        Ok(self.unmount(&request.name, context)?)
    }

    fn list_volumes(&self, request: ListVolumes, _context: &Context) -> Result<ListedVolumes> {
        Ok(self.list(&request)?)
    }

    fn get_volume(&self, request: GetVolume, _context: &Context) -> Result<Volume> {
        Ok(self.load(&request.name).map(|record| self.volume(&record))?)
    }

    fn resize_volume(&self, request: ResizeVolume, context: &Context) -> Result<Volume> {
        Ok(self.resize(&request, context)?)
    }

    fn clone_volume(&self, request: CloneVolume, context: &Context) -> Result<Volume> {
        Ok(self.clone_snapshot(request, context)?)
    }

    fn revert_volume(&self, request: RevertVolume, context: &Context) -> Result<Volume> {
        Ok(self.revert(&request, context)?)
    }

    fn list_kept(&self, request: ListKept, context: &Context) -> Result<ListedKept> {
        Ok(self.list_kept(&request, context)?)
    }

    fn delete_kept(&self, request: DeleteKept, context: &Context) -> Result<()> {
        Ok(self.delete_kept(&request, context)?)
    }

    fn create_snapshot(&self, request: CreateSnapshot, context: &Context) -> Result<Snapshot> {
        Ok(self.take_snapshot(&request, context)?)
    }

    fn delete_snapshot(&self, request: DeleteSnapshot, context: &Context) -> Result<()> {
        Ok(self.drop_snapshot(&request, context)?)
    }

    fn open_snapshot(&self, request: OpenSnapshot, context: &Context) -> Result<OpenedSnapshot> {
        Ok(self.open_for_reading(&request, context)?)
    }

    fn close_snapshot(&self, request: CloseSnapshot, _context: &Context) -> Result<()> {
        self.close_reading(&request);
        Ok(())
    }

    fn prepare_restore(&self, request: PrepareRestore, context: &Context) -> Result<PreparedRestore> {
        Ok(self.prepare(request, context)?)
    }

    fn finish_restore(&self, request: FinishRestore, context: &Context) -> Result<Volume> {
        Ok(self.finish(&request, context)?)
    }

    fn abort_restore(&self, request: AbortRestore, _context: &Context) -> Result<()> {
        self.abort(&request);
        Ok(())
    }
}
