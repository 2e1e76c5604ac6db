//! Serves the image of a device as the one file of a FUSE file system.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use convoy_backup::{BackupError, BackupResult, ReadAt};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, Request, Session,
    SessionACL,
};
use rustix::fs::{Mode, OFlags};

use crate::detached;

/// The name of the image.
const NAME: &str = "disk.img";

const IMAGE: INodeNo = INodeNo(2);

/// How long the kernel may keep what it was told: nothing changes.
const FOREVER: Duration = Duration::from_secs(3600);

/// Requests that are answered at the same time: the kernel reads ahead.
const THREADS: usize = 4;

/// Mounts a FUSE file system that is attached nowhere. Gives what its server needs, and the mount.
///
/// # Errors
/// `NotFound` where the kernel has no FUSE; those of the kernel.
pub(crate) fn mount() -> io::Result<(OwnedFd, OwnedFd)> {
    let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let number = fuse.as_raw_fd().to_string();
    let options = [
        ("source", Some("convoy")),
        ("fd", Some(number.as_str())),
        ("rootmode", Some("040000")),
        ("user_id", Some("0")),
        ("group_id", Some("0")),
    ];
    let mount = detached::mount("fuse", &options)?;
    Ok((fuse.into(), mount))
}

/// Serves an image as a file of a mount, until nobody has that file open.
///
/// # Errors
/// Those of FUSE.
pub(crate) fn serve(image: Arc<dyn ReadAt>, fuse: OwnedFd) -> io::Result<()> {
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    // Its threads end when the file system is gone.
    drop(Session::from_fd(Image(image), fuse, SessionACL::Owner, config)?.spawn()?);
    Ok(())
}

/// Opens the image that is served in a mount, which the kernel reads through FUSE.
///
/// # Errors
/// Those of FUSE.
pub(crate) fn open(mount: &OwnedFd) -> io::Result<File> {
    let file = rustix::fs::openat(mount, NAME, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(file.into())
}

#[derive(Debug)]
struct Image(Arc<dyn ReadAt>);

impl Image {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, size, perm, nlink) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0, 0o500, 2),
            IMAGE => (FileType::RegularFile, self.0.size(), 0o400, 1),
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Image {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(IMAGE).filter(|_| parent == INodeNo::ROOT && name == NAME) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match read_full(&*self.0, offset, size) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(errno(&error, NAME)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = [
            (INodeNo::ROOT, FileType::Directory, "."),
            (INodeNo::ROOT, FileType::Directory, ".."),
            (IMAGE, FileType::RegularFile, NAME),
        ];
        for ((inode, kind, name), next) in
            entries.into_iter().zip(1..).skip(usize::try_from(offset).unwrap_or(3))
        {
            if reply.add(inode, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

/// All bytes of a range, up to the end of the data: FUSE takes fewer for zeros.
///
/// # Errors
/// As [`ReadAt::read_at`].
pub(crate) fn read_full(data: &dyn ReadAt, offset: u64, size: u32) -> BackupResult<Vec<u8>> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(size.min(1 << 20));
    while bytes.len() < size {
        let at = offset.saturating_add(bytes.len() as u64);
        let part = data.read_at(at, size - bytes.len())?;
        if part.is_empty() {
            break;
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// What the kernel is told of an error; people find it in the log.
pub(crate) fn errno(error: &BackupError, path: &str) -> Errno {
    tracing::warn!(path, %error, "cannot read from a backup");
    match error {
        BackupError::NoPath { .. } => Errno::ENOENT,
        BackupError::NotDirectory { .. } => Errno::ENOTDIR,
        BackupError::NotFile { .. } => Errno::EINVAL,
        BackupError::NotBrowsable { .. } => Errno::EOPNOTSUPP,
        BackupError::Io { source, .. } if source.raw_os_error() == Some(nix::libc::EMFILE) => Errno::EMFILE,
        _ => Errno::EIO,
    }
}
