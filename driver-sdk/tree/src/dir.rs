//! An open directory, and what can be done relative to it without following a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, Statx, StatxFlags};
use rustix::io::Errno;
use rustix::path::Arg;
use serde::{Deserialize, Serialize};

use crate::error::{TreeError, TreeResult};
use crate::xattr;

/// Which inode, on which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId {
    /// The number of the device.
    pub dev: u64,
    /// The number of the inode on it.
    pub ino: u64,
}

/// A directory that is open, whatever becomes of its name.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    id: NodeId,
    mount: u64,
}

pub(crate) const STAT_MASK: StatxFlags =
    StatxFlags::BASIC_STATS.union(StatxFlags::BTIME).union(StatxFlags::MNT_ID);

/// Whether the kernel says on which mount something is. On older ones the device of a file may differ from
/// that of its directory on one mount (overlayfs).
pub(crate) fn knows_mount(stat: &Statx) -> bool {
    stat.stx_mask & StatxFlags::MNT_ID.bits() != 0
}

/// The mount something is on: its id, or on kernels before 5.8 its device.
pub(crate) fn mount_of(stat: &Statx) -> u64 {
    if knows_mount(stat) {
        stat.stx_mnt_id
    } else {
        rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)
    }
}

pub(crate) fn id_of(stat: &Statx) -> NodeId {
    NodeId { dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), ino: stat.stx_ino }
}

pub(crate) fn stat_fd(fd: impl AsFd) -> io::Result<Statx> {
    Ok(rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, STAT_MASK)?)
}

/// The path that leads to what a descriptor has open.
pub(crate) fn fd_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Opens something so that reading it does not change its time of access; only the owner and root may ask
/// for that.
fn open_quietly(dir: impl AsFd, path: impl Arg + Copy, flags: OFlags) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(&dir, path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(&dir, path, flags, Mode::empty()),
        other => other,
    }
}

impl Dir {
    /// Opens a directory by a path that the caller trusts (links in it are followed).
    ///
    /// # Errors
    /// When it is not there or not a directory, or when `/proc` is not mounted.
    pub fn open(path: &Path) -> TreeResult<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open_quietly(CWD, path, flags)
            .map_err(io::Error::from)
            .and_then(Self::from_fd)
            .map_err(|e| TreeError::at("open directory", path, e))?;
        let proc = fd_path(&dir.fd);
        std::fs::symlink_metadata(&proc).map_err(|e| TreeError::at("find (is /proc mounted?)", &proc, e))?;
        Ok(dir)
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let stat = stat_fd(&fd)?;
        Ok(Self { fd, id: id_of(&stat), mount: mount_of(&stat) })
    }

    /// Which directory this is.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Whether `other` is on the same mount.
    pub fn same_mount(&self, other: &Dir) -> bool {
        self.mount == other.mount
    }

    pub(crate) fn mount(&self) -> u64 {
        self.mount
    }

    /// A path that leads into this directory whatever happens to its name. Valid while `self` lives, in this
    /// process.
    pub fn proc_path(&self) -> PathBuf {
        fd_path(&self.fd)
    }

    pub(crate) fn proc_child(&self, name: &[u8]) -> PathBuf {
        self.proc_path().join(OsStr::from_bytes(name))
    }

    /// Opens a directory in this one; not through a link.
    pub(crate) fn open_dir(&self, name: &[u8]) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::from_fd(open_quietly(&self.fd, name, flags)?)
    }

    /// Opens the parent of this directory, wherever it is now.
    pub(crate) fn open_parent(&self) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::from_fd(open_quietly(&self.fd, c"..", flags)?)
    }

    pub(crate) fn stat(&self, name: &[u8]) -> io::Result<Statx> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Ok(rustix::fs::statx(&self.fd, name, flags, STAT_MASK)?)
    }

    pub(crate) fn stat_self(&self) -> io::Result<Statx> {
        stat_fd(&self.fd)
    }

    pub(crate) fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.fd, name, Vec::new())?.into_bytes())
    }

    pub(crate) fn xattrs(&self, name: &[u8]) -> io::Result<xattr::Found> {
        xattr::read(&self.proc_child(name))
    }

    pub(crate) fn xattrs_self(&self) -> io::Result<xattr::Found> {
        xattr::read_open(&self.fd)
    }

    /// Opens a regular file in this directory for reading, and nothing else: a name that has become a pipe or
    /// a device since it was looked at is not touched, since opening it could block or do something.
    pub(crate) fn open_file(&self, name: &[u8]) -> io::Result<(File, Statx)> {
        let path = rustix::fs::openat(
            &self.fd,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let stat = stat_fd(&path)?;
        if FileType::from_raw_mode(u32::from(stat.stx_mode)) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no longer a regular file"));
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let target = fd_path(&path);
        Ok((File::from(open_quietly(CWD, &target, flags)?), stat))
    }

    /// Tells every name in this directory but `.` and `..`, from its beginning, as long as `take` says so.
    /// False if it did not.
    pub(crate) fn each_name(&self, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
        rustix::fs::seek(&self.fd, SeekFrom::Start(0))?;
        let mut buffer = [MaybeUninit::uninit(); 32768];
        let mut listing = RawDir::new(&self.fd, &mut buffer);
        while let Some(entry) = listing.next() {
            let entry = match entry {
                // The directory itself was removed meanwhile: it is empty.
                Err(Errno::NOENT) => break,
                other => other?,
            };
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") && !take(name) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The names in this directory, sorted bytewise, without `.` and `..`; none when they take more memory
    /// than `most` bytes.
    pub(crate) fn names(&self, most: usize) -> io::Result<Option<Names>> {
        let mut names = Names::default();
        let all = self.each_name(&mut |name| {
            names.push(name);
            names.memory() <= most
        })?;
        names.sort();
        Ok(all.then_some(names))
    }

    /// The next few names in this directory, unsorted, from where the last call for the same open directory
    /// ended; none at the end.
    pub(crate) fn more_names(&self) -> io::Result<Names> {
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut listing = RawDir::new(&self.fd, &mut buffer);
        let mut names = Names::default();
        loop {
            match listing.next() {
                None | Some(Err(Errno::NOENT)) => break,
                Some(entry) => {
                    let entry = entry?;
                    let name = entry.file_name().to_bytes();
                    if !matches!(name, b"." | b"..") {
                        names.push(name);
                    }
                }
            }
            // What is read from the kernel is used up: a further read would move on.
            if listing.is_buffer_empty() && !names.spans.is_empty() {
                break;
            }
        }
        Ok(names)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The names of one directory, side by side in one allocation: a directory may hold a million.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    spans: Vec<(usize, u16)>,
    next: usize,
}

impl Names {
    fn push(&mut self, name: &[u8]) {
        // A name has at most 255 bytes on every file system of Linux; the kernel's record length is 16 bits.
        if let Ok(len) = u16::try_from(name.len()) {
            self.spans.push((self.bytes.len(), len));
            self.bytes.extend_from_slice(name);
        }
    }

    fn span(bytes: &[u8], (start, len): (usize, u16)) -> &[u8] {
        bytes.get(start..start + usize::from(len)).unwrap_or_default()
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.spans.sort_unstable_by(|a, b| Self::span(bytes, *a).cmp(Self::span(bytes, *b)));
        // A directory that changes while it is listed may show a name twice.
        self.spans.dedup_by(|a, b| Self::span(bytes, *a) == Self::span(bytes, *b));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// How many bytes of memory the names take.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<(usize, u16)>()
    }

    /// The next name, each once.
    pub(crate) fn take(&mut self) -> Option<&[u8]> {
        let span = *self.spans.get(self.next)?;
        self.next += 1;
        Some(Self::span(&self.bytes, span))
    }

    /// The names behind `after` in a sorted list, or all.
    pub(crate) fn behind<'a>(&'a self, after: Option<&[u8]>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let passed = after
            .map_or(0, |after| self.spans.partition_point(|span| Self::span(&self.bytes, *span) <= after));
        self.spans.iter().skip(passed).map(|span| Self::span(&self.bytes, *span))
    }
}
