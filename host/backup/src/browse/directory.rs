//! Browses a plain directory: a snapshot that a driver has opened, or a volume.
//!
//! Everything is opened beneath one descriptor, a component at a time and never through a link, so whoever
//! writes there cannot lead the reader elsewhere. Other file systems mounted below are not of the tree.

use std::fs::File;
use std::io;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use convoy_tree::{
    Dir, Found, Listing, Look, NodeId, RelPath, Timestamp, TreeError, Walk, WalkEntry, WalkOptions,
    data_extents,
};
use parking_lot::Mutex;

use super::{Browse, Node, READ_MAX, ReadAt, Visit, Visitor};
use crate::engine::links::Links;
use crate::error::{BackupError, BackupResult};

/// Bytes of names that are kept sorted between two pages of one directory: more than a million of usual
/// length. A larger directory is read again for each page.
const LISTING_MAX: usize = 64 << 20;

/// Browses the tree at `path`, which the caller trusts (links in it are followed); what is below it is not
/// trusted. Hard links are known in a walk only: the first name is the first one met. Nothing is held but an
/// open directory, and the names of the directory that was listed last if it has more than one page.
///
/// # Errors
/// When `path` cannot be opened as a directory.
pub fn browse_directory(path: &Path) -> BackupResult<Arc<dyn Browse>> {
    let root = Arc::new(Dir::open(path)?);
    Ok(Arc::new(Directory { place: path.display().to_string(), root, listed: Mutex::default() }))
}

/// See the [module](self).
#[derive(Debug)]
struct Directory {
    place: String,
    root: Arc<Dir>,
    listed: Mutex<Option<Arc<Listed>>>,
}

/// The names of the directory that was listed last.
#[derive(Debug)]
struct Listed {
    id: NodeId,
    changed: Timestamp,
    names: Listing,
}

fn failed(path: &RelPath, error: io::Error) -> BackupError {
    BackupError::io("read", path.shown(), error)
}

fn node(mut found: WalkEntry) -> Node {
    if found.entry.is_file() && !found.mount_point {
        // Only an open file tells its project. Without it the rest is as true.
        let _ = found.look_inside();
    }
    Node { entry: found.entry, first_name: None, content: None }
}

impl Directory {
    fn look(&self, path: &RelPath) -> BackupResult<WalkEntry> {
        match self.root.look(path)? {
            Look::Found(found) => Ok(found),
            Look::Nothing { nearest } => Err(self.nothing(path, nearest)),
        }
    }

    fn nothing(&self, path: &RelPath, nearest: RelPath) -> BackupError {
        BackupError::NoPath { place: self.place.clone(), path: path.clone(), nearest }
    }

    /// The directory at `path`; none for the mount point of another file system.
    fn directory(&self, path: &RelPath) -> BackupResult<Option<(Arc<Dir>, Timestamp)>> {
        let found = self.look(path)?;
        if !found.entry.is_dir() {
            return Err(BackupError::NotDirectory { path: path.clone(), found: found.entry.kind.describe() });
        }
        if found.mount_point {
            return Ok(None);
        }
        match self.root.descend(path)? {
            Ok(dir) => Ok(Some((dir, found.entry.ctime))),
            Err(nearest) => Err(self.nothing(path, nearest)),
        }
    }

    /// The sorted names of a directory, if they are not too many.
    fn names(&self, dir: &Dir, changed: Timestamp) -> io::Result<Option<Arc<Listed>>> {
        let last = self.listed.lock().clone();
        if let Some(listed) = last.filter(|listed| listed.id == dir.id() && listed.changed == changed) {
            return Ok(Some(listed));
        }
        let names = dir.listing(LISTING_MAX)?;
        Ok(names.map(|names| Arc::new(Listed { id: dir.id(), changed, names })))
    }

    /// Appends what stands at `name`, if it is still there.
    fn append(
        &self,
        dir: &Arc<Dir>,
        parent: &RelPath,
        name: &[u8],
        nodes: &mut Vec<Node>,
    ) -> BackupResult<()> {
        let path = parent.join(name).map_err(TreeError::from)?;
        match dir.look_at(path.clone(), name, &self.root) {
            Ok(found) => nodes.extend(found.map(node)),
            Err(error) => left_out(&path, error)?,
        }
        Ok(())
    }
}

/// Leaves out what the file system tells nobody of; any other error is one.
fn left_out(path: &RelPath, error: io::Error) -> BackupResult<()> {
    if !convoy_tree::is_refused(&error) {
        return Err(failed(path, error));
    }
    tracing::warn!(path = path.shown(), %error, "left out of a listing, since it cannot be read");
    Ok(())
}

impl Browse for Directory {
    fn stat(&self, path: &RelPath) -> BackupResult<Node> {
        self.look(path).map(node)
    }

    fn list(&self, directory: &RelPath, after: Option<&RelPath>, limit: usize) -> BackupResult<Vec<Node>> {
        let Some((dir, changed)) = self.directory(directory)? else { return Ok(Vec::new()) };
        let mut after = match after.map(|after| super::name_after(directory, after)) {
            None => None,
            Some(super::After::Name(name)) => Some(Box::<[u8]>::from(name)),
            Some(super::After::All) => None,
            Some(super::After::Nothing) => return Ok(Vec::new()),
        };
        let mut nodes = Vec::new();
        if let Some(listed) = self.names(&dir, changed).map_err(|e| failed(directory, e))? {
            let mut names = listed.names.after(after.as_deref());
            while nodes.len() < limit
                && let Some(name) = names.next()
            {
                self.append(&dir, directory, name, &mut nodes)?;
            }
            let more = names.next().is_some();
            drop(names);
            *self.listed.lock() = more.then_some(listed);
            return Ok(nodes);
        }
        while nodes.len() < limit {
            let wanted = limit - nodes.len();
            let names = dir.first_names(after.as_deref(), wanted).map_err(|e| failed(directory, e))?;
            for name in &names {
                self.append(&dir, directory, name, &mut nodes)?;
            }
            if names.len() < wanted {
                break;
            }
            after = names.into_iter().next_back();
        }
        Ok(nodes)
    }

    fn walk(&self, top: &RelPath, visit: Visitor<'_>) -> BackupResult<()> {
        let found = self.look(top)?;
        if !found.entry.is_dir() || found.mount_point {
            return visit(node(found)).map(drop);
        }
        let dir = match self.root.descend(top)? {
            Ok(dir) => dir,
            Err(nearest) => return Err(self.nothing(top, nearest)),
        };
        let mut links = Links::default();
        let mut walk = Walk::new(dir, WalkOptions::default());
        while let Some(found) = walk.next() {
            let mut node = match found? {
                Found::Entry(found) => node(found),
                // Somebody removed it: it is not there.
                Found::Vanished(_) => continue,
                Found::Refused { path, error } => {
                    left_out(&super::beneath(top, &path)?, error)?;
                    continue;
                }
            };
            node.entry.path = super::beneath(top, &node.entry.path)?;
            node.first_name = links.first_name(&node.entry);
            match visit(node)? {
                ControlFlow::Break(()) => break,
                ControlFlow::Continue(Visit::SkipChildren) => walk.skip_children(),
                ControlFlow::Continue(Visit::Continue) => {}
            }
        }
        Ok(())
    }

    fn open(&self, path: &RelPath) -> BackupResult<Box<dyn ReadAt>> {
        let found = self.look(path)?;
        let kind = found.entry.kind.describe();
        if !found.entry.is_file() || found.mount_point {
            return Err(BackupError::NotFile { path: path.clone(), found: kind });
        }
        let (file, entry) = found.open().map_err(|e| failed(path, e))?;
        Ok(Box::new(OpenFile { file, path: path.clone(), size: entry.size }))
    }
}

/// A file of a directory. Of one that becomes shorter what is no more cannot be read.
#[derive(Debug)]
struct OpenFile {
    file: File,
    path: RelPath,
    /// Bytes that it had when it was opened.
    size: u64,
}

impl ReadAt for OpenFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, length: usize) -> BackupResult<Bytes> {
        let length = super::clamp(self.size, offset, length.min(READ_MAX));
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut bytes = vec![0; length];
        let read = loop {
            match self.file.read_at(&mut bytes, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|e| failed(&self.path, e))?,
            }
        };
        if read == 0 {
            return Err(BackupError::SourceChanged { path: self.path.shown() });
        }
        bytes.truncate(read);
        Ok(bytes.into())
    }

    fn next_data(&self, offset: u64) -> BackupResult<Option<Range<u64>>> {
        data_extents(&self.file, offset..self.size).next().transpose().map_err(|e| failed(&self.path, e))
    }
}
