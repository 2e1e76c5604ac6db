//! The locks of volumes, among all processes on all hosts that share the directory.
//!
//! One file, `<vfs.path>/config/lock`, of which each volume has one byte at a position made of its name. (A
//! file a volume would have to be made and removed for each change, and removing a file right after a sync
//! waits for the file system's journal.) The locks are those of open files: threads of one process exclude
//! each other as well, and the kernel, or the NFS server, drops them with their holder.
//!
//! A second byte of each volume, [`USES`] further on, is locked, shared, by every process that has it
//! mounted: so a host does not delete what another one uses. It knows nothing of hosts whose daemon does not
//! run.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use convoy_driver_sdk::{Context, Name};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use parking_lot::Mutex;

use crate::error::{VfsError, VfsResult, io_error};

/// How long a waiter sleeps between two attempts: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LAST_WAIT: Duration = Duration::from_millis(50);

/// Where the bytes of uses begin: behind those of changes.
const USES: i64 = 1 << 62;

/// The file with the locks of all volumes.
#[derive(Debug)]
pub(crate) struct Locks {
    path: PathBuf,
    /// Open once something is mounted; it holds the uses of this process.
    uses: Mutex<Option<File>>,
}

/// The lock of a volume, held until this is dropped.
#[derive(Debug)]
pub(crate) struct VolumeLock {
    _file: File,
}

impl Locks {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, uses: Mutex::new(None) }
    }

    /// Takes the lock under which a volume is changed, if nobody has it.
    pub(crate) fn try_acquire(&self, volume: &Name) -> VfsResult<VolumeLock> {
        self.exclusive(position(volume))?.ok_or_else(|| VfsError::Locked(volume.clone()))
    }

    /// Keeps a volume from being mounted, if it is mounted nowhere.
    pub(crate) fn unused(&self, volume: &Name) -> VfsResult<VolumeLock> {
        self.exclusive(position(volume) + USES)?.ok_or_else(|| VfsError::UsedElsewhere(volume.clone()))
    }

    fn exclusive(&self, at: i64) -> VfsResult<Option<VolumeLock>> {
        let file = open(&self.path).map_err(io_error("open the lock file", &self.path))?;
        let free = lock(&file, libc::F_WRLCK, at).map_err(io_error("lock", &self.path))?;
        Ok(free.then_some(VolumeLock { _file: file }))
    }

    /// Says that this process has a volume mounted. Repeating it is fine.
    pub(crate) fn begin_use(&self, volume: &Name) -> VfsResult<()> {
        let mut uses = self.uses.lock();
        let file = match &*uses {
            Some(file) => file,
            None => match open(&self.path).or_else(|_| File::open(&self.path)) {
                Ok(file) => uses.insert(file),
                // On a file system that cannot be written: nothing will be deleted here, either.
                Err(error) => {
                    tracing::debug!(path = %self.path.display(), %error, "cannot say that a volume is used");
                    return Ok(());
                }
            },
        };
        match lock(file, libc::F_RDLCK, position(volume) + USES).map_err(io_error("lock", &self.path))? {
            true => Ok(()),
            // Somebody is about to delete it.
            false => Err(VfsError::Locked(volume.clone())),
        }
    }

    /// Says that this process does not have it mounted any more.
    pub(crate) fn end_use(&self, volume: &Name) {
        if let Some(file) = &*self.uses.lock()
            && let Err(error) = lock(file, libc::F_UNLCK, position(volume) + USES)
        {
            tracing::warn!(%volume, %error, "cannot say that a volume is not used any more");
        }
    }

    /// Waits for the lock as long as the call may last.
    pub(crate) fn acquire(&self, volume: &Name, context: &Context) -> VfsResult<VolumeLock> {
        let mut wait = FIRST_WAIT;
        loop {
            match self.try_acquire(volume) {
                Err(VfsError::Locked(_)) => context.check().map_err(|mut error| {
                    error.message = format!("{} while {}", error.message, VfsError::Locked(volume.clone()));
                    error
                })?,
                other => return other,
            }
            std::thread::sleep(context.remaining().map_or(wait, |remaining| wait.min(remaining)));
            wait = (wait * 2).min(LAST_WAIT);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Whether the lock could be had; it is now held by this open file.
#[expect(clippy::cast_possible_truncation, reason = "the kernel's constants are small")]
fn lock(file: &File, kind: libc::c_int, at: i64) -> Result<bool, Errno> {
    let wanted = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: at,
        l_len: 1,
        l_pid: 0,
    };
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&wanted)) {
            Ok(_) => return Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Where in the file a volume's byte is: FNV-1a of its name, as a position that every file system and NFS can
/// lock. Two volumes that met there would wait for each other, and no more.
fn position(volume: &Name) -> i64 {
    let hash = volume
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    i64::try_from(hash >> 2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn positions_are_for_ever() {
        // Hosts of different versions have to agree.
        assert_eq!(position(&name("foobar")), 0x2165_105c_7dce_59fa);
        assert_ne!(position(&name("vol1")), position(&name("vol2")));
    }

    #[test]
    fn one_holder_a_volume() {
        let dir = tempfile::tempdir().unwrap();
        let locks = Locks::new(dir.path().join("lock"));
        let held = locks.try_acquire(&name("vol1")).unwrap();
        assert!(matches!(locks.try_acquire(&name("vol1")), Err(VfsError::Locked(_))));
        drop(locks.try_acquire(&name("vol2")).unwrap());
        // Closing another open file takes nothing from the holder, as it would with a process's locks.
        assert!(matches!(locks.try_acquire(&name("vol1")), Err(VfsError::Locked(_))));
        drop(held);
        locks.try_acquire(&name("vol1")).unwrap();
    }

    #[test]
    fn what_is_used_anywhere_is_not_unused() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (Locks::new(dir.path().join("lock")), Locks::new(dir.path().join("lock")));
        let (vol1, vol2) = (name("vol1"), name("vol2"));
        for host in [&here, &there, &here] {
            host.begin_use(&vol1).unwrap();
        }
        for host in [&here, &there] {
            assert!(matches!(host.unused(&vol1), Err(VfsError::UsedElsewhere(_))));
        }
        drop(here.unused(&vol2).unwrap());
        // A change and a use do not meet.
        drop(here.try_acquire(&vol1).unwrap());
        here.end_use(&vol1);
        assert!(here.unused(&vol1).is_err());
        drop(there);
        let unused = here.unused(&vol1).unwrap();
        assert!(matches!(here.begin_use(&vol1), Err(VfsError::Locked(_))));
        drop(unused);
        here.begin_use(&vol1).unwrap();
    }

    #[test]
    fn waiting_ends_with_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let locks = Locks::new(dir.path().join("lock"));
        let _held = locks.try_acquire(&name("vol1")).unwrap();
        let context = Context::new("1").with_deadline(Some(Instant::now() + Duration::from_millis(30)));
        let error = convoy_driver_sdk::DriverError::from(locks.acquire(&name("vol1"), &context).unwrap_err());
        assert_eq!(error.kind, convoy_driver_sdk::ErrorKind::DeadlineExceeded);
        assert!(error.message.contains("volume vol1 is being changed"), "{error}");
    }

    #[test]
    fn threads_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let locks = Locks::new(dir.path().join("lock"));
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = locks.acquire(&name("vol1"), &Context::new("1")).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
