//! Streams some of the segments of a manifest: those that were not searched before, or that two manifests do
//! not share. A segment is named by what is in it, so what one says need not be asked of it again.

use std::collections::HashSet;
use std::ops::ControlFlow;

use convoy_tree::RelPath;

use super::Node;
use super::tree::{ContentHasher, Tree};
use crate::engine::segments::{Order, Segments};
use crate::error::BackupResult;
use crate::format::ChunkId;
use crate::format::segment::{Item, ItemKind, Segment};
use crate::format::wire::Piece;

/// So many segments are remembered: they take about 32 MiB.
const REMEMBERED: usize = 500_000;

/// Which segments were searched for the same thing, all of them in backups of one volume.
#[derive(Debug, Default)]
pub struct Searched(HashSet<ChunkId>);

/// Says whether something is to be visited. An error ends the work.
pub type Wanted<'a> = &'a mut dyn FnMut(&RelPath) -> BackupResult<bool>;

/// Takes one node after the other.
pub type Take<'a> = &'a mut dyn FnMut(Node) -> BackupResult<ControlFlow<()>>;

/// The file that may go on in the next item.
enum File {
    /// There is none.
    None,
    Unwanted,
    Wanted(Box<(Node, ContentHasher)>),
}

/// What a segment was like.
pub(super) struct Met {
    pub(super) number: usize,
    /// Whether what it says of what is wanted depends on no other segment.
    pub(super) alone: bool,
}

/// Visits what is wanted in the segments with these numbers, which are in order. A file that goes on beyond
/// one of them must have the rest in those that follow. `met` is told of each segment at its end.
pub(super) fn stream(
    tree: &Tree,
    numbers: &[usize],
    wanted: Wanted<'_>,
    take: Take<'_>,
    met: &mut dyn FnMut(Met),
) -> BackupResult<()> {
    let manifest = &tree.manifest;
    let all = &manifest.root.segments;
    let mut charge = manifest.chunks.ctx.memory.charge();
    charge.add(&manifest.root.backup, size_of_val(numbers) / size_of::<usize>() * size_of::<Piece>())?;
    let pieces: Vec<Piece> = numbers.iter().filter_map(|number| all.get(*number).copied()).collect();
    let mut segments = Segments::of(&manifest.chunks.ctx, &manifest.moves, &manifest.root.backup, &pieces)?;
    let mut streaming =
        Streaming { tree, wanted, take, file: File::None, before: None, order: Order::new(0) };
    let mut expected = None;
    for number in numbers {
        let Some(segment) = segments.next() else { break };
        let Segment::Tree(items) = segment? else {
            return Err(manifest.damaged("the manifest of a tree holds blocks"));
        };
        if expected != Some(*number) && streaming.flush()?.is_break() {
            return Ok(());
        }
        expected = Some(number + 1);
        let mut alone = items.first().is_some_and(|item| item.kind != ItemKind::Continued);
        for item in items {
            match streaming.item(item)? {
                (ControlFlow::Break(()), _) => return Ok(()),
                (ControlFlow::Continue(()), linked) => alone &= !linked,
            }
        }
        // Nothing can follow where a file ends. It is visited before anything else can fail.
        let full = streaming.order.full();
        if full && streaming.flush()?.is_break() {
            return Ok(());
        }
        met(Met { number: *number, alone: alone && full });
    }
    streaming.flush().map(drop)
}

struct Streaming<'a, 'v> {
    tree: &'a Tree,
    wanted: Wanted<'v>,
    take: Take<'v>,
    file: File,
    before: Option<RelPath>,
    order: Order,
}

impl Streaming<'_, '_> {
    /// Visits the file before, which is whole now.
    fn flush(&mut self) -> BackupResult<ControlFlow<()>> {
        match std::mem::replace(&mut self.file, File::None) {
            File::Wanted(file) => {
                let (mut node, hasher) = *file;
                node.content = Some(hasher.finish(node.entry.size));
                (self.take)(node)
            }
            File::None | File::Unwanted => Ok(ControlFlow::Continue(())),
        }
    }

    /// Also answers whether it is a further name that is wanted: what it tells is elsewhere.
    fn item(&mut self, item: Item) -> BackupResult<(ControlFlow<()>, bool)> {
        let manifest = &self.tree.manifest;
        let goes_on = (ControlFlow::Continue(()), false);
        if item.kind == ItemKind::Continued {
            match &mut self.file {
                File::None => return Err(manifest.damaged("it continues a file that it does not have")),
                File::Unwanted => {}
                File::Wanted(file) => file.1.add(&item.pieces),
            }
            self.fits(&item)?;
            return Ok(goes_on);
        }
        if self.flush()?.is_break() {
            return Ok((ControlFlow::Break(()), false));
        }
        if self.before.as_ref().is_some_and(|before| item.path <= *before) {
            return Err(manifest.damaged(format_args!("{} is not in order", item.path.shown())));
        }
        self.order = Order::new(item.size);
        self.fits(&item)?;
        self.before = Some(item.path.clone());
        let is_file = item.is_file();
        if !(self.wanted)(&item.path)? {
            if is_file {
                self.file = File::Unwanted;
            }
            return Ok(goes_on);
        }
        if let ItemKind::HardLink { first } = &item.kind {
            return Ok(((self.take)(self.tree.linked(&item.path, first)?)?, true));
        }
        let Some(entry) = item.entry() else { return Ok(goes_on) };
        let node = Node { entry, first_name: None, content: None };
        if !is_file {
            return Ok(((self.take)(node)?, false));
        }
        let mut hasher = ContentHasher::default();
        hasher.add(&item.pieces);
        self.file = File::Wanted(Box::new((node, hasher)));
        Ok(goes_on)
    }

    fn fits(&mut self, item: &Item) -> BackupResult<()> {
        if self.order.take(&item.pieces) {
            return Ok(());
        }
        let path = self.before.as_ref().filter(|_| item.kind == ItemKind::Continued).unwrap_or(&item.path);
        Err(self.tree.manifest.overlap(path))
    }
}

/// Visits what is wanted in the segments that were not searched yet.
pub(super) fn search(
    tree: &Tree,
    wanted: Wanted<'_>,
    searched: &mut Searched,
    visit: &mut dyn FnMut(Node) -> BackupResult<()>,
) -> BackupResult<()> {
    let segments = &tree.manifest.root.segments;
    let unknown =
        |number: &usize| segments.get(*number).is_some_and(|(_, chunk)| !searched.0.contains(&chunk.id));
    let numbers: Vec<usize> = (0..segments.len()).filter(unknown).collect();
    let mut take = |node| visit(node).map(ControlFlow::Continue);
    stream(tree, &numbers, wanted, &mut take, &mut |met| {
        if let Some((_, chunk)) = segments.get(met.number).filter(|_| met.alone)
            && searched.0.len() < REMEMBERED
        {
            searched.0.insert(chunk.id);
        }
    })
}
