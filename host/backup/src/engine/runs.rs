//! Runs: what a backup in progress has written so far.
//!
//! Before its first pack a run puts `runs/<run>.json`, and removes it when its record is written. What carries such a mark was
//! interrupted, or is still running: either way its packs are whole, and the next run uses what is in them.

use convoy_objectstore::{Depth, ObjectInfo, ObjectStore, StoreError, list_all};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::index::Index;
use crate::crypt::Crypt;
use crate::error::{BackupError, BackupResult};
use crate::format::pack::{FOOTER, index_len, read_index};
use crate::format::{ChunkRef, PackId};
use crate::layout::{Object, VolumeDir};
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

/// The packs of a run.
pub(crate) async fn packs(
    store: &dyn ObjectStore,
    volume: &VolumeDir,
    run: u64,
) -> BackupResult<Vec<(PackId, ObjectInfo)>> {
    let listed = list_all(store, &volume.packs_of(run), Depth::One).await?.objects;
    Ok(listed.into_iter().filter_map(|object| Some((volume.pack_of(&object.key)?, object))).collect())
}

/// Reads what is in a pack from its end. A pack sealed with another key, or damaged, is an error.
pub(crate) async fn contents(
    store: &dyn ObjectStore,
    pack: PackId,
    object: &ObjectInfo,
    crypt: &Crypt,
) -> BackupResult<Vec<ChunkRef>> {
    let (key, size) = (&object.key, object.size);
    let tail = store.get_range(key, size.saturating_sub(TAIL)..size).await?;
    let footer = tail.len().checked_sub(FOOTER).and_then(|at| tail.get(at..)).unwrap_or_default();
    let whole = index_len(key, footer)? + FOOTER;
    let tail = match tail.len().checked_sub(whole) {
        Some(at) => tail.slice(at..),
        None => {
            let start = size
                .checked_sub(whole as u64)
                .ok_or_else(|| BackupError::damaged(key, "its index is longer than itself"))?;
            store.get_range(key, start..size).await?
        }
    };
    read_index(key, pack, &tail, crypt)
}

/// Learns what marked runs have stored. Packs that cannot be used are passed over.
pub(crate) async fn adopt(
    store: &dyn ObjectStore,
    volume: &VolumeDir,
    crypt: &Crypt,
    index: &Index,
) -> BackupResult<()> {
    for run in marked(store, volume).await? {
        let found = packs(store, volume, run).await?;
        tracing::info!(
            run = format!("{run:016x}"),
            packs = found.len(),
            "using what an unfinished backup has stored"
        );
        let read = |pack: PackId, object: ObjectInfo| async move {
            match contents(store, pack, &object, crypt).await {
                Ok(chunks) => Ok(chunks),
                Err(
                    BackupError::Damaged { .. }
                    | BackupError::Store(StoreError::NotFound { .. } | StoreError::Truncated { .. }),
                ) => Ok(Vec::new()),
                Err(e) => Err(e),
            }
        };
        let reads: Vec<BoxFuture<'_, _>> =
            found.into_iter().map(|(pack, object)| read(pack, object).boxed()).collect();
        let mut reads = futures::stream::iter(reads).buffered(8);
        while let Some(chunks) = reads.try_next().await? {
            chunks.iter().for_each(|chunk| index.learn(chunk));
        }
    }
    Ok(())
}
