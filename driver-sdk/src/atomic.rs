//! Files that are there whole or not at all, also after a power cut.
//!
//! A file is written beside its place under a temporary name, synced, and renamed over; then the directory is
//! synced. The writer holds a lock on its temporary file, so that [`clean`] can tell what a crash left from
//! what somebody, perhaps on another host of a shared directory, is writing at this moment.

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Error, ErrorKind, Result, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = ".convoy-";
const SUFFIX: &str = ".tmp";

/// How often a write begins anew because its temporary file was taken for a leftover in the instant before it
/// was locked.
const ATTEMPTS: usize = 8;

/// Writes a file, replacing the one of that name. When it returns, the new content is durable; when it fails,
/// or is cut off, the old content is untouched, unless only the last sync of the directory failed.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    publish(path, bytes, mode, |temporary| rustix::fs::rename(temporary, path))
}

/// Like [`write_atomic`], but never replaces: of several that write one name at once, on one host or on
/// several that share the directory, one wins.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if the name is taken; those of the system calls.
pub fn create_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    publish(path, bytes, mode, |temporary| {
        // `RENAME_NOREPLACE` does not exist on NFS; a link does, and fails when the name is taken.
        rustix::fs::link(temporary, path)?;
        rustix::fs::unlink(temporary)
    })
}

/// Removes a file durably. Succeeds when it is gone already.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => sync_dir(parent(path)?),
    }
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a directory and those above it, durably. Succeeds when it exists.
///
/// # Errors
/// Those of the system calls; [`ErrorKind::NotADirectory`] if something else is there.
pub fn create_dir(dir: &Path, mode: u32) -> Result<()> {
    match rustix::fs::mkdir(dir, Mode::from_raw_mode(mode)) {
        Ok(()) => sync_dir(parent(dir)?),
        Err(Errno::EXIST) if dir.is_dir() => Ok(()),
        Err(Errno::EXIST) => {
            Err(Error::new(ErrorKind::NotADirectory, format!("{} is not a directory", dir.display())))
        }
        Err(Errno::NOENT) => {
            create_dir(parent(dir)?, mode)?;
            create_dir(dir, mode)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes the temporary files that crashed writers left in a directory, and says how many.
///
/// # Errors
/// When the directory cannot be read. A leftover that cannot be removed does no harm and is skipped.
pub fn clean(dir: &Path) -> Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !name.to_str().is_some_and(is_temporary) {
            continue;
        }
        let path = dir.join(name);
        let Ok(file) = open(&path, OFlags::RDONLY, 0) else { continue };
        let abandoned = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if abandoned && std::fs::remove_file(&path).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a file name is one of this module's temporary names.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

fn publish(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    place: impl Fn(&Path) -> rustix::io::Result<()>,
) -> Result<()> {
    let dir = parent(path)?;
    for _ in 0..ATTEMPTS {
        let (temporary, file) = create_temporary(dir, mode)?;
        // On a file system without locks `clean` cannot take one either and leaves the file alone.
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            // Somebody cleans: the file is about to be removed.
            continue;
        }
        let written = write_and_sync(File::from(file), bytes, || place(&temporary));
        match written {
            Ok(()) => return sync_dir(dir),
            Err(error) if error.kind() == ErrorKind::NotFound && dir.is_dir() => {}
            Err(error) => {
                // What cannot be removed now is removed by the next `clean`.
                let _ = std::fs::remove_file(&temporary);
                return Err(error);
            }
        }
    }
    Err(Error::new(ErrorKind::Interrupted, "the temporary file was removed by others again and again"))
}

/// The file stays open, and so locked, until it has its final name.
fn write_and_sync(
    mut file: File,
    bytes: &[u8],
    place: impl FnOnce() -> rustix::io::Result<()>,
) -> Result<()> {
    file.write_all(bytes)?;
    file.sync_all()?;
    place()?;
    Ok(())
}

fn create_temporary(dir: &Path, mode: u32) -> Result<(PathBuf, OwnedFd)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{PREFIX}{}-{count}{SUFFIX}", std::process::id()));
        match open(&path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (path, file)),
        }
    }
}

fn open(path: &Path, flags: OFlags, mode: u32) -> Result<OwnedFd> {
    // A FIFO of such a name would be waited for without end.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(mode))?)
}

fn parent(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{} names no file in a directory", path.display()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn replaces_whole_files_and_leaves_no_temporaries() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        for content in ["one", "a longer second", ""] {
            write_atomic(&path, content.as_bytes(), 0o600).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_of_many_creators_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        let won: Vec<_> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|n: u8| {
                    let path = &path;
                    scope.spawn(move || create_atomic(path, &[n], 0o600).map(|()| n))
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let winners: Vec<_> = won.iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{won:?}");
        assert_eq!(std::fs::read(&path).unwrap(), [*winners[0]]);
        for lost in won.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(lost.kind(), ErrorKind::AlreadyExists);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn cleaning_takes_what_nobody_writes() {
        let dir = tempfile::tempdir().unwrap();
        let abandoned = dir.path().join(".convoy-1-1.tmp");
        let stranger = dir.path().join("mine.tmp");
        std::fs::write(&abandoned, "half").unwrap();
        std::fs::write(&stranger, "keep").unwrap();
        let (live, file) = create_temporary(dir.path(), 0o600).unwrap();
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(clean(dir.path()).unwrap(), 1);
        assert!(!abandoned.exists() && stranger.exists() && live.exists());
    }

    #[test]
    fn cleaning_waits_for_no_fifo() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join(".convoy-1-1.tmp");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(clean(dir.path()).unwrap(), 1);
        assert!(!fifo.exists());
    }

    #[test]
    fn writers_and_cleaners_do_not_hurt_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        std::thread::scope(|scope| {
            let cleaner = scope.spawn(|| (0..300).map(|_| clean(dir.path()).unwrap()).sum::<usize>());
            for _ in 0..50 {
                write_atomic(&path, b"{}", 0o600).unwrap();
            }
            cleaner.join().unwrap();
        });
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
    }

    #[test]
    fn directories_are_made_with_their_parents() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_dir(&deep, 0o700).unwrap();
        create_dir(&deep, 0o700).unwrap();
        std::fs::write(deep.join("file"), "").unwrap();
        assert_eq!(create_dir(&deep.join("file"), 0o700).unwrap_err().kind(), ErrorKind::NotADirectory);
        remove(&deep.join("file")).unwrap();
        remove(&deep.join("file")).unwrap();
    }
}
