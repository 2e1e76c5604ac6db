//! Paths below a destination, which others may write to.
//!
//! Whoever can write to a store can put a symbolic link, a FIFO or a device where convoy expects a directory
//! or a file, also while a call is under way. So every path is resolved below a descriptor of the root,
//! through no link: by `openat2`, or step by step where the kernel or a seccomp filter does not allow that.
//! What is found is looked at before it is opened, and only regular files and directories are. The root
//! itself is the operator's, and may be a link.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::StoreError;

/// Opens nothing yet: the descriptor only stands for what is there.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Opens a directory, never what else may be in its place.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The root of a store. Opened for each call: a directory that was mounted anew is found again.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        match rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Self { fd }),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                Err(StoreError::NoDirectory { path: path.display().to_string() })
            }
            Err(e) => Err(StoreError::from_io("open", &path.display().to_string(), e.into())),
        }
    }

    /// Looks at an object, which is a regular file.
    pub(super) fn look(&self, op: &'static str, key: &str) -> Result<Stat, StoreError> {
        self.object(op, key).map(|(_, stat)| stat)
    }

    pub(super) fn file(&self, op: &'static str, key: &str) -> Result<(File, u64), StoreError> {
        let (fd, _) = self.object(op, key)?;
        // What was looked at is what is opened, whatever has its name by now.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let opened = File::open(path).and_then(|file| file.metadata().map(|meta| (file, meta.len())));
        opened.map_err(|e| StoreError::from_io(op, key, e))
    }

    fn object(&self, op: &'static str, key: &str) -> Result<(OwnedFd, Stat), StoreError> {
        let found = resolve(&self.fd, key).and_then(|fd| rustix::fs::fstat(&fd).map(|stat| (fd, stat)));
        let (fd, stat) = found.map_err(|e| StoreError::from_io(op, key, e.into()))?;
        match kind(&stat) {
            FileType::RegularFile => Ok((fd, stat)),
            // As in a bucket, where a directory is no object either.
            FileType::Directory => Err(StoreError::NotFound { key: key.to_owned() }),
            other => Err(StoreError::Foreign { op, key: key.to_owned(), kind: name(other) }),
        }
    }

    /// Opens a directory; `""` is the root.
    pub(super) fn dir(&self, dir: &str) -> rustix::io::Result<OwnedFd> {
        if dir.is_empty() { reopen(&self.fd) } else { open_dir(&self.fd, dir) }
    }

    /// Opens a directory, and makes it and those above it, durably. One that a delete beside us removes
    /// meanwhile is `NOENT`.
    pub(super) fn make_dir(&self, dir: &str) -> rustix::io::Result<OwnedFd> {
        match self.dir(dir) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let mut at = self.dir("")?;
        for part in dir.split('/') {
            match rustix::fs::mkdirat(&at, part, Mode::RWXU) {
                Ok(()) => rustix::fs::fsync(&at)?,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
            at = open_dir(&at, part)?;
        }
        Ok(at)
    }
}

/// The directory and the last part of a key.
pub(super) fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('/').unwrap_or(("", key))
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn name(kind: FileType) -> &'static str {
    match kind {
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "file of an unknown kind",
    }
}

fn open_dir(at: impl AsFd, dir: &str) -> rustix::io::Result<OwnedFd> {
    let fd = resolve(at, dir)?;
    match kind(&rustix::fs::fstat(&fd)?) {
        FileType::Directory => reopen(fd),
        FileType::Symlink => Err(Errno::LOOP),
        _ => Err(Errno::NOTDIR),
    }
}

/// Opens for reading what a descriptor stands for.
fn reopen(dir: impl AsFd) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, ".", DIRECTORY, Mode::empty())
}

/// Finds what a path names, without opening it and through no link; the last part may be one.
fn resolve(at: impl AsFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&at, path, LOOK, Mode::empty(), beneath) {
        // Linux before 5.6 has no such call, and old filters of containers forbid what they do not know.
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(at.as_fd().try_clone_to_owned(), path),
        found => found,
    }
}

/// The same without `openat2`: each part is looked at before the next is looked for in it.
fn step_by_step(at: io::Result<OwnedFd>, path: &str) -> rustix::io::Result<OwnedFd> {
    let mut at = at.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        if matches!(part, "" | "." | "..") {
            return Err(Errno::XDEV);
        }
        at = rustix::fs::openat(&at, part, LOOK, Mode::empty())?;
        if parts.peek().is_some() {
            match kind(&rustix::fs::fstat(&at)?) {
                FileType::Directory => {}
                FileType::Symlink => return Err(Errno::LOOP),
                _ => return Err(Errno::NOTDIR),
            }
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways find the same things, and refuse the same.
    #[test]
    fn with_and_without_openat2_paths_mean_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("root/a/b")).unwrap();
        std::fs::write(path("root/a/b/file"), "x").unwrap();
        std::fs::write(path("outside"), "x").unwrap();
        std::os::unix::fs::symlink("..", path("root/up")).unwrap();
        std::os::unix::fs::symlink("a", path("root/side")).unwrap();
        std::os::unix::fs::symlink("file", path("root/a/b/last")).unwrap();
        std::os::unix::fs::symlink("/proc/self/root", path("root/magic")).unwrap();
        let root = Root::open(&path("root")).unwrap();
        let inode = |found: rustix::io::Result<OwnedFd>| Ok::<_, Errno>(rustix::fs::fstat(found?)?.st_ino);
        let expected = [
            ("a", None),
            ("a/b/file", None),
            ("a/b/last", None),
            ("up/outside", Some(Errno::LOOP)),
            ("side/b/file", Some(Errno::LOOP)),
            ("magic/etc", Some(Errno::LOOP)),
            ("..", Some(Errno::XDEV)),
            ("../outside", Some(Errno::XDEV)),
            ("a/b/file/more", Some(Errno::NOTDIR)),
            ("a/none", Some(Errno::NOENT)),
        ];
        for (what, error) in expected {
            let by_kernel = inode(resolve(&root.fd, what));
            let by_steps = inode(step_by_step(root.fd.try_clone(), what));
            assert_eq!((by_kernel.err(), by_kernel), (error, by_steps), "{what}");
        }
        for outside in ["/etc", "//etc"] {
            assert!(resolve(&root.fd, outside).is_err(), "{outside}");
            assert!(step_by_step(root.fd.try_clone(), outside).is_err(), "{outside}");
        }
    }
}
