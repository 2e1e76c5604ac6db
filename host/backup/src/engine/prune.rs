//! Removes what nothing refers to, and rewrites packs that are mostly that.

mod repack;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use convoy_objectstore::{Depth, ObjectInfo, ObjectStore, list_all};
use tokio_util::sync::CancellationToken;

use super::catalog::volumes;
use super::ctx::Ctx;
use super::delete::remove;
use super::live::Live;
use super::moves::Moves;
use super::runs::marked;
use super::{Engine, trust};
use crate::api::{PruneOptions, PruneSummary};
use crate::crypt::Crypt;
use crate::error::{BackupError, BackupResult};
use crate::format::PackId;
use crate::layout::{VolumeDir, parse_pack};
use crate::lock::{Lock, LockMode};
use crate::progress::Progress;
use crate::record::BackupRecord;

/// 0.5 takes no locks. What it may be about to refer to is left alone for so long.
const V0_GRACE: Duration = Duration::from_secs(24 * 3600);
/// Unfinished writes this old have no writer any more.
const PARTIAL_AGE: Duration = Duration::from_secs(24 * 3600);

impl Engine {
    /// Removes garbage of a volume, or of all: what interrupted backups and deferred deletions left. Nothing else may work on the volume meanwhile;
    /// of several volumes those that are worked on are skipped.
    ///
    /// # Errors
    /// [`BackupError::Busy`] if there is but one volume; [`BackupError::Damaged`] or [`BackupError::Version`] if a record cannot be read: then it cannot be told what is garbage, and
    /// nothing is removed.
    pub async fn prune(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: Option<&str>,
        options: &PruneOptions,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> BackupResult<PruneSummary> {
        let mut summary = PruneSummary::default();
        let all = match volume {
            Some(name) => vec![VolumeDir::new(name)?],
            None => volumes(&*store).await?,
        };
        for volume in &all {
            if cancel.is_cancelled() {
                return Err(BackupError::Cancelled);
            }
            let mode = if options.dry_run { LockMode::Shared } else { LockMode::Exclusive };
            let lock = match Lock::take(store.clone(), volume, mode, "prune", self.options.lock_times()).await
            {
                Ok(lock) => lock,
                // One volume that is being backed up does not keep the others from their space.
                Err(error @ BackupError::Busy { .. }) if all.len() > 1 => {
                    summary.skipped.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            summary.volumes += 1;
            let result = self.prune_one(&store, volume, &lock, options, progress, cancel, &mut summary).await;
            lock.release().await;
            result?;
            if !options.dry_run {
                summary.partial += store.sweep(volume.dir(), PARTIAL_AGE).await?;
            }
        }
        Ok(summary)
    }

    #[allow(clippy::too_many_arguments)]
    async fn prune_one(
        &self,
        store: &Arc<dyn ObjectStore>,
        volume: &VolumeDir,
        lock: &Lock,
        options: &PruneOptions,
        progress: &Progress,
        cancel: &CancellationToken,
        summary: &mut PruneSummary,
    ) -> BackupResult<()> {
        let crypts = crypts(options);
        let moves = all_moves(&**store, volume, &crypts).await?;
        let live = Live::find(&**store, volume, &moves).await?;
        vouch(store, volume, &live, options, cancel).await?;
        let listed = list_all(&**store, &volume.packs(), Depth::All).await?.objects;
        let packs: Vec<(PackId, ObjectInfo)> = listed
            .into_iter()
            .filter_map(|o| parse_pack(&o.key).map(|(run, seq)| (PackId { run, seq }, o)))
            .collect();

        let mut garbage: Vec<ObjectInfo> =
            packs.iter().filter(|(pack, _)| !live.packs.contains_key(pack)).map(|(_, o)| o.clone()).collect();
        let manifests = list_all(&**store, &volume.manifests(), Depth::One).await?.objects;
        garbage.extend(manifests.into_iter().filter(|o| !live.manifests.contains(&o.key)));
        garbage.extend(v0_garbage(&**store, volume, &live).await?);
        let unused_moves: HashSet<String> = moves
            .packs()
            .filter(|pack| !live.packs.contains_key(pack))
            .map(|pack| Moves::key(volume, pack))
            .collect();
        let objects = list_all(&**store, &volume.moves(), Depth::One).await?.objects;
        garbage.extend(objects.into_iter().filter(|o| unused_moves.contains(&o.key)));

        summary.objects += garbage.len() as u64;
        summary.bytes += garbage.iter().map(|o| o.size).sum::<u64>();
        if !options.dry_run {
            // Marks first: what starts after them cannot find what is removed.
            let marks: Vec<String> =
                marked(&**store, volume).await?.into_iter().map(|run| volume.run(run)).collect();
            lock.within(store.delete(&marks)).await?;
            let keys: Vec<String> = garbage.into_iter().map(|o| o.key).collect();
            remove(&**store, lock, &keys).await?;
        }
        let kept: Vec<_> = packs.into_iter().filter(|(pack, _)| live.packs.contains_key(pack)).collect();
        let plain = !options.unencrypted.refused(options.key.as_ref());
        for crypt in crypts.iter().filter(|crypt| plain || !crypt.is_clear()) {
            let ctx = Ctx::new(store.clone(), volume.clone(), crypt.clone(), progress.clone(), cancel);
            repack::repack(&ctx, lock, self.options, options, &live, &moves, &kept, summary).await?;
        }
        Ok(())
    }
}

/// Makes sure, with the key, that what encrypted backups need is what they say. A record or manifest that was
/// tampered with could name less than the backup needs: then nothing is removed.
async fn vouch(
    store: &Arc<dyn ObjectStore>,
    volume: &VolumeDir,
    live: &Live,
    options: &PruneOptions,
    cancel: &CancellationToken,
) -> BackupResult<()> {
    let Some(key) = &options.key else { return Ok(()) };
    let crypt = Crypt::new(Some(key.clone()));
    let ctx = Ctx::new(store.clone(), volume.clone(), crypt, Progress::new(), cancel);
    let ours = |record: &&BackupRecord| record.is_encrypted() && record.key_id.as_deref() == Some(key.id());
    for record in live.records.iter().filter(ours) {
        trust::check_record(&ctx, record).await?;
    }
    Ok(())
}

/// In the clear, and with the key if there is one.
fn crypts(options: &PruneOptions) -> Vec<Crypt> {
    let sealed = options.key.clone().map(|key| Crypt::new(Some(key)));
    std::iter::once(Crypt::default()).chain(sealed).collect()
}

/// Moves that any of the keys opens. Some that none opens make it unknowable what is in use.
async fn all_moves(store: &dyn ObjectStore, volume: &VolumeDir, crypts: &[Crypt]) -> BackupResult<Moves> {
    let mut all = Moves::default();
    for crypt in crypts {
        all.merge(Moves::load(store, volume, crypt).await?);
    }
    let objects = list_all(store, &volume.moves(), Depth::One).await?.objects;
    if objects.len() > all.packs().count() {
        return Err(BackupError::KeyMissing { backup: format!("some of volume {}", volume.name()) });
    }
    Ok(all)
}

/// Blocks and files of 0.5 that no record names, unless they are young.
async fn v0_garbage(
    store: &dyn ObjectStore,
    volume: &VolumeDir,
    live: &Live,
) -> BackupResult<Vec<ObjectInfo>> {
    let mut found = list_all(store, &volume.v0_blocks(), Depth::All).await?.objects;
    found.retain(|o| {
        let checksum = o.key.rsplit('/').next().and_then(|name| name.strip_suffix(".blk"));
        checksum.is_some_and(|checksum| !live.blocks.contains(checksum))
    });
    let files = list_all(store, &volume.v0_files(), Depth::One).await?.objects;
    found.extend(files.into_iter().filter(|o| !live.files.contains(&o.key)));
    // The age is only a courtesy to 0.5, so this machine's clock will do.
    let now = SystemTime::now();
    found.retain(|o| now.duration_since(o.modified).is_ok_and(|age| age > V0_GRACE));
    Ok(found)
}
