//! Walks the manifest of a tree: segments stream through, a few ahead, and are not kept.

use std::ops::ControlFlow;

use convoy_tree::RelPath;

use super::tree::{ContentHasher, Tree};
use super::{Node, Visit, Visitor, is_beneath};
use crate::engine::segments::{Items, Segments};
use crate::error::BackupResult;
use crate::format::segment::{Item, ItemKind};

/// A file whose pieces are still coming.
struct Pending {
    node: Node,
    hasher: ContentHasher,
}

/// The directories that the walk is in.
#[derive(Default)]
struct Way {
    path: Vec<u8>,
    /// Where the path of each of them ends.
    ends: Vec<usize>,
}

impl Way {
    /// Leaves directories until `path` is in the last one; false if it is in none of them.
    fn leads_to(&mut self, path: &RelPath) -> bool {
        let bytes = path.as_bytes();
        let parent = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        while self.ends.last().is_some_and(|end| *end > parent) {
            self.ends.pop();
        }
        let end = self.ends.last().copied();
        self.path.truncate(end.unwrap_or(0));
        end == Some(parent) && bytes.get(..parent) == Some(&*self.path)
    }

    fn enter(&mut self, path: &RelPath) {
        self.path.clear();
        self.path.extend_from_slice(path.as_bytes());
        self.ends.push(self.path.len());
    }
}

/// What comes next.
enum Next {
    Goes,
    /// Behind everything in this directory.
    Behind(RelPath),
    Ends,
}

struct Walk<'a, 'v> {
    tree: &'a Tree,
    visit: Visitor<'v>,
    way: Way,
    pending: Option<Pending>,
}

impl Walk<'_, '_> {
    /// Visits the file before, which is whole now.
    fn flush(&mut self) -> BackupResult<ControlFlow<()>> {
        let Some(Pending { mut node, hasher }) = self.pending.take() else {
            return Ok(ControlFlow::Continue(()));
        };
        node.content = Some(hasher.finish(node.entry.size));
        Ok(match (self.visit)(node)? {
            ControlFlow::Break(()) => ControlFlow::Break(()),
            ControlFlow::Continue(_) => ControlFlow::Continue(()),
        })
    }

    fn item(&mut self, item: Item, top: &RelPath) -> BackupResult<Next> {
        if item.kind == ItemKind::Continued {
            if let Some(pending) = &mut self.pending {
                pending.hasher.add(&item.pieces);
                return Ok(Next::Goes);
            }
            return Err(self.tree.manifest.damaged("it continues a file that it does not have"));
        }
        if self.flush()?.is_break() || !(item.path == *top || is_beneath(&item.path, top)) {
            return Ok(Next::Ends);
        }
        if item.path != *top && !self.way.leads_to(&item.path) {
            let path = item.path.shown();
            return Err(self.tree.manifest.damaged(format_args!("{path} is in no directory")));
        }
        if let ItemKind::HardLink { first } = &item.kind {
            // What it is, is written with the first name.
            return self.visit(self.tree.linked(&item.path, first)?);
        }
        let Some(entry) = item.entry() else { return Ok(Next::Goes) };
        let node = Node { entry, first_name: None, content: None };
        if node.entry.is_file() {
            let mut hasher = ContentHasher::default();
            hasher.add(&item.pieces);
            self.pending = Some(Pending { node, hasher });
            return Ok(Next::Goes);
        }
        if node.entry.is_dir() {
            self.way.enter(&item.path);
        }
        self.visit(node)
    }

    fn visit(&mut self, node: Node) -> BackupResult<Next> {
        let path = node.entry.is_dir().then(|| node.entry.path.clone());
        Ok(match ((self.visit)(node)?, path) {
            (ControlFlow::Break(()), _) => Next::Ends,
            (ControlFlow::Continue(Visit::SkipChildren), Some(path)) => Next::Behind(path),
            (ControlFlow::Continue(_), _) => Next::Goes,
        })
    }
}

/// Walks the directory `top`, which is in segment `from`. What is passed over is not read, but for the
/// stretch that is under way.
pub(super) fn walk(tree: &Tree, from: usize, top: &RelPath, visit: Visitor<'_>) -> BackupResult<()> {
    let manifest = &tree.manifest;
    let (ctx, count) = (&manifest.chunks.ctx, manifest.count());
    let within = |path: &RelPath| path <= top || is_beneath(path, top);
    let end = if top.is_root() {
        count
    } else {
        manifest.search(from, &within)?.map_or(count, |place| place.segment + 1)
    };
    let stream = |from: usize, path: Option<RelPath>| {
        let segments = Segments::new(ctx, &manifest.moves, &manifest.root)?.within(from..end);
        Ok::<_, crate::error::BackupError>(Items::behind(segments, path))
    };
    let mut walk = Walk { tree, visit, way: Way::default(), pending: None };
    let (mut begin, mut items) = (from, stream(from, None)?);
    let mut skip: Option<RelPath> = None;
    let mut started = false;
    loop {
        if let Some(directory) = &skip
            && let (taken, true) = items.taken()
        {
            // It goes on in segments that need not be read.
            let number = begin + taken;
            let behind = if number < end {
                manifest.search(number, &|path| path <= directory || is_beneath(path, directory))?
            } else {
                None
            };
            let Some(behind) = behind else { break };
            if behind.segment > number {
                (begin, items) = (behind.segment, stream(behind.segment, Some(directory.clone()))?);
            }
        }
        let Some(item) = items.next() else { break };
        let item = item?;
        if !started {
            started = item.kind != ItemKind::Continued && item.path == *top;
            if !started {
                continue;
            }
        }
        if let Some(directory) = &skip {
            if item.kind == ItemKind::Continued || is_beneath(&item.path, directory) {
                continue;
            }
            skip = None;
        }
        match walk.item(item, top)? {
            Next::Goes => {}
            Next::Behind(path) => skip = Some(path),
            Next::Ends => return Ok(()),
        }
    }
    walk.flush().map(drop)
}
