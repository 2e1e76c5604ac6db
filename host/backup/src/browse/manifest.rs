//! The segments of a backup's manifest, each read when it is needed, and the search through them.
//!
//! Segments are in the order of a walk, and so are the items in each. The first path of a segment, once it
//! was seen, is remembered: what was searched for once costs no request the next time.

use std::collections::HashMap;
use std::sync::Arc;

use convoy_tree::{Kind, RelPath};
use parking_lot::Mutex;

use super::cache::Cache;
use super::chunks::Chunks;
use crate::engine::relocations::Relocations;
use crate::engine::root::LoadedRoot;
use crate::engine::segments::{Order, resolve};
use crate::error::{BackupError, BackupResult};
use crate::format::ChunkRef;
use crate::format::manifest::BackupKind;
use crate::format::segment::{Item, ItemKind, Segment};
use crate::format::wire::Piece;
use crate::memory::Charge;

/// Memory for the first path of a segment, beside its bytes.
const FIRST: usize = 160;

/// Takes a part of a file: the segment and the item that it is in, and its pieces.
pub(super) type TakePart<'a> = &'a mut dyn FnMut(usize, usize, &[Piece]) -> BackupResult<()>;

/// A segment that was read and is in order.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) segment: Segment,
    /// Which of its items are no continuations.
    own: Vec<u32>,
    _charge: Charge,
}

impl Parsed {
    pub(super) fn items(&self) -> &[Item] {
        match &self.segment {
            Segment::Tree(items) => items,
            Segment::Blocks(_) => &[],
        }
    }

    /// The pieces of an item, or of a segment of blocks.
    pub(super) fn pieces(&self, item: usize) -> &[Piece] {
        match &self.segment {
            Segment::Tree(items) => items.get(item).map_or(&[], |item| &item.pieces),
            Segment::Blocks(pieces) => pieces,
        }
    }

    pub(super) fn own(&self, number: usize) -> Option<usize> {
        self.own.get(number).and_then(|item| usize::try_from(*item).ok())
    }

    fn path_of_own(&self, item: u32) -> Option<&RelPath> {
        usize::try_from(item).ok().and_then(|item| self.items().get(item)).map(|item| &item.path)
    }

    /// How many items that are no continuations there are up to this one.
    pub(super) fn up_to(&self, index: usize) -> usize {
        self.own.partition_point(|item| usize::try_from(*item).is_ok_and(|item| item <= index))
    }

    /// The first item that is no continuation, from number `from` of them on, that is not `before`.
    pub(super) fn first_not(&self, from: usize, before: &dyn Fn(&RelPath) -> bool) -> Option<usize> {
        let rest = self.own.get(from..).unwrap_or_default();
        let passed = rest.partition_point(|item| self.path_of_own(*item).is_some_and(before));
        self.own(from + passed)
    }
}

/// An item, with the segment it is in.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) segment: usize,
    pub(super) index: usize,
    pub(super) parsed: Arc<Parsed>,
}

impl Place {
    pub(super) fn item(&self) -> Option<&Item> {
        self.parsed.items().get(self.index)
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) chunks: Arc<Chunks>,
    pub(super) moves: Relocations,
    pub(super) root: LoadedRoot,
    segments: Cache<usize, Arc<Parsed>>,
    firsts: Mutex<(HashMap<usize, Option<RelPath>>, Charge)>,
}

impl Manifest {
    /// `kept` bytes of segments are kept.
    pub(super) fn new(chunks: Arc<Chunks>, moves: Relocations, root: LoadedRoot, kept: usize) -> Self {
        let charge = chunks.ctx.memory.charge();
        Self { chunks, moves, root, segments: Cache::new(kept), firsts: Mutex::new((HashMap::new(), charge)) }
    }

    /// How many segments there are.
    pub(super) fn count(&self) -> usize {
        self.root.segments.len()
    }

    /// What is wrong with what the segments say.
    pub(super) fn damaged(&self, why: impl std::fmt::Display) -> BackupError {
        let manifests = self.chunks.ctx.volume.manifests();
        BackupError::damaged(format!("{manifests} (manifest of backup {})", self.root.backup), why)
    }

    /// Where the chunk of a segment is now.
    fn chunk(&self, number: usize) -> BackupResult<Option<ChunkRef>> {
        let Some((_, chunk)) = self.root.segments.get(number) else { return Ok(None) };
        let mut chunk = *chunk;
        self.moves.resolve(&mut chunk)?;
        Ok(Some(chunk))
    }

    /// A segment. Up to `ahead` that follow come with the same request if they lie beside it.
    pub(super) fn segment(&self, number: usize, ahead: usize) -> BackupResult<Arc<Parsed>> {
        self.segments.get(number, &self.chunks.ctx, || {
            let chunk = self.chunk(number)?.ok_or_else(|| self.damaged("a segment is missing"))?;
            let mut next = (number + 1..=number.saturating_add(ahead))
                .map_while(|number| self.chunk(number).ok().flatten());
            let plain = self.chunks.get(&chunk, &mut next)?;
            let key = self.chunks.ctx.pack_key(chunk.place.pack);
            let parsed = match self.parse(number, &key, &plain) {
                Err(BackupError::Memory { .. }) => {
                    // There is as much as for a restore when nothing is cached.
                    self.segments.clear();
                    self.chunks.clear();
                    self.parse(number, &key, &plain)?
                }
                other => other?,
            };
            Ok((Arc::new(parsed.0), parsed.1))
        })
    }

    /// Reads a segment and checks it; gives what it weighs, too.
    fn parse(&self, number: usize, key: &str, plain: &[u8]) -> BackupResult<(Parsed, usize)> {
        let mut charge = self.chunks.ctx.memory.charge();
        let mut segment = Segment::parse(key, plain, &mut charge)?;
        resolve(&self.moves, &mut segment)?;
        let mut own = Vec::new();
        let mut weight = size_of::<Parsed>();
        match (&segment, self.root.kind) {
            (Segment::Tree(items), BackupKind::Tree) => {
                own = self.check_items(number, items)?;
                weight += size_of_val(&*own);
                weight += items.iter().map(|item| item.weight() + size_of_val(&*item.pieces)).sum::<usize>();
            }
            (Segment::Blocks(pieces), BackupKind::Block) => {
                self.check_blocks(number, pieces)?;
                weight += size_of_val(&**pieces);
            }
            (Segment::Blocks(_), BackupKind::Tree) => {
                return Err(self.damaged("the manifest of a tree holds blocks"));
            }
            (Segment::Tree(_), BackupKind::Block) => {
                return Err(self.damaged("the manifest of a device holds files"));
            }
        }
        charge.keep(weight);
        Ok((Parsed { segment, own, _charge: charge }, weight))
    }

    /// Items must be in order, and so must the data of each; gives which are no continuations.
    fn check_items(&self, number: usize, items: &[Item]) -> BackupResult<Vec<u32>> {
        let mut own = Vec::new();
        let mut before: Option<&RelPath> = None;
        // What is continued here began in another segment, which says how large it is.
        let mut order = Order::new(u64::MAX);
        for (index, item) in items.iter().enumerate() {
            if item.kind != ItemKind::Continued {
                if before.is_some_and(|before| item.path <= *before) {
                    return Err(self.damaged(format_args!("{} is not in order", item.path.shown())));
                }
                before = Some(&item.path);
                order = Order::new(item.size);
                own.push(u32::try_from(index).unwrap_or(u32::MAX));
            }
            if !order.take(&item.pieces) {
                return Err(self.overlap(before.unwrap_or(&item.path)));
            }
        }
        let is_root = |item: &Item| item.path.is_root() && item.kind == ItemKind::Own(Kind::Dir);
        if number == 0 && !items.first().is_some_and(is_root) {
            return Err(self.damaged("its first entry is not the root directory"));
        }
        Ok(own)
    }

    pub(super) fn overlap(&self, path: &RelPath) -> BackupError {
        self.damaged(format_args!("the data of {} overlaps, or lies beyond its end", path.shown()))
    }

    /// Blocks must be in order, and lie where the root says that their segment does.
    fn check_blocks(&self, number: usize, pieces: &[Piece]) -> BackupResult<()> {
        let start = |number: usize| self.root.segments.get(number).map(|(at, _)| *at);
        let end = start(number + 1).unwrap_or(self.root.size).min(self.root.size);
        let begins = pieces.first().is_none_or(|(at, _)| start(number).is_some_and(|start| *at >= start));
        if begins && Order::new(end).take(pieces) {
            return Ok(());
        }
        Err(self.damaged("its blocks overlap or lie beyond the end"))
    }

    /// The first path in a segment; none in one that only continues a file.
    pub(super) fn first_path(&self, number: usize) -> BackupResult<Option<RelPath>> {
        if let Some(known) = self.firsts.lock().0.get(&number) {
            return Ok(known.clone());
        }
        let parsed = self.segment(number, 0)?;
        let path = parsed.own.first().and_then(|item| parsed.path_of_own(*item)).cloned();
        let mut firsts = self.firsts.lock();
        let bytes = FIRST + path.as_ref().map_or(0, |path| path.as_bytes().len());
        if !firsts.0.contains_key(&number) && firsts.1.take(bytes) {
            firsts.0.insert(number, path.clone());
        }
        Ok(path)
    }

    /// Tells the pieces of a file, part by part, with the segment and the item each part is in. False if they
    /// go on beyond `most` further segments.
    pub(super) fn each_part(&self, file: &Place, most: usize, take: TakePart<'_>) -> BackupResult<bool> {
        let Some(first) = file.item() else { return Ok(true) };
        let mut order = Order::new(first.size);
        let (mut number, mut index, mut parsed) = (file.segment, file.index, Arc::clone(&file.parsed));
        loop {
            let pieces = parsed.pieces(index);
            if !order.take(pieces) {
                return Err(self.overlap(&first.path));
            }
            take(number, index, pieces)?;
            // Nothing can follow where the file ends.
            if order.full() {
                return Ok(true);
            }
            index += 1;
            while index >= parsed.items().len() {
                (number, index) = (number + 1, 0);
                if number >= self.count() {
                    return Ok(true);
                }
                if number - file.segment > most {
                    return Ok(false);
                }
                parsed = self.segment(number, 0)?;
            }
            if parsed.items().get(index).is_none_or(|item| item.kind != ItemKind::Continued) {
                return Ok(true);
            }
        }
    }
}
