//! Healing: a backup that trusts nothing it finds in the store.
//!
//! What the parent has is read and verified before it counts as known, and the whole source is read. What was
//! found damaged and is still in the source is stored again, and older backups are told where, so that they
//! are whole again as well.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::ctx::Ctx;
use super::fetch::{Want, fetch};
use super::index::Index;
use super::relocations::Relocations;
use super::segments::Segments;
use crate::error::{BackupError, BackupResult};
use crate::format::manifest::Root;
use crate::format::{ChunkRef, PackId};
use crate::memory::Charge;

/// Chunks that are not what they should be.
#[derive(Debug, Default)]
pub(crate) struct DamagedChunks {
    chunks: Vec<ChunkRef>,
    _charge: Option<Charge>,
}

/// Learns those chunks of a backup that are what they should be, and gives the others.
pub(crate) fn learn_verified(
    ctx: &Ctx,
    requests: usize,
    root: &Root,
    moves: &Relocations,
    index: &Index,
) -> BackupResult<DamagedChunks> {
    let damaged = Mutex::new((Vec::new(), ctx.memory.charge()));
    let mut lists = root.segments.iter();
    let mut segments = Segments::new(ctx, moves, root)?;
    let mut ready: Vec<ChunkRef> = Vec::new();
    let wants = std::iter::from_fn(|| {
        loop {
            if let Some(chunk) = ready.pop() {
                if index.get(&chunk.id).is_some() {
                    continue;
                }
                return Some(Ok(Want { chunk, purpose: (), weight: 0 }));
            }
            if let Some((_, chunk)) = lists.next() {
                let mut chunk = *chunk;
                if let Err(error) = moves.resolve(&mut chunk) {
                    return Some(Err(error));
                }
                ready.push(chunk);
                continue;
            }
            match segments.next()? {
                Ok(segment) => ready.extend(segment.pieces().map(|(_, chunk)| *chunk)),
                Err(error @ BackupError::Damaged { .. }) => {
                    tracing::warn!(%error, "a part of the last backup cannot be read: it is stored again");
                }
                Err(error) => return Some(Err(error)),
            }
        }
    });
    fetch(ctx, requests, wants, &|(), chunk, plain| {
        match plain {
            Ok(_) => index.learn(chunk),
            Err(error) => {
                tracing::warn!(%error, "damaged data is stored again if it is still there");
                let (chunks, charge) = &mut *damaged.lock();
                // Here, and by pack in the end.
                charge.add(ctx.volume.dir(), 4 * size_of::<ChunkRef>())?;
                chunks.push(*chunk);
            }
        }
        Ok(())
    })?;
    let (chunks, charge) = damaged.into_inner();
    Ok(DamagedChunks { chunks, _charge: Some(charge) })
}

/// Tells readers of older backups where damaged chunks are now.
pub(crate) fn redirect(
    ctx: &Ctx,
    damaged: &DamagedChunks,
    moves: &Relocations,
    index: &Index,
) -> BackupResult<()> {
    let mut by_pack: HashMap<PackId, Vec<ChunkRef>> = HashMap::new();
    for chunk in &damaged.chunks {
        if let Some(now) = index.get(&chunk.id).filter(|now| now.place != chunk.place) {
            by_pack.entry(chunk.place.pack).or_default().push(now);
        }
    }
    for (pack, mut chunks) in by_pack {
        let before = moves.of(pack).into_iter().flatten();
        let healed: std::collections::HashSet<_> = chunks.iter().map(|c| c.id).collect();
        // Lengths are not kept by moves; readers have them.
        chunks.extend(before.filter(|(id, _)| !healed.contains(*id)).map(|(id, place)| ChunkRef {
            id: *id,
            len: 1,
            place: *place,
        }));
        ctx.call(Relocations::store(&*ctx.store, &ctx.volume, &ctx.crypt, pack, &chunks))?;
        tracing::info!(chunks = chunks.len(), "older backups were healed with data of this one");
    }
    Ok(())
}
