//! Directories that are gone when their owner is: one that a killed program left, the next program removes.
//!
//! A directory is called PREFIX-PID-RANDOM, and its owner holds a lock on it, which the kernel drops with the
//! owner. So a program that looks from another container, where the number means nothing, still sees that
//! somebody has it.

use convoy_driver_sdk::mountinfo::MountTable;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// In a directory that was kept because something is still mounted in it.
const KEPT: &str = "kept";

/// A directory for temporary files, which is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: tempfile::TempDir,
    /// Held as long as the directory is in use.
    _lock: File,
}

impl Scratch {
    /// Makes a directory in `base`, and removes those of this prefix whose owners are gone.
    ///
    /// # Errors
    /// When it cannot be made. What cannot be removed is left alone.
    pub fn new(base: &Path, prefix: &str) -> io::Result<Self> {
        for left in abandoned(base, prefix) {
            remove(&left);
        }
        let name = format!("{prefix}-{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&name).tempdir_in(base)?;
        let lock = lock(dir.path())?;
        Ok(Self { dir, _lock: lock })
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Unmounts what is mounted in it, and removes it.
    pub fn clear(self) {
        unmount(self.path());
    }

    /// Removes it, unless something is still mounted in it; then it stays, and where it is is answered.
    ///
    /// # Errors
    /// When it cannot be removed, or the mount table cannot be read.
    pub fn close(self) -> io::Result<Option<PathBuf>> {
        if is_quiet(self.path())? {
            return self.dir.close().map(|()| None);
        }
        let path = self.dir.keep();
        std::fs::write(path.join(KEPT), "")?;
        Ok(Some(path))
    }
}

/// A lock on a directory, unless somebody else has it.
fn lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
    Ok(dir)
}

/// Directories of this prefix that belong to this user and whose owners are gone.
fn abandoned(base: &Path, prefix: &str) -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let is_abandoned = |entry: &std::fs::DirEntry| {
        let owner = entry.file_name().to_str().and_then(|name| {
            let (pid, _) = name.strip_prefix(prefix)?.strip_prefix('-')?.split_once('-')?;
            Pid::from_raw(pid.parse().ok()?)
        });
        // This does not follow links.
        let mine = entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == user);
        let gone = owner.is_some_and(|owner| test_kill_process(owner) == Err(Errno::SRCH));
        mine && gone && lock(&entry.path()).is_ok()
    };
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    entries.filter(is_abandoned).map(|entry| entry.path()).collect()
}

/// Removes what a program left that was killed. What is mounted in a directory that was kept is somebody's.
fn remove(path: &Path) {
    if !path.join(KEPT).exists() {
        unmount(path);
    }
    // Never through a mount.
    if is_quiet(path).unwrap_or(false) {
        let _ = std::fs::remove_dir_all(path);
    }
}

fn is_quiet(path: &Path) -> io::Result<bool> {
    let table = MountTable::read().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(table.under(path).next().is_none())
}

fn unmount(path: &Path) {
    let Ok(table) = MountTable::read() else { return };
    let mut mounts: Vec<PathBuf> = table.under(path).map(|mount| mount.mountpoint.clone()).collect();
    mounts.reverse();
    for mountpoint in mounts {
        let _ = rustix::mount::unmount(&mountpoint, rustix::mount::UnmountFlags::DETACH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of a process that has ended.
    fn nobody() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn only_what_a_dead_program_left_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let (dead, alive) = (nobody(), std::process::id());
        let make = |name: String| {
            let path = base.path().join(name);
            std::fs::create_dir_all(path.join("inside")).unwrap();
            path
        };
        let left = make(format!("run-{dead}-abc"));
        let locked = make(format!("run-{dead}-def"));
        let held = lock(&locked).unwrap();
        let outside = make("outside".to_owned());
        let others = [
            make(format!("run-{alive}-abc")),
            make(format!("walk-{dead}-abc")),
            make("run-without".to_owned()),
            outside.join("inside"),
        ];
        let link = base.path().join(format!("run-{dead}-link"));
        std::os::unix::fs::symlink(&outside, &link).unwrap();

        let scratch = Scratch::new(base.path(), "run").unwrap();
        assert!(!left.exists());
        assert!(locked.exists() && link.is_symlink() && others.iter().all(|other| other.exists()));
        let own = scratch.path().to_owned();
        assert!(Scratch::new(base.path(), "run").is_ok() && own.exists());
        assert_eq!(scratch.close().unwrap(), None);
        assert!(!own.exists());
        drop(held);
        drop(Scratch::new(base.path(), "run").unwrap());
        assert!(!locked.exists());
    }
}
