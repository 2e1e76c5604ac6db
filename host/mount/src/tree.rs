//! Serves a [`View`] through FUSE.
//!
//! Each request is answered by one of a few threads, which waits for the store if it has to. What is asked for
//! meanwhile is answered by the others.

mod attributes;
mod handles;
mod inodes;

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use convoy_backup::{BackupResult, ReadAt};
use convoy_tree::RawBytes;
use fuser::{
    BackgroundSession, Config, Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyXattr, Request, Session, SessionACL,
};
use parking_lot::Mutex;

use crate::image::{errno, read_full};
use crate::view::{Found, Place, View, target};
use attributes::{attributes, kind};
use handles::{Handle, Handles, Listing};
use inodes::Inodes;

/// How long the kernel may keep what it was told: nothing changes.
const FOREVER: Duration = Duration::from_secs(3600);

/// Requests that are answered at the same time.
const THREADS: usize = 16;

/// A file system that is being served. Dropping it ends nothing: it goes with its mount.
#[derive(Debug)]
pub struct Served {
    session: BackgroundSession,
    in_use: InUse,
}

/// The files and directories that programs have open in a mount.
#[derive(Debug, Clone, Default)]
pub struct InUse(Arc<Mutex<Handles>>);

impl InUse {
    /// Closes all of them, whoever uses them: their backups can be closed then.
    pub fn close(&self) {
        // Closing may wait: not under the lock.
        let closed = self.0.lock().let_go_of_all();
        drop(closed);
    }
}

impl Served {
    /// What is in use.
    pub fn in_use(&self) -> InUse {
        self.in_use.clone()
    }

    /// Waits until it is unmounted.
    ///
    /// # Errors
    /// Those of FUSE.
    pub fn wait(self) -> io::Result<()> {
        self.session.join()
    }
}

/// Serves a view to the kernel, over the descriptor that its mount has. `everybody`: whether the mount lets
/// other users in, whom the kernel then holds to the modes and ACLs of files.
///
/// # Errors
/// Those of FUSE.
pub fn serve(view: Arc<View>, fuse: OwnedFd, everybody: bool) -> io::Result<Served> {
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    let who = if everybody { SessionACL::All } else { SessionACL::Owner };
    let inodes = Mutex::new(Inodes::new(view.top()));
    let in_use = InUse::default();
    let tree = Tree { view, inodes, handles: Arc::clone(&in_use.0) };
    Ok(Served { session: Session::from_fd(tree, fuse, who, config)?.spawn()?, in_use })
}

/// See the [module](self).
#[derive(Debug)]
struct Tree {
    view: Arc<View>,
    inodes: Mutex<Inodes>,
    handles: Arc<Mutex<Handles>>,
}

impl Tree {
    fn place(&self, number: INodeNo) -> Result<Place, Errno> {
        self.inodes.lock().place(number).ok_or(Errno::ESTALE)
    }

    /// Logs what failed, with its name.
    fn told<T>(&self, place: &Place, result: BackupResult<T>) -> Result<T, Errno> {
        result.map_err(|error| errno(&error, &self.view.name(place)))
    }

    /// What is at a place. Others than root get its real mode: the kernel decides by it whether they may
    /// enter.
    fn look(&self, request: &Request, place: &Place) -> Result<Found, Errno> {
        if request.uid() != 0 {
            self.told(place, self.view.learn(place))?;
        }
        self.told(place, self.view.look(place))
    }

    fn find(&self, request: &Request, parent: INodeNo, name: &OsStr) -> Result<Found, Errno> {
        let directory = self.place(parent)?;
        let found = self.told(&directory, self.view.lookup(&directory, name.as_bytes()))?;
        let found = found.ok_or(Errno::ENOENT)?;
        if found.known { Ok(found) } else { self.look(request, &found.place) }
    }

    fn start_file(&self, number: INodeNo) -> Result<FileHandle, Errno> {
        let place = self.place(number)?;
        let file = self.told(&place, self.view.open(&place))?;
        self.handles.lock().keep(Handle::File(Arc::new(file))).ok_or(Errno::ENFILE)
    }

    fn start_directory(&self, number: INodeNo) -> Result<FileHandle, Errno> {
        let place = self.place(number)?;
        // Whoever enters a backup finds its real owner and mode.
        self.told(&place, self.view.learn(&place))?;
        let listing = Arc::new(Mutex::new(Listing::new(place)));
        self.handles.lock().keep(Handle::Directory(listing)).ok_or(Errno::ENFILE)
    }

    fn list(
        &self,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: &mut ReplyDirectory,
    ) -> Result<(), Errno> {
        let listing = self.handles.lock().directory(handle).ok_or(Errno::EBADF)?;
        let mut listing = listing.lock();
        let mut at = offset;
        for name in [".", ".."].iter().skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let number = if *name == "." { number } else { INodeNo::ROOT };
            at += 1;
            if reply.add(number, at, FileType::Directory, name) {
                return Ok(());
            }
        }
        loop {
            let entry = listing.entry(&self.view, at - 2);
            let (name, found) = match entry {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(()),
                // What was read before is given; the next call fails.
                Err(_) if at > offset => return Ok(()),
                Err(error) => return Err(errno(&error, &self.view.name(&listing.place))),
            };
            at += 1;
            let number = self.inodes.lock().number(found);
            if reply.add(number, at, kind(&found.entry), OsStr::from_bytes(name)) {
                return Ok(());
            }
        }
    }

    fn read_data(
        &self,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
    ) -> Result<Vec<u8>, Errno> {
        let file = self.handles.lock().file(handle).ok_or(Errno::EBADF)?;
        let read = read_full(&*file.data, offset, size);
        read.map_err(|error| errno(&error, &self.name(number)))
    }

    fn name(&self, number: INodeNo) -> String {
        self.place(number).map(|place| self.view.name(&place)).unwrap_or_default()
    }

    fn attribute(&self, number: INodeNo, name: &OsStr) -> Result<Vec<u8>, Errno> {
        let place = self.place(number)?;
        let found = self.told(&place, self.view.look(&place))?;
        let value = found.entry.xattrs.get(&RawBytes::from(name.as_bytes())).ok_or(Errno::ENODATA)?;
        Ok(value.as_bytes().to_vec())
    }

    fn attribute_names(&self, number: INodeNo) -> Result<Vec<u8>, Errno> {
        let place = self.place(number)?;
        let found = self.told(&place, self.view.look(&place))?;
        let names = found.entry.xattrs.keys();
        Ok(names.flat_map(|name| name.as_bytes().iter().copied().chain([0])).collect())
    }
}

/// Gives a value of any size as the calls for extended attributes do.
fn give(value: Result<Vec<u8>, Errno>, room: u32, reply: ReplyXattr) {
    match value {
        Ok(value) => match u32::try_from(value.len()) {
            Ok(size) if room == 0 => reply.size(size),
            Ok(size) if size <= room => reply.data(&value),
            _ => reply.error(Errno::ERANGE),
        },
        Err(error) => reply.error(error),
    }
}

/// Where the next data or the next hole is at or behind an offset.
///
/// # Errors
/// `ENXIO` behind the end, and where only a hole follows; as [`ReadAt::next_data`].
fn seek(data: &dyn ReadAt, offset: u64, hole: bool, name: &str) -> Result<u64, Errno> {
    if offset >= data.size() {
        return Err(Errno::ENXIO);
    }
    let mut at = offset;
    loop {
        let next = data.next_data(at).map_err(|error| errno(&error, name))?;
        match next {
            Some(next) if !hole => return Ok(next.start.max(offset)),
            None if !hole => return Err(Errno::ENXIO),
            Some(next) if next.start <= at && next.end > at && next.end < data.size() => at = next.end,
            Some(next) if next.start <= at => return Ok(data.size()),
            _ => return Ok(at),
        }
    }
}

impl Filesystem for Tree {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // A kernel that cannot do one of these does without.
        for wanted in
            [InitFlags::FUSE_POSIX_ACL, InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_CACHE_SYMLINKS]
        {
            let _ = config.add_capabilities(wanted);
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(request, parent, name) {
            Ok(found) => {
                let number = self.inodes.lock().remember(&found);
                let keep = if found.known { FOREVER } else { Duration::ZERO };
                reply.entry_with_ttls(&keep, &FOREVER, &attributes(&found.entry, number), Generation(0));
            }
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, times: u64) {
        self.inodes.lock().forget(number, times);
    }

    fn getattr(&self, request: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.place(number).and_then(|place| self.look(request, &place)) {
            Ok(found) => {
                let keep = if found.known { FOREVER } else { Duration::ZERO };
                reply.attr(&keep, &attributes(&found.entry, number));
            }
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, request: &Request, number: INodeNo, reply: ReplyData) {
        let found = self.place(number).and_then(|place| self.look(request, &place));
        match found.as_ref().map(|found| target(&found.entry)) {
            Ok(Some(target)) => reply.data(target),
            Ok(None) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(*error),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.start_file(number) {
            Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_data(number, handle, offset, size) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        }
    }

    fn lseek(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let file = self.handles.lock().file(handle);
        let sought = match (file, u64::try_from(offset), whence) {
            (None, ..) => Err(Errno::EBADF),
            (Some(file), Ok(offset), nix::libc::SEEK_DATA | nix::libc::SEEK_HOLE) => {
                let hole = whence == nix::libc::SEEK_HOLE;
                seek(&*file.data, offset, hole, &self.name(number))
            }
            (Some(_), Err(_), _) => Err(Errno::ENXIO),
            (Some(_), ..) => Err(Errno::EINVAL),
        };
        match sought.map(i64::try_from) {
            Ok(Ok(offset)) => reply.offset(offset),
            Ok(Err(_)) => reply.error(Errno::EOVERFLOW),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        // Closing may wait: not under the lock.
        let closed = self.handles.lock().let_go(handle);
        drop(closed);
        reply.ok();
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.start_directory(number) {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        match self.list(number, handle, offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        let closed = self.handles.lock().let_go(handle);
        drop(closed);
        reply.ok();
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        // As a file system answers that has neither flags nor projects.
        reply.error(Errno::ENOTTY);
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        give(self.attribute(number, name), size, reply);
    }

    fn listxattr(&self, _: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        give(self.attribute_names(number), size, reply);
    }
}
