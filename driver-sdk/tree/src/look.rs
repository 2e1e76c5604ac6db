//! One thing in a tree, or the names in one of its directories, without a walk through the rest.

use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;

use rustix::fs::Statx;
use rustix::io::Errno;

use crate::dir::{Dir, Names, knows_mount, mount_of};
use crate::entry::{Entry, Kind};
use crate::error::{TreeError, TreeResult, gone};
use crate::limits::{DEPTH, Limit};
use crate::path::{RawBytes, RelPath};
use crate::walk::{WalkEntry, allocated};

/// What [`Dir::look`] comes upon.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub enum Look {
    /// Something, with its metadata and attributes.
    Found(WalkEntry),
    /// Nothing, or what is mounted there and is not of this tree.
    Nothing {
        /// The longest part of the path that is a directory of this tree.
        nearest: RelPath,
    },
}

/// The names in a directory at the moment it was listed, in bytewise order.
#[derive(Debug)]
pub struct Listing(Names);

impl Listing {
    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.0.memory()
    }

    /// The names behind `after`, or all of them.
    pub fn after<'a>(&'a self, after: Option<&'a [u8]>) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.0.behind(after)
    }
}

/// Whether an error says that there is no such thing: no name is as long as some that are asked for.
fn absent(error: &io::Error) -> bool {
    gone(error) || Errno::from_io_error(error) == Some(Errno::NAMETOOLONG)
}

impl Dir {
    /// What is at `path` beneath this directory, the root of a tree: one component after the other, through
    /// no link and into no other mount.
    ///
    /// # Errors
    /// [`TreeError::Limit`] for a path that is deeper than [`limits::DEPTH`](crate::limits::DEPTH); what the
    /// kernel says about a component that is there.
    pub fn look(self: &Arc<Self>, path: &RelPath) -> TreeResult<Look> {
        let Some((parent, name)) = path.split() else {
            return WalkEntry::root(Arc::clone(self))
                .map(Look::Found)
                .map_err(|e| TreeError::io("read", path, e));
        };
        let dir = match self.descend(&parent)? {
            Ok(dir) => dir,
            Err(nearest) => return Ok(Look::Nothing { nearest }),
        };
        match WalkEntry::in_dir(path.clone(), dir, name, self.mount()) {
            Ok(found) => Ok(Look::Found(found)),
            Err(e) if absent(&e) => Ok(Look::Nothing { nearest: parent }),
            Err(e) => Err(TreeError::io("read", path, e)),
        }
    }

    /// The directory at `path` beneath this one, the root of a tree, opened anew: listings of it do not
    /// disturb each other. As [`Dir::look`] goes; else the longest part of the path that is a directory of
    /// this tree.
    ///
    /// # Errors
    /// As [`Dir::look`].
    pub fn descend(&self, path: &RelPath) -> TreeResult<Result<Arc<Dir>, RelPath>> {
        if path.components().nth(DEPTH).is_some() {
            return Err(TreeError::limit(Limit::Depth, path));
        }
        let mut dir = self.open_dir(b".").map_err(|e| TreeError::io("open directory", path, e))?;
        let mut end = 0;
        for name in path.components() {
            match dir.open_dir(name) {
                Ok(next) if next.mount() == self.mount() => dir = next,
                Err(e) if !absent(&e) => return Err(TreeError::io("open directory", path, e)),
                Ok(_) | Err(_) => {
                    let nearest = path.as_bytes().get(..end).unwrap_or_default().to_vec();
                    return Ok(Err(RelPath::trusted(nearest)));
                }
            }
            end += name.len() + usize::from(end > 0);
        }
        Ok(Ok(Arc::new(dir)))
    }

    /// What `name` in this directory is, which has the path `path` in the tree whose root is `root`; none
    /// when it is gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn look_at(
        self: &Arc<Self>,
        path: RelPath,
        name: &[u8],
        root: &Dir,
    ) -> io::Result<Option<WalkEntry>> {
        match WalkEntry::in_dir(path, Arc::clone(self), name, root.mount()) {
            Ok(found) => Ok(Some(found)),
            Err(e) if absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The names in this directory; none when they take more memory than `most` bytes. Moves the position of
    /// the open directory.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listing(&self, most: usize) -> io::Result<Option<Listing>> {
        Ok(self.names(most)?.map(Listing))
    }

    /// The first `limit` names behind `after`, sorted, of a directory of any size: memory is that of the
    /// names given. Reads the whole directory, and moves the position of the open directory.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn first_names(&self, after: Option<&[u8]>, limit: usize) -> io::Result<Vec<Box<[u8]>>> {
        let mut first: BinaryHeap<Box<[u8]>> = BinaryHeap::new();
        self.each_name(&mut |name| {
            let behind = after.is_none_or(|after| name > after);
            let worse = first.len() >= limit && first.peek().is_none_or(|last| name >= &**last);
            if behind && !worse {
                first.push(name.into());
                if first.len() > limit {
                    first.pop();
                }
            }
            true
        })?;
        let mut names = first.into_sorted_vec();
        // A directory that changes while it is listed may show a name twice.
        names.dedup();
        Ok(names)
    }
}

impl WalkEntry {
    /// The root of a tree.
    pub(crate) fn root(dir: Arc<Dir>) -> io::Result<Self> {
        let stat = dir.stat_self()?;
        let mut entry = Entry::from_statx(RelPath::root(), &stat).ok_or(io::ErrorKind::NotADirectory)?;
        entry.take_xattrs(dir.xattrs_self()?);
        entry.take_project(&*dir);
        let allocated = allocated(&stat);
        Ok(Self { entry, mount_point: false, allocated, dir, name: Box::from(&b"."[..]) })
    }

    /// What `name` in a directory of a tree on `mount` is, with its attributes.
    pub(crate) fn in_dir(path: RelPath, dir: Arc<Dir>, name: &[u8], mount: u64) -> io::Result<Self> {
        let stat = dir.stat(name)?;
        let entry = describe(path, &dir, name, &stat, true)?;
        Ok(Self::described(entry, dir, Box::from(name), &stat, mount_of(&stat) != mount))
    }

    /// An entry that was described. What another file system is mounted over is not of its tree.
    pub(crate) fn described(
        mut entry: Entry,
        dir: Arc<Dir>,
        name: Box<[u8]>,
        stat: &Statx,
        mounted: bool,
    ) -> Self {
        let mount_point = mounted && (entry.is_dir() || knows_mount(stat));
        if mount_point {
            entry.forget_contents();
        } else if entry.is_dir()
            && let Ok(dir) = dir.open_dir(&name)
        {
            entry.take_project(&dir);
        }
        let allocated = if mount_point { 0 } else { allocated(stat) };
        Self { entry, mount_point, allocated, dir, name }
    }
}

/// What `stat` was asked of, with the target of a link, and on request its attributes.
pub(crate) fn describe(
    path: RelPath,
    dir: &Dir,
    name: &[u8],
    stat: &Statx,
    xattrs: bool,
) -> io::Result<Entry> {
    let mut entry = Entry::from_statx(path, stat)
        .ok_or_else(|| io::Error::other("it is of a kind this program does not know"))?;
    if let Kind::Symlink { target } = &mut entry.kind {
        *target = match dir.read_link(name) {
            // It was a link a moment ago: replaced.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Err(io::ErrorKind::NotFound.into()),
            other => RawBytes::from(other?),
        };
    }
    if xattrs {
        entry.take_xattrs(dir.xattrs(name)?);
    }
    Ok(entry)
}
