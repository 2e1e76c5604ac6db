//! A lock file: one holder among all processes, on all hosts that share the directory.
//!
//! The kernel drops the lock with its holder, so a crash never leaves it held.

use crate::{Context, DriverError, ErrorKind};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a waiter sleeps between two attempts: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LAST_WAIT: Duration = Duration::from_millis(50);

/// Why a lock could not be taken.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum LockError {
    /// Somebody else has it.
    #[error("{} is locked by {holder}", path.display())]
    Held { path: PathBuf, holder: String },
    /// The call was cancelled, or its deadline passed, while it waited.
    #[error(transparent)]
    Interrupted(DriverError),
    /// The operating system refused.
    #[error("cannot lock {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl From<LockError> for DriverError {
    fn from(error: LockError) -> Self {
        let text = error.to_string();
        match error {
            LockError::Held { .. } => Self::new(ErrorKind::Busy, text),
            LockError::Interrupted(error) => error,
            LockError::Io { path, source } => {
                Self::io(format_args!("cannot lock {}", path.display()), &source)
            }
        }
    }
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Takes the lock if nobody has it.
    pub fn try_acquire(path: impl Into<PathBuf>) -> Result<Self, LockError> {
        let path = path.into();
        match attempt(&path) {
            Ok(Attempt::Taken(file)) => Self { file, path }.signed(),
            Ok(Attempt::Held(holder)) => Err(LockError::Held { path, holder }),
            Err(source) => Err(LockError::Io { path, source }),
        }
    }

    /// Waits for the lock as long as the call may last.
    pub fn acquire(path: impl Into<PathBuf>, context: &Context) -> Result<Self, LockError> {
        let path = path.into();
        let mut wait = FIRST_WAIT;
        loop {
            match attempt(&path) {
                Ok(Attempt::Taken(file)) => return Self { file, path }.signed(),
                Ok(Attempt::Held(holder)) => context.check().map_err(|mut error| {
                    error.message =
                        format!("{} while waiting for {}, locked by {holder}", error.message, path.display());
                    LockError::Interrupted(error)
                })?,
                Err(source) => return Err(LockError::Io { path, source }),
            }
            std::thread::sleep(context.remaining().map_or(wait, |remaining| wait.min(remaining)));
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// The path of the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the lock up and removes its file. Whoever waits for it makes a new one.
    ///
    /// # Errors
    /// [`LockError::Io`]; the lock is given up all the same.
    pub fn remove(self) -> Result<(), LockError> {
        std::fs::remove_file(&self.path).map_err(|source| LockError::Io { path: self.path.clone(), source })
    }

    /// Writes who holds it, for the messages of those who wait; nothing depends on it.
    fn signed(mut self) -> Result<Self, LockError> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let text = format!("process {} on {host}\n", std::process::id());
        let signed = self.file.set_len(0).and_then(|()| self.file.rewind());
        if let Err(error) = signed.and_then(|()| self.file.write_all(text.as_bytes())) {
            tracing::debug!(path = %self.path.display(), %error, "cannot write the holder of a lock");
        }
        Ok(self)
    }
}

/// Locks an open file, such as a device, for as long as this or a copy of its descriptor is open.
pub(crate) fn lock_open(file: &File, context: &Context) -> crate::Result<()> {
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => context.check()?,
            Err(error) => return Err(DriverError::io("lock it", &error.into())),
        }
        std::thread::sleep(context.remaining().map_or(LAST_WAIT, |left| LAST_WAIT.min(left)));
    }
}

enum Attempt {
    Taken(File),
    Held(String),
}

fn attempt(path: &Path) -> io::Result<Attempt> {
    loop {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Attempt::Held(holder(&mut file))),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        // The holder before may have removed the file between the opening and the locking: then this is the
        // lock of a file that nobody else will ever open.
        let locked = file.metadata()?;
        match std::fs::metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (locked.dev(), locked.ino()) => {
                return Ok(Attempt::Taken(file));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(256).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    #[test]
    fn one_holder_who_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = LockFile::try_acquire(&path).unwrap();
        let refused = LockFile::try_acquire(&path).unwrap_err();
        assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
        assert_eq!(DriverError::from(refused).kind, ErrorKind::Busy);
        drop(held);
        LockFile::try_acquire(&path).unwrap();
    }

    #[test]
    fn waiting_ends_with_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _held = LockFile::try_acquire(&path).unwrap();
        let context = Context::new("1").with_deadline(Some(Instant::now() + Duration::from_millis(30)));
        let error = DriverError::from(LockFile::acquire(&path, &context).unwrap_err());
        assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
        assert!(error.message.contains("locked by process"), "{error}");
    }

    #[test]
    fn removing_the_file_never_lets_two_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = LockFile::acquire(&path, &Context::new("1")).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        lock.remove().unwrap();
                    }
                });
            }
        });
        assert!(!path.exists());
    }
}
