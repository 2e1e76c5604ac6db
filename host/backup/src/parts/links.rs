//! Which names of the source are further names of a file that was restored already.

use std::collections::{HashMap, HashSet};

use convoy_tree::{Entry, RelPath};

use super::Selection;
use crate::engine::links::Links;

/// See the [module](self). Paths are those of the source.
#[derive(Debug, Default)]
pub(super) struct LinkedFiles {
    /// Where first names are not known from one part to the next.
    inodes: Option<Links>,
    /// By first name: the name that stands for it, where that one is not restored.
    heads: HashMap<RelPath, RelPath>,
    /// Names whose place keeps something else.
    kept: HashSet<RelPath>,
    /// Names that take the place of something else.
    changed: HashSet<RelPath>,
}

impl LinkedFiles {
    /// With `several` parts, each of which is walked by itself.
    pub(super) fn new(several: bool) -> Self {
        Self { inodes: several.then(Links::default), ..Self::default() }
    }

    /// The name, restored before, that `entry` is to be a hard link to.
    pub(super) fn head(
        &mut self,
        entry: &Entry,
        first: Option<RelPath>,
        selection: &Selection,
    ) -> Option<RelPath> {
        let first = match first {
            Some(first) => first,
            None => self.inodes.as_mut().filter(|_| entry.ino != 0)?.first_name(entry)?,
        };
        if let Some(head) = self.heads.get(&first) {
            return Some(head.clone());
        }
        if self.kept.contains(&first) || selection.leaves_out(&first, false) {
            self.heads.insert(first, entry.path.clone());
            return None;
        }
        Some(first)
    }

    /// The place of this name keeps something else: nothing is linked to it.
    pub(super) fn keep(&mut self, path: &RelPath) {
        self.heads.retain(|_, head| head != path);
        self.kept.insert(path.clone());
    }

    /// This name takes the place of something else: what was linked to that is not linked to this.
    pub(super) fn change(&mut self, path: &RelPath) {
        self.changed.insert(path.clone());
    }

    pub(super) fn is_changed(&self, path: &RelPath) -> bool {
        self.changed.contains(path)
    }
}
