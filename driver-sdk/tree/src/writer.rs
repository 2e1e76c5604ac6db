//! Making a tree: entries below a root, with all their metadata.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Statx, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::dir::{Dir, fd_path, stat_fd};
use crate::entry::{Entry, Kind, Timestamp};
use crate::error::{TreeError, TreeResult};
use crate::limits::{DEPTH, Limit, PATH};
use crate::path::RelPath;
use crate::path_set::{PathKey, PathSet};
use crate::stack::DirStack;
use crate::xattr;

/// How many directories stay open for what is made in them next, if their paths are not longer than this.
const OPEN_DIRS: usize = 128;
const OPEN_PATH: usize = 4096;
/// How many warnings are kept word by word.
const WARNINGS: usize = 100;

/// Makes entries below a root. May be used from several threads.
///
/// Parents must be made before what they hold. Directories are open to their owner only until [`TreeWriter::finish`] gives them
/// their metadata, deepest first: so read-only directories can be filled, and their times survive the filling.
///
/// Every path is opened one component at a time and never through a link, so that a link made earlier, by a hostile archive,
/// leads nowhere.
#[derive(Debug)]
pub struct TreeWriter {
    root: Arc<Dir>,
    open: Mutex<OpenDirs>,
    dirs: Mutex<NewDirs>,
    warnings: Mutex<Vec<String>>,
}

/// Directories for what is made in them next.
#[derive(Debug)]
struct OpenDirs {
    recent: HashMap<RelPath, Arc<Dir>>,
    /// The way to the one that was opened last.
    way: DirStack<()>,
}

/// Directories that get their metadata at the end, in the order in which they were made. Their entries have
/// no paths.
#[derive(Debug, Default)]
struct NewDirs {
    paths: PathSet,
    entries: Vec<(PathKey, Entry)>,
}

/// A regular file being made: write its contents to [`NewFile::file`], then call [`NewFile::finish`].
#[derive(Debug)]
pub struct NewFile {
    file: File,
}

impl NewFile {
    /// The contents: empty, open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its length, owner, mode, attributes and times from `entry`, in the order in which they do not
    /// undo each other.
    ///
    /// # Errors
    /// What the kernel says. Attributes which the file system cannot hold are warnings ([`TreeWriter::warnings`]).
    pub fn finish(self, writer: &TreeWriter, entry: &Entry) -> TreeResult<()> {
        let failed = |e| TreeError::io("set the length of", &entry.path, e);
        let now = stat_fd(&self.file).map_err(failed)?;
        if now.stx_size != entry.size {
            self.file.set_len(entry.size).map_err(failed)?;
        }
        writer.apply(&self.file, entry, Some(&now))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is valid at every moment: a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TreeWriter {
    /// A writer into the directory `root`, which the caller has made and nobody else uses yet. A default ACL that it inherited
    /// is taken away, since everything below would inherit it too.
    ///
    /// # Errors
    /// When `root` cannot be opened.
    pub fn new(root: &Path) -> TreeResult<Self> {
        let dir = Dir::open(root)?;
        for acl in [xattr::ACL_DEFAULT, xattr::ACL_ACCESS] {
            match rustix::fs::fremovexattr(&dir, acl) {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(e) => return Err(TreeError::at("take the inherited ACL from", root, e)),
            }
        }
        let root = Arc::new(dir);
        let way = DirStack::new(Arc::clone(&root), ());
        Ok(Self {
            root,
            open: Mutex::new(OpenDirs { recent: HashMap::new(), way }),
            dirs: Mutex::default(),
            warnings: Mutex::default(),
        })
    }

    /// Makes `entry`, all of it but a file's contents: those are written to the [`NewFile`] that is returned for a file.
    /// The root's own entry is taken as its metadata.
    ///
    /// # Errors
    /// When something is at the path already, or the kernel refuses.
    pub fn create(&self, entry: &Entry) -> TreeResult<Option<NewFile>> {
        match entry.kind {
            Kind::File => self.create_file(&entry.path).map(Some),
            Kind::Dir => self.create_dir(entry).map(|()| None),
            _ => self.create_other(entry).map(|()| None),
        }
    }

    /// Makes an empty file that only its owner can open.
    ///
    /// # Errors
    /// When something is at the path already, or the kernel refuses.
    pub fn create_file(&self, path: &RelPath) -> TreeResult<NewFile> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*dir, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| TreeError::io("create", path, e))?;
        Ok(NewFile { file: File::from(fd) })
    }

    fn create_dir(&self, entry: &Entry) -> TreeResult<()> {
        if !entry.path.is_root() {
            let (dir, name) = self.parent(&entry.path)?;
            rustix::fs::mkdirat(&*dir, name, Mode::RWXU)
                .map_err(|e| TreeError::io("create", &entry.path, e))?;
        }
        let mut dirs = lock(&self.dirs);
        let key = dirs.paths.add(&entry.path);
        dirs.entries.push((key, Entry { path: RelPath::root(), ..entry.clone() }));
        Ok(())
    }

    fn create_other(&self, entry: &Entry) -> TreeResult<()> {
        let (dir, name) = self.parent(&entry.path)?;
        let mode = Mode::RUSR | Mode::WUSR;
        let make = |kind, device| rustix::fs::mknodat(&*dir, name, kind, mode, device);
        match &entry.kind {
            Kind::Symlink { target } => rustix::fs::symlinkat(target.as_bytes(), &*dir, name),
            Kind::CharDevice { major, minor } => {
                make(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
            }
            Kind::BlockDevice { major, minor } => {
                make(FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
            }
            Kind::Fifo => make(FileType::Fifo, 0),
            Kind::Socket => make(FileType::Socket, 0),
            Kind::File | Kind::Dir => Err(Errno::INVAL),
        }
        .map_err(|e| TreeError::io("create", &entry.path, e))?;
        let fd = self.open_path(&dir, name, &entry.path)?;
        self.apply_path(&fd, entry)
    }

    fn open_path(&self, dir: &Dir, name: &[u8], path: &RelPath) -> TreeResult<OwnedFd> {
        rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| TreeError::io("open", path, e))
    }

    /// Gives `existing`, made before, the further name `new`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn hard_link(&self, existing: &RelPath, new: &RelPath) -> TreeResult<()> {
        let (from, from_name) = self.parent(existing)?;
        self.link_from(&from, from_name, new).map_err(|e| TreeError::io("link", new, e))
    }

    /// Makes `new` a name of the inode that is `name` in `dir`, a directory of another tree.
    pub(crate) fn link_from(&self, dir: &Dir, name: &[u8], new: &RelPath) -> io::Result<()> {
        let (to, to_name) = self.parent(new).map_err(io::Error::other)?;
        Ok(rustix::fs::linkat(dir, name, &*to, to_name, AtFlags::empty())?)
    }

    /// Gives the directories their metadata, deepest first. Without this they stay closed to everybody but their owner.
    ///
    /// What was written is not on stable storage yet: [`StableStorage`](crate::StableStorage).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn finish(self) -> TreeResult<Vec<String>> {
        let NewDirs { paths, entries } = std::mem::take(&mut *lock(&self.dirs));
        let mut way = DirStack::new(Arc::clone(&self.root), ());
        // Parents were made before their children, so backwards is deepest first.
        for (key, mut entry) in entries.into_iter().rev() {
            entry.path = paths.get(key);
            let dir = way.go(&entry.path).map_err(|e| TreeError::io("open directory", &entry.path, e))?;
            self.apply(&*dir, &entry, None)?;
        }
        Ok(self.warnings())
    }

    /// What could not be kept, in words, so far: attributes which the file system cannot hold.
    pub fn warnings(&self) -> Vec<String> {
        lock(&self.warnings).clone()
    }

    pub(crate) fn warn(&self, text: String) {
        let mut warnings = lock(&self.warnings);
        match warnings.len() {
            n if n < WARNINGS => warnings.push(text),
            WARNINGS => warnings.push("(and more)".to_owned()),
            _ => {}
        }
    }

    fn parent<'a>(&self, path: &'a RelPath) -> TreeResult<(Arc<Dir>, &'a [u8])> {
        let (parent, name) = path.split().ok_or_else(|| TreeError::io("create", path, Errno::EXIST))?;
        Ok((self.dir(&parent)?, name))
    }

    /// The directory at `path`, opened one component at a time.
    fn dir(&self, path: &RelPath) -> TreeResult<Arc<Dir>> {
        if path.is_root() {
            return Ok(Arc::clone(&self.root));
        }
        let length = path.as_bytes().len();
        if length > PATH {
            return Err(TreeError::limit(Limit::Path(PATH), path));
        }
        let mut open = lock(&self.open);
        let short = length <= OPEN_PATH;
        if short && let Some(dir) = open.recent.get(path) {
            return Ok(Arc::clone(dir));
        }
        let dir = open.way.go(path).map_err(|e| TreeError::io("open directory", path, e))?;
        if open.way.depth() > DEPTH {
            return Err(TreeError::limit(Limit::Depth, path));
        }
        if short {
            if open.recent.len() >= OPEN_DIRS {
                open.recent.clear();
            }
            open.recent.insert(path.clone(), Arc::clone(&dir));
        }
        Ok(dir)
    }

    /// Metadata of something opened for real: a file or a directory. What it has already, if that is known, is not set again: each
    /// change is a transaction of the file system.
    fn apply(&self, fd: impl AsFd, entry: &Entry, now: Option<&Statx>) -> TreeResult<()> {
        let failed = |action| move |e: Errno| TreeError::io(action, &entry.path, e);
        // Changing the owner takes away set-user-ID and capabilities, so it comes first; ACLs refine the mode; times last.
        if now.is_none_or(|now| (now.stx_uid, now.stx_gid) != (entry.uid, entry.gid)) {
            rustix::fs::fchown(&fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
                .map_err(failed("set the owner of"))?;
        }
        if now.is_none_or(|now| now.stx_mode & 0o7777 != entry.mode & 0o7777) {
            rustix::fs::fchmod(&fd, mode(entry)).map_err(failed("set the mode of"))?;
        }
        if !entry.xattrs.is_empty() {
            self.set_xattrs(&fd_path(&fd), entry)?;
        }
        rustix::fs::futimens(&fd, &times(entry)).map_err(failed("set the times of"))
    }

    /// Metadata of something that must not be opened, through a descriptor that only points at it.
    fn apply_path(&self, fd: &OwnedFd, entry: &Entry) -> TreeResult<()> {
        let failed = |action| move |e: Errno| TreeError::io(action, &entry.path, e);
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
            .map_err(failed("set the owner of"))?;
        let path = fd_path(fd);
        // A link has no mode of its own.
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            rustix::fs::chmodat(CWD, &path, mode(entry), AtFlags::empty())
                .map_err(failed("set the mode of"))?;
        }
        self.set_xattrs(&path, entry)?;
        rustix::fs::utimensat(CWD, &path, &times(entry), AtFlags::empty()).map_err(failed("set the times of"))
    }

    fn set_xattrs(&self, path: &Path, entry: &Entry) -> TreeResult<()> {
        for (name, value) in &entry.xattrs {
            match xattr::set(path, name, value) {
                Err(e) if Errno::from_io_error(&e) == Some(Errno::NOTSUP) => {
                    self.warn(format!(
                        "{}: the file system cannot hold the attribute {name}",
                        entry.path.shown()
                    ));
                }
                other => {
                    other.map_err(|e| TreeError::io("set the extended attributes of", &entry.path, e))?
                }
            }
        }
        Ok(())
    }
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(u32::from(entry.mode & 0o7777))
}

fn times(entry: &Entry) -> Timestamps {
    let spec = |t: Timestamp| Timespec { tv_sec: t.sec, tv_nsec: i64::from(t.nsec) };
    Timestamps { last_access: spec(entry.atime), last_modification: spec(entry.mtime) }
}
