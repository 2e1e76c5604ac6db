//! The directories between the root of a tree and where a traversal is.
//!
//! Each level keeps one name, and whatever its user wants kept with it. Only the root and the deepest levels
//! keep their directory open: the limit on open files does not limit the depth of a tree. A level that was
//! closed is opened again by way of `..`, or down from the root, and only if it is the same inode as before:
//! if somebody moved it away meanwhile, what it still held is gone from this tree.

use std::io;
use std::sync::Arc;

use crate::dir::{Dir, NodeId};
use crate::path::{RelPath, common_prefix};

/// How many levels stay open beside the root.
pub(crate) const OPEN_LEVELS: usize = 48;

#[derive(Debug)]
struct Level<T> {
    /// Where in the path of the stack the path of this level ends.
    end: usize,
    id: NodeId,
    dir: Option<Arc<Dir>>,
    /// Whether `dir` is not the one that was entered with, but the same directory opened again.
    reopened: bool,
    with: T,
}

/// A way down a tree, from its root.
#[derive(Debug)]
pub(crate) struct DirStack<T> {
    root: Arc<Dir>,
    /// The path of the deepest level.
    path: Vec<u8>,
    /// Below the root, from the top down.
    levels: Vec<Level<T>>,
    /// What is kept with the root; none once the root was left.
    with: Option<T>,
}

impl<T> DirStack<T> {
    pub(crate) fn new(root: Arc<Dir>, with: T) -> Self {
        Self { root, path: Vec::new(), levels: Vec::new(), with: Some(with) }
    }

    pub(crate) fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    /// How many directories are between the root and the deepest level, which counts.
    pub(crate) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The path of the deepest level.
    pub(crate) fn path(&self) -> RelPath {
        RelPath::trusted(self.path.clone())
    }

    /// The path of `name` in the deepest level.
    pub(crate) fn path_of(&self, name: &[u8]) -> RelPath {
        let mut path = Vec::with_capacity(self.length_with(name));
        path.extend_from_slice(&self.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        RelPath::trusted(path)
    }

    /// How many bytes the path of `name` in the deepest level has.
    pub(crate) fn length_with(&self, name: &[u8]) -> usize {
        self.path.len() + usize::from(!self.path.is_empty()) + name.len()
    }

    /// What is kept with the deepest level; none once the root was left.
    pub(crate) fn top(&mut self) -> Option<&mut T> {
        self.levels.last_mut().map(|level| &mut level.with).or(self.with.as_mut())
    }

    /// Goes into `dir`, which is `name` in the deepest level.
    pub(crate) fn enter(&mut self, name: &[u8], dir: Arc<Dir>, with: T) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        self.levels.push(Level { end: self.path.len(), id: dir.id(), dir: Some(dir), reopened: false, with });
        if let Some(closing) = self.levels.len().checked_sub(OPEN_LEVELS + 1)
            && let Some(level) = self.levels.get_mut(closing)
        {
            level.dir = None;
        }
    }

    /// Whether the directory of the deepest level was closed meanwhile: a listing of it begins anew.
    pub(crate) fn reopened(&self) -> bool {
        self.levels.last().is_some_and(|level| level.reopened)
    }

    /// The open directory of the deepest level.
    pub(crate) fn top_dir(&mut self) -> io::Result<Arc<Dir>> {
        let Some(level) = self.levels.last() else {
            return Ok(Arc::clone(&self.root));
        };
        if let Some(dir) = &level.dir {
            return Ok(Arc::clone(dir));
        }
        let dir = Arc::new(self.descend(level.id)?);
        if let Some(level) = self.levels.last_mut() {
            (level.dir, level.reopened) = (Some(Arc::clone(&dir)), true);
        }
        Ok(dir)
    }

    /// Leaves the deepest level: its directory as far as it was open, and its name. The root has no name;
    /// once it is left the way has ended.
    pub(crate) fn leave(&mut self) -> Option<(Option<Arc<Dir>>, Vec<u8>)> {
        let Some(gone) = self.levels.pop() else {
            self.with = None;
            return None;
        };
        if let Some(level) = self.levels.last_mut()
            && level.dir.is_none()
            && let Some(child) = &gone.dir
            && let Ok(parent) = child.open_parent()
            && parent.id() == level.id
        {
            (level.dir, level.reopened) = (Some(Arc::new(parent)), true);
        }
        let end = self.levels.last().map_or(0, |level| level.end);
        let name = self.path.split_off(end);
        let name = name.strip_prefix(b"/").map(<[u8]>::to_vec).unwrap_or(name);
        Some((gone.dir, name))
    }

    /// Leaves everything: the way has ended.
    pub(crate) fn end(&mut self) {
        self.levels.clear();
        self.path.clear();
        self.with = None;
    }

    fn descend(&self, expected: NodeId) -> io::Result<Dir> {
        let mut at: Option<Dir> = None;
        for name in self.path.split(|byte| *byte == b'/') {
            at = Some(at.as_ref().unwrap_or(&self.root).open_dir(name)?);
        }
        match at {
            Some(dir) if dir.id() == expected => Ok(dir),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "the directory was moved away meanwhile")),
        }
    }
}

impl DirStack<()> {
    /// Goes to the directory at `path`, from where it is: quick for places close to each other, at any depth.
    pub(crate) fn go(&mut self, path: &RelPath) -> io::Result<Arc<Dir>> {
        let to = path.as_bytes();
        let same = common_prefix(&self.path, to);
        let on_the_way = |end: usize| end <= same && (end == to.len() || to.get(end) == Some(&b'/'));
        let keep = self.levels.partition_point(|level| on_the_way(level.end));
        if self.levels.len() - keep > keep {
            // Down from the root is shorter than up from here.
            self.levels.truncate(keep);
            self.path.truncate(self.levels.last().map_or(0, |level| level.end));
        }
        while self.levels.len() > keep {
            self.leave();
        }
        let rest = to.get(self.path.len()..).unwrap_or_default();
        for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let dir = Arc::new(self.top_dir()?.open_dir(name)?);
            self.enter(name, dir, ());
        }
        self.top_dir()
    }
}
