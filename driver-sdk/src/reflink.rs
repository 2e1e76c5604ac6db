//! Files that share their blocks until one of them is written (`FICLONE`): XFS made with `reflink=1` (the
//! default since xfsprogs 5.1) and btrfs.

use crate::{DriverError, ErrorKind, Result};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Makes a file that shares every block of another, in an instant and of one moment: a writer of the source
/// waits.
///
/// The kernel first writes out what its page cache holds of the source. The new file is not durable before it
/// is synced.
///
/// # Errors
/// `AlreadyExists` if there is something of the new name; `Unsupported` where the file system cannot do it;
/// those of the system calls. There is no new file then.
pub fn clone_file(source: &Path, target: &Path, mode: u32) -> Result<File> {
    let from = File::open(source)
        .map_err(|error| DriverError::io(format_args!("open {}", source.display()), &error))?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let to = rustix::fs::open(target, flags, Mode::from_raw_mode(mode))
        .map(File::from)
        .map_err(|error| DriverError::io(format_args!("make {}", target.display()), &error.into()))?;
    share(&from, &to, source, target).inspect_err(|_| {
        // It was made a moment ago and is empty.
        let _ = std::fs::remove_file(target);
    })?;
    Ok(to)
}

fn share(from: &File, to: &File, source: &Path, target: &Path) -> Result<()> {
    rustix::fs::ioctl_ficlone(to, from).map_err(|error| {
        let what = format!("share the blocks of {} with {}", source.display(), target.display());
        match error {
            Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::XDEV => {
                DriverError::new(ErrorKind::Unsupported, format!("cannot {what}: {error}"))
            }
            error => DriverError::io(what, &error.into()),
        }
    })
}

/// Checks that files in a directory can share blocks, by doing it with files that have no name.
///
/// # Errors
/// `Unsupported`, with what to do, where they cannot; those of the system calls.
pub fn check(dir: &Path) -> Result<()> {
    let unnamed = || {
        rustix::fs::openat(
            CWD,
            dir,
            OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )
        .map(File::from)
    };
    let io =
        |error: std::io::Error| DriverError::io(format_args!("make a file in {}", dir.display()), &error);
    let cannot = |found: String| {
        DriverError::new(
            ErrorKind::Unsupported,
            format!("files in {} cannot share blocks: {found}", dir.display()),
        )
        .retryable(false)
        .hint("take a directory on XFS (made with reflink=1, the default) or on btrfs")
    };
    let refused = |error: Errno| match error {
        Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL => cannot(error.to_string()),
        error => io(error.into()),
    };
    let (from, to) = (unnamed().map_err(refused)?, unnamed().map_err(refused)?);
    // With something to share: some file systems accept to share nothing.
    from.write_all_at(&[1; 4096], 0).map_err(io)?;
    rustix::fs::ioctl_ficlone(&to, &from).map_err(refused)
}

/// Gives a file its name, durably; never over another.
///
/// # Errors
/// `AlreadyExists`; those of the system calls.
pub fn place(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("rename {} to {}", from.display(), to.display());
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
        .map_err(|error| DriverError::io(what(), &error.into()))?;
    let dir = to.parent().unwrap_or(Path::new("."));
    crate::atomic::sync_dir(dir).map_err(|error| DriverError::io(what(), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_shared_blocks_is_refused_with_a_way_out() {
        // On every Linux a tmpfs.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let error = check(dir.path()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.hint.unwrap().contains("XFS"));
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "content").unwrap();
        assert_eq!(clone_file(&one, &two, 0o600).unwrap_err().kind, ErrorKind::Unsupported);
        assert!(!two.exists());
        std::fs::write(&two, "").unwrap();
        assert_eq!(clone_file(&one, &two, 0o600).unwrap_err().kind, ErrorKind::AlreadyExists);
        assert_eq!(place(&one, &two).unwrap_err().kind, ErrorKind::AlreadyExists);
        std::fs::remove_file(&two).unwrap();
        place(&one, &two).unwrap();
        assert_eq!(std::fs::read(&two).unwrap(), b"content");
    }
}
