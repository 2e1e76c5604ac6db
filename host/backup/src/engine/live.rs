//! What of a volume's data is in use. Asked only under the exclusive lock.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use convoy_objectstore::ObjectStore;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::catalog::records;
use super::moves::Moves;
use super::segments::WRONG_CHECKSUM;
use crate::error::{BackupError, BackupResult};
use crate::format::PackId;
use crate::format::manifest::{ROOT_MAX, Root};
use crate::layout::{VolumeDir, parse_run};
use crate::record::BackupRecord;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) records: Vec<BackupRecord>,
    /// Packs, with the most bytes that one backup uses of each.
    pub(crate) packs: HashMap<PackId, u64>,
    /// Keys of manifests.
    pub(crate) manifests: HashSet<String>,
    /// Checksums of 0.5's blocks.
    pub(crate) blocks: HashSet<String>,
    /// Keys of 0.5's single files.
    pub(crate) files: HashSet<String>,
}

/// The packs a backup needs and the key of its manifest.
pub(crate) async fn needs(
    store: &dyn ObjectStore,
    volume: &VolumeDir,
    record: &BackupRecord,
) -> BackupResult<(Vec<(PackId, u64)>, Option<String>)> {
    let Some(manifest) = &record.manifest else { return Ok((Vec::new(), None)) };
    let run = parse_run(&manifest.run)
        .ok_or_else(|| BackupError::damaged(&record.name, "its record names no proper run"))?;
    let key = volume.manifest(run);
    let bytes = match store.get(&key, ROOT_MAX as u64).await {
        Ok(bytes) => bytes,
        Err(e) if e.not_found() => {
            let why = format_args!(
                "backup {} needs it and it is missing: that backup cannot be restored, delete it",
                record.name
            )
            .to_string();
            return Err(BackupError::damaged(key, why));
        }
        Err(e) => return Err(e.into()),
    };
    // The table is not sealed: only the record, which may have a code, vouches for it.
    if blake3::hash(&bytes).to_hex().as_str() != manifest.blake3 {
        return Err(BackupError::damaged(key, WRONG_CHECKSUM));
    }
    let (packs, _) = Root::parse_packs(&key, &bytes)?;
    Ok((packs.iter().map(|p| (PackId { run: p.run, seq: p.seq }, p.used)).collect(), Some(key)))
}

impl Live {
    /// Finds what is in use. What cannot be read may use anything: then nothing may be deleted, and this fails.
    pub(crate) async fn find(
        store: &dyn ObjectStore,
        volume: &VolumeDir,
        moves: &Moves,
    ) -> BackupResult<Self> {
        let mut live = Self::default();
        for (_, record) in records(store, volume).await? {
            live.records.push(record?);
        }
        let loads: Vec<BoxFuture<'_, _>> =
            live.records.iter().map(|record| needs(store, volume, record).boxed()).collect();
        let needed: Vec<_> = futures::stream::iter(loads).buffered(8).try_collect().await?;
        for (packs, manifest) in needed {
            for (pack, used) in packs {
                let most = live.packs.entry(pack).or_default();
                *most = used.max(*most);
            }
            live.manifests.extend(manifest);
        }
        // What was moved out of a pack in use is in use where it went.
        let mut todo: Vec<PackId> = live.packs.keys().copied().collect();
        while let Some(pack) = todo.pop() {
            for place in moves.of(pack).into_iter().flat_map(HashMap::values) {
                if let Entry::Vacant(unseen) = live.packs.entry(place.pack) {
                    unseen.insert(0);
                    todo.push(place.pack);
                }
            }
        }
        for record in live.records.iter().filter(|r| r.format_version == 0) {
            live.blocks.extend(record.blocks.iter().map(|b| b.block_checksum.clone()));
            live.files.extend(record.v0_file().map(str::to_owned));
        }
        Ok(live)
    }
}
