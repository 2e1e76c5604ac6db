//! Looks into backups and snapshots without restoring them.
//!
//! [`Browse`] is the one reader behind listing, searching, comparing, dumping, mounting and restoring parts.
//! Its calls block: make them on a thread that may wait.

mod archive;
mod cache;
mod chunks;
mod data;
mod directory;
mod held;
mod image;
mod manifest;
mod open;
mod search;
mod stream;
mod tree;
mod unshared;
mod walk;

use std::any::Any;
use std::fmt::Debug;
use std::fs::File;
use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use convoy_tree::{Entry, RelPath, TreeError};

use crate::error::BackupResult;

pub(crate) use archive::walk_bytes;
pub use directory::browse_directory;
pub use stream::{Searched, Take, Wanted};
pub(crate) use unshared::{UnsharedSegments, is_of, unshared_segments};

/// Bytes that one call of [`ReadAt::read_at`] gives at most, whatever it is asked for.
pub(crate) const READ_MAX: usize = 4 << 20;

/// A digest of a file's data. Two files of one store with the same digest have the same bytes; files with
/// different digests may have the same bytes all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentId(pub [u8; 32]);

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Its metadata. A further name of a file has the metadata of that file, and its own path.
    pub entry: Entry,
    /// The first name of this file, where the path is a further one (a hard link).
    pub first_name: Option<RelPath>,
    /// Tells whether the data is that of another file, where that is known without reading it.
    pub content: Option<ContentId>,
}

/// What a walk does after a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Goes on.
    Continue,
    /// Goes on behind everything below this directory.
    SkipChildren,
}

/// Takes the nodes of a walk; [`ControlFlow::Break`] ends it.
pub type Visitor<'a> = &'a mut dyn FnMut(Node) -> BackupResult<ControlFlow<(), Visit>>;

/// A reader of a tree: a backup's, or a snapshot's. The order of names is that of
/// [`RelPath`]: parents first, then by bytes, one component after the other.
pub trait Browse: Debug + Send + Sync {
    /// What stands at `path`; the root is a directory.
    ///
    /// # Errors
    /// [`BackupError::NoPath`](crate::BackupError::NoPath) names the nearest directory that is there; those
    /// of the store.
    fn stat(&self, path: &RelPath) -> BackupResult<Node>;

    /// At most `limit` entries of a directory, by name, after that with the path `after` (the whole path, as
    /// nodes have it; it need not be there). Fewer than `limit` are the last ones. Reads as little as it can:
    /// not what lies deeper.
    ///
    /// # Errors
    /// As [`Self::stat`]; [`BackupError::NotDirectory`](crate::BackupError::NotDirectory).
    fn list(&self, directory: &RelPath, after: Option<&RelPath>, limit: usize) -> BackupResult<Vec<Node>>;

    /// Visits `top` and everything below it, in order.
    ///
    /// # Errors
    /// As [`Self::stat`], and what `visit` fails with.
    fn walk(&self, top: &RelPath, visit: Visitor<'_>) -> BackupResult<()>;

    /// Visits what has a path that is wanted, in order. May leave out what `searched` says to have been
    /// visited: in other backups of the same volume, with the same wish.
    ///
    /// # Errors
    /// Those of the store, and what `wanted` and `visit` fail with.
    fn search(
        &self,
        wanted: Wanted<'_>,
        _searched: &mut Searched,
        visit: &mut dyn FnMut(Node) -> BackupResult<()>,
    ) -> BackupResult<()> {
        self.walk(&RelPath::root(), &mut |node| {
            if wanted(&node.entry.path)? {
                visit(node)?;
            }
            Ok(ControlFlow::Continue(Visit::Continue))
        })
    }

    /// The reader itself, where this crate has ways for two of its kind beside each other.
    #[doc(hidden)]
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }

    /// Opens a regular file to read its data.
    ///
    /// # Errors
    /// As [`Self::stat`]; [`BackupError::NotFile`](crate::BackupError::NotFile).
    fn open(&self, path: &RelPath) -> BackupResult<Box<dyn ReadAt>>;

    /// Whether a file may have several names. `false` says that none has.
    fn has_hard_links(&self) -> bool {
        true
    }
}

/// Data that can be read from anywhere: a file's, or a device's.
pub trait ReadAt: Debug + Send + Sync {
    /// How many bytes it has.
    fn size(&self) -> u64;

    /// At least one byte and at most `length` bytes from `offset` on, each verified; none at the end only.
    ///
    /// # Errors
    /// [`BackupError::Damaged`](crate::BackupError::Damaged); those of the store.
    fn read_at(&self, offset: u64, length: usize) -> BackupResult<Bytes>;

    /// The next stretch that is not a hole at or after `offset`; `None` if only a hole follows.
    ///
    /// # Errors
    /// Those of the store.
    fn next_data(&self, offset: u64) -> BackupResult<Option<Range<u64>>>;

    /// Compares the stretch that begins at `offset` with the bytes at the same place of `there`, without
    /// reading it from the store: by the names of its chunks. `None` where only reading both tells.
    ///
    /// # Errors
    /// Those of the store. What cannot be read of `there` is another's.
    fn beside(&self, _offset: u64, _there: &File) -> BackupResult<Option<Beside>> {
        Ok(None)
    }
}

/// A stretch of data, beside what another file has at the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beside {
    /// These bytes, at least one, were read from the other file, and are those of the data.
    Same(Bytes),
    /// So many bytes, at least one, are others.
    Other(u64),
}

/// Where a page of a directory begins.
enum After<'a> {
    /// Behind this name.
    Name(&'a [u8]),
    /// At its first entry.
    All,
    /// Nowhere: all of the directory is before.
    Nothing,
}

/// Where the page of `directory` behind the path `after` begins.
fn name_after<'a>(directory: &RelPath, after: &'a RelPath) -> After<'a> {
    let (mut names, mut rest) = (directory.components(), after.components());
    loop {
        match (names.next(), rest.next()) {
            (None, None) => return After::All,
            // What is deeper in a child comes before the next child.
            (None, Some(name)) => return After::Name(name),
            (Some(_), None) => return After::All,
            (Some(name), Some(other)) if name < other => return After::Nothing,
            (Some(name), Some(other)) if name > other => return After::All,
            (Some(_), Some(_)) => {}
        }
    }
}

/// Whether a path is of something in this directory, at any depth.
fn is_beneath(path: &RelPath, directory: &RelPath) -> bool {
    if directory.is_root() {
        return !path.is_root();
    }
    path.as_bytes().strip_prefix(directory.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// The path in the tree of what has `path` below `top`.
fn beneath(top: &RelPath, path: &RelPath) -> BackupResult<RelPath> {
    if top.is_root() {
        return Ok(path.clone());
    }
    if path.is_root() {
        return Ok(top.clone());
    }
    let mut bytes = top.as_bytes().to_vec();
    bytes.push(b'/');
    bytes.extend_from_slice(path.as_bytes());
    Ok(RelPath::new(bytes).map_err(TreeError::from)?)
}

/// How many of `length` bytes there are at `offset` of so many.
fn clamp(size: u64, offset: u64, length: usize) -> usize {
    usize::try_from(size.saturating_sub(offset)).map_or(length, |left| left.min(length))
}
