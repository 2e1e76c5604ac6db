//! The daemon's own directory, which one daemon at a time may use.

use convoy_driver_sdk::atomic;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A directory that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum RootError {
    #[error("cannot use the root directory {}: {source}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    /// Another daemon uses it. The words are those of convoy 0.5.
    #[error(
        "Failed to lock the file at {}: resource temporarily unavailable. Another convoy daemon uses this \
         root",
        path.display()
    )]
    Locked { path: PathBuf },
    #[error(
        "{} was written by convoy {written_by} in format {found}; this is convoy {} and knows formats up to \
         {known}: start convoy {written_by} or newer",
        path.display(),
        env!("CARGO_PKG_VERSION")
    )]
    Newer { path: PathBuf, written_by: String, found: u32, known: u32 },
}

/// The format of the records in the directory. To be raised when an older program would misread them.
const FORMAT: u32 = 1;

/// Says which format the directory has. Convoy 0.5 wrote none: that is format 1, too.
const FORMAT_FILE: &str = "format.json";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Format {
    format: u32,
    /// The program that wrote it last.
    #[serde(default)]
    written_by: String,
}

/// The directory, held until dropped.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    _lock: File,
}

impl Root {
    /// Makes the directory if it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, RootError> {
        let unusable = |source| RootError::Unusable { path: path.to_owned(), source };
        atomic::create_dir(path, 0o700).map_err(unusable)?;
        let path = path.canonicalize().map_err(unusable)?;
        let file = path.join("lock");
        let lock = lock(&file).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => RootError::Locked { path: file },
            _ => RootError::Unusable { path: path.clone(), source },
        })?;
        let root = Self { path, _lock: lock };
        root.check_format()?;
        Ok(root)
    }

    /// Refuses what a newer convoy wrote, and notes which one writes from now on.
    fn check_format(&self) -> Result<(), RootError> {
        let unusable = |source| RootError::Unusable { path: self.path.clone(), source };
        let file = self.path.join(FORMAT_FILE);
        let found = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice::<Format>(&bytes).map_err(|error| {
                unusable(io::Error::other(format!(
                    "{FORMAT_FILE} is damaged ({error}): restore it, or remove it"
                )))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Format { format: FORMAT, written_by: String::new() }
            }
            Err(error) => return Err(unusable(error)),
        };
        if found.format > FORMAT {
            return Err(RootError::Newer {
                path: self.path.clone(),
                written_by: found.written_by,
                found: found.format,
                known: FORMAT,
            });
        }
        let own = env!("CARGO_PKG_VERSION");
        if found.written_by == own {
            return Ok(());
        }
        let now = Format { format: FORMAT, written_by: own.to_owned() };
        let text = serde_json::to_vec(&now).map_err(|error| unusable(error.into()))?;
        atomic::write_atomic(&file, &text, 0o644).map_err(unusable)
    }

    /// The directory, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Locks a file that is made if missing; `WouldBlock` when another process has it.
///
/// Only its owner can open the file: whoever can open it, be it to read, can lock it, too.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    // An older convoy made it for everybody.
    if file.metadata()?.mode() & 0o077 != 0 {
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    }
    Ok(file)
}

/// What the kernel names this boot by: no mount outlives it.
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
    fn a_lock_is_its_owners_alone_and_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("lock"), dir.path().join("elsewhere"));
        let mode = || path.metadata().unwrap().mode() & 0o777;
        drop(lock(&path).unwrap());
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        drop(lock(&path).unwrap());
        assert_eq!(mode(), 0o600);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(lock(&path).is_err() && !elsewhere.exists());
    }

    #[test]
    fn a_lock_is_taken_through_no_link_and_waits_for_no_fifo() {
        let dir = tempfile::tempdir().unwrap();
        let (link, fifo) = (dir.path().join("link.lock"), dir.path().join("fifo.lock"));
        std::os::unix::fs::symlink(dir.path().join("made"), &link).unwrap();
        assert!(lock(&link).is_err());
        assert!(!dir.path().join("made").exists());
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(lock(&fifo).is_err());
    }

    #[test]
    fn what_a_newer_convoy_wrote_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(Root::open(dir.path()).unwrap());
        let file = dir.path().join(FORMAT_FILE);
        let own = std::fs::read_to_string(&file).unwrap();
        assert!(own.contains(env!("CARGO_PKG_VERSION")), "{own}");
        let newer = r#"{"Format":2,"WrittenBy":"9.1.0"}"#;
        std::fs::write(&file, newer).unwrap();
        let error = Root::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("start convoy 9.1.0 or newer"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), newer);
        // Of the same format, an older program may go on.
        std::fs::write(&file, r#"{"Format":1,"WrittenBy":"0.7.0","More":true}"#).unwrap();
        drop(Root::open(dir.path()).unwrap());
        std::fs::write(&file, "{").unwrap();
        assert!(Root::open(dir.path()).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn the_boot_has_an_id() {
        assert_eq!(boot_id().unwrap().len(), 36);
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }
}
