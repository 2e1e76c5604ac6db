//! The daemon's own directory, which one daemon at a time may use.

use convoy_driver_sdk::atomic;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It cannot be made or entered.
    #[error("cannot use the root directory {}: {source}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon uses it. The words are those of convoy 0.5.
    #[error(
        "Failed to lock the file at {}: resource temporarily unavailable. Another convoy daemon uses this root",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
}

/// The directory, held until dropped.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    _lock: File,
}

impl Root {
    /// Makes the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn open(path: &Path) -> Result<Self, RootError> {
        let unusable = |source| RootError::Unusable { path: path.to_owned(), source };
        atomic::create_dir(path, 0o700).map_err(unusable)?;
        let path = path.canonicalize().map_err(unusable)?;
        let file = path.join("lock");
        let lock = lock(&file).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => RootError::Locked { path: file },
            _ => RootError::Unusable { path: path.clone(), source },
        })?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Locks a file that is made if missing; `WouldBlock` when another process has it.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// What the kernel names this boot by: no mount outlives it.
///
/// # Errors
/// When the kernel does not say.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/root");
        let root = Root::open(&path).unwrap();
        let error = Root::open(&path).unwrap_err();
        assert!(error.to_string().starts_with("Failed to lock the file at "), "{error}");
        drop(root);
        Root::open(&path).unwrap();
    }

    #[test]
    fn the_boot_has_an_id() {
        assert_eq!(boot_id().unwrap().len(), 36);
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }
}
