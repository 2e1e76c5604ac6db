//! A tree, entry by entry.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::Statx;
use rustix::io::Errno;

use crate::dir::{Dir, mount_of, stat_fd};
use crate::entry::{Entry, Kind, Xattrs};
use crate::error::{TreeError, TreeResult};
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
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self { xattrs: true, cross_mounts: false }
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
    /// Opens the contents of a regular file and gives its metadata at that moment, attributes included: the name may by now
    /// stand for another file, whose inode differs.
    ///
    /// # Errors
    /// `NotFound` when it is gone or no longer a regular file.
    pub fn open(&self) -> io::Result<(File, Entry)> {
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
/// order ([`RelPath`]'s order). Memory: the names of the directories on the way to the current one.
///
/// An item that is an error concerns that place only; the walk goes on after it.
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
    stack: DirStack,
    started: bool,
    /// The directory given out last, entered when the next item is asked for.
    enter: Option<(RelPath, Arc<Dir>, Box<[u8]>)>,
}

impl Walk {
    /// As [`walk`], of a directory already open.
    pub fn new(root: Arc<Dir>, options: WalkOptions) -> Self {
        Self { options, stack: DirStack::new(root), started: false, enter: None }
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
        let names = root.names().map_err(|e| TreeError::io("list", &path, e))?;
        self.stack.push(path, Arc::clone(&root), names);
        Ok(Found::Entry(WalkEntry { entry, mount_point: false, dir: root, name: Box::from(&b"."[..]) }))
    }

    fn enter(&mut self, path: RelPath, parent: &Dir, name: &[u8]) -> Option<TreeResult<Found>> {
        match parent.open_dir(name) {
            Ok(dir) if !self.options.cross_mounts && dir.mount() != self.stack.root().mount() => None,
            Ok(dir) => match dir.names() {
                Ok(names) => {
                    self.stack.push(path, Arc::new(dir), names);
                    None
                }
                Err(e) => Some(Err(TreeError::io("list", &path, e))),
            },
            // Gone, or no longer a directory: it was one when it was given out.
            Err(e) if gone(&e) => None,
            Err(e) => Some(Err(TreeError::io("open directory", &path, e))),
        }
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
                    self.enter = Some((path, Arc::clone(&dir), name.clone()));
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
        if let Some((path, parent, name)) = self.enter.take()
            && let Some(problem) = self.enter(path, &parent, &name)
        {
            return Some(problem);
        }
        loop {
            let level = self.stack.top()?;
            let Some(name) = level.names.take().map(Box::<[u8]>::from) else {
                self.stack.pop();
                continue;
            };
            let path = level.path.child(&name);
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
