//! Reads the segments of a manifest one after the other, a few ahead.

use std::collections::VecDeque;

use bytes::Bytes;
use convoy_objectstore::StoreError;
use tokio::task::JoinHandle;

use super::ctx::Ctx;
use super::moves::Moves;
use super::trust;
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::Decoder;
use crate::format::manifest::{ROOT_MAX, Root};
use crate::format::segment::{Item, ItemKind, Segment};
use crate::format::{ChunkRef, PackId};
use crate::record::BackupRecord;

use crate::format::wire::Piece;
use crate::layout::parse_run;
use convoy_tree::RelPath;

/// Bytes read with one request.
const STRETCH: u64 = 4 << 20;
/// What is wrong with a manifest that is another than its record says.
pub(crate) const WRONG_CHECKSUM: &str =
    "its content does not have the checksum that the backup's record gives";
/// Requests ahead of what is needed.
const AHEAD: usize = 2;

/// Loads the root of a backup's manifest, checked against its record.
pub(crate) fn load_root(ctx: &Ctx, record: &BackupRecord) -> BackupResult<Root> {
    let key_of_record = ctx.volume.backup(&record.name)?;
    let damaged = |why: &str| BackupError::damaged(key_of_record.clone(), why);
    let manifest = record.manifest.as_ref().ok_or_else(|| damaged("it names no manifest"))?;
    let run = parse_run(&manifest.run).ok_or_else(|| damaged("it names no proper run"))?;
    let key = ctx.volume.manifest(run);
    let bytes = ctx.call(ctx.store.get(&key, ROOT_MAX as u64))?;
    if blake3::hash(&bytes).to_hex().as_str() != manifest.blake3 {
        return Err(BackupError::damaged(key, WRONG_CHECKSUM));
    }
    let root = Root::parse(&key, &bytes, ctx.volume.name(), &record.name, &ctx.crypt)?;
    trust::check_root(&ctx.volume, record, &root)?;
    Ok(root)
}

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
    moves: &'a Moves,
    stretches: VecDeque<Stretch>,
    reading: VecDeque<(Stretch, JoinHandle<Result<Bytes, StoreError>>)>,
    current: Option<(Stretch, Bytes, usize)>,
    decoder: Decoder,
}

impl<'a> Segments<'a> {
    pub(crate) fn new(ctx: &'a Ctx, moves: &'a Moves, root: &Root) -> BackupResult<Self> {
        let mut stretches: VecDeque<Stretch> = VecDeque::new();
        for (_, chunk) in &root.segments {
            let mut chunk = *chunk;
            moves.resolve(&mut chunk)?;
            let (start, end) = (
                u64::from(chunk.place.offset),
                u64::from(chunk.place.offset) + u64::from(chunk.place.stored),
            );
            match stretches.back_mut() {
                Some(last)
                    if last.pack == chunk.place.pack && last.end == start && end - last.start <= STRETCH =>
                {
                    last.end = end;
                    last.chunks.push(chunk);
                }
                _ => stretches.push_back(Stretch { pack: chunk.place.pack, start, end, chunks: vec![chunk] }),
            }
        }
        Ok(Self { ctx, moves, stretches, reading: VecDeque::new(), current: None, decoder: ctx.decoder()? })
    }

    fn next_segment(&mut self) -> BackupResult<Option<Segment>> {
        loop {
            while self.reading.len() < AHEAD
                && let Some(stretch) = self.stretches.pop_front()
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
                let plain = self.ctx.decode(&mut self.decoder, chunk, stored)?;
                let mut segment = Segment::parse(&key, plain)?;
                self.resolve(&mut segment)?;
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

    fn resolve(&self, segment: &mut Segment) -> BackupResult<()> {
        match segment {
            Segment::Tree(items) => {
                items.iter_mut().flat_map(|i| &mut i.pieces).try_for_each(|(_, c)| self.moves.resolve(c))
            }
            Segment::Blocks(pieces) => pieces.iter_mut().try_for_each(|(_, c)| self.moves.resolve(c)),
        }
    }
}

impl Iterator for Segments<'_> {
    type Item = BackupResult<Segment>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_segment().transpose()
    }
}

/// The items of a tree's manifest, one after the other.
pub(crate) struct Items<'a> {
    segments: Segments<'a>,
    ready: std::vec::IntoIter<Item>,
}

impl<'a> Items<'a> {
    pub(crate) fn new(segments: Segments<'a>) -> Self {
        Self { segments, ready: Vec::new().into_iter() }
    }
}

impl Iterator for Items<'_> {
    type Item = BackupResult<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.ready.next() {
                return Some(Ok(item));
            }
            match self.segments.next()? {
                Ok(Segment::Tree(items)) => self.ready = items.into_iter(),
                Ok(Segment::Blocks(_)) => {
                    return Some(Err(BackupError::Invalid(
                        "the manifest of a tree holds blocks: it is damaged".into(),
                    )));
                }
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// The pieces of a device's manifest, one after the other.
pub(crate) struct Blocks<'a> {
    segments: Segments<'a>,
    ready: std::vec::IntoIter<Piece>,
}

impl<'a> Blocks<'a> {
    pub(crate) fn new(segments: Segments<'a>) -> Self {
        Self { segments, ready: Vec::new().into_iter() }
    }
}

impl Iterator for Blocks<'_> {
    type Item = BackupResult<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(piece) = self.ready.next() {
                return Some(Ok(piece));
            }
            match self.segments.next()? {
                Ok(Segment::Blocks(pieces)) => self.ready = pieces.into_iter(),
                Ok(Segment::Tree(_)) => {
                    return Some(Err(BackupError::Invalid(
                        "the manifest of a device holds files: it is damaged".into(),
                    )));
                }
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// The parent's manifest, read side by side with a walk in the same order.
pub(crate) struct ParentTree<'a> {
    items: std::iter::Peekable<Items<'a>>,
}

impl<'a> ParentTree<'a> {
    pub(crate) fn new(items: Items<'a>) -> Self {
        Self { items: items.peekable() }
    }

    /// The file the parent has at this path, with all its pieces. Paths must be asked for in the order of a walk.
    pub(crate) fn file(&mut self, path: &RelPath) -> BackupResult<Option<Item>> {
        while let Some(next) = self.items.peek() {
            let Ok(item) = next else { return self.items.next().transpose() };
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
    fn take_whole(&mut self) -> BackupResult<Option<Item>> {
        let Some(mut item) = self.items.next().transpose()? else { return Ok(None) };
        while let Some(Ok(more)) = self.items.peek()
            && more.kind == ItemKind::Continued
        {
            if let Some(more) = self.items.next().transpose()? {
                item.pieces.extend(more.pieces);
            }
        }
        Ok(Some(item))
    }
}
