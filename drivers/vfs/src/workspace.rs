//! The place for what is not finished, and what becomes of it after a crash.
//!
//! Every process has a directory of its own in `<vfs.path>/config/work`, with a lock file that it holds as
//! long as it lives. What it builds or takes down is a *parcel* in there, named
//! `<kind>.<number>-<incarnation>.<volume>`. A parcel whose process is gone is settled by whoever opens the
//! driver next, on any host, by one rule: **what a record says should be there and is not, is put there;
//! anything else is removed.** So an operation that was cut off before its record was written is undone, and
//! one that was cut off after it is finished. A record speaks only of its own incarnation of a volume's name:
//! a volume that was made anew under the name of a deleted one gets nothing of what that had.
//!
//! Settling is quick, and one parcel cannot stop it: a parcel during which processes ended [`ATTEMPTS`] times
//! is set aside, and what is left when [`SETTLING`] is over stays for the next start. What is to be removed
//! is removed in the background: see [`trash`](crate::trash).

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
use crate::quota::{self, Quotas};
use crate::record::{Incarnation, SnapshotFile, VolumeRecord};
use crate::thaw::changed_size;
use crate::trash::{self, ATTEMPTS, Trash, set_aside};
use crate::volumes::rename_lifting;

const LOCK: &str = "lock";
/// Which parcel is being settled, and for the how manieth time.
const SETTLING_NOW: &str = "settling";
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

/// How long settling may keep the driver from being open.
const SETTLING: Duration = Duration::from_secs(30);

/// How long the end of removals is waited for at the end.
const STOPPING: Duration = Duration::from_secs(2);

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
    /// Nothing: the limit of a volume is being changed, and what it is to be the record says.
    Resize,
    /// Something for this process only.
    Scratch,
}

impl Kind {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Volume, "volume"),
        (Self::Create, "create"),
        (Self::Revert, "revert"),
        (Self::Snapshot, "snapshot"),
        (Self::Resize, "resize"),
        (Self::Scratch, "scratch"),
    ];

    fn text(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("scratch", |(_, text)| text)
    }

    /// The kind, the incarnation and the volume in the file name of a parcel.
    fn parse(file: &OsStr) -> Option<(Self, Option<&str>, Name)> {
        let mut parts = file.to_str()?.splitn(3, '.');
        let (kind, number, name) = (parts.next()?, parts.next()?, parts.next()?);
        let (kind, _) = Self::ALL.iter().find(|(_, text)| *text == kind)?;
        let incarnation = number.split_once('-').map(|(_, incarnation)| incarnation);
        Some((*kind, incarnation, Name::parse(name).ok()?))
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
        if self.kept {
            return;
        }
        quota::release(&self.join(DATA));
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(%error, "cannot remove what an operation left; the next start will");
        }
    }
}

/// This process's directory. It is made when it is first needed: a driver that only reads writes nothing.
#[derive(Debug)]
pub(crate) struct Workspace {
    work: PathBuf,
    aside: PathBuf,
    home: Mutex<Option<Arc<Home>>>,
    /// Marks that are used again: making and removing a directory costs more than renaming one.
    spare: Mutex<Vec<PathBuf>>,
    count: AtomicU64,
    /// Whether removals are to stop.
    stop: Arc<AtomicBool>,
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
            aside: layout.aside(),
            home: Mutex::new(None),
            spare: Mutex::default(),
            count: AtomicU64::new(0),
            stop: Arc::default(),
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

    /// A new, empty parcel of an incarnation of a volume.
    pub(crate) fn parcel(
        &self,
        kind: Kind,
        volume: &Name,
        incarnation: Option<&Incarnation>,
    ) -> VfsResult<Parcel> {
        let path = self.path(kind, volume.as_str(), incarnation)?;
        fs::create_dir(&path).map_err(io_error("make the directory", &path))?;
        Ok(Parcel { path, kept: false })
    }

    /// A name in this process's directory that nothing has.
    fn path(&self, kind: Kind, volume: &str, incarnation: Option<&Incarnation>) -> VfsResult<PathBuf> {
        let number = self.number();
        let of = incarnation.map(|incarnation| format!("-{}", incarnation.as_str())).unwrap_or_default();
        Ok(self.home()?.dir.join(format!("{}.{number}{of}.{volume}", kind.text())))
    }

    fn number(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    /// Says that the directory of a volume is being made at its final place.
    pub(crate) fn mark(&self, volume: &Name) -> VfsResult<Parcel> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(spare) = spare {
            let path = self.path(Kind::Create, volume.as_str(), None)?;
            if fs::rename(spare, &path).is_ok() {
                return Ok(Parcel { path, kept: false });
            }
        }
        self.parcel(Kind::Create, volume, None)
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
        let volume = parcel.path.file_name().and_then(Kind::parse).map(|(_, _, volume)| volume);
        let volume = volume.as_ref().map_or("unknown", Name::as_str);
        match self.throw_away(&parcel.path, 0, volume) {
            Ok(trash) => {
                parcel.keep();
                self.empty(vec![trash]);
            }
            Err(error) => tracing::warn!(%error, "cannot begin to remove what was deleted"),
        }
    }

    /// Puts a directory that is in the way where the doctor tells of it.
    pub(crate) fn set_aside(&self, path: &Path, volume: &Name, why: &str) -> VfsResult<()> {
        let parcel = self.parcel(Kind::Snapshot, volume, None)?;
        fs::rename(path, &parcel.path).map_err(io_error("move", path))?;
        set_aside(&self.aside, &parcel.keep(), why)
    }

    /// Makes trash of a directory: no rule puts anything of it anywhere any more.
    fn throw_away(&self, path: &Path, attempts: u32, volume: &str) -> VfsResult<Trash> {
        let trash = Trash::new(self.home()?.dir.clone(), attempts, self.number(), volume);
        fs::rename(path, trash.path()).map_err(io_error("move", path))?;
        Ok(trash)
    }

    /// Removes trash, piece by piece, in the background if it takes longer than a moment.
    fn empty(&self, trash: Vec<Trash>) {
        if trash.is_empty() {
            return;
        }
        let Ok(home) = self.home() else { return };
        let (stop, aside) = (Arc::clone(&self.stop), self.aside.clone());
        let (done, wait) = channel::<()>();
        std::thread::spawn(move || {
            for trash in trash {
                trash.remove(&aside, &|| !stop.load(Ordering::Relaxed));
            }
            // The workspace is held until its last parcel is gone.
            drop((home, done));
        });
        // Either way of ending is fine: the sender is dropped when all is gone.
        let _ = wait.recv_timeout(REMOVAL_PATIENCE);
    }

    /// Stops removals, and gives the workspace up when it is empty.
    pub(crate) fn close(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let give_up = Instant::now() + STOPPING;
        let busy = || {
            let home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
            home.as_ref().is_some_and(|home| Arc::strong_count(home) > 1)
        };
        while busy() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(5));
        }
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

/// How often processes ended while they settled a parcel of an abandoned workspace, written down there.
struct Deaths {
    file: PathBuf,
    /// The parcel that was being settled when the last one ended, and how often that happened.
    last: Option<(u32, String)>,
}

impl Deaths {
    fn of(dir: &Path) -> Self {
        let file = dir.join(SETTLING_NOW);
        let last = fs::read_to_string(&file).ok().and_then(|text| {
            let (deaths, parcel) = text.split_once(' ')?;
            Some((deaths.parse().ok()?, parcel.to_owned()))
        });
        Self { file, last }
    }

    fn before(&self, parcel: &OsStr) -> u32 {
        self.last.as_ref().filter(|(_, last)| OsStr::new(last) == parcel).map_or(0, |(deaths, _)| *deaths)
    }

    /// Counts the death that would follow now.
    fn begin(&self, parcel: &OsStr) -> VfsResult<()> {
        let text = format!("{} {}", self.before(parcel) + 1, parcel.to_string_lossy());
        atomic::write_atomic(&self.file, text.as_bytes(), 0o600).map_err(io_error("write", &self.file))
    }

    fn forget(&self) {
        // Not there, as a rule.
        let _ = fs::remove_file(&self.file);
    }
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
        let mut trash = Vec::new();
        let give_up = Instant::now() + SETTLING;
        for (dir, lock) in abandoned(self.layout, LEAVING) {
            let deaths = Deaths::of(&dir);
            for parcel in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let file = parcel.file_name();
                if file == LOCK || file == SETTLING_NOW {
                    continue;
                }
                if Instant::now() >= give_up {
                    self.warnings.push(format!("there was no time to settle all of {}", dir.display()));
                    break;
                }
                match self.parcel(&parcel.path(), &file, &deaths) {
                    Ok(Some(found)) => trash.push(found.durable()),
                    Ok(None) => {}
                    Err(error) => {
                        self.warnings.push(format!("cannot settle {}: {error}", parcel.path().display()));
                    }
                }
            }
            deaths.forget();
            // Half-written counts. What cannot be cleaned keeps the directory, and nothing else.
            let _ = atomic::clean(&dir);
            abandon(dir, lock);
        }
        self.workspace.empty(trash);
    }

    /// Settles a parcel: what is left of it is trash.
    fn parcel(&mut self, path: &Path, file: &OsStr, deaths: &Deaths) -> VfsResult<Option<Trash>> {
        let attempts = trash::parse(file).map_or(0, |(attempts, _)| attempts);
        if attempts >= ATTEMPTS || deaths.before(file) >= ATTEMPTS {
            let why = format!("convoy ended {ATTEMPTS} times while it worked on this");
            set_aside(&self.layout.aside(), path, &why)?;
            self.warnings.push(format!("{} was set aside: {why}", path.display()));
            return Ok(None);
        }
        if let Some((attempts, volume)) = trash::parse(file) {
            return self.workspace.throw_away(path, attempts, volume).map(Some);
        }
        // Nothing of ours is left alone.
        let Some((kind, incarnation, name)) = Kind::parse(file) else { return Ok(None) };
        if kind != Kind::Scratch {
            deaths.begin(file)?;
            let done = self.locked(&name, |this| match kind {
                Kind::Volume => this.volume(&name, incarnation, path),
                Kind::Create => this.create(&name),
                Kind::Revert => this.revert(&name, incarnation, path),
                Kind::Snapshot => this.snapshot(&name, incarnation, path),
                Kind::Resize => this.resize(&name, incarnation),
                Kind::Scratch => Ok(None),
            })?;
            self.done.extend(done);
        }
        if !exists(path) {
            return Ok(None);
        }
        self.workspace.throw_away(path, 0, name.as_str()).map(Some)
    }

    /// The record of a volume, if there is one and it is of that incarnation.
    fn record(&self, name: &Name, incarnation: Option<&str>) -> VfsResult<Option<VolumeRecord>> {
        let record = self.records.load(name)?;
        Ok(record.filter(|record| record.incarnation.as_ref().map(Incarnation::as_str) == incarnation))
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

    fn volume(&self, name: &Name, incarnation: Option<&str>, parcel: &Path) -> VfsResult<Option<String>> {
        if self.record(name, incarnation)?.is_none() {
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

    fn revert(&self, name: &Name, incarnation: Option<&str>, parcel: &Path) -> VfsResult<Option<String>> {
        let Some(mut record) = self.record(name, incarnation)? else { return Ok(None) };
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

    fn resize(&self, name: &Name, incarnation: Option<&str>) -> VfsResult<Option<String>> {
        let Some(record) = self.record(name, incarnation)? else { return Ok(None) };
        // Where that cannot be, the doctor tells it.
        let limited = Quotas::of(&self.layout.path)
            .and_then(|quotas| quotas.limit(&self.layout.volume(name), record.size));
        Ok(limited.is_ok().then(|| format!("limited volume {name} to its size after an interrupted resize")))
    }

    fn snapshot(&self, volume: &Name, incarnation: Option<&str>, parcel: &Path) -> VfsResult<Option<String>> {
        let removed =
            || Ok(Some(format!("removed what an interrupted operation left of a snapshot of {volume}")));
        let Ok(bytes) = fs::read(parcel.join(SNAPSHOT_FILE)) else { return removed() };
        let Ok(file) = serde_json::from_slice::<SnapshotFile>(&bytes) else { return removed() };
        let listed = self.record(volume, incarnation)?.is_some_and(|record| {
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
        let moved = match rename_lifting(from, to) {
            // Another project has to be that of the directory, if that is what it was.
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices && project::of(dir).inherited => {
                project::join(from, dir).and_then(|()| rename_lifting(from, to))
            }
            other => other,
        };
        moved.map_err(io_error("move", from))?;
        atomic::sync_dir(dir).map_err(io_error("sync the directory", dir))?;
    }
    Ok(())
}
