//! A convoy driver for volumes that are image files: block volumes with instant snapshots on any machine that
//! has a file system whose files can share blocks (XFS, btrfs).
//!
//! A volume is the file `<loop.path>/volumes/<name>.img` with a file system in it, mounted through a loop
//! device at `<root>/mounts/<name>`. A snapshot is `<loop.path>/snapshots/<volume>/<name>.img`: another file
//! with the same blocks, made while the mounted file system is frozen. What differs between two snapshots is
//! found by comparing where their blocks are, so that the host reads only what changed for a backup.
//!
//! - [`options`](mod@options), [`record`]: what may be asked for, and what is remembered of a volume;
//! - [`images`]: the files, each of them there whole or not at all; [`devices`]: their loop devices;
//! - [`volumes`], [`snapshots`], [`copies`], [`kept`], [`restores`], [`doctor`]: the calls; [`reconcile`]:
//!   what `open` does about a crash.
//!
//! Three things keep it right when it is killed: what is not finished lies in `<loop.path>/work`, where
//! `open` removes it; a record says `making` or `deleting` before anything is done, so that `open` knows what
//! to undo or to finish; and the size of a volume is that of its file, not something written down beside it.

mod copies;
mod devices;
mod doctor;
mod images;
mod kept;
mod options;
mod reconcile;
mod record;
mod restores;
mod snapshots;
mod volumes;

use convoy_driver_sdk::flock::LockFile;
use convoy_driver_sdk::protocol::{
    AbortRestore, Capability, Check, Checked, CloneVolume, CloseSnapshot, CreateSnapshot, CreateVolume,
    DeleteKept, DeleteSnapshot, DeleteVolume, Description, Extents, FinishRestore, GetVolume, ListExtents,
    ListKept, ListVolumes, ListedKept, ListedVolumes, MountVolume, Mounted, Open, OpenSnapshot, Opened,
    OpenedSnapshot, PrepareRestore, PreparedRestore, Probed, ResizeVolume, RevertVolume, Snapshot,
    SourceKind, UnmountVolume, Volume,
};
use convoy_driver_sdk::records::RecordStore;
use convoy_driver_sdk::{Context, Driver, DriverError, Name, Result, reflink};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use images::Images;
use options::Settings;
use record::Record;
use restores::Restore;
use snapshots::Reading;

convoy_driver_sdk::export!(LoopImages);

/// How long another process that has the images is waited for: one that is just ending.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Below this part of free space (a hundredth) a probe says so.
const LOW: u64 = 100;

/// Keeps volumes in image files.
#[derive(Debug)]
pub struct LoopImages {
    root: PathBuf,
    settings: Settings,
    images: Images,
    records: RecordStore<Record>,
    locks: Mutex<HashMap<Name, Arc<Mutex<()>>>>,
    readings: Mutex<HashMap<String, Reading>>,
    restores: Mutex<HashMap<String, Restore>>,
    /// Begins every handle: one of an earlier life is never taken for one of this.
    life: u128,
    numbers: AtomicU64,
    /// Two drivers on one directory would clear away each other's work.
    _lock: LockFile,
}

impl LoopImages {
    /// Runs a change of a volume. The host promises one at a time but for mounts, which may meet a snapshot.
    fn locked<T>(&self, name: &Name, change: impl FnOnce() -> Result<T>) -> Result<T> {
        let own = Arc::clone(self.locks.lock().entry(name.clone()).or_default());
        let result = {
            let _guard = own.lock();
            change()
        };
        let mut locks = self.locks.lock();
        // The map's and this one: nobody else waits for it.
        if Arc::strong_count(&own) == 2 {
            locks.remove(name);
        }
        result
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn handle(&self, kind: &str) -> String {
        format!("{kind}-{:x}-{}", self.life, self.number())
    }

    fn look(&self) -> Result<Probed> {
        let space = self.images.space()?;
        let message = (space.free < space.total / LOW).then(|| {
            format!("{} of {} bytes are free in {}", space.free, space.total, self.images.path().display())
        });
        Ok(Probed::well().message(message))
    }
}

impl Driver for LoopImages {
    fn describe() -> Description {
        Description::new(
            "loop",
            env!("CARGO_PKG_VERSION"),
            "volumes as image files that share blocks with their snapshots",
        )
        .capabilities(
            [
                Capability::Snapshots,
                Capability::Freeze,
                Capability::ReadBlock,
                Capability::ChangedExtents,
                Capability::ReadEither,
                Capability::RestoreBlock,
                Capability::RestoreTree,
                Capability::ResizeOffline,
                Capability::ResizeOnline,
                Capability::Sized,
                Capability::Clone,
                Capability::Revert,
                Capability::Check,
                Capability::Kept,
            ]
            .into(),
        )
        .options(options::driver_options())
        .create_options(options::create_options())
    }

    fn open(request: Open, context: &Context) -> Result<(Self, Opened)> {
        let settings = Settings::parse(&request)?;
        let images = Images::open(&settings.path)?;
        reflink::check(images.path())?;
        let until = Instant::now() + context.remaining().map_or(LOCK_WAIT, |left| left.min(LOCK_WAIT));
        let waiting = Context::new(context.request_id()).with_deadline(Some(until));
        let lock = LockFile::acquire(images.path().join("lock"), &waiting).map_err(|error| {
            let error = DriverError::from(error);
            DriverError::busy(error.message)
                .hint("another convoy uses this directory: give each its own loop.path")
        })?;
        let driver = Self {
            records: RecordStore::volumes(&request.root, "loop")?,
            root: request.root,
            settings,
            images,
            locks: Mutex::default(),
            readings: Mutex::default(),
            restores: Mutex::default(),
            life: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos()),
            numbers: AtomicU64::new(1),
            _lock: lock,
        };
        let opened = driver.reconcile(context)?;
        Ok((driver, opened))
    }

    fn info(&self, _: &Context) -> Result<BTreeMap<String, String>> {
        let space = self.images.space()?;
        Ok(BTreeMap::from([
            ("Path".to_owned(), self.images.path().display().to_string()),
            ("DefaultVolumeSize".to_owned(), self.settings.size.to_string()),
            ("FileSystem".to_owned(), self.settings.fs.to_string()),
            ("FreeSpace".to_owned(), space.free.to_string()),
        ]))
    }

    fn probe(&self, _: &Context) -> Result<Probed> {
        Ok(self.look().unwrap_or_else(|error| Probed::unwell(error.message)))
    }

    fn check(&self, _: Check, _: &Context) -> Result<Checked> {
        self.examine()
    }

    fn close(&self, context: &Context) -> Result<()> {
        let readings: Vec<String> = self.readings.lock().keys().cloned().collect();
        readings.into_iter().try_for_each(|handle| self.end_reading(&handle, context))?;
        let handles: Vec<String> = self.restores.lock().keys().cloned().collect();
        handles.into_iter().try_for_each(|handle| self.abort(&handle, context))
    }

    fn create_volume(&self, request: CreateVolume, context: &Context) -> Result<Volume> {
        self.create(&request, context)
    }

    fn delete_volume(&self, request: DeleteVolume, _: &Context) -> Result<()> {
        self.delete(&request)
    }

    fn mount_volume(&self, request: MountVolume, context: &Context) -> Result<Mounted> {
        self.mount(&request, context)
    }

    fn unmount_volume(&self, request: UnmountVolume, context: &Context) -> Result<()> {
        self.unmount(&request.name, context)
    }

    fn list_volumes(&self, request: ListVolumes, _: &Context) -> Result<ListedVolumes> {
        self.list(&request)
    }

    fn get_volume(&self, request: GetVolume, _: &Context) -> Result<Volume> {
        self.get(&request.name)
    }

    fn resize_volume(&self, request: ResizeVolume, context: &Context) -> Result<Volume> {
        self.resize(&request, context)
    }

    fn clone_volume(&self, request: CloneVolume, _: &Context) -> Result<Volume> {
        self.clone_of(&request)
    }

    fn revert_volume(&self, request: RevertVolume, _: &Context) -> Result<Volume> {
        self.revert(&request)
    }

    fn list_kept(&self, request: ListKept, _: &Context) -> Result<ListedKept> {
        self.list_kept(&request)
    }

    fn delete_kept(&self, request: DeleteKept, _: &Context) -> Result<()> {
        self.delete_kept(&request.name)
    }

    fn create_snapshot(&self, request: CreateSnapshot, context: &Context) -> Result<Snapshot> {
        self.take_snapshot(&request, context)
    }

    fn delete_snapshot(&self, request: DeleteSnapshot, _: &Context) -> Result<()> {
        self.drop_snapshot(&request)
    }

    fn open_snapshot(&self, request: OpenSnapshot, context: &Context) -> Result<OpenedSnapshot> {
        match request.kind {
            Some(SourceKind::Tree) => self.begin_reading_files(&request, context),
            _ => self.begin_reading(&request),
        }
    }

    fn list_extents(&self, request: ListExtents, _: &Context) -> Result<Extents> {
        self.extents(&request)
    }

    fn close_snapshot(&self, request: CloseSnapshot, context: &Context) -> Result<()> {
        self.end_reading(&request.handle, context)
    }

    fn prepare_restore(&self, request: PrepareRestore, context: &Context) -> Result<PreparedRestore> {
        self.prepare(&request, context)
    }

    fn finish_restore(&self, request: FinishRestore, context: &Context) -> Result<Volume> {
        self.finish(&request.handle, context)
    }

    fn abort_restore(&self, request: AbortRestore, context: &Context) -> Result<()> {
        self.abort(&request.handle, context)
    }
}
