//! Rewrites packs of which little is in use: live chunks are verified, stored in new packs, `moves` say where
//! they went, and then the old packs go.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use crate::engine::EngineOptions;
use crate::engine::ctx::Ctx;
use crate::engine::delete::remove;
use crate::engine::fetch::{Want, fetch};
use crate::engine::index::Index;
use crate::engine::live::Live;
use crate::engine::packer::{Lane, Packer};
use crate::engine::relocations::Relocations;
use crate::engine::root::load_root_with;
use crate::engine::segments::Segments;
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::Encoder;
use crate::format::pack::size_at_most;
use crate::format::{ChunkId, ChunkRef, PackId};
use crate::lock::Lock;
use crate::memory::Charge;
use crate::types::{PruneOptions, PruneSummary};

/// Live chunks of packs that may be worth rewriting.
type LiveChunks = HashMap<PackId, HashMap<ChunkId, ChunkRef>>;

/// What is rewritten in one go: stored bytes.
const BATCH: u64 = 256 << 20;

/// See the [module](self).
#[allow(clippy::too_many_arguments)]
pub(super) async fn repack(
    ctx: &Ctx,
    lock: &Lock,
    engine: EngineOptions,
    options: &PruneOptions,
    live: &Live,
    moves: &Relocations,
    packs: &[(PackId, u64)],
    summary: &mut PruneSummary,
) -> BackupResult<()> {
    let below = u64::from(options.repack_below.min(100));
    if below == 0 {
        return Ok(());
    }
    // What one backup alone uses enough of needs no closer look, and is not among them.
    let sparse: HashMap<PackId, u64> = packs.iter().copied().collect();
    if sparse.is_empty() {
        return Ok(());
    }
    let (chunks, records) = (ctx.clone(), live.records.clone());
    let (sparse_packs, known_moves) = (sparse.keys().copied().collect::<HashSet<_>>(), moves.clone());
    let (found, _charge) = run(move || live_chunks(&chunks, &records, &sparse_packs, &known_moves)).await?;
    let mut batch: Vec<(PackId, Vec<ChunkRef>)> = Vec::new();
    let mut bytes = 0;
    for (pack, chunks) in found {
        let used: u64 = chunks.values().map(|chunk| u64::from(chunk.place.stored)).sum();
        let size = sparse.get(&pack).copied().unwrap_or_default();
        // Beside chunks a pack has an index, which is more than them if they are small: what counts is what
        // would be won. A pack that was rewritten is then never worth it again.
        if !chunks.is_empty() && percent(size_at_most(chunks.len() as u64, used), size) >= below {
            continue;
        }
        summary.repacked += 1;
        summary.repacked_bytes += size.saturating_sub(used);
        bytes += used;
        batch.push((pack, chunks.into_values().collect()));
        if bytes >= BATCH {
            rewrite(ctx, lock, engine, options, moves, std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
    }
    rewrite(ctx, lock, engine, options, moves, batch).await
}

/// How much of a pack is in use, in percent. Both numbers are the store's.
pub(super) fn percent(used: u64, size: u64) -> u64 {
    used.saturating_mul(100) / size.max(1)
}

/// Work that blocks, on a thread of its own.
async fn run<T: Send + 'static>(work: impl FnOnce() -> BackupResult<T> + Send + 'static) -> BackupResult<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(BackupError::Invalid("broken off by a defect: see the log".into())))
}

/// Finds what is live in certain packs, in backups that this key opens.
fn live_chunks(
    ctx: &Ctx,
    records: &[crate::record::BackupRecord],
    sparse: &HashSet<PackId>,
    moves: &Relocations,
) -> BackupResult<(LiveChunks, Charge)> {
    let (mut found, mut charge) = (LiveChunks::new(), ctx.memory.charge());
    let ours = |record: &&crate::record::BackupRecord| {
        record.manifest.is_some() && record.key_id.as_deref() == ctx.crypt.key_id()
    };
    for record in records.iter().filter(ours) {
        // A pack that is named and of which nothing is found was rewritten before, and its removal
        // interrupted.
        let root = load_root_with(ctx, record, &mut |pack| {
            if sparse.contains(&pack) {
                found.entry(pack).or_default();
            }
        })?;
        let mut add = |chunk: &ChunkRef| {
            if !sparse.contains(&chunk.place.pack) {
                return Ok(());
            }
            // Here, in the batch, and among what was moved; with the room that tables leave.
            let new = found.entry(chunk.place.pack).or_default().insert(chunk.id, *chunk).is_none();
            charge.add(ctx.volume.dir(), if new { 6 * size_of::<ChunkRef>() } else { 0 })
        };
        for (_, chunk) in &root.segments {
            let mut chunk = *chunk;
            moves.resolve(&mut chunk)?;
            add(&chunk)?;
        }
        for segment in Segments::new(ctx, moves, &root)? {
            segment?.pieces().try_for_each(|(_, chunk)| add(chunk))?;
        }
    }
    Ok((found, charge))
}

/// Moves live chunks to new packs and removes the old ones. A pack with a damaged chunk stays as it is.
async fn rewrite(
    ctx: &Ctx,
    lock: &Lock,
    engine: EngineOptions,
    options: &PruneOptions,
    moves: &Relocations,
    batch: Vec<(PackId, Vec<ChunkRef>)>,
) -> BackupResult<()> {
    if batch.is_empty() || options.dry_run {
        return Ok(());
    }
    lock.check()?;
    let run_id: u64 = rand::random();
    // What is interrupted before the moves are written is found by its mark.
    crate::engine::runs::begin(&*ctx.store, &ctx.volume, run_id).await?;
    let copy = ctx.clone();
    let (old, moved, spoilt) = run(move || copy_chunks(&copy, engine, run_id, batch)).await?;
    let mut gone = Vec::new();
    for (pack, chunks) in old {
        if spoilt.contains(&pack) {
            continue;
        }
        let mut now: Vec<ChunkRef> =
            chunks.iter().filter_map(|chunk| moved.get(&chunk.id).copied()).collect();
        let here: HashSet<ChunkId> = now.iter().map(|chunk| chunk.id).collect();
        let before = moves.of(pack).into_iter().flatten();
        now.extend(before.filter(|(id, _)| !here.contains(*id)).map(|(id, place)| ChunkRef {
            id: *id,
            len: 1,
            place: *place,
        }));
        Relocations::store(&*ctx.store, &ctx.volume, &ctx.crypt, pack, &now).await?;
        gone.push(ctx.pack_key(pack));
    }
    ctx.store.delete(&[ctx.volume.run(run_id)]).await?;
    remove(&*ctx.store, &ctx.volume, lock, &gone).await
}

type RepackedBatch = (Vec<(PackId, Vec<ChunkRef>)>, HashMap<ChunkId, ChunkRef>, HashSet<PackId>);

fn copy_chunks(
    ctx: &Ctx,
    engine: EngineOptions,
    run_id: u64,
    batch: Vec<(PackId, Vec<ChunkRef>)>,
) -> BackupResult<RepackedBatch> {
    let index = Index::new(engine.budget().index);
    let (packer, packs) = Packer::new(ctx, &index, run_id, engine.budget().pack);
    let moved: Mutex<HashMap<ChunkId, ChunkRef>> = Mutex::default();
    let spoilt: Mutex<HashSet<PackId>> = Mutex::default();
    let done = std::thread::scope(|scope| {
        scope.spawn(|| ctx.part(|| packer.upload(&packs)));
        let done = ctx.part(|| {
            let wants = batch
                .iter()
                .flat_map(|(_, chunks)| chunks)
                .map(|chunk| Ok(Want { chunk: *chunk, purpose: (), weight: 0 }));
            fetch(ctx, engine.requests, wants, &|(), chunk, plain| {
                match plain {
                    Ok(plain) => {
                        let mut encoder = Encoder::new(ctx.crypt.clone(), Some(1))
                            .map_err(|e| BackupError::Invalid(e.to_string()))?;
                        let now = packer.put(&mut encoder, plain, Lane::Data)?;
                        moved.lock().insert(chunk.id, now);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a pack is not rewritten");
                        spoilt.lock().insert(chunk.place.pack);
                    }
                }
                Ok(())
            })?;
            packer.flush(Lane::Data)
        });
        packer.close();
        done
    });
    match (done, ctx.check()) {
        (Some(()), Ok(())) => {}
        _ => return Err(ctx.reason()),
    }
    Ok((batch, moved.into_inner(), spoilt.into_inner()))
}
