//! Removes what nothing refers to, and rewrites packs that are mostly that.

mod repack;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use convoy_objectstore::{Depth, ObjectInfo, ObjectStore, list_all};
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::catalog::volumes;
use super::ctx::Ctx;
use super::delete::remove;
use super::live::Live;
use super::moves::Moves;
use super::runs::marked;
use crate::api::{PruneOptions, PruneSummary};
use crate::crypt::Crypt;
use crate::error::{BackupError, BackupResult};
use crate::format::PackId;
use crate::layout::{Object, VolumeDir};
use crate::lock::{Lock, LockMode};
use crate::progress::Progress;

/// 0.5 takes no locks. What it may be about to refer to is left alone for so long.
const V0_GRACE: Duration = Duration::from_secs(24 * 3600);
/// Unfinished writes this old have no writer any more.
const PARTIAL_AGE: Duration = Duration::from_secs(24 * 3600);

impl Engine {
    /// Removes garbage of a volume, or of all: what interrupted backups and deferred deletions left. Nothing else may work on the volume meanwhile;
    /// of several volumes those that are worked on are skipped. What is not convoy's, by its name, is told and left alone.
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
                // Nor does one that somebody put something strange into.
                Err(error) if error.foreign() && all.len() > 1 => {
                    summary.skipped.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            summary.volumes += 1;
            let result = self.prune_one(&store, volume, &lock, options, progress, cancel, &mut summary).await;
            lock.release().await;
            match result {
                Err(error) if error.foreign() && all.len() > 1 => summary.skipped.push(error.to_string()),
                result => result?,
            }
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
        let mut packs: Vec<(PackId, ObjectInfo)> = Vec::new();
        let mut garbage: Vec<ObjectInfo> = Vec::new();
        for found in list_all(&**store, volume.dir(), Depth::All).await?.objects {
            let unused = match volume.object(&found.key) {
                Some(Object::Pack(pack)) if live.packs.contains_key(&pack) => {
                    packs.push((pack, found));
                    continue;
                }
                Some(Object::Pack(_)) => true,
                Some(Object::Manifest(_)) => !live.manifests.contains(&found.key),
                Some(Object::Moves(pack)) => moves.of(pack).is_some() && !live.packs.contains_key(&pack),
                Some(Object::V0Block(checksum)) => !live.blocks.contains(&checksum) && old(&found),
                Some(Object::V0File(_)) => !live.files.contains(&found.key) && old(&found),
                // Marks go below, locks and what volume.cfg said have their own rules, and records are no garbage.
                Some(Object::Run(_) | Object::Lock { .. } | Object::Config) => false,
                Some(Object::Incarnation(_) | Object::Record(_)) => false,
                None => {
                    summary.note_strange(&found.key);
                    false
                }
            };
            if unused {
                garbage.push(found);
            }
        }

        summary.objects += garbage.len() as u64;
        summary.bytes += garbage.iter().map(|o| o.size).sum::<u64>();
        if !options.dry_run {
            // Marks first: what starts after them cannot find what is removed.
            let marks: Vec<String> =
                marked(&**store, volume).await?.into_iter().map(|run| volume.run(run)).collect();
            lock.within(store.delete(&marks)).await?;
            let keys: Vec<String> = garbage.into_iter().map(|o| o.key).collect();
            remove(&**store, volume, lock, &keys).await?;
        }
        for crypt in &crypts {
            let ctx = Ctx::new(store.clone(), volume.clone(), crypt.clone(), progress.clone(), cancel);
            repack::repack(&ctx, lock, self.options, options, &live, &moves, &packs, summary).await?;
        }
        Ok(())
    }
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
    let moves = objects.iter().filter(|o| matches!(volume.object(&o.key), Some(Object::Moves(_))));
    if moves.count() > all.packs().count() {
        return Err(BackupError::KeyMissing { backup: format!("some of volume {}", volume.name()) });
    }
    Ok(all)
}

/// Whether an object of 0.5 is so old that nobody is about to refer to it. That is only a courtesy, so this machine's clock will do.
fn old(object: &ObjectInfo) -> bool {
    SystemTime::now().duration_since(object.modified).is_ok_and(|age| age > V0_GRACE)
}
