//! Blocks of 2 MiB: `blocks/<c[0:2]>/<c[2:4]>/<c>.blk`, where c is the first half of the SHA-512 of the plain
//! block, in hexadecimal.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::bounded;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use sha2::{Digest, Sha512};

use super::BLOCK;
use crate::engine::EngineOptions;
use crate::engine::block_backup::{Stretches, data_of_file, open};
use crate::engine::block_restore::Device;
use crate::engine::ctx::Ctx;
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::all_zero;
use crate::progress::Phase;
use crate::record::{BackupRecord, BackupStats, V0Block};
use crate::types::Extents;

/// A gzipped block is hardly larger than a plain one.
const STORED_MAX: u64 = BLOCK + (1 << 16);

fn checksum(plain: &[u8]) -> String {
    let hash = Sha512::digest(plain);
    hex::encode(hash.get(..32).unwrap_or_default())
}

fn gzip(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 2), Compression::new(6));
    encoder.write_all(plain)?;
    encoder.finish()
}

/// What was compressed, and of what is larger than a block a byte more than that.
pub(crate) fn unzip(stored: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(usize::try_from(BLOCK).unwrap_or(0));
    MultiGzDecoder::new(stored).take(BLOCK + 1).read_to_end(&mut plain)?;
    Ok(plain)
}

/// Reads a block and verifies it.
pub(crate) fn load(ctx: &Ctx, block: &V0Block) -> BackupResult<Vec<u8>> {
    let key = ctx.volume.v0_block(&block.block_checksum)?;
    let stored = ctx.call(ctx.store.get(&key, STORED_MAX))?;
    ctx.progress.add_moved(stored.len() as u64);
    let plain = unzip(&stored).map_err(|e| BackupError::damaged(&key, e))?;
    if plain.len() as u64 > BLOCK || checksum(&plain) != block.block_checksum {
        return Err(BackupError::damaged(key, "its content does not have the checksum that is its name"));
    }
    Ok(plain)
}

/// Runs work on items from an iterator, on several threads.
fn parallel<T: Send>(
    ctx: &Ctx,
    threads: usize,
    items: impl FnOnce(&dyn Fn(T) -> BackupResult<()>) -> BackupResult<()>,
    work: &(dyn Fn(T) -> BackupResult<()> + Sync),
) -> BackupResult<()> {
    std::thread::scope(|scope| {
        let (queue, todo) = bounded::<T>(threads.max(1));
        for _ in 0..threads.max(1) {
            let todo = todo.clone();
            scope.spawn(move || {
                ctx.part(|| {
                    while let Ok(item) = todo.recv() {
                        ctx.check()?;
                        work(item)?;
                    }
                    Ok(())
                })
            });
        }
        drop(todo);
        ctx.part(|| items(&|item| queue.send(item).map_err(|_| BackupError::Cancelled)));
        drop(queue);
    });
    ctx.check().map_err(|_| ctx.reason())
}

/// What a backup of blocks found out.
#[derive(Default)]
struct BlockTable {
    blocks: Mutex<BTreeMap<u64, String>>,
    stored: Mutex<HashSet<String>>,
    read: AtomicU64,
    added: AtomicU64,
}

/// Backs up a device as 0.5 did, but reads only what matters, stores no zeros, asks the store for nothing,
/// and works in parallel.
pub(crate) async fn write_blocks(
    ctx: &Ctx,
    options: EngineOptions,
    device: &Path,
    size: u64,
    extents: Extents,
    known: Vec<V0Block>,
) -> BackupResult<(Vec<V0Block>, BackupStats)> {
    if !size.is_multiple_of(BLOCK) {
        return Err(BackupError::Invalid(format!(
            "the format of 0.5 needs a volume of a multiple of 2 MiB; this one has {size} bytes"
        )));
    }
    let (ctx, device): (Ctx, PathBuf) = (ctx.clone(), device.to_owned());
    let done =
        tokio::task::spawn_blocking(move || write_all(&ctx, options, &device, size, extents, known)).await;
    done.unwrap_or_else(|_| {
        Err(BackupError::Invalid("the backup was broken off by a defect: see the log".into()))
    })
}

fn write_all(
    ctx: &Ctx,
    options: EngineOptions,
    device: &Path,
    size: u64,
    extents: Extents,
    known: Vec<V0Block>,
) -> BackupResult<(Vec<V0Block>, BackupStats)> {
    let file = open(device, size)?;
    let found = BlockTable::default();
    found.stored.lock().extend(known.iter().map(|b| b.block_checksum.clone()));
    let (stream, incremental) = match extents {
        Extents::All => (data_of_file(&file, &device.display().to_string(), size)?, false),
        Extents::InUse(stream) => (Some(stream), false),
        Extents::Changed { extents, .. } => (Some(extents), true),
    };
    if incremental {
        found
            .blocks
            .lock()
            .extend(known.into_iter().filter(|b| b.offset < size).map(|b| (b.offset, b.block_checksum)));
    }
    let work = |at: u64| {
        let mut data = vec![0; usize::try_from(BLOCK).unwrap_or(0)];
        file.read_exact_at(&mut data, at).map_err(|e| BackupError::io("read", device.display(), e))?;
        found.read.fetch_add(BLOCK, Ordering::Relaxed);
        ctx.progress.add_bytes(BLOCK);
        if all_zero(&data) {
            found.blocks.lock().remove(&at);
            return Ok(());
        }
        let checksum = checksum(&data);
        if found.stored.lock().insert(checksum.clone()) {
            let stored = gzip(&data).map_err(|e| BackupError::io("compress", device.display(), e))?;
            let bytes = stored.len() as u64;
            ctx.call(ctx.store.put(&ctx.volume.v0_block(&checksum)?, stored.into()))?;
            ctx.progress.add_moved(bytes);
            found.added.fetch_add(bytes, Ordering::Relaxed);
        }
        found.blocks.lock().insert(at, checksum);
        Ok(())
    };
    let items = |send: &dyn Fn(u64) -> BackupResult<()>| {
        let mut stretches = Stretches::new(ctx, stream, BLOCK, size);
        while let Some((start, end)) = stretches.next()? {
            ctx.progress.add_total(end - start, 0);
            let step = usize::try_from(BLOCK).unwrap_or(usize::MAX);
            (start..end).step_by(step).try_for_each(send)?;
        }
        Ok(())
    };
    parallel(ctx, options.workers.max(options.requests), items, &work)?;
    let blocks = std::mem::take(&mut *found.blocks.lock());
    let stats = BackupStats {
        files: 0,
        bytes: blocks.len() as u64 * BLOCK,
        bytes_read: found.read.into_inner(),
        bytes_added: found.added.into_inner(),
        millis: 0,
        warnings: 0,
    };
    Ok((
        blocks.into_iter().map(|(offset, block_checksum)| V0Block { offset, block_checksum }).collect(),
        stats,
    ))
}

/// Restores blocks; what the backup does not have becomes zero. Gives the bytes written.
pub(crate) fn read_blocks(
    ctx: &Ctx,
    requests: usize,
    record: &BackupRecord,
    device: &Device,
    size: u64,
) -> BackupResult<u64> {
    let key = ctx.volume.backup(&record.name)?;
    let bytes = AtomicU64::new(0);
    let items = |send: &dyn Fn(V0Block) -> BackupResult<()>| {
        let mut end = 0;
        for block in &record.blocks {
            let next = block.offset.saturating_add(BLOCK);
            if block.offset < end || next > size {
                return Err(BackupError::damaged(&key, "its blocks overlap or lie beyond the end"));
            }
            device.zero(ctx, end, block.offset)?;
            end = next;
            send(block.clone())?;
        }
        device.zero(ctx, end, size)
    };
    parallel(ctx, requests, items, &|block: V0Block| {
        let plain = load(ctx, &block)?;
        if plain.len() as u64 != BLOCK {
            return Err(BackupError::damaged(
                &key,
                format_args!("block {} is not of 2 MiB", block.block_checksum),
            ));
        }
        device.write(block.offset, &plain)?;
        bytes.fetch_add(BLOCK, Ordering::Relaxed);
        ctx.progress.add_bytes(BLOCK);
        Ok(())
    })?;
    ctx.progress.phase(Phase::Finishing);
    device.sync()?;
    Ok(bytes.into_inner())
}

/// Reads and verifies blocks; tells what is wrong.
pub(crate) fn check_blocks<'b>(
    ctx: &Ctx,
    requests: usize,
    blocks: impl Iterator<Item = &'b V0Block>,
    fault: &(dyn Fn(BackupError) + Sync),
) -> BackupResult<()> {
    parallel(
        ctx,
        requests,
        |send: &dyn Fn(&'b V0Block) -> BackupResult<()>| {
            let mut blocks = blocks;
            blocks.try_for_each(send)
        },
        &|block: &V0Block| match load(ctx, block) {
            Ok(plain) => {
                ctx.progress.add_bytes(plain.len() as u64);
                Ok(())
            }
            Err(error @ (BackupError::Damaged { .. } | BackupError::Invalid(_))) => {
                fault(error);
                Ok(())
            }
            Err(error) if error.not_found() => {
                fault(error);
                Ok(())
            }
            Err(error) => Err(error),
        },
    )
}
