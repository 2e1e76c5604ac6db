//! The place for what is not finished, and what becomes of it after a crash.
//!
//! Every process has a directory of its own in `<vfs.path>/config/work`, with a lock file that it holds as long as it lives. What
//! it builds or takes down is a *parcel* in there, named `<kind>.<number>.<volume>`. A parcel whose process is gone is settled by
//! whoever opens the driver next, on any host, by one rule: **what a record says should be there and is not, is put there;
//! anything else is removed.** So an operation that was cut off before its record was written is undone, and one that was cut off
//! after it is finished.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use convoy_driver_sdk::flock::{LockError, LockFile};
use convoy_driver_sdk::records::RecordStore;
use convoy_driver_sdk::tree::{Project, remove_tree};
use convoy_driver_sdk::{Name, atomic};

use crate::error::{VfsResult, io_error};
use crate::layout::{Layout, SNAPSHOT_FILE};
use crate::locks::Locks;
use crate::project;
use crate::record::{SnapshotFile, VolumeRecord};
use crate::thaw::changed_size;

const LOCK: &str = "lock";
/// In a parcel of a volume: its directory, and the directory of its snapshots.
pub(crate) const DATA: &str = "data";
pub(crate) const SNAPSHOTS: &str = "snapshots";
pub(crate) const OLD: &str = "old";

/// How long the removal of a large tree is waited for; it goes on afterwards.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(2);

/// How long a process of this host that may be on its way out is waited for.
const LEAVING: Duration = Duration::from_secs(2);

/// How long a process takes at most to give back all its locks when it ends.
const ENDING: Duration = Duration::from_millis(200);

/// How many marks are kept to be used again.
const SPARE_MARKS: usize = 8;

/// What a parcel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A volume that is made or taken down: [`DATA`] and [`SNAPSHOTS`].
    Volume,
    /// Nothing: the volume's directory, empty, was made at its final place, and its record is being written.
    Create,
    /// A volume that goes back to a snapshot: the new tree or, once exchanged, the old one is [`DATA`]. Where they cannot be
    /// exchanged in one step, the old one is [`OLD`] meanwhile.
    Revert,
    /// A snapshot's directory.
    Snapshot,
    /// Something for this process only.
    Scratch,
}

impl Kind {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Volume, "volume"),
        (Self::Create, "create"),
        (Self::Revert, "revert"),
        (Self::Snapshot, "snapshot"),
        (Self::Scratch, "scratch"),
    ];

    fn text(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("scratch", |(_, text)| text)
    }

    fn parse(file: &OsStr) -> Option<(Self, Name)> {
        let mut parts = file.to_str()?.splitn(3, '.');
        let (kind, _number, name) = (parts.next()?, parts.next()?, parts.next()?);
        let (kind, _) = Self::ALL.iter().find(|(_, text)| *text == kind)?;
        Some((*kind, Name::parse(name).ok()?))
    }
}

/// A directory in the workspace, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Parcel {
    path: PathBuf,
    kept: bool,
}

impl Parcel {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Leaves the directory where it is: it has been given to somebody else.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.kept = true;
        std::mem::take(&mut self.path)
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = remove_tree(&self.path)
        {
            tracing::warn!(%error, "cannot remove what an operation left; the next start will");
        }
    }
}

/// This process's directory. It is made when it is first needed: a driver that only reads writes nothing.
#[derive(Debug)]
pub(crate) struct Workspace {
    work: PathBuf,
    home: Mutex<Option<Arc<Home>>>,
    /// Marks that are used again: making and removing a directory costs more than renaming one.
    spare: Mutex<Vec<PathBuf>>,
    count: AtomicU64,
}

#[derive(Debug)]
struct Home {
    dir: PathBuf,
    lock: LockFile,
}

impl Workspace {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            work: layout.work(),
            home: Mutex::new(None),
            spare: Mutex::default(),
            count: AtomicU64::new(0),
        }
    }

    fn home(&self) -> VfsResult<Arc<Home>> {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = &*home {
            return Ok(Arc::clone(home));
        }
        atomic::create_dir(&self.work, 0o700).map_err(io_error("make the directory", &self.work))?;
        let host = host();
        loop {
            let moment =
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
            let dir = self.work.join(format!("{host}-{}-{moment:x}", std::process::id()));
            match fs::create_dir(&dir) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(io_error("make the directory", &dir))?,
            }
            // Whatever is moved here for a while keeps the project it has.
            project::give(&dir, Project::default()).map_err(io_error("set the project of", &dir))?;
            match LockFile::try_acquire(dir.join(LOCK)) {
                Ok(lock) => return Ok(Arc::clone(home.insert(Arc::new(Home { dir, lock })))),
                // Taken for a leftover in the instant before it was locked: again.
                Err(LockError::Held { .. }) => {}
                Err(LockError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// A new, empty parcel.
    pub(crate) fn parcel(&self, kind: Kind, volume: &Name) -> VfsResult<Parcel> {
        let path = self.path(kind, volume.as_str())?;
        fs::create_dir(&path).map_err(io_error("make the directory", &path))?;
        Ok(Parcel { path, kept: false })
    }

    /// A name in this process's directory that nothing has.
    fn path(&self, kind: Kind, volume: &str) -> VfsResult<PathBuf> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        Ok(self.home()?.dir.join(format!("{}.{number}.{volume}", kind.text())))
    }

    /// Says that the directory of a volume is being made at its final place.
    pub(crate) fn mark(&self, volume: &Name) -> VfsResult<Parcel> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(spare) = spare {
            let path = self.path(Kind::Create, volume.as_str())?;
            if fs::rename(spare, &path).is_ok() {
                return Ok(Parcel { path, kept: false });
            }
        }
        self.parcel(Kind::Create, volume)
    }

    /// Takes a mark back.
    pub(crate) fn unmark(&self, mark: Parcel) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = mark.path.parent().unwrap_or(&self.work);
        // The same names again and again: an operation that fails leaves everything as it was.
        let names =
            (0..SPARE_MARKS).map(|slot| dir.join(format!("{}.spare{slot}.spare", Kind::Scratch.text())));
        let free = names.into_iter().find(|name| !spare.contains(name));
        match free.filter(|free| fs::rename(&mark.path, free).is_ok()) {
            Some(kept) => {
                mark.keep();
                spare.push(kept);
            }
            None => {
                drop(spare);
                self.discard(mark);
            }
        }
    }

    /// Removes a parcel: at once if that is quick, otherwise it goes on in the background. A crash leaves the rest to the next
    /// start.
    pub(crate) fn discard(&self, parcel: Parcel) {
        // Most are empty by now.
        if fs::remove_dir(&parcel.path).is_ok() {
            parcel.keep();
            return;
        }
        let Ok(home) = self.home() else { return };
        let (done, wait) = channel::<()>();
        std::thread::spawn(move || {
            drop(parcel);
            // The workspace is held until its last parcel is gone.
            drop((home, done));
        });
        // Either way of ending is fine: the sender is dropped when the tree is gone.
        let _ = wait.recv_timeout(REMOVAL_PATIENCE);
    }

    /// Gives the workspace up when it is empty.
    pub(crate) fn close(&self) {
        for spare in self.spare.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // What cannot be removed is left to the next start, as any parcel.
            let _ = fs::remove_dir(spare);
        }
        let home = self.home.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(home) = home.and_then(Arc::into_inner) {
            abandon(home.dir, home.lock);
        }
    }
}

/// Removes the directory of a workspace; with parcels in it, it stays for the next start.
fn abandon(dir: PathBuf, lock: LockFile) {
    let busy = fs::read_dir(&dir).map_or(true, |mut entries| {
        entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != LOCK))
    });
    if !busy && lock.remove().is_ok() {
        // Somebody else may be looking at it: then it is theirs to remove.
        let _ = fs::remove_dir(dir);
    }
}

/// The directories of processes that are gone, locked. Other processes of this host are given `patience` to go: one
/// whose daemon was killed is on its way out, and may be in the midst of something.
pub(crate) fn abandoned(layout: &Layout, patience: Duration) -> impl Iterator<Item = (PathBuf, LockFile)> {
    let give_up = Instant::now() + patience;
    let entries = fs::read_dir(layout.work()).into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let dir = entry.path();
        loop {
            match LockFile::try_acquire(dir.join(LOCK)) {
                Ok(lock) => return Some((dir, lock)),
                Err(LockError::Held { .. }) if Instant::now() < give_up && neighbour(&dir) => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(_) => return None,
            }
        }
    })
}

/// Whether the directory is that of another living process of this host.
fn neighbour(dir: &Path) -> bool {
    let parts = || {
        let mut parts = dir.file_name()?.to_str()?.rsplitn(3, '-');
        let (_moment, pid, host) = (parts.next()?, parts.next()?, parts.next()?);
        Some((pid.parse::<u32>().ok()?, host))
    };
    parts().is_some_and(|(pid, of)| {
        pid != std::process::id() && of == host() && Path::new("/proc").join(pid.to_string()).exists()
    })
}

/// The name of this host, as far as it can be part of a file's name.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().replace(['/', '.'], "-")
}

/// Settles what processes left that are gone.
pub(crate) struct Reconciler<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) records: &'a RecordStore<VolumeRecord>,
    pub(crate) locks: &'a Locks,
    pub(crate) workspace: &'a Workspace,
    /// What was done, in words.
    pub(crate) done: Vec<String>,
    /// What could not be done.
    pub(crate) warnings: Vec<String>,
}

impl Reconciler<'_> {
    pub(crate) fn run(&mut self) {
        for (dir, lock) in abandoned(self.layout, LEAVING) {
            for parcel in fs::read_dir(&dir).into_iter().flatten().flatten() {
                if parcel.file_name() != LOCK {
                    self.parcel(parcel.path(), &parcel.file_name());
                }
            }
            abandon(dir, lock);
        }
    }

    fn parcel(&mut self, path: PathBuf, file: &OsStr) {
        let settled = match Kind::parse(file) {
            Some((Kind::Volume, name)) => self.locked(&name, |this| this.volume(&name, &path)),
            Some((Kind::Create, name)) => self.locked(&name, |this| this.create(&name)),
            Some((Kind::Revert, name)) => self.locked(&name, |this| this.revert(&name, &path)),
            Some((Kind::Snapshot, name)) => self.locked(&name, |this| this.snapshot(&name, &path)),
            Some((Kind::Scratch, _)) => Ok(None),
            // Nothing of ours: left alone.
            None => return,
        };
        match settled {
            Ok(done) => {
                self.done.extend(done);
                self.remove(path);
            }
            Err(error) => self.warnings.push(format!("cannot settle {}: {error}", path.display())),
        }
    }

    fn locked(
        &self,
        volume: &Name,
        settle: impl FnOnce(&Self) -> VfsResult<Option<String>>,
    ) -> VfsResult<Option<String>> {
        // A process that ends gives its locks back one by one. Whoever else has it may have it for long: then this is
        // left to the next start.
        let give_up = Instant::now() + ENDING;
        let _lock = loop {
            match self.locks.try_acquire(volume) {
                Err(_) if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(10)),
                other => break other?,
            }
        };
        settle(self)
    }

    fn remove(&mut self, path: PathBuf) {
        let Some((_, name)) = path.file_name().and_then(Kind::parse).filter(|_| exists(&path)) else {
            return;
        };
        // Into our own workspace first, so that a large one can be removed in the background.
        let ours = self.workspace.parcel(Kind::Scratch, &name).and_then(|parcel| {
            let trash = parcel.join("trash");
            fs::rename(&path, &trash).map_err(io_error("move", &path))?;
            Ok(parcel)
        });
        match ours {
            Ok(parcel) => self.workspace.discard(parcel),
            Err(error) => self.warnings.push(error.to_string()),
        }
    }

    fn volume(&self, name: &Name, parcel: &Path) -> VfsResult<Option<String>> {
        if self.records.load(name)?.is_none() {
            return Ok(Some(format!("removed what an interrupted operation left of volume {name}")));
        }
        let mut restored = false;
        for (from, to) in [
            (parcel.join(DATA), self.layout.volume(name)),
            (parcel.join(SNAPSHOTS), self.layout.snapshots(name)),
        ] {
            if from.exists() && !exists(&to) {
                place(&from, &to)?;
                restored = true;
            }
        }
        Ok(restored
            .then(|| format!("put the data of volume {name} in its place after an interrupted operation")))
    }

    fn create(&self, name: &Name) -> VfsResult<Option<String>> {
        let dir = self.layout.volume(name);
        // Only if it is empty: whatever is in it, somebody put there.
        let undone = self.records.load(name)?.is_none() && fs::remove_dir(&dir).is_ok();
        Ok(undone.then(|| format!("removed the directory of volume {name}, whose creation was interrupted")))
    }

    fn revert(&self, name: &Name, parcel: &Path) -> VfsResult<Option<String>> {
        let Some(mut record) = self.records.load(name)? else { return Ok(None) };
        let (new, data) = (parcel.join(DATA), self.layout.volume(name));
        // The old tree is taken away only when the new one is whole.
        let old = parcel.join(OLD);
        let finished = exists(&old) && !exists(&data);
        if finished {
            place(if exists(&new) { &new } else { &old }, &data)?;
        }
        if let Some(size) = changed_size(&record, &data) {
            record.size = size;
            self.records.save(name, &record)?;
        }
        Ok(finished.then(|| format!("finished putting volume {name} back to a snapshot")))
    }

    fn snapshot(&self, volume: &Name, parcel: &Path) -> VfsResult<Option<String>> {
        let removed =
            || Ok(Some(format!("removed what an interrupted operation left of a snapshot of {volume}")));
        let Ok(bytes) = fs::read(parcel.join(SNAPSHOT_FILE)) else { return removed() };
        let Ok(file) = serde_json::from_slice::<SnapshotFile>(&bytes) else { return removed() };
        let listed = self.records.load(volume)?.is_some_and(|record| {
            record.snapshots.get(&file.name).is_some_and(crate::record::SnapshotRecord::is_tree)
        });
        let to = self.layout.snapshot(volume, &file.name);
        if file.volume != *volume || !listed || exists(&to) {
            return removed();
        }
        place(parcel, &to)?;
        Ok(Some(format!("put snapshot {} of volume {volume} in its place", file.name)))
    }
}

/// Whether anything, be it a broken link, has that name.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Renames, durably, and makes the directory to rename into.
pub(crate) fn place(from: &Path, to: &Path) -> VfsResult<()> {
    if let Some(dir) = to.parent() {
        atomic::create_dir(dir, 0o700).map_err(io_error("make the directory", dir))?;
        let moved = match fs::rename(from, to) {
            // Another project has to be that of the directory, if that is what it was.
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices && project::of(dir).inherited => {
                project::join(from, dir).and_then(|()| fs::rename(from, to))
            }
            other => other,
        };
        moved.map_err(io_error("move", from))?;
        atomic::sync_dir(dir).map_err(io_error("sync the directory", dir))?;
    }
    Ok(())
}
