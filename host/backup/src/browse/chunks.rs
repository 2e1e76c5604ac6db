//! The chunks of a backup, each fetched once as long as it is in the cache: what is wanted next and lies
//! beside it comes with the same request.

use std::sync::Arc;

use bytes::Bytes;
use convoy_objectstore::StoreError;
use parking_lot::Mutex;

use super::cache::{Cache, Claim, Claimed};
use super::held::Held;
use crate::engine::ctx::{ByteBudget, Ctx};
use crate::engine::fetch::{GAP, STRETCH};
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::Decoder;
use crate::format::{ChunkId, ChunkRef, PackId};
use crate::memory::Charge;

/// Chunks that are looked at together to find neighbours.
pub(super) const TOGETHER: usize = 256;

/// See the [module](self).
pub(super) struct Chunks {
    pub(super) ctx: Ctx,
    held: Held,
    cache: Cache<ChunkId, Bytes>,
    /// Bytes that may be on their way at the same time, stored and plain.
    moving: Arc<ByteBudget>,
    decoders: Mutex<Vec<Decoder>>,
}

impl std::fmt::Debug for Chunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunks").field("volume", &self.ctx.volume).finish_non_exhaustive()
    }
}

/// The plain bytes of a chunk, with the memory they take.
struct Plain {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Plain {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Chunks that one request reads, the first of which is needed.
struct Stretch<'a> {
    pack: PackId,
    start: u64,
    end: u64,
    wants: Vec<(ChunkRef, Claim<'a, ChunkId, Bytes>)>,
}

fn bounds(chunk: &ChunkRef) -> (u64, u64) {
    let start = u64::from(chunk.place.offset);
    (start, start + u64::from(chunk.place.stored))
}

fn plain_len(chunk: &ChunkRef) -> usize {
    usize::try_from(chunk.len).unwrap_or(usize::MAX)
}

impl<'a> Stretch<'a> {
    fn new(chunk: ChunkRef, claim: Claim<'a, ChunkId, Bytes>) -> Self {
        let (start, end) = bounds(&chunk);
        Self { pack: chunk.place.pack, start, end, wants: vec![(chunk, claim)] }
    }

    /// Where the stretch would begin and end with this chunk, if it is near enough.
    fn with(&self, chunk: &ChunkRef) -> Option<(u64, u64)> {
        let (start, end) = bounds(chunk);
        let (first, last) = (self.start.min(start), self.end.max(end));
        let near = start <= self.end + GAP && end + GAP >= self.start;
        (chunk.place.pack == self.pack && near && last - first <= STRETCH).then_some((first, last))
    }

    /// Bytes that are in memory while it is read: as stored, and what is made of it.
    fn weight(&self) -> usize {
        let stored = usize::try_from(self.end - self.start).unwrap_or(usize::MAX);
        stored.saturating_add(self.wants.iter().map(|(chunk, _)| plain_len(chunk)).sum())
    }
}

impl Chunks {
    /// `cached` bytes are kept; `moving` may be on their way.
    pub(super) fn new(ctx: Ctx, held: Held, cached: usize, moving: usize) -> Self {
        let (cache, moving) = (Cache::new(cached), ByteBudget::new(moving));
        Self { ctx, held, cache, moving, decoders: Mutex::default() }
    }

    /// The plain bytes of a chunk, verified. Those of `next` come along, as far as they lie near it and are
    /// not there yet. Where each of them is must have been looked up in the relocations.
    ///
    /// # Errors
    /// [`BackupError::Damaged`] names the pack; those of the store.
    pub(super) fn get(
        &self,
        chunk: &ChunkRef,
        next: &mut dyn Iterator<Item = ChunkRef>,
    ) -> BackupResult<Bytes> {
        let claim = loop {
            match self.cache.claim(chunk.id) {
                Claimed::Here(bytes) => return self.fitting(chunk, bytes),
                Claimed::Coming => self.cache.wait(&self.ctx)?,
                Claimed::Mine(claim) => break claim,
            }
        };
        let mut stretch = Stretch::new(*chunk, claim);
        for other in Self::near(chunk, next) {
            // Whoever comes later is no nearer to what is there already.
            if let Some((start, end)) = stretch.with(&other)
                && let Claimed::Mine(claim) = self.cache.claim(other.id)
            {
                (stretch.start, stretch.end) = (start, end);
                stretch.wants.push((other, claim));
            }
        }
        self.fetch(stretch).map_err(|error| self.held.explain(error))
    }

    /// Those of `next` in the same pack, as far as they go into memory with this one: the nearest first.
    fn near(chunk: &ChunkRef, next: &mut dyn Iterator<Item = ChunkRef>) -> Vec<ChunkRef> {
        let mut plain = chunk.len as u64;
        let mut near: Vec<ChunkRef> = next
            .take(TOGETHER)
            .take_while(|other| {
                plain += u64::from(other.len);
                plain <= 2 * STRETCH
            })
            .filter(|other| other.place.pack == chunk.place.pack)
            .collect();
        near.sort_unstable_by_key(|other| other.place.offset.abs_diff(chunk.place.offset));
        near
    }

    /// Fetches chunks in the background, if they are not there yet.
    pub(super) fn ahead(self: &Arc<Self>, wanted: Vec<ChunkRef>) -> tokio::task::JoinHandle<()> {
        let chunks = Arc::clone(self);
        self.ctx.runtime().spawn_blocking(move || {
            for (number, first) in wanted.iter().enumerate() {
                let mut rest = wanted.get(number + 1..).unwrap_or_default().iter().copied();
                // What fails is told when it is asked for.
                if chunks.get(first, &mut rest).is_err() {
                    return;
                }
            }
        })
    }

    /// Lets go of all that is kept.
    pub(super) fn clear(&self) {
        self.cache.clear();
    }

    /// What has the name of a chunk has its content; it could still be said to be of another length.
    fn fitting(&self, chunk: &ChunkRef, bytes: Bytes) -> BackupResult<Bytes> {
        if bytes.len() == plain_len(chunk) {
            return Ok(bytes);
        }
        Err(BackupError::damaged(self.ctx.pack_key(chunk.place.pack), "a chunk claims an impossible size"))
    }

    /// Reads a stretch and fills what of it is whole. The first chunk must be.
    fn fetch(&self, mut stretch: Stretch<'_>) -> BackupResult<Bytes> {
        let key = self.ctx.pack_key(stretch.pack);
        let _moving = self.moving.take(stretch.weight(), &self.ctx)?;
        let stored = match self.ctx.call(self.ctx.store.get_range(&key, stretch.start..stretch.end)) {
            Err(BackupError::Store(StoreError::Truncated { .. })) if stretch.wants.len() > 1 => {
                // The pack is cut off somewhere; what is needed may be whole.
                stretch.wants.truncate(1);
                if let Some((chunk, _)) = stretch.wants.first() {
                    (stretch.start, stretch.end) = bounds(chunk);
                }
                self.ctx.call(self.ctx.store.get_range(&key, stretch.start..stretch.end))
            }
            other => other,
        };
        let stored = stored.map_err(|error| match error {
            BackupError::Store(error @ (StoreError::NotFound { .. } | StoreError::Truncated { .. })) => {
                BackupError::damaged(&key, error)
            }
            other => other,
        })?;
        self.ctx.progress.add_moved(stored.len() as u64);
        let pooled = self.decoders.lock().pop();
        let mut decoder = match pooled {
            Some(decoder) => decoder,
            None => self.ctx.decoder()?,
        };
        let mut needed = Err(BackupError::Cancelled);
        for (number, (chunk, claim)) in stretch.wants.into_iter().enumerate() {
            let (start, end) = bounds(&chunk);
            let at = |n: u64| usize::try_from(n - stretch.start).unwrap_or(usize::MAX);
            let plain = match stored.get(at(start)..at(end)) {
                Some(stored) => self.ctx.decode(&mut decoder, &chunk, stored).map(|plain| self.keep(plain)),
                None => Err(BackupError::damaged(&key, "it is too short")),
            };
            if let Ok(plain) = &plain {
                claim.fill(plain.clone(), plain.len());
            }
            if number == 0 {
                needed = plain;
            }
        }
        self.decoders.lock().push(decoder);
        needed
    }

    /// The bytes, charged. Where there is no memory left for them all that is cached goes; what is held by
    /// others is theirs to bound.
    fn keep(&self, plain: &[u8]) -> Bytes {
        let mut charge = self.ctx.memory.charge();
        if !charge.take(plain.len()) {
            self.cache.clear();
            charge.take(plain.len());
        }
        Bytes::from_owner(Plain { bytes: plain.to_vec(), _charge: charge })
    }
}
