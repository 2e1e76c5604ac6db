//! Reads the segments of a manifest one after the other, a few ahead.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use convoy_objectstore::StoreError;
use tokio::task::JoinHandle;

use super::ctx::Ctx;
use super::relocations::Relocations;
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::Decoder;
use crate::format::manifest::Root;
use crate::format::segment::{Item, ItemKind, Segment};
use crate::format::wire::Piece;
use crate::format::{ChunkRef, PackId};
use crate::memory::{Charge, Memory};
use convoy_tree::RelPath;

/// Bytes read with one request.
const STRETCH: u64 = 4 << 20;
/// Requests ahead of what is needed.
const AHEAD: usize = 2;

/// Segments that lie one after the other in a pack.
struct Stretch {
    pack: PackId,
    start: u64,
    end: u64,
    chunks: Vec<ChunkRef>,
}

/// See the [module](self).
pub(crate) struct Segments<'a> {
    ctx: &'a Ctx,
    moves: &'a Relocations,
    /// Those that are in no stretch yet.
    rest: std::slice::Iter<'a, Piece>,
    backup: &'a str,
    reading: VecDeque<(Stretch, JoinHandle<Result<Bytes, StoreError>>)>,
    current: Option<(Stretch, Bytes, usize)>,
    decoder: Decoder,
    /// For the segment that was given last.
    charge: Charge,
}

impl<'a> Segments<'a> {
    pub(crate) fn new(ctx: &'a Ctx, moves: &'a Relocations, root: &'a Root) -> BackupResult<Self> {
        Self::of(ctx, moves, &root.backup, &root.segments)
    }

    /// Some of the segments of a backup.
    pub(crate) fn of(
        ctx: &'a Ctx,
        moves: &'a Relocations,
        backup: &'a str,
        segments: &'a [Piece],
    ) -> BackupResult<Self> {
        Ok(Self {
            ctx,
            moves,
            rest: segments.iter(),
            backup,
            reading: VecDeque::new(),
            current: None,
            decoder: ctx.decoder()?,
            charge: ctx.memory.charge(),
        })
    }

    /// Only those with these numbers.
    pub(crate) fn within(mut self, numbers: std::ops::Range<usize>) -> Self {
        self.rest = self.rest.as_slice().get(numbers).unwrap_or_default().iter();
        self
    }

    /// The next segments that one request reads.
    fn next_stretch(&mut self) -> BackupResult<Option<Stretch>> {
        let mut stretch: Option<Stretch> = None;
        while let Some((_, chunk)) = self.rest.as_slice().first() {
            let mut chunk = *chunk;
            self.moves.resolve(&mut chunk)?;
            let start = u64::from(chunk.place.offset);
            let end = start + u64::from(chunk.place.stored);
            match &mut stretch {
                None => {
                    stretch = Some(Stretch { pack: chunk.place.pack, start, end, chunks: vec![chunk] });
                }
                Some(last)
                    if last.pack == chunk.place.pack && last.end == start && end - last.start <= STRETCH =>
                {
                    last.end = end;
                    last.chunks.push(chunk);
                }
                Some(_) => break,
            }
            self.rest.next();
        }
        Ok(stretch)
    }

    /// The next segment. The memory it takes is charged until the one after it is asked for.
    fn next_segment(&mut self) -> BackupResult<Option<Segment>> {
        loop {
            while self.reading.len() < AHEAD
                && let Some(stretch) = self.next_stretch()?
            {
                let reading =
                    self.ctx.read_ahead(self.ctx.pack_key(stretch.pack), stretch.start..stretch.end);
                self.reading.push_back((stretch, reading));
            }
            if let Some((stretch, bytes, next)) = &mut self.current
                && let Some(chunk) = stretch.chunks.get(*next)
            {
                *next += 1;
                let from =
                    usize::try_from(u64::from(chunk.place.offset) - stretch.start).unwrap_or(usize::MAX);
                let to = from.saturating_add(usize::try_from(chunk.place.stored).unwrap_or(usize::MAX));
                let key = self.ctx.pack_key(chunk.place.pack);
                let stored =
                    bytes.get(from..to).ok_or_else(|| BackupError::damaged(&key, "it is too short"))?;
                self.charge.clear();
                let plain = self.ctx.decode(&mut self.decoder, chunk, stored)?;
                let mut segment = Segment::parse(&key, plain, &mut self.charge)?;
                resolve(self.moves, &mut segment)?;
                return Ok(Some(segment));
            }
            let Some((stretch, reading)) = self.reading.pop_front() else { return Ok(None) };
            let bytes = self.ctx.wait_for(reading).map_err(|error| match error {
                BackupError::Store(error @ (StoreError::NotFound { .. } | StoreError::Truncated { .. })) => {
                    BackupError::damaged(self.ctx.pack_key(stretch.pack), error)
                }
                other => other,
            })?;
            self.current = Some((stretch, bytes, 0));
        }
    }

    /// What is wrong with what the segments say together.
    fn damaged(&self, why: impl std::fmt::Display) -> BackupError {
        let key = format!("{} (manifest of backup {})", self.ctx.volume.manifests(), self.backup);
        BackupError::damaged(key, why)
    }
}

/// Looks up where the chunks of a segment are now.
pub(crate) fn resolve(moves: &Relocations, segment: &mut Segment) -> BackupResult<()> {
    match segment {
        Segment::Tree(items) => {
            items.iter_mut().flat_map(|i| &mut i.pieces).try_for_each(|(_, c)| moves.resolve(c))
        }
        Segment::Blocks(pieces) => pieces.iter_mut().try_for_each(|(_, c)| moves.resolve(c)),
    }
}

/// Where the next piece of a file or device may begin: they are in order, do not overlap, and lie before its
/// end.
#[derive(Debug, Default)]
pub(crate) struct Order {
    next: u64,
    size: u64,
}

impl Order {
    /// For what has so many bytes.
    pub(crate) fn new(size: u64) -> Self {
        Self { next: 0, size }
    }

    /// Whether what was taken goes to the end.
    pub(crate) fn full(&self) -> bool {
        self.next >= self.size
    }

    /// Whether these may follow.
    pub(crate) fn take(&mut self, pieces: &[Piece]) -> bool {
        pieces.iter().all(|(at, chunk)| {
            let fits = *at >= self.next;
            // No sum is too large: that was looked at when the reference was read.
            self.next = at.saturating_add(chunk.len.into());
            fits && self.next <= self.size
        })
    }
}

impl Iterator for Segments<'_> {
    type Item = BackupResult<Segment>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_segment().transpose()
    }
}

/// The items of a tree's manifest, one after the other. They are in the order of a walk, and so is the data
/// in files: what is not could go on for ever.
pub(crate) struct Items<'a> {
    segments: Segments<'a>,
    ready: std::vec::IntoIter<Item>,
    /// The path before; `None` at the beginning.
    path: Option<RelPath>,
    order: Order,
    /// How many segments were taken.
    taken: usize,
}

impl<'a> Items<'a> {
    pub(crate) fn new(segments: Segments<'a>) -> Self {
        Self { segments, ready: Vec::new().into_iter(), path: None, order: Order::default(), taken: 0 }
    }

    /// Items of segments in the middle, which may begin with what continues a file, behind the path `path`.
    pub(crate) fn behind(segments: Segments<'a>, path: Option<RelPath>) -> Self {
        Self { path, order: Order::new(u64::MAX), ..Self::new(segments) }
    }

    /// How many segments were taken, and whether the last of them has ended.
    pub(crate) fn taken(&self) -> (usize, bool) {
        (self.taken, self.ready.as_slice().is_empty())
    }

    fn check(&mut self, item: Item) -> BackupResult<Item> {
        if item.kind != ItemKind::Continued {
            if self.path.as_ref().is_some_and(|before| item.path <= *before) {
                return Err(self.segments.damaged(format_args!("{} is not in order", item.path)));
            }
            self.path = Some(item.path.clone());
            self.order = Order::new(item.size);
        }
        if self.order.take(&item.pieces) {
            return Ok(item);
        }
        let path = self.path.as_ref().unwrap_or(&item.path);
        Err(self.segments.damaged(format_args!("the data of {path} overlaps, or lies beyond its end")))
    }
}

impl Iterator for Items<'_> {
    type Item = BackupResult<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.ready.next() {
                return Some(self.check(item));
            }
            match self.segments.next()? {
                Ok(Segment::Tree(items)) => {
                    self.ready = items.into_iter();
                    self.taken += 1;
                }
                Ok(Segment::Blocks(_)) => {
                    return Some(Err(self.segments.damaged("the manifest of a tree holds blocks")));
                }
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// The pieces of a device's manifest, one after the other, in order.
pub(crate) struct Blocks<'a> {
    segments: Segments<'a>,
    ready: std::vec::IntoIter<Piece>,
    order: Order,
}

impl<'a> Blocks<'a> {
    /// Those of a device of so many bytes.
    pub(crate) fn new(segments: Segments<'a>, size: u64) -> Self {
        Self { segments, ready: Vec::new().into_iter(), order: Order::new(size) }
    }
}

impl Iterator for Blocks<'_> {
    type Item = BackupResult<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(piece) = self.ready.next() {
                if self.order.take(&[piece]) {
                    return Some(Ok(piece));
                }
                return Some(Err(self.segments.damaged("its blocks overlap or lie beyond the end")));
            }
            match self.segments.next()? {
                Ok(Segment::Blocks(pieces)) => self.ready = pieces.into_iter(),
                Ok(Segment::Tree(_)) => {
                    return Some(Err(self.segments.damaged("the manifest of a device holds files")));
                }
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// The parent's manifest, read side by side with a walk in the same order.
pub(crate) struct ParentTree<'a> {
    items: std::iter::Peekable<Items<'a>>,
    memory: Arc<Memory>,
}

impl<'a> ParentTree<'a> {
    pub(crate) fn new(items: Items<'a>, memory: Arc<Memory>) -> Self {
        Self { items: items.peekable(), memory }
    }

    /// The file the parent has at this path, with all its pieces and the memory they take. Paths must be
    /// asked for in the order of a walk. `None`, too, for a file with more pieces than there is memory for.
    pub(crate) fn file(&mut self, path: &RelPath) -> BackupResult<Option<(Item, Charge)>> {
        while let Some(next) = self.items.peek() {
            let Ok(item) = next else { return self.items.next().transpose().map(|_| None) };
            let before = item.kind == ItemKind::Continued || item.path < *path;
            if !before {
                if item.path != *path || !item.is_file() {
                    return Ok(None);
                }
                return self.take_whole();
            }
            self.items.next();
        }
        Ok(None)
    }

    /// The next item, with the pieces that follow it.
    fn take_whole(&mut self) -> BackupResult<Option<(Item, Charge)>> {
        let Some(mut item) = self.items.next().transpose()? else { return Ok(None) };
        let mut charge = self.memory.charge();
        // A list that grows is moved, and has room for more.
        let mut take = |pieces: &[Piece]| charge.take(size_of_val(pieces).saturating_mul(2));
        let mut fits = take(&item.pieces);
        // An error is taken, too: a file without all of its parts is not what it was.
        while let Some(more) =
            self.items.next_if(|more| more.as_ref().map_or(true, |more| more.kind == ItemKind::Continued))
        {
            let more = more?;
            fits = fits && take(&more.pieces);
            if fits {
                item.pieces.extend(more.pieces);
            } else {
                item.pieces = Vec::new();
            }
        }
        if !fits {
            tracing::warn!(path = %item.path, "a file has more parts than there is memory for, and is read again: give more --memory");
        }
        Ok(fits.then_some((item, charge)))
    }
}
