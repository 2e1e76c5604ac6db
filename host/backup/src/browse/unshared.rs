//! Two manifests beside each other: what segments both have says the same, and need not be read.

use std::collections::HashMap;

use convoy_tree::RelPath;

use super::stream::{Take, Wanted, stream};
use super::tree::Tree;
use super::{Browse, Node};
use crate::error::BackupResult;
use crate::format::ChunkId;

/// One of two manifests.
#[derive(Clone, Copy)]
struct Side<'a> {
    tree: &'a Tree,
    /// Numbers of the segments of the other one, by what is in them.
    other: &'a HashMap<ChunkId, usize>,
}

impl Side<'_> {
    fn count(&self) -> usize {
        self.tree.manifest.count()
    }

    /// The number of the same segment in the other manifest.
    fn same(&self, number: usize) -> Option<usize> {
        let (_, chunk) = self.tree.manifest.root.segments.get(number)?;
        self.other.get(&chunk.id).copied()
    }

    /// Whether a segment begins with the rest of a file.
    fn goes_on(&self, number: usize) -> BackupResult<bool> {
        Ok(self.tree.manifest.segment(number, 0)?.own(0) != Some(0))
    }
}

/// The segments of two manifests that have to be read to compare them.
#[derive(Debug)]
pub(crate) struct UnsharedSegments<'a> {
    trees: [&'a Tree; 2],
    numbers: [Vec<usize>; 2],
}

/// What has to be read to compare two trees; none if that is all of them.
///
/// # Errors
/// Those of the store.
pub(crate) fn unshared_segments<'a>(
    old: &'a dyn Browse,
    new: &'a dyn Browse,
) -> BackupResult<Option<UnsharedSegments<'a>>> {
    let tree = |browse: &'a dyn Browse| browse.as_any().and_then(|any| any.downcast_ref::<Tree>());
    let (Some(old), Some(new)) = (tree(old), tree(new)) else { return Ok(None) };
    let trees = [old, new];
    let ids = trees.map(|tree| {
        let segments = tree.manifest.root.segments.iter().enumerate();
        segments.map(|(number, (_, chunk))| (chunk.id, number)).collect::<HashMap<ChunkId, usize>>()
    });
    let sides = [Side { tree: old, other: &ids[1] }, Side { tree: new, other: &ids[0] }];
    let mut read = sides.map(|side| vec![false; side.count()]);
    let mut todo: Vec<(usize, usize)> = Vec::new();
    for (which, side) in sides.iter().enumerate() {
        todo.extend(
            (0..side.count()).filter(|number| side.same(*number).is_none()).map(|number| (which, number)),
        );
    }
    for (which, number) in &todo {
        mark(&mut read, *which, *number);
    }
    // A file that goes on from one segment to the next is read with both.
    while let Some((which, number)) = todo.pop() {
        let (Some(side), Some(marked)) = (sides.get(which), read.get(which)) else { continue };
        let unread = |number: usize| marked.get(number) == Some(&false);
        let before = number.checked_sub(1).filter(|before| unread(*before));
        let before = match before {
            Some(before) if side.goes_on(number)? => Some(before),
            _ => None,
        };
        let behind = Some(number + 1).filter(|behind| unread(*behind));
        let behind = match behind {
            Some(behind) if side.goes_on(behind)? => Some(behind),
            _ => None,
        };
        for more in [before, behind].into_iter().flatten() {
            let same = side.same(more);
            for (which, number) in
                [Some((which, more)), same.map(|same| (1 - which, same))].into_iter().flatten()
            {
                if mark(&mut read, which, number) {
                    todo.push((which, number));
                }
            }
        }
    }
    let numbers =
        read.map(|read| (0..read.len()).filter(|number| read.get(*number) == Some(&true)).collect());
    Ok(Some(UnsharedSegments { trees, numbers }))
}

/// Marks a segment to be read; false if it was.
fn mark(read: &mut [Vec<bool>; 2], which: usize, number: usize) -> bool {
    match read.get_mut(which).and_then(|read| read.get_mut(number)) {
        Some(read) => !std::mem::replace(read, true),
        None => false,
    }
}

impl UnsharedSegments<'_> {
    /// Visits what is wanted of the old or the new tree and may be another in the other tree.
    ///
    /// # Errors
    /// Those of the store, and what `take` fails with.
    pub(crate) fn walk(&self, new: bool, wanted: Wanted<'_>, take: Take<'_>) -> BackupResult<()> {
        let which = usize::from(new);
        match (self.trees.get(which), self.numbers.get(which)) {
            (Some(tree), Some(numbers)) => stream(tree, numbers, wanted, take, &mut |_| ()),
            _ => Ok(()),
        }
    }

    /// Whether a change of a file at this path could be one of its further names, too, in a segment that is
    /// not read: what an item of such a name has of its file is the same.
    pub(crate) fn could_hide_links(old: &Node, new: &Node) -> bool {
        let (one, other) = (&old.entry, &new.entry);
        let named =
            (one.mtime, one.mode, one.uid, one.gid) == (other.mtime, other.mode, other.uid, other.gid);
        let same = old.content == new.content
            && one.kind == other.kind
            && one.size == other.size
            && (&one.xattrs, one.flags, one.project) == (&other.xattrs, other.flags, other.project);
        !one.is_dir() && named && !same
    }
}

/// Whether a path is of `top` or of something in it.
pub(crate) fn is_of(path: &RelPath, top: &RelPath) -> bool {
    path == top || super::is_beneath(path, top)
}
