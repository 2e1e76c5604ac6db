//! A tree, entry by entry.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::Statx;
use rustix::io::Errno;

use crate::dir::{Dir, Names, mount_of, stat_fd};
use crate::entry::{Entry, Kind, Xattrs};
use crate::error::{TreeError, TreeResult};
use crate::lease::wait_for_lease;
use crate::limits::{DEPTH, ENTRIES, Limit, NAMES, PATH};
use crate::path::{RawBytes, RelPath};
use crate::stack::DirStack;
use crate::xattr;

/// How to walk.
#[derive(Clone, Copy, Debug)]
pub struct WalkOptions {
    /// Read extended attributes of every entry (they can be asked for later, entry by entry: [`WalkEntry::read_xattrs`]).
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
pub enum Found {
    /// Something, with its metadata.
    Entry(WalkEntry),
    /// A name that was listed and was gone when it was looked at: somebody is writing to the tree.
    Vanished(RelPath),
}

/// An entry of a walk, which can still be opened safely.
#[derive(Debug)]
pub struct WalkEntry {
    /// Its metadata.
    pub entry: Entry,
    /// A directory on which another file system is mounted, which the walk does not enter.
    pub mount_point: bool,
    dir: Arc<Dir>,
    name: Box<[u8]>,
}

impl WalkEntry {
    /// What is at `path` now, found on the way that `stack` goes.
    pub(crate) fn at(stack: &mut DirStack<()>, path: RelPath) -> io::Result<Self> {
        let (parent, name) = path.split().ok_or(io::ErrorKind::NotFound)?;
        let (dir, name) = (stack.go(&parent)?, Box::from(name));
        let entry = Entry::from_statx(path, &dir.stat(&name)?).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { entry, mount_point: false, dir, name })
    }

    /// Opens the contents of a regular file and gives its metadata at that moment, attributes included: the name may by now
    /// stand for another file, whose inode differs.
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
        entry.xattrs = xattr::read_open(&file)?;
        Ok((file, entry))
    }

    /// The metadata, attributes included, of `file`, which [`WalkEntry::open`] opened, as it is now. A file that is the same
    /// before and after it was read (compare `ctime`, `mtime` and `size`) was not changed meanwhile.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn restat(&self, file: &File) -> io::Result<Entry> {
        let mut entry = Entry::from_statx(self.entry.path.clone(), &stat_fd(file)?)
            .ok_or_else(|| io::Error::other("not a regular file"))?;
        entry.xattrs = xattr::read_open(file)?;
        Ok(entry)
    }

    /// Reads the extended attributes and ACLs.
    ///
    /// # Errors
    /// `NotFound` when the entry is gone; otherwise what the kernel says.
    pub fn read_xattrs(&self) -> io::Result<Xattrs> {
        if self.entry.path.is_root() { self.dir.xattrs_self() } else { self.dir.xattrs(&self.name) }
    }
}

/// Walks the tree at `root`: the root first (with the empty path), each directory before what is in it, names in bytewise
/// order ([`RelPath`]'s order). Memory: the names of the directories on the way to the current one, up to
/// [`limits::NAMES`](crate::limits::NAMES).
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

/// See [`walk`].
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

    fn start(&mut self) -> TreeResult<Found> {
        let root = Arc::clone(self.stack.root());
        let path = RelPath::root();
        let describe = |e: io::Error| TreeError::io("read", &RelPath::root(), e);
        let stat = root.stat_self().map_err(describe)?;
        let mut entry =
            Entry::from_statx(path.clone(), &stat).ok_or_else(|| describe(Errno::NOTDIR.into()))?;
        if self.options.xattrs {
            entry.xattrs = root.xattrs_self().map_err(describe)?;
        }
        let names = self.list(&root, &path)?;
        if let Some(top) = self.stack.top() {
            *top = names;
        }
        Ok(Found::Entry(WalkEntry { entry, mount_point: false, dir: root, name: Box::from(&b"."[..]) }))
    }

    /// The names in a directory, as far as there is memory for them.
    fn list(&mut self, dir: &Dir, path: &RelPath) -> TreeResult<Names> {
        let names = dir.names(NAMES - self.names).map_err(|e| TreeError::io("list", path, e))?;
        let names = names.ok_or_else(|| TreeError::limit(Limit::Names, path))?;
        self.names += names.memory();
        Ok(names)
    }

    fn enter(&mut self, parent: &Dir, name: &[u8]) -> TreeResult<()> {
        let path = |stack: &DirStack<Names>| stack.path_of(name);
        match parent.open_dir(name) {
            Ok(dir) if !self.options.cross_mounts && dir.mount() != self.stack.root().mount() => Ok(()),
            Ok(_) if self.stack.depth() >= DEPTH => Err(TreeError::limit(Limit::Depth, &path(&self.stack))),
            Ok(dir) => {
                let names = self.list(&dir, &path(&self.stack))?;
                self.stack.enter(name, Arc::new(dir), names);
                Ok(())
            }
            // Gone, or no longer a directory: it was one when it was given out.
            Err(e) if gone(&e) => Ok(()),
            Err(e) => Err(TreeError::io("open directory", &path(&self.stack), e)),
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
            other => other.map_err(|e| TreeError::io("read", &path, e))?,
        };
        match self.describe(&path, &dir, &name, &stat) {
            Ok(entry) => {
                let mount_point = entry.is_dir()
                    && !self.options.cross_mounts
                    && mount_of(&stat) != self.stack.root().mount();
                if entry.is_dir() && !mount_point {
                    self.enter = Some((Arc::clone(&dir), name.clone()));
                }
                Ok(Found::Entry(WalkEntry { entry, mount_point, dir, name }))
            }
            Err(e) if gone(&e) => Ok(Found::Vanished(path)),
            Err(e) => Err(TreeError::io("read", &path, e)),
        }
    }

    fn describe(&self, path: &RelPath, dir: &Dir, name: &[u8], stat: &Statx) -> io::Result<Entry> {
        let mut entry = Entry::from_statx(path.clone(), stat)
            .ok_or_else(|| io::Error::other("it is of a kind this program does not know"))?;
        if let Kind::Symlink { target } = &mut entry.kind {
            *target = match dir.read_link(name) {
                // It was a link a moment ago: replaced.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Err(Errno::NOENT.into()),
                other => RawBytes::from(other?),
            };
        }
        if self.options.xattrs {
            entry.xattrs = dir.xattrs(name)?;
        }
        Ok(entry)
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
            && let Err(problem) = self.enter(&parent, &name)
        {
            return Some(Err(problem));
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

/// Whether an error says that what was listed is no longer there, or is something else now.
pub(crate) fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || matches!(
            Errno::from_io_error(error),
            Some(Errno::NOTDIR | Errno::LOOP | Errno::STALE | Errno::NXIO)
        )
}
