//! The directories between the root of a tree and where a traversal is.
//!
//! Each level keeps the names still to visit. Only the root and the deepest levels keep their directory open: the limit on
//! open files does not limit the depth of a tree. A level that was closed is opened again by way of `..`, or down from the
//! root, and only if it is the same inode as before: if somebody moved it away meanwhile, what it still held is gone from
//! this tree.

use std::io;
use std::sync::Arc;

use crate::dir::{Dir, Names, NodeId};
use crate::path::RelPath;

/// How many levels stay open beside the root.
const OPEN_LEVELS: usize = 48;

#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) path: RelPath,
    pub(crate) names: Names,
    id: NodeId,
    dir: Option<Arc<Dir>>,
}

#[derive(Debug)]
pub(crate) struct DirStack {
    root: Arc<Dir>,
    levels: Vec<Level>,
}

impl DirStack {
    pub(crate) fn new(root: Arc<Dir>) -> Self {
        Self { root, levels: Vec::new() }
    }

    pub(crate) fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    pub(crate) fn top(&mut self) -> Option<&mut Level> {
        self.levels.last_mut()
    }

    pub(crate) fn push(&mut self, path: RelPath, dir: Arc<Dir>, names: Names) {
        self.levels.push(Level { path, names, id: dir.id(), dir: Some(dir) });
        if let Some(closing) = self.levels.len().checked_sub(OPEN_LEVELS + 1)
            && let Some(level) = self.levels.get_mut(closing)
        {
            level.dir = None;
        }
    }

    /// The open directory of the deepest level.
    pub(crate) fn top_dir(&mut self) -> io::Result<Arc<Dir>> {
        let Some(level) = self.levels.last() else {
            return Ok(Arc::clone(&self.root));
        };
        if let Some(dir) = &level.dir {
            return Ok(Arc::clone(dir));
        }
        let dir = Arc::new(self.descend(&level.path, level.id)?);
        if let Some(level) = self.levels.last_mut() {
            level.dir = Some(Arc::clone(&dir));
        }
        Ok(dir)
    }

    /// Leaves the deepest level.
    pub(crate) fn pop(&mut self) -> Option<Level> {
        let gone = self.levels.pop()?;
        if let Some(level) = self.levels.last_mut()
            && level.dir.is_none()
            && let Some(child) = &gone.dir
            && let Ok(parent) = child.open_parent()
            && parent.id() == level.id
        {
            level.dir = Some(Arc::new(parent));
        }
        Some(gone)
    }

    fn descend(&self, path: &RelPath, expected: NodeId) -> io::Result<Dir> {
        let mut at: Option<Dir> = None;
        for name in path.components() {
            at = Some(at.as_ref().unwrap_or(&self.root).open_dir(name)?);
        }
        match at {
            Some(dir) if dir.id() == expected => Ok(dir),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "the directory was moved away meanwhile")),
        }
    }
}
