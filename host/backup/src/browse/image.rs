//! Reads a block backup as the device it was: blocks that it does not have are zeros.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::cache::Cache;
use super::data::{Data, Parts, Pieces, zeros};
use super::held::Held;
use super::manifest::Manifest;
use super::{READ_MAX, ReadAt};
use crate::engine::ctx::Ctx;
use crate::error::{BackupError, BackupResult};
use crate::memory::Charge;
use crate::record::{BackupRecord, V0Block};
use crate::v0;

/// The device in a backup of the new format.
pub(super) fn image(manifest: Manifest) -> Data {
    let (size, name) = (manifest.root.size, format!("the device in backup {}", manifest.root.backup));
    let chunks = Arc::clone(&manifest.chunks);
    Data::new(chunks, Box::new(ImageParts(manifest)), size, name)
}

/// The segments of a device's manifest: the root says where each begins.
#[derive(Debug)]
struct ImageParts(Manifest);

impl Parts for ImageParts {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn start(&self, number: usize) -> u64 {
        self.0.root.segments.get(number).map_or(u64::MAX, |(at, _)| *at)
    }

    fn load(&self, number: usize) -> BackupResult<Pieces> {
        Ok(Pieces { parsed: self.0.segment(number, 0)?, item: 0 })
    }
}

/// The device in a backup of convoy 0.5: blocks of 2 MiB, each an object of its own.
#[derive(Debug)]
pub(super) struct OldImage(Arc<OldBlocks>);

#[derive(Debug)]
struct OldBlocks {
    ctx: Ctx,
    held: Held,
    record: BackupRecord,
    _charge: Charge,
    size: u64,
    /// Those that were read, by their number in the record.
    cache: Cache<usize, Bytes>,
    /// The block after the last one asked for.
    next: Mutex<usize>,
}

impl OldImage {
    /// `cached` bytes are kept.
    ///
    /// # Errors
    /// [`BackupError::Damaged`] where the blocks of the record are not in order.
    pub(super) fn new(
        ctx: Ctx,
        held: Held,
        record: BackupRecord,
        charge: Charge,
        volume_size: u64,
        cached: usize,
    ) -> BackupResult<Self> {
        let mut end = 0;
        for block in &record.blocks {
            let next = block.offset.checked_add(v0::BLOCK).filter(|_| block.offset >= end);
            end = next.ok_or_else(|| {
                let key = format!("the record of backup {}", record.name);
                BackupError::damaged(key, "its blocks overlap or lie beyond the end")
            })?;
        }
        let (cache, next) = (Cache::new(cached), Mutex::new(usize::MAX));
        let size = volume_size.max(end);
        Ok(Self(Arc::new(OldBlocks { ctx, held, record, _charge: charge, size, cache, next })))
    }

    /// The first block that ends behind `offset`, with its number.
    fn find(&self, offset: u64) -> Option<(usize, &V0Block)> {
        let blocks = &self.0.record.blocks;
        let number = blocks.partition_point(|block| block.offset + v0::BLOCK <= offset);
        blocks.get(number).map(|block| (number, block))
    }
}

impl OldBlocks {
    fn block(&self, number: usize) -> BackupResult<Bytes> {
        self.cache.get(number, &self.ctx, || {
            let name = || format!("the device in backup {}", self.record.name);
            let block = self.record.blocks.get(number).ok_or(BackupError::Cancelled)?;
            let plain = v0::load_block(&self.ctx, block).map_err(|error| match error {
                // The record names it, and it is not there.
                BackupError::Store(error) if error.not_found() => BackupError::damaged(name(), error),
                BackupError::Damaged { key, why } => BackupError::damaged(format!("{} ({key})", name()), why),
                other => other,
            });
            let plain = plain.map_err(|error| self.held.explain(error))?;
            if plain.len() as u64 != v0::BLOCK {
                let why = format!("block {} is not of 2 MiB", block.block_checksum);
                return Err(BackupError::damaged(name(), why));
            }
            let weight = plain.len();
            Ok((Bytes::from(plain), weight))
        })
    }
}

impl ReadAt for OldImage {
    fn size(&self) -> u64 {
        self.0.size
    }

    fn read_at(&self, offset: u64, length: usize) -> BackupResult<Bytes> {
        let length = super::clamp(self.0.size, offset, length.min(READ_MAX));
        let Some((number, block)) = self.find(offset).filter(|_| length > 0) else {
            return Ok(zeros(length as u64));
        };
        if block.offset > offset {
            return Ok(zeros((block.offset - offset).min(length as u64)));
        }
        let sequential = std::mem::replace(&mut *self.0.next.lock(), number + 1) == number;
        if sequential && number + 1 < self.0.record.blocks.len() {
            // What fails is told when it is asked for.
            let blocks = Arc::clone(&self.0);
            self.0.ctx.runtime().spawn_blocking(move || blocks.block(number + 1).map(drop));
        }
        let bytes = self.0.block(number)?;
        let from = usize::try_from(offset - block.offset).unwrap_or(usize::MAX);
        let to = from.saturating_add(length).min(bytes.len());
        Ok(bytes.slice(from.min(to)..to))
    }

    fn next_data(&self, offset: u64) -> BackupResult<Option<Range<u64>>> {
        let found = self.find(offset);
        Ok(found.map(|(_, block)| offset.max(block.offset)..block.offset + v0::BLOCK))
    }
}
