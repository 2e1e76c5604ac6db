//! Making a tree: entries below a root, with all their metadata.

use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Statx, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::dir::{Dir, fd_path, stat_fd};
use crate::entry::{Entry, Kind, Timestamp};
use crate::error::{TreeError, TreeResult};
use crate::flags::{self, FileFlags, Project};
use crate::limits::{DEPTH, Limit, PATH};
use crate::path::{RawBytes, RelPath};
use crate::path_set::{PathKey, PathSet};
use crate::stack::DirStack;
use crate::xattr;

/// How many directories stay open for what is made in them next, if their paths are not longer than this.
const OPEN_DIRS: usize = 128;
const OPEN_PATH: usize = 4096;
/// How many warnings, and how many losses, are kept word by word.
const WARNINGS: usize = 100;
/// So many refused entries, and bytes of their paths, are remembered; a tree that has more is not for this
/// file system.
const REFUSED: usize = 100_000;
const REFUSED_BYTES: usize = 16 << 20;

/// What could not be made, or not as it should be, since the file system refuses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// How many entries lost it.
    pub count: u64,
    /// The first of them, each with its path and the reason.
    pub texts: Vec<String>,
}

/// How a tree became.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// What a user should know and may do without: flags and projects that were not set.
    pub warnings: Vec<String>,
    /// What the file system refused.
    pub losses: Losses,
}

/// Files whose flags and project are set when nothing else is done with them any more.
#[derive(Debug, Default)]
struct LateFiles {
    paths: PathSet,
    files: Vec<(PathKey, FileFlags, u32)>,
}

/// Paths that the file system refused to make.
#[derive(Debug, Default)]
struct Refused {
    paths: HashSet<RelPath>,
    bytes: usize,
}

/// Makes entries below a root. May be used from several threads.
///
/// Parents must be made before what they hold. Directories are open to their owner only until
/// [`TreeWriter::finish`] gives them their metadata, deepest first: so read-only directories can be filled,
/// and their times survive the filling.
///
/// Every path is opened one component at a time and never through a link, so that a link made earlier, by a
/// hostile archive, leads nowhere.
#[derive(Debug)]
pub struct TreeWriter {
    root: Arc<Dir>,
    open: Mutex<OpenDirs>,
    dirs: Mutex<NewDirs>,
    late: Mutex<LateFiles>,
    warnings: Mutex<Vec<String>>,
    losses: Mutex<Losses>,
    refused: Mutex<Refused>,
    /// The project that everything made here belongs to anyway.
    inherited: u32,
    /// The project of the root's entry: what belongs to it there belongs to `inherited` here.
    root_project: AtomicU32,
    /// The limit of [`crate::CopyOptions::aside`].
    aside: Option<u32>,
    /// What the caller has left out.
    left_out: Mutex<Vec<String>>,
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

    /// Gives the file its length, owner, mode, attributes and times from `entry`, in the order in which they
    /// do not undo each other.
    ///
    /// # Errors
    /// What the kernel says. What the file system refuses is a loss, and no error ([`Finished::losses`]).
    pub fn finish(self, writer: &TreeWriter, entry: &Entry) -> TreeResult<()> {
        let failed = |e| TreeError::io("set the length of", &entry.path, e);
        let now = stat_fd(&self.file).map_err(failed)?;
        if now.stx_size != entry.size {
            self.file.set_len(entry.size).map_err(failed)?;
        }
        writer.apply(&self.file, entry, Some(&now))
    }
}

impl TreeWriter {
    /// A writer into the directory `root`, which the caller has made and nobody else uses yet. A default ACL
    /// that it inherited is taken away, since everything below would inherit it too.
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
        let project = Project::of(&dir);
        let inherited = if project.inherited { project.id } else { 0 };
        Ok(Self { inherited, ..Self::beneath(Arc::new(dir)) })
    }

    /// One that gives metadata to what is below a root that others use too, which stays as it is.
    pub(crate) fn beneath(root: Arc<Dir>) -> Self {
        let way = DirStack::new(Arc::clone(&root), ());
        Self {
            root,
            open: Mutex::new(OpenDirs { recent: HashMap::new(), way }),
            dirs: Mutex::default(),
            late: Mutex::default(),
            warnings: Mutex::default(),
            losses: Mutex::default(),
            refused: Mutex::default(),
            inherited: 0,
            root_project: AtomicU32::new(0),
            aside: None,
            left_out: Mutex::default(),
        }
    }

    /// What was refused so far.
    pub(crate) fn losses(&self) -> Losses {
        self.losses.lock().clone()
    }

    /// The limit of [`crate::CopyOptions::aside`].
    pub(crate) fn aside(mut self, aside: Option<u32>) -> Self {
        self.aside = aside;
        self
    }

    /// Makes `entry`, all of it but a file's contents: those are written to the [`NewFile`] that is returned
    /// for a file. The root's own entry, which comes first, is taken as its metadata.
    ///
    /// What the file system refuses to make (a device number it does not know, a name too long for it) is a
    /// loss, and so is what would be in it; then nothing is returned for a file either.
    ///
    /// # Errors
    /// When something is at the path already, or what the kernel says of a disk that is full or fails.
    pub fn create(&self, entry: &Entry) -> TreeResult<Option<NewFile>> {
        match entry.kind {
            Kind::File => self.create_file(&entry.path),
            Kind::Dir => self.create_dir(entry).map(|()| None),
            _ => self.create_other(entry).map(|()| None),
        }
    }

    /// Makes an empty file that only its owner can open; none where the file system refuses it, which is a
    /// loss.
    ///
    /// # Errors
    /// As [`TreeWriter::create`].
    pub fn create_file(&self, path: &RelPath) -> TreeResult<Option<NewFile>> {
        let Some((dir, name)) = self.place(path)? else { return Ok(None) };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&*dir, name, flags, Mode::RUSR | Mode::WUSR);
        Ok(self.made(path, made)?.map(|fd| NewFile { file: File::from(fd) }))
    }

    /// The directory to make `path` in, and its name there; none if that directory was refused.
    fn place<'a>(&self, path: &'a RelPath) -> TreeResult<Option<(Arc<Dir>, &'a [u8])>> {
        // What is in a refused directory is refused as well, so looking one level up is enough.
        let below = {
            let refused = self.refused.lock();
            !refused.paths.is_empty() && path.split().is_some_and(|(above, _)| refused.paths.contains(&above))
        };
        if below {
            self.refuse(path, "cannot be made, since its directory was not")?;
            return Ok(None);
        }
        self.parent(path).map(Some)
    }

    /// What a call that makes `path` came back with; none if it was refused, which is noted.
    fn made<T>(&self, path: &RelPath, made: rustix::io::Result<T>) -> TreeResult<Option<T>> {
        match made {
            Ok(made) => Ok(Some(made)),
            Err(e) if refuses(e) => {
                self.refuse(path, &format!("cannot be made: {}", io::Error::from(e)))?;
                Ok(None)
            }
            Err(e) => Err(TreeError::io("create", path, e)),
        }
    }

    fn refuse(&self, path: &RelPath, why: &str) -> TreeResult<()> {
        let mut refused = self.refused.lock();
        refused.bytes += path.as_bytes().len();
        if refused.paths.len() >= REFUSED || refused.bytes > REFUSED_BYTES {
            return Err(TreeError::io("create", path, Errno::NOTSUP));
        }
        refused.paths.insert(path.clone());
        drop(refused);
        self.lose(format!("{path}: {why}"));
        Ok(())
    }

    pub(crate) fn lose(&self, text: String) {
        if self.aside.is_some() {
            return self.leave_out(text);
        }
        let mut losses = self.losses.lock();
        losses.count += 1;
        if losses.texts.len() < WARNINGS {
            losses.texts.push(text);
        }
    }

    fn create_dir(&self, entry: &Entry) -> TreeResult<()> {
        if entry.path.is_root() {
            self.root_project.store(entry.project, Ordering::Relaxed);
        } else {
            let Some((dir, name)) = self.place(&entry.path)? else { return Ok(()) };
            let made = rustix::fs::mkdirat(&*dir, name, Mode::RWXU);
            if self.made(&entry.path, made)?.is_none() {
                return Ok(());
            }
        }
        let mut dirs = self.dirs.lock();
        let key = dirs.paths.add(&entry.path);
        dirs.entries.push((key, Entry { path: RelPath::root(), ..entry.clone() }));
        Ok(())
    }

    fn create_other(&self, entry: &Entry) -> TreeResult<()> {
        let Some((dir, name)) = self.place(&entry.path)? else { return Ok(()) };
        let mode = Mode::RUSR | Mode::WUSR;
        let make = |kind, device| rustix::fs::mknodat(&*dir, name, kind, mode, device);
        let made = match &entry.kind {
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
        };
        if self.made(&entry.path, made)?.is_none() {
            return Ok(());
        }
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
    /// As [`TreeWriter::create`], and when `existing` is not there.
    pub fn hard_link(&self, existing: &RelPath, new: &RelPath) -> TreeResult<()> {
        if self.refused.lock().paths.contains(existing) {
            return self
                .refuse(new, &format!("cannot be made, since {existing}, which it is a link to, was not"));
        }
        let (from, from_name) = self.parent(existing)?;
        let Some((to, to_name)) = self.place(new)? else { return Ok(()) };
        let made = rustix::fs::linkat(&*from, from_name, &*to, to_name, AtFlags::empty());
        self.made(new, made).map(drop)
    }

    /// Makes `new` a name of the inode that is `name` in `dir`, a directory of another tree.
    pub(crate) fn link_from(&self, dir: &Dir, name: &[u8], new: &RelPath) -> io::Result<()> {
        let (to, to_name) = self.parent(new).map_err(io::Error::other)?;
        Ok(rustix::fs::linkat(dir, name, &*to, to_name, AtFlags::empty())?)
    }

    /// Gives files their flags, and directories their metadata, deepest first. Without this they stay closed
    /// to everybody but their owner.
    ///
    /// What was written is not on stable storage yet: [`StableStorage`](crate::StableStorage).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn finish(self) -> TreeResult<Finished> {
        let LateFiles { paths, files } = std::mem::take(&mut *self.late.lock());
        for (key, flags, project) in files {
            let path = paths.get(key);
            let (dir, name) = self.parent(&path)?;
            let (file, _) = dir.open_file(name).map_err(|e| TreeError::io("open", &path, e))?;
            self.set_project(&file, &path, project);
            self.set_flags(&file, &path, flags);
        }
        let NewDirs { paths, entries } = std::mem::take(&mut *self.dirs.lock());
        let mut way = DirStack::new(Arc::clone(&self.root), ());
        // Parents were made before their children, so backwards is deepest first.
        for (key, mut entry) in entries.into_iter().rev() {
            entry.path = paths.get(key);
            if entry.path.is_root() {
                entry.unread.append(&mut self.left_out.lock());
            }
            let dir = way.go(&entry.path).map_err(|e| TreeError::io("open directory", &entry.path, e))?;
            self.apply(&*dir, &entry, None)?;
            if self.aside.is_none() {
                self.finish_dir(&dir, &entry);
            }
        }
        let warnings = std::mem::take(&mut *self.warnings.lock());
        let losses = std::mem::take(&mut *self.losses.lock());
        Ok(Finished { warnings, losses })
    }

    fn finish_dir(&self, dir: &Dir, entry: &Entry) {
        let mut flags = entry.flags;
        let fixed = FileFlags::IMMUTABLE | FileFlags::APPEND;
        if entry.path.is_root() && flags.intersects(fixed) {
            self.warn(
                "the flags i and a of the root are not set: it could not be put in its place".to_owned(),
            );
            flags.remove(fixed);
        }
        // What is inherited here is the place's own.
        if self.inherited == 0 || !entry.path.is_root() {
            self.set_project(dir, &entry.path, entry.project);
        } else {
            flags.remove(FileFlags::PROJECT);
        }
        self.set_flags(dir, &entry.path, flags);
    }

    fn set_project(&self, fd: impl AsFd, path: &RelPath, project: u32) {
        let own = self.inherited != 0 && project == self.root_project.load(Ordering::Relaxed);
        if project == 0 || own {
            return;
        }
        let now = Project::of(&fd);
        if let Err(e) = (Project { id: project, ..now }).give(fd) {
            self.warn(format!("{path}: its project {project} cannot be set: {e}"));
        }
    }

    fn set_flags(&self, fd: impl AsFd, path: &RelPath, flags: FileFlags) {
        if !flags.is_empty()
            && let Err(e) = flags::add(fd, flags)
        {
            self.warn(format!("{path}: its flags {} cannot be set: {e}", flags.letters()));
        }
    }

    /// Says that the caller leaves something out.
    pub(crate) fn leave_out(&self, text: String) {
        let mut left_out = self.left_out.lock();
        if left_out.len() < WARNINGS {
            left_out.push(text.clone());
        }
        drop(left_out);
        self.warn(text);
    }

    pub(crate) fn warn(&self, text: String) {
        let mut warnings = self.warnings.lock();
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
        let mut open = self.open.lock();
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

    /// Metadata of something opened for real: a file or a directory. What it has already, if that is known,
    /// is not set again: each change is a transaction of the file system.
    pub(crate) fn apply(&self, fd: impl AsFd, entry: &Entry, now: Option<&Statx>) -> TreeResult<()> {
        // Changing the owner takes away set-user-ID and capabilities, so it comes first; ACLs refine the
        // mode; times last.
        if now.is_none_or(|now| (now.stx_uid, now.stx_gid) != (entry.uid, entry.gid)) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            self.given(entry, "owner", rustix::fs::fchown(&fd, Some(uid), Some(gid)))?;
        }
        if now.is_none_or(|now| now.stx_mode & 0o7777 != entry.mode & 0o7777) {
            self.given(entry, "mode", rustix::fs::fchmod(&fd, mode(entry)))?;
        }
        self.set_xattrs(&fd_path(&fd), entry)?;
        if entry.is_file() && self.aside.is_none() && !(entry.flags.is_empty() && entry.project == 0) {
            self.finish_later(&fd, entry);
        }
        self.given(entry, "times", rustix::fs::futimens(&fd, &times(entry)))
    }

    /// A file with flags cannot be linked to, and where projects are inherited, one with another project
    /// neither.
    fn finish_later(&self, fd: impl AsFd, entry: &Entry) {
        let (mut project, flags) = (entry.project, entry.flags);
        if self.inherited == 0 {
            self.set_project(fd, &entry.path, project);
            project = 0;
        }
        let own = project == self.root_project.load(Ordering::Relaxed);
        if !flags.is_empty() || project != 0 && !own {
            let mut late = self.late.lock();
            let key = late.paths.add(&entry.path);
            late.files.push((key, flags, project));
        }
    }

    /// What a call that gives `entry` something came back with; a refusal is noted.
    fn given(&self, entry: &Entry, what: &str, given: rustix::io::Result<()>) -> TreeResult<()> {
        match given {
            Ok(()) => Ok(()),
            Err(e) if refuses(e) => {
                self.lose(format!("{}: its {what} cannot be set: {}", entry.path, io::Error::from(e)));
                Ok(())
            }
            Err(e) => Err(TreeError::io("set the metadata of", &entry.path, e)),
        }
    }

    /// Metadata of something that must not be opened, through a descriptor that only points at it.
    pub(crate) fn apply_path(&self, fd: &OwnedFd, entry: &Entry) -> TreeResult<()> {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let owner = rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
        self.given(entry, "owner", owner)?;
        let path = fd_path(fd);
        // A link has no mode of its own.
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            self.given(entry, "mode", rustix::fs::chmodat(CWD, &path, mode(entry), AtFlags::empty()))?;
        }
        self.set_xattrs(&path, entry)?;
        self.given(entry, "times", rustix::fs::utimensat(CWD, &path, &times(entry), AtFlags::empty()))
    }

    fn set_xattrs(&self, path: &Path, entry: &Entry) -> TreeResult<()> {
        for (name, value) in &entry.xattrs {
            match xattr::set(path, name, value) {
                Err(e) if Errno::from_io_error(&e).is_some_and(refuses) || xattr::too_large(path, &e) => {
                    self.lose(format!("{}: its attribute {name} cannot be set: {e}", entry.path.shown()));
                }
                other => {
                    other.map_err(|e| TreeError::io("set the extended attributes of", &entry.path, e))?
                }
            }
        }
        if let Some(own) = self.aside {
            self.put_aside(path, entry, own);
        }
        Ok(())
    }

    /// Keeps in attributes what must not be set of a snapshot.
    fn put_aside(&self, path: &Path, entry: &Entry, own: u32) {
        let (mut project, mut flags) = (entry.project, entry.flags);
        if project == own && own != 0 {
            // Whatever the tree becomes gives it what it gives to all that is in it.
            project = 0;
            flags.remove(FileFlags::PROJECT);
        }
        let flags =
            (!flags.is_empty() || project != 0).then(|| (flags::ASIDE, flags::to_text(flags, project)));
        let unread = (!entry.unread.is_empty()).then(|| (flags::UNREAD, flags::join_lines(&entry.unread)));
        for (name, value) in flags.into_iter().chain(unread) {
            if let Err(e) = xattr::set(path, &RawBytes::from(name), &value) {
                self.warn(format!("{}: its flags and project cannot be kept: {e}", entry.path));
            }
        }
    }
}

/// Whether an error says that the file system, or the kernel, will never do this: no other try can help, and
/// everything else may go well.
fn refuses(error: Errno) -> bool {
    matches!(
        error,
        Errno::NOTSUP
            | Errno::NOSYS
            | Errno::PERM
            | Errno::ACCESS
            | Errno::INVAL
            | Errno::NAMETOOLONG
            | Errno::ILSEQ
            | Errno::MLINK
            | Errno::TOOBIG
            | Errno::RANGE
            | Errno::OVERFLOW
            | Errno::XDEV
    )
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(u32::from(entry.mode & 0o7777))
}

fn times(entry: &Entry) -> Timestamps {
    let spec = |t: Timestamp| Timespec { tv_sec: t.sec, tv_nsec: i64::from(t.nsec) };
    Timestamps { last_access: spec(entry.atime), last_modification: spec(entry.mtime) }
}
