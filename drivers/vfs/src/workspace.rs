//! Where each process keeps what it has not finished.
//!
//! Every process has a directory of its own in `<vfs.path>/config/work`, with a lock file that it holds as
//! long as it lives. What it builds or takes down is a [`Parcel`] in there, named
//! `<kind>.<number>-<incarnation>.<volume>`. What becomes of one whose process is gone:
//! [`reconcile`](crate::reconcile). What is to be removed is removed in the background:
//! [`trash`](crate::trash).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use convoy_driver_sdk::Name;
use convoy_driver_sdk::flock::{LockError, LockFile};
use convoy_driver_sdk::tree::Project;
use parking_lot::Mutex;

use crate::error::{VfsResult, io_error};
use crate::files::{make_dirs, rename};
use crate::layout::Layout;
use crate::parcel::{Kind, Parcel};
use crate::project;
use crate::record::Incarnation;
use crate::trash::{Trash, set_aside};

/// The lock file in a process's directory.
pub(crate) const LOCK: &str = "lock";

/// How long the removal of a large tree is waited for; it goes on afterwards.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(2);

/// How long [`Workspace::close`] waits for removals to stop.
const STOPPING: Duration = Duration::from_secs(2);

/// How many marks are kept to be used again.
const SPARE_MARKS: usize = 8;

/// This process's directory. It is made when it is first needed: a driver that only reads writes nothing.
#[derive(Debug)]
pub(crate) struct Workspace {
    work: PathBuf,
    aside: PathBuf,
    home: Mutex<Option<Arc<Home>>>,
    /// Marks that are used again: to remove a directory right after a sync may wait for the file system's
    /// journal, to rename it does not (`cargo xtask bench calls` shows both).
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
        let mut home = self.home.lock();
        if let Some(home) = &*home {
            return Ok(Arc::clone(home));
        }
        make_dirs(&self.work)?;
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
            project::give(&dir, Project::default())?;
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
        Ok(Parcel::new(path))
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
        let spare = self.spare.lock().pop();
        if let Some(spare) = spare {
            let path = self.path(Kind::Create, volume.as_str(), None)?;
            if fs::rename(spare, &path).is_ok() {
                return Ok(Parcel::new(path));
            }
        }
        self.parcel(Kind::Create, volume, None)
    }

    pub(crate) fn unmark(&self, mark: Parcel) {
        let mut spare = self.spare.lock();
        let dir = mark.path().parent().unwrap_or(&self.work);
        // The same names again and again: an operation that fails leaves everything as it was.
        let names =
            (0..SPARE_MARKS).map(|slot| dir.join(format!("{}.spare{slot}.spare", Kind::Scratch.text())));
        let free = names.into_iter().find(|name| !spare.contains(name));
        match free.filter(|free| fs::rename(mark.path(), free).is_ok()) {
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

    /// Removes a parcel: at once if that is quick, otherwise it goes on in the background. A crash leaves the
    /// rest to the next start.
    pub(crate) fn discard(&self, parcel: Parcel) {
        // Most are empty by now.
        if fs::remove_dir(parcel.path()).is_ok() {
            parcel.keep();
            return;
        }
        let volume = parcel.path().file_name().and_then(Kind::parse).map(|(_, _, volume)| volume);
        let volume = volume.as_ref().map_or("unknown", Name::as_str);
        match self.throw_away(parcel.path(), 0, volume) {
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
        rename(path, parcel.path())?;
        set_aside(&self.aside, &parcel.keep(), why)
    }

    /// Makes trash of a directory: no rule puts anything of it anywhere any more.
    pub(crate) fn throw_away(&self, path: &Path, attempts: u32, volume: &str) -> VfsResult<Trash> {
        let trash = Trash::new(self.home()?.dir.clone(), attempts, self.number(), volume);
        rename(path, &trash.path())?;
        Ok(trash)
    }

    /// Removes trash, piece by piece, in the background if it takes longer than a moment.
    pub(crate) fn empty(&self, trash: Vec<Trash>) {
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
            let home = self.home.lock();
            home.as_ref().is_some_and(|home| Arc::strong_count(home) > 1)
        };
        while busy() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(5));
        }
        for spare in self.spare.lock().drain(..) {
            // What cannot be removed is left to the next start, as any parcel.
            let _ = fs::remove_dir(spare);
        }
        let home = self.home.lock().take();
        if let Some(home) = home.and_then(Arc::into_inner) {
            abandon(home.dir, home.lock);
        }
    }
}

/// Removes the directory of a workspace; with parcels in it, it stays for the next start.
pub(crate) fn abandon(dir: PathBuf, lock: LockFile) {
    let busy = fs::read_dir(&dir).map_or(true, |mut entries| {
        entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != LOCK))
    });
    if !busy && lock.remove().is_ok() {
        // Somebody else may be looking at it: then it is theirs to remove.
        let _ = fs::remove_dir(dir);
    }
}

/// The directories of processes that are gone, locked. Other processes of this host are given `patience` to
/// go: one whose daemon was killed is on its way out, and may be in the midst of something.
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
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().replace(['/', '.'], "-")
}
