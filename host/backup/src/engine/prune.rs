//! Removes what nothing refers to, and rewrites packs that are mostly that.

mod repack;

use std::sync::Arc;
use std::time::Duration;

use convoy_objectstore::{Depth, ObjectInfo, ObjectStore, Pages};
use tokio_util::sync::CancellationToken;

use super::catalog::volumes;
use super::ctx::Ctx;
use super::delete::remove;
use super::live::Live;
use super::relocations::Relocations;
use super::runs::marked;
use super::{Engine, trust};
use crate::crypt::Crypt;
use crate::error::{BackupError, BackupResult};
use crate::format::PackId;
use crate::layout::{Object, VolumeDir};
use crate::lock::{Lock, LockMode};
use crate::memory::{Charge, Memory};
use crate::progress::Progress;
use crate::record::BackupRecord;
use crate::types::{PruneOptions, PruneSummary};

/// Unfinished writes this old have no writer any more.
const PARTIAL_AGE: Duration = Duration::from_secs(24 * 3600);

impl Engine {
    /// Removes garbage of a volume, or of all: what interrupted backups and deferred deletions left. Nothing
    /// else may work on the volume meanwhile; of several volumes those that are worked on are skipped. What
    /// is not convoy's, by its name, is told and left alone.
    ///
    /// # Errors
    /// [`BackupError::Busy`] if there is but one volume; [`BackupError::Damaged`] or [`BackupError::Version`]
    /// if a record cannot be read: then it cannot be told what is garbage, and nothing is removed.
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
            None => volumes(&*store, &self.options.memory_to_look()).await?,
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
        let memory = self.options.memory_to_look();
        let moves = all_moves(&**store, volume, &crypts, &memory).await?;
        let live = Live::find(&**store, volume, &moves, &memory).await?;
        vouch(store, volume, &live, options, cancel, &memory).await?;
        let below = options.repack_below.into();
        let mut found = Sweep { garbage: Vec::new(), sparse: Vec::new(), below, charge: memory.charge() };
        let mut pages = Pages::new(&**store, volume.dir(), Depth::All);
        while let Some(page) = pages.next().await? {
            for object in page.objects {
                found.look(volume, &live, &moves, object, summary)?;
            }
        }
        let Sweep { garbage: keys, sparse, charge: _charge, .. } = found;
        if !options.dry_run {
            // Marks first: what starts after them cannot find what is removed.
            let marks: Vec<String> =
                marked(&**store, volume).await?.into_iter().map(|run| volume.run(run)).collect();
            lock.within(store.delete(&marks)).await?;
            remove(&**store, volume, lock, &keys).await?;
        }
        let plain = !options.unencrypted.refused(options.key.as_ref());
        for crypt in crypts.iter().filter(|crypt| plain || !crypt.is_clear()) {
            let ctx = Ctx::new(
                store.clone(),
                volume.clone(),
                crypt.clone(),
                progress.clone(),
                cancel,
                Arc::clone(&memory),
            );
            repack::repack(&ctx, lock, self.options, options, &live, &moves, &sparse, summary).await?;
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
    memory: &Arc<Memory>,
) -> BackupResult<()> {
    let Some(key) = &options.key else { return Ok(()) };
    let crypt = Crypt::new(Some(key.clone()));
    let ctx = Ctx::new(store.clone(), volume.clone(), crypt, Progress::new(), cancel, Arc::clone(memory));
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
pub(super) async fn all_moves(
    store: &dyn ObjectStore,
    volume: &VolumeDir,
    crypts: &[Crypt],
    memory: &Arc<Memory>,
) -> BackupResult<Relocations> {
    let all = Relocations::load(store, volume, crypts, memory).await?;
    let mut objects = 0;
    let mut pages = Pages::new(store, &volume.moves(), Depth::One);
    while let Some(page) = pages.next().await? {
        let moves =
            page.objects.iter().filter(|o| matches!(volume.object(&o.key), Some(Object::Relocations(_))));
        objects += moves.count();
    }
    if objects > all.packs().count() {
        return Err(BackupError::KeyMissing { backup: format!("some of volume {}", volume.name()) });
    }
    Ok(all)
}

/// What a look at the objects of a volume has found.
struct Sweep {
    /// Keys of what nothing needs.
    garbage: Vec<String>,
    /// Packs of which less than `below` percent is in use, with their bytes.
    sparse: Vec<(PackId, u64)>,
    below: u64,
    charge: Charge,
}

impl Sweep {
    fn look(
        &mut self,
        volume: &VolumeDir,
        live: &Live,
        moves: &Relocations,
        object: ObjectInfo,
        summary: &mut PruneSummary,
    ) -> BackupResult<()> {
        if let Some(Object::Pack(pack)) = volume.object(&object.key)
            && let Some(used) = live.packs.get(&pack)
            && repack::percent(*used, object.size) < self.below
        {
            self.charge.add(volume.dir(), 4 * size_of::<(PackId, u64)>())?;
            self.sparse.push((pack, object.size));
        }
        let Some(garbage) = live.is_garbage(volume, moves, &object) else {
            summary.note_strange(&object.key);
            return Ok(());
        };
        if garbage {
            self.charge.add(volume.dir(), 2 * size_of::<String>() + object.key.len())?;
            summary.objects += 1;
            summary.bytes = summary.bytes.saturating_add(object.size);
            self.garbage.push(object.key);
        }
        Ok(())
    }
}
