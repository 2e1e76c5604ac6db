//! Files that hold secrets: keys, passphrases, tokens, credentials.
//!
//! A secret that others can read is none, and one that others can change is theirs. Such a file is refused
//! with the command that mends it, before a byte of it is used.

use crate::{DriverError, ErrorKind};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file of a secret that cannot be used. Nothing of what is in it is repeated.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// It is a directory, a device or a pipe.
    #[error("{} is no regular file: name a file that holds the secret", path.display())]
    NoFile { path: PathBuf },
    /// It is another user's.
    #[error(
        "{} belongs to user {user}, who can change it: `chown {} {}`",
        path.display(), rustix::process::geteuid().as_raw(), path.display()
    )]
    Owner { path: PathBuf, user: u32 },
    /// Others may use it.
    #[error(
        "{} is open to others than its owner (mode {mode:04o}): `chmod 600 {}`",
        path.display(), path.display()
    )]
    Mode { path: PathBuf, mode: u32 },
    /// It is no secret of a size that a secret has.
    #[error("{} has more than {most} bytes: name a file that holds the secret alone", path.display())]
    TooLarge {
        path: PathBuf,
        /// What is expected at most, in bytes.
        most: u64,
    },
}

impl From<SecretFileError> for DriverError {
    fn from(error: SecretFileError) -> Self {
        let kind = match &error {
            SecretFileError::Unreadable { source, .. } => DriverError::io("", source).kind,
            SecretFileError::Owner { .. } | SecretFileError::Mode { .. } => ErrorKind::PermissionDenied,
            SecretFileError::NoFile { .. } | SecretFileError::TooLarge { .. } => ErrorKind::InvalidArgument,
        };
        Self::new(kind, error.to_string())
    }
}

/// Opens a file of a secret that is the user's own or root's, and nobody else's to read or to change.
///
/// Links are followed: what counts is the file that was opened, which is looked at by its descriptor. Does
/// not block on a pipe.
pub fn open(path: &Path) -> Result<File, SecretFileError> {
    let unreadable = |source| SecretFileError::Unreadable { path: path.to_owned(), source };
    // Number from the kernel's headers by way of rustix: the standard library has no name for it.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(nonblocking).open(path).map_err(unreadable)?;
    check(path, &file.metadata().map_err(unreadable)?)?;
    Ok(file)
}

fn check(path: &Path, found: &Metadata) -> Result<(), SecretFileError> {
    let path = path.to_owned();
    if !found.is_file() {
        return Err(SecretFileError::NoFile { path });
    }
    if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
        return Err(SecretFileError::Owner { path, user: found.uid() });
    }
    if found.mode() & 0o077 != 0 {
        return Err(SecretFileError::Mode { path, mode: found.mode() & 0o7777 });
    }
    Ok(())
}

/// Reads a text from a file as [`open`] takes it, of at most so many bytes.
///
/// # Errors
/// [`SecretFileError`], [`io::ErrorKind::InvalidData`] for what is no UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String, SecretFileError> {
    let unreadable = |source| SecretFileError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    open(path)?.take(most + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > most {
        return Err(SecretFileError::TooLarge { path: path.to_owned(), most });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    #[test]
    fn what_others_can_read_or_change_is_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "SWORDFISH").unwrap();
        let mode = |mode| set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for good in [0o600, 0o400, 0o700] {
            mode(good);
            assert_eq!(read_text(&path, 9).unwrap(), "SWORDFISH");
        }
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        for bad in [0o644, 0o640, 0o604, 0o620, 0o602, 0o610] {
            mode(bad);
            let error = read_text(&path, 9).unwrap_err().to_string();
            let command = format!("(mode {bad:04o}): `chmod 600 {}`", path.display());
            assert!(error.contains(&command) && !error.contains("SWORD"), "{error}");
            assert!(read_text(&link, 9).is_err(), "a link changes nothing");
        }
        mode(0o600);
        assert!(matches!(read_text(&path, 8), Err(SecretFileError::TooLarge { most: 8, .. })));
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(12345), None).unwrap();
            let error = read_text(&path, 9).unwrap_err().to_string();
            let command = format!("belongs to user 12345, who can change it: `chown 0 {}`", path.display());
            assert!(error.contains(&command), "{error}");
        }
    }

    #[test]
    fn only_a_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for path in [dir.path(), &pipe, Path::new("/dev/null")] {
            assert!(matches!(open(path), Err(SecretFileError::NoFile { .. })), "{}", path.display());
        }
        assert!(matches!(open(&dir.path().join("none")), Err(SecretFileError::Unreadable { .. })));
    }
}
