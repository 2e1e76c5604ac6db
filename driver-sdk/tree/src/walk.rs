//! A tree, entry by entry.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::Statx;
use rustix::io::Errno;

use crate::dir::{Dir, Names, mount_of, stat_fd};
use crate::entry::{Entry, Kind};
use crate::error::{TreeError, TreeResult, gone};
use crate::flags::{FileFlags, Project};
use crate::lease::wait_for_lease;
use crate::limits::{DEPTH, ENTRIES, Limit, NAMES, PATH};
use crate::look::describe;
use crate::path::RelPath;
use crate::stack::DirStack;
use crate::xattr;

/// What a walk reads of each entry.
#[derive(Clone, Copy, Debug)]
pub struct WalkOptions {
    /// Read extended attributes of every entry (they can be asked for later, entry by entry:
    /// [`WalkEntry::read_xattrs`]).
    pub xattrs: bool,
    /// Go on into file systems mounted below the root.
    pub cross_mounts: bool,
    /// Bytes of the longest path that is read, up to [`limits::PATH`](crate::limits::PATH). A longer one is
    /// an error.
    pub longest_path: usize,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self { xattrs: true, cross_mounts: false, longest_path: PATH }
    }
}

/// What a walk comes upon.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are entries: a box would be one more allocation for each"
)]
pub enum Found {
    /// Something, with its metadata.
    Entry(WalkEntry),
    /// A name that was listed and was gone when it was looked at: somebody is writing to the tree.
    Vanished(RelPath),
    /// Something the file system refuses to tell of, to root as well: the mount of a user's own file system,
    /// a locked encrypted directory. Of a directory that was found already: what is in it.
    Refused {
        /// The path in the tree.
        path: RelPath,
        /// What the kernel said.
        error: io::Error,
    },
}

/// An entry of a walk, which can still be opened safely.
#[derive(Debug)]
pub struct WalkEntry {
    /// The entry, with its metadata.
    pub entry: Entry,
    /// Something else is mounted here, which the walk leaves alone: the entry is a directory that is not
    /// entered, or an empty file.
    pub mount_point: bool,
    /// Bytes that it takes up on the disk, whatever its size says; 0 of a mount point.
    pub allocated: u64,
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: Box<[u8]>,
}

impl WalkEntry {
    /// What is at `path` now, found on the way that `stack` goes.
    pub(crate) fn at(stack: &mut DirStack<()>, path: RelPath) -> io::Result<Self> {
        let (parent, name) = path.split().ok_or(io::ErrorKind::NotFound)?;
        let (dir, name) = (stack.go(&parent)?, Box::from(name));
        let stat = dir.stat(&name)?;
        let entry = Entry::from_statx(path, &stat).ok_or(io::ErrorKind::NotFound)?;
        let allocated = allocated(&stat);
        Ok(Self { entry, mount_point: false, allocated, dir, name })
    }

    /// Opens the contents of a regular file and gives its metadata at that moment, attributes included: the
    /// name may by now stand for another file, whose inode differs.
    ///
    /// # Errors
    /// `NotFound` when it is gone or no longer a regular file; `WouldBlock` when a program keeps a lease on
    /// it for longer than the kernel lets anybody ([`wait_for_lease`]).
    pub fn open(&self) -> io::Result<(File, Entry)> {
        wait_for_lease(|| self.open_now())
    }

    /// As [`WalkEntry::open`], but `WouldBlock` at once when a program has a lease on the file. It has been
    /// told to give it up.
    pub(crate) fn open_now(&self) -> io::Result<(File, Entry)> {
        let (file, stat) = self.dir.open_file(&self.name)?;
        let mut entry = Entry::from_statx(self.entry.path.clone(), &stat)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no longer a regular file"))?;
        entry.take_xattrs(xattr::read_open(&file)?);
        entry.take_project(&file);
        Ok((file, entry))
    }

    /// The metadata, attributes included, of `file`, which [`WalkEntry::open`] opened, as it is now. A file
    /// that is the same before and after it was read (compare `ctime`, `mtime` and `size`) was not changed
    /// meanwhile.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn restat(&self, file: &File) -> io::Result<Entry> {
        let mut entry = Entry::from_statx(self.entry.path.clone(), &stat_fd(file)?)
            .ok_or_else(|| io::Error::other("not a regular file"))?;
        entry.take_xattrs(xattr::read_open(file)?);
        entry.take_project(file);
        Ok(entry)
    }

    /// What has this name in the directory that this is, attributes included; `None` if there is nothing, or
    /// this is no directory any more. The directory is opened as the walk would open it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn child(&self, name: &[u8]) -> io::Result<Option<Self>> {
        let opened = match self.entry.path.is_root() {
            true => Ok(Arc::clone(&self.dir)),
            false => self.dir.open_dir(&self.name).map(Arc::new),
        };
        let found = opened.and_then(|dir| {
            let path = self.entry.path.join(name).map_err(io::Error::other)?;
            let mount = dir.mount();
            Self::in_dir(path, dir, name, mount)
        });
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the extended attributes and ACLs into the entry.
    ///
    /// # Errors
    /// `NotFound` when the entry is gone.
    pub fn read_xattrs(&mut self) -> io::Result<()> {
        let root = self.entry.path.is_root();
        let found = if root { self.dir.xattrs_self() } else { self.dir.xattrs(&self.name) }?;
        // What is mounted here has its own.
        if !self.mount_point {
            self.entry.take_xattrs(found);
        }
        Ok(())
    }

    /// Opens a regular file, to see that it can be read, and to learn its project.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn look_inside(&mut self) -> io::Result<()> {
        let (file, _) = self.dir.open_file(&self.name)?;
        self.entry.take_project(&file);
        Ok(())
    }
}

/// Walks the tree at `root`: the root first (with the empty path), each directory before what is in it, names
/// in bytewise order ([`RelPath`]'s order). Memory: the names of the directories on the way to the current
/// one, up to [`limits::NAMES`](crate::limits::NAMES).
///
/// An item that is an error concerns that place only; the walk goes on after it, unless the tree has more
/// than [`limits::ENTRIES`](crate::limits::ENTRIES) entries. What is deeper than
/// [`limits::DEPTH`](crate::limits::DEPTH), or has a longer path than [`limits::PATH`](crate::limits::PATH),
/// is an error of that place.
///
/// # Errors
/// When `root` cannot be opened as a directory.
pub fn walk(root: &Path, options: WalkOptions) -> TreeResult<Walk> {
    Ok(Walk::new(Arc::new(Dir::open(root)?), options))
}

/// A walk through a tree: see [`walk`].
#[derive(Debug)]
pub struct Walk {
    options: WalkOptions,
    stack: DirStack<Names>,
    started: bool,
    /// The directory given out last, entered when the next item is asked for.
    enter: Option<(Arc<Dir>, Box<[u8]>)>,
    /// Bytes of the names in the levels of the stack.
    names: usize,
    entries: u64,
}

impl Walk {
    /// As [`walk`], of a directory already open.
    pub fn new(root: Arc<Dir>, options: WalkOptions) -> Self {
        let stack = DirStack::new(root, Names::default());
        Self { options, stack, started: false, enter: None, names: 0, entries: 0 }
    }

    /// Passes over everything in the directory that was given out last.
    pub fn skip_children(&mut self) {
        if self.enter.take().is_none() && self.started && self.entries == 0 {
            // The root itself was given out last.
            self.stack.end();
        }
    }

    fn start(&mut self) -> TreeResult<Found> {
        let root = Arc::clone(self.stack.root());
        let path = RelPath::root();
        let describe = |e: io::Error| TreeError::io("read", &RelPath::root(), e);
        let stat = root.stat_self().map_err(describe)?;
        let mut entry =
            Entry::from_statx(path.clone(), &stat).ok_or_else(|| describe(Errno::NOTDIR.into()))?;
        if self.options.xattrs {
            entry.take_xattrs(root.xattrs_self().map_err(describe)?);
        }
        entry.take_project(&*root);
        let names = self.list(&root, &path)?.map_err(|e| TreeError::io("list", &path, e))?;
        if let Some(top) = self.stack.top() {
            *top = names;
        }
        Ok(Found::Entry(WalkEntry {
            entry,
            mount_point: false,
            allocated: allocated(&stat),
            dir: root,
            name: Box::from(&b"."[..]),
        }))
    }

    /// The names in a directory, as far as there is memory for them.
    fn list(&mut self, dir: &Dir, path: &RelPath) -> TreeResult<io::Result<Names>> {
        let names = match dir.names(NAMES - self.names) {
            Ok(names) => names.ok_or_else(|| TreeError::limit(Limit::Names, path))?,
            Err(e) => return Ok(Err(e)),
        };
        self.names += names.memory();
        Ok(Ok(names))
    }

    fn enter(&mut self, parent: &Dir, name: &[u8]) -> Option<TreeResult<Found>> {
        let path = |stack: &DirStack<Names>| stack.path_of(name);
        match parent.open_dir(name) {
            Ok(dir) if !self.options.cross_mounts && dir.mount() != self.stack.root().mount() => None,
            Ok(_) if self.stack.depth() >= DEPTH => {
                Some(Err(TreeError::limit(Limit::Depth, &path(&self.stack))))
            }
            Ok(dir) => match self.list(&dir, &path(&self.stack)) {
                Ok(Ok(names)) => {
                    self.stack.enter(name, Arc::new(dir), names);
                    None
                }
                Ok(Err(e)) => Some(refused_or(path(&self.stack), "list", e)),
                Err(limit) => Some(Err(limit)),
            },
            // Gone, or no longer a directory: it was one when it was given out.
            Err(e) if gone(&e) => None,
            Err(e) => Some(refused_or(path(&self.stack), "open directory", e)),
        }
    }

    fn leave(&mut self) {
        if let Some(names) = self.stack.top() {
            self.names -= names.memory();
        }
        self.stack.leave();
    }

    fn visit(&mut self, path: RelPath, dir: Arc<Dir>, name: Box<[u8]>) -> TreeResult<Found> {
        let stat = match dir.stat(&name) {
            Err(e) if gone(&e) => return Ok(Found::Vanished(path)),
            Err(e) => return refused_or(path, "read", e),
            Ok(stat) => stat,
        };
        let mounted = !self.options.cross_mounts && mount_of(&stat) != self.stack.root().mount();
        match describe(path.clone(), &dir, &name, &stat, self.options.xattrs) {
            Ok(entry) => {
                let found = WalkEntry::described(entry, dir, name, &stat, mounted);
                if found.entry.is_dir() && !found.mount_point {
                    self.enter = Some((Arc::clone(&found.dir), found.name.clone()));
                }
                Ok(Found::Entry(found))
            }
            Err(e) if gone(&e) => Ok(Found::Vanished(path)),
            Err(e) => refused_or(path, "read", e),
        }
    }
}

impl Iterator for Walk {
    type Item = TreeResult<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.started {
            self.started = true;
            return Some(self.start());
        }
        if let Some((parent, name)) = self.enter.take()
            && let Some(problem) = self.enter(&parent, &name)
        {
            return Some(problem);
        }
        loop {
            let Some(name) = self.stack.top()?.take().map(Box::<[u8]>::from) else {
                self.leave();
                continue;
            };
            let most = self.options.longest_path.min(PATH);
            if self.stack.length_with(&name) > most {
                return Some(Err(TreeError::limit(Limit::Path(most), &self.stack.path_of(&name))));
            }
            let path = self.stack.path_of(&name);
            self.entries += 1;
            if self.entries > ENTRIES {
                self.stack.end();
                return Some(Err(TreeError::limit(Limit::Entries, &path)));
            }
            return Some(match self.stack.top_dir() {
                Ok(dir) => self.visit(path, dir, name),
                Err(e) if gone(&e) => Ok(Found::Vanished(path)),
                Err(e) => Err(TreeError::io("open the directory of", &path, e)),
            });
        }
    }
}

/// The kernel counts in units of 512 bytes, whatever the file system does.
pub(crate) fn allocated(stat: &Statx) -> u64 {
    stat.stx_blocks.saturating_mul(512)
}

impl Entry {
    /// Learns the project from the open file, unless it is known already.
    pub(crate) fn take_project(&mut self, file: impl AsFd) {
        let project = Project::of(file);
        if self.project == 0 {
            self.project = project.id;
        }
        self.flags.set(FileFlags::PROJECT, project.inherited || self.flags.contains(FileFlags::PROJECT));
    }

    /// What is mounted over this is not of its tree, and what is below cannot be seen.
    pub(crate) fn forget_contents(&mut self) {
        if !self.is_dir() {
            self.kind = Kind::File;
        }
        (self.size, self.nlink, self.project) = (0, 1, 0);
        self.xattrs.clear();
        self.flags = FileFlags::empty();
        self.unread = vec!["what is mounted there is not part of the copy".to_owned()];
    }
}

/// What is found where the kernel tells nothing; an error where more may be wrong than that.
fn refused_or(path: RelPath, action: &'static str, error: io::Error) -> TreeResult<Found> {
    if is_refused(&error) {
        Ok(Found::Refused { path, error })
    } else {
        Err(TreeError::io(action, &path, error))
    }
}

/// Whether an error says that this one thing cannot be read by anybody, for as long as it stays as it is. A
/// disk that fails is something else.
pub fn is_refused(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::ACCESS
                | Errno::PERM
                | Errno::NOKEY
                | Errno::KEYEXPIRED
                | Errno::KEYREVOKED
                | Errno::NOTCONN
                | Errno::OVERFLOW
                | Errno::NOTSUP
        )
    )
}
