//! Runs: what a backup in progress has written so far.
//!
//! Before its first pack a run puts `runs/<run>.json`, and removes it when its record is written. What
//! carries such a mark was interrupted, or is still running: either way its packs are whole, and the next run
//! uses what is in them.

use std::sync::Arc;

use bytes::Bytes;
use convoy_objectstore::{Depth, ObjectInfo, ObjectStore, Pages, StoreError, list_all};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::index::Index;
use crate::crypt::Crypt;
use crate::error::{BackupError, BackupResult};
use crate::format::pack::{FOOTER, index_len, read_index};
use crate::format::{ChunkRef, PackId};
use crate::layout::{Object, VolumeDir};
use crate::memory::{Charge, Memory};
use crate::record::json;
use crate::timestamp;

/// The end of a pack that is read at first: most indexes are shorter.
const TAIL: u64 = 16 << 10;

/// Marks a run as begun.
pub(crate) async fn begin(store: &dyn ObjectStore, volume: &VolumeDir, run: u64) -> BackupResult<()> {
    let mark = serde_json::json!({ "Started": timestamp::now(), "Pid": std::process::id() });
    Ok(store.put(&volume.run(run), json(&mark)?).await?)
}

/// The runs that carry a mark.
pub(crate) async fn marked(store: &dyn ObjectStore, volume: &VolumeDir) -> BackupResult<Vec<u64>> {
    let run = |object: ObjectInfo| match volume.object(&object.key) {
        Some(Object::Run(run)) => Some(run),
        _ => None,
    };
    Ok(list_all(store, &volume.runs(), Depth::One).await?.objects.into_iter().filter_map(run).collect())
}

/// Learns what is in a pack. One that cannot be used is passed over.
async fn learn(
    store: &dyn ObjectStore,
    volume: &VolumeDir,
    object: &ObjectInfo,
    crypt: &Crypt,
    memory: &Arc<Memory>,
    index: &Index,
) -> BackupResult<()> {
    let Some(pack) = volume.pack_of(&object.key) else { return Ok(()) };
    match contents(store, pack, object, crypt, memory, &mut |chunk| index.learn(&chunk)).await {
        Err(
            BackupError::Damaged { .. }
            | BackupError::Memory { .. }
            | BackupError::Store(StoreError::NotFound { .. } | StoreError::Truncated { .. }),
        ) => Ok(()),
        done => done,
    }
}

/// Reads what is in a pack from its end. A pack sealed with another key, or damaged, is an error.
pub(crate) async fn contents(
    store: &dyn ObjectStore,
    pack: PackId,
    object: &ObjectInfo,
    crypt: &Crypt,
    memory: &Arc<Memory>,
    take: &mut (dyn FnMut(ChunkRef) + Send),
) -> BackupResult<()> {
    let mut charge = memory.charge();
    let tail = tail(store, object, &mut charge).await?;
    read_index(&object.key, pack, &tail, crypt, take)
}

/// Reads the end of a pack: its stored index and the footer. The memory that a large one takes is charged.
pub(crate) async fn tail(
    store: &dyn ObjectStore,
    object: &ObjectInfo,
    charge: &mut Charge,
) -> BackupResult<Bytes> {
    let (key, size) = (&object.key, object.size);
    let tail = store.get_range(key, size.saturating_sub(TAIL)..size).await?;
    let footer = tail.len().checked_sub(FOOTER).and_then(|at| tail.get(at..)).unwrap_or_default();
    let whole = index_len(key, footer)? + FOOTER;
    if let Some(at) = tail.len().checked_sub(whole) {
        return Ok(tail.slice(at..));
    }
    // As it is stored, and opened.
    charge.add(key, 2 * whole)?;
    let start = size
        .checked_sub(whole as u64)
        .ok_or_else(|| BackupError::damaged(key, "its index is longer than itself"))?;
    Ok(store.get_range(key, start..size).await?)
}

/// Learns what marked runs have stored.
pub(crate) async fn adopt(
    store: &dyn ObjectStore,
    volume: &VolumeDir,
    crypt: &Crypt,
    memory: &Arc<Memory>,
    index: &Index,
) -> BackupResult<()> {
    for run in marked(store, volume).await? {
        let run_of = format!("{run:016x}");
        tracing::info!(run = run_of, "using what an unfinished backup has stored");
        let mut pages = Pages::new(store, &volume.packs_of(run), Depth::One);
        while let Some(page) = pages.next().await? {
            let reads: Vec<BoxFuture<'_, _>> = (page.objects.iter())
                .map(|object| learn(store, volume, object, crypt, memory, index).boxed())
                .collect();
            futures::stream::iter(reads).buffered(8).try_collect::<()>().await?;
        }
    }
    Ok(())
}
