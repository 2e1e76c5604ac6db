//! What of a volume's data is in use. Asked only under the exclusive lock.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use convoy_objectstore::ObjectStore;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::catalog::{self, records};
use super::relocations::Relocations;
use super::root::WRONG_CHECKSUM;
use crate::error::{BackupError, BackupResult};
use crate::format::PackId;
use crate::format::limits::ROOT_MAX;
use crate::format::manifest::Root;
use crate::layout::{VolumeDir, parse_run};
use crate::memory::{Charge, Memory};
use crate::record::BackupRecord;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Without their blocks.
    pub(crate) records: Vec<BackupRecord>,
    /// Packs, with the most bytes that one backup uses of each.
    pub(crate) packs: HashMap<PackId, u64>,
    /// Keys of manifests.
    pub(crate) manifests: HashSet<String>,
    /// Checksums of 0.5's blocks.
    pub(crate) blocks: HashSet<String>,
    /// Keys of 0.5's single files.
    pub(crate) files: HashSet<String>,
    charge: Option<Charge>,
}

/// Calls `pack` with every pack a backup needs, and gives the key of its manifest.
pub(crate) async fn needs(
    store: &dyn ObjectStore,
    volume: &VolumeDir,
    record: &BackupRecord,
    memory: &Arc<Memory>,
    pack: &mut (dyn FnMut(PackId, u64) -> BackupResult<()> + Send),
) -> BackupResult<Option<String>> {
    let Some(manifest) = &record.manifest else { return Ok(None) };
    let run = parse_run(&manifest.run)
        .ok_or_else(|| BackupError::damaged(&record.name, "its record names no proper run"))?;
    let key = volume.manifest(run);
    let bytes = match memory.read(store, &key, ROOT_MAX).await {
        Ok(bytes) => bytes,
        Err(e) if e.not_found() => {
            let why = format_args!(
                "backup {} needs it and it is missing: that backup cannot be restored, delete it",
                record.name
            )
            .to_string();
            return Err(BackupError::damaged(key, why));
        }
        Err(e) => return Err(e),
    };
    // The table is not sealed: only the record, which may have a code, vouches for it.
    if blake3::hash(&bytes).to_hex().as_str() != manifest.blake3 {
        return Err(BackupError::damaged(key, WRONG_CHECKSUM));
    }
    Root::each_pack(&key, &bytes, &mut |p| pack(PackId { run: p.run, seq: p.seq }, p.used))?;
    Ok(Some(key))
}

impl Live {
    /// Finds what is in use. What cannot be read may use anything: then nothing may be deleted, and this
    /// fails.
    pub(crate) async fn find(
        store: &dyn ObjectStore,
        volume: &VolumeDir,
        moves: &Relocations,
        memory: &Arc<Memory>,
    ) -> BackupResult<Self> {
        let mut charge = memory.charge();
        let mut live = Self::default();
        let dir = volume.dir();
        records(store, volume, memory, &mut |_, record| {
            let mut record = record?;
            let blocks = std::mem::take(&mut record.blocks);
            charge.add(dir, catalog::info(&record, None).weight() + size_of::<BackupRecord>())?;
            if record.format_version == 0 {
                for block in blocks {
                    if !live.blocks.contains(&block.block_checksum) {
                        charge.add(dir, 2 * size_of::<String>() + 96)?;
                        live.blocks.insert(block.block_checksum);
                    }
                }
                live.files.extend(record.v0_file().map(str::to_owned));
            }
            live.records.push(record);
            Ok(())
        })
        .await?;
        let found = Mutex::new((std::mem::take(&mut live.packs), charge));
        let need = |record| {
            let found = &found;
            async move {
                needs(store, volume, record, memory, &mut |pack, used| {
                    let (packs, charge) = &mut *found.lock();
                    add_pack(packs, pack, used, dir, charge)
                })
                .await
            }
        };
        let needed: Vec<BoxFuture<'_, _>> = live.records.iter().map(|record| need(record).boxed()).collect();
        let mut needed = futures::stream::iter(needed).buffered(8);
        while let Some(manifest) = needed.try_next().await? {
            live.manifests.extend(manifest);
        }
        drop(needed);
        let (packs, mut charge) = found.into_inner();
        live.packs = packs;
        // What was moved out of a pack in use is in use where it went.
        let mut todo: Vec<PackId> = live.packs.keys().copied().collect();
        while let Some(pack) = todo.pop() {
            for place in moves.of(pack).into_iter().flat_map(HashMap::values) {
                if !live.packs.contains_key(&place.pack) {
                    add_pack(&mut live.packs, place.pack, 0, dir, &mut charge)?;
                    todo.push(place.pack);
                }
            }
        }
        live.charge = Some(charge);
        Ok(live)
    }
}

/// Notes that so much of a pack is in use.
fn add_pack(
    packs: &mut HashMap<PackId, u64>,
    pack: PackId,
    used: u64,
    dir: &str,
    charge: &mut Charge,
) -> BackupResult<()> {
    match packs.entry(pack) {
        Entry::Occupied(mut most) => *most.get_mut() = used.max(*most.get()),
        Entry::Vacant(new) => {
            // The table, with the room it leaves.
            charge.add(dir, 2 * size_of::<(PackId, u64)>() + 8)?;
            new.insert(used);
        }
    }
    Ok(())
}
