//! What of a volume's data is in use. Who deletes asks under the exclusive lock.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use convoy_objectstore::{ObjectInfo, ObjectStore};
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
use crate::layout::{Object, VolumeDir, parse_run};
use crate::memory::{Charge, Memory};
use crate::record::BackupRecord;

/// 0.5 takes no locks. What it may be about to refer to is left alone for so long.
const V0_GRACE: Duration = Duration::from_secs(24 * 3600);

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Without their blocks. [`Live::count_in`] keeps none.
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
            charge.add(dir, catalog::info(&record, None).weight() + size_of::<BackupRecord>())?;
            live.add_v0(&mut record, dir, &mut charge)?;
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
        let (packs, charge) = found.into_inner();
        live.packs = packs;
        live.charge = Some(charge);
        live.follow(volume, moves, memory)?;
        Ok(live)
    }

    /// Adds what one more backup needs, and keeps nothing else of it. Once all are added, [`Live::follow`]
    /// says where it was moved to.
    pub(crate) async fn count_in(
        live: &Mutex<Self>,
        store: &dyn ObjectStore,
        volume: &VolumeDir,
        record: &mut BackupRecord,
        memory: &Arc<Memory>,
    ) -> BackupResult<()> {
        let dir = volume.dir();
        {
            let live = &mut *live.lock();
            let mut charge = memory.charge();
            live.add_v0(record, dir, &mut charge)?;
            live.keep(charge);
        }
        let manifest = needs(store, volume, record, memory, &mut |pack, used| {
            let live = &mut *live.lock();
            let mut charge = memory.charge();
            add_pack(&mut live.packs, pack, used, dir, &mut charge)?;
            live.keep(charge);
            Ok(())
        })
        .await?;
        if let Some(manifest) = manifest {
            let live = &mut *live.lock();
            let mut charge = memory.charge();
            // The table, with the room it leaves.
            charge.add(dir, manifest.len() + 2 * size_of::<String>() + 16)?;
            live.manifests.insert(manifest);
            live.keep(charge);
        }
        Ok(())
    }

    /// What was moved out of a pack in use is in use where it went.
    pub(crate) fn follow(
        &mut self,
        volume: &VolumeDir,
        moves: &Relocations,
        memory: &Arc<Memory>,
    ) -> BackupResult<()> {
        let mut charge = memory.charge();
        let mut todo: Vec<PackId> = self.packs.keys().copied().collect();
        while let Some(pack) = todo.pop() {
            for place in moves.of(pack).into_iter().flat_map(HashMap::values) {
                if !self.packs.contains_key(&place.pack) {
                    add_pack(&mut self.packs, place.pack, 0, volume.dir(), &mut charge)?;
                    todo.push(place.pack);
                }
            }
        }
        self.keep(charge);
        Ok(())
    }

    fn keep(&mut self, charge: Charge) {
        match &mut self.charge {
            Some(kept) => kept.merge(charge),
            none => *none = Some(charge),
        }
    }

    /// Adds what a backup of 0.5 needs, whose blocks are taken out of its record.
    fn add_v0(&mut self, record: &mut BackupRecord, dir: &str, charge: &mut Charge) -> BackupResult<()> {
        let blocks = std::mem::take(&mut record.blocks);
        if record.format_version != 0 {
            return Ok(());
        }
        for block in blocks {
            if !self.blocks.contains(&block.block_checksum) {
                charge.add(dir, 2 * size_of::<String>() + 96)?;
                self.blocks.insert(block.block_checksum);
            }
        }
        self.files.extend(record.v0_file().map(str::to_owned));
        Ok(())
    }

    /// Whether nothing needs an object; `None` for what is not convoy's, by its name.
    pub(crate) fn is_garbage(
        &self,
        volume: &VolumeDir,
        moves: &Relocations,
        object: &ObjectInfo,
    ) -> Option<bool> {
        let key = &object.key;
        Some(match volume.object(key)? {
            Object::Pack(pack) => !self.packs.contains_key(&pack),
            Object::Manifest(_) => !self.manifests.contains(key),
            Object::Relocations(pack) => moves.of(pack).is_some() && !self.packs.contains_key(&pack),
            Object::V0Block(checksum) => !self.blocks.contains(&checksum) && old(object),
            Object::V0File(_) => !self.files.contains(key) && old(object),
            // Marks go elsewhere, locks and what volume.cfg said have their own rules, and records are no
            // garbage.
            Object::Run(_) | Object::Lock(_) | Object::LabelsLock(_) | Object::Config => false,
            Object::Incarnation(_) | Object::Record(_) => false,
        })
    }
}

/// Whether an object of 0.5 is so old that nobody is about to refer to it. That is only a courtesy, so this
/// machine's clock will do.
fn old(object: &ObjectInfo) -> bool {
    SystemTime::now().duration_since(object.modified).is_ok_and(|age| age > V0_GRACE)
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
