//! Deletes backups: first the record, then, under the exclusive lock, the data that nothing else needs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use convoy_objectstore::{Depth, ObjectStore, Pages, StoreError};

use super::live::{Live, needs};
use super::relocations::Relocations;
use super::runs::marked;
use super::{Engine, labels, trust};
use crate::crypt::{Crypt, StoreKey};
use crate::error::{BackupError, BackupResult};
use crate::format::limits::RECORD_V0_MAX;
use crate::layout::{Object, VolumeDir};
use crate::lock::{Lock, LockMode, LockTimes};
use crate::memory::Memory;
use crate::record::{self, BackupRecord};
use crate::types::{DeleteOptions, DeleteSummary, Unencrypted};

/// Objects deleted with one call; between calls the lock is looked at.
const AT_ONCE: usize = 500;

/// How long a deletion waits for others before it leaves the data to `prune`.
const WAIT: Duration = Duration::from_secs(2);

impl Engine {
    /// Deletes a backup that is not pinned. Its data goes too, unless other work on the volume is under way:
    /// then it stays until `prune` or the next delete, and the summary says so.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] with the text of 0.5; [`BackupError::Pinned`]; what the store says.
    pub async fn delete(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &str,
    ) -> BackupResult<DeleteSummary> {
        self.delete_with(store, volume, backup, &DeleteOptions::default()).await
    }

    /// As [`Engine::delete`], with options.
    ///
    /// # Errors
    /// As [`Engine::delete`]; with a key also [`BackupError::NotAuthentic`], [`BackupError::Unencrypted`] and
    /// [`BackupError::Damaged`].
    pub async fn delete_with(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &str,
        options: &DeleteOptions,
    ) -> BackupResult<DeleteSummary> {
        let volume = VolumeDir::new(volume)?;
        // A damaged record can be deleted; what it used is found by prune.
        let memory = self.options.memory();
        let mut charge = memory.charge();
        let record = match BackupRecord::load(&*store, &volume, backup, &mut charge).await {
            Ok(record) => Some(record),
            Err(BackupError::Damaged { .. } | BackupError::Memory { .. }) if options.key.is_none() => None,
            Err(e) => return Err(e),
        };
        let mut packs = Vec::new();
        let manifest = match &record {
            Some(record) => needs(&*store, &volume, record, &memory, &mut |pack, _| {
                // Here, and as a key.
                charge.add(volume.dir(), 512)?;
                packs.push(pack);
                Ok(())
            })
            .await
            .unwrap_or_default(),
            None => None,
        };
        self.delete_record(&store, &volume, backup, options.key.as_ref()).await?;
        let mut summary = DeleteSummary::default();
        let Some(record) = record else { return Ok(summary) };
        let times = LockTimes { wait: WAIT.min(self.options.lock_wait), ttl: self.options.lock_ttl };
        let lock =
            match Lock::take(store.clone(), &volume, LockMode::Exclusive, "deletion of data", times).await {
                Ok(lock) => lock,
                Err(BackupError::Busy { holder, .. }) => {
                    summary.deferred = Some(holder);
                    return Ok(summary);
                }
                Err(e) => return Err(e),
            };
        let result = reclaim(&store, &volume, &lock, &record, (packs, manifest), &memory, &mut summary).await;
        lock.release().await;
        match result {
            // What is in use cannot be told while a record is damaged: the data waits for that to be settled.
            Err(
                error @ (BackupError::Damaged { .. }
                | BackupError::Memory { .. }
                | BackupError::Version { .. }),
            ) => summary.deferred = Some(error.to_string()),
            other => other?,
        }
        Ok(summary)
    }
}

impl Engine {
    /// Takes the record away, unless the backup is pinned. No label is changed meanwhile.
    async fn delete_record(
        &self,
        store: &Arc<dyn ObjectStore>,
        volume: &VolumeDir,
        backup: &str,
        key: Option<&StoreKey>,
    ) -> BackupResult<()> {
        let taken = labels::take(store.clone(), volume, "deletion", self.options.lock_times()).await;
        let lock = match taken {
            Ok(lock) => Some(lock),
            // Nobody can pin anything there either, and this may be what makes room.
            Err(error) if labels::is_full(&error) => None,
            Err(error) => return Err(error),
        };
        let deleted = async {
            self.refuse_pinned(&**store, volume, backup, key).await?;
            let record = [volume.backup(backup)?];
            match &lock {
                Some(lock) => lock.within(store.delete(&record)).await,
                None => Ok(store.delete(&record).await?),
            }
        };
        let deleted = deleted.await;
        if let Some(lock) = lock {
            lock.release().await;
        }
        deleted
    }

    /// Fails for a backup that is pinned; with a key, also for one for which that does not vouch.
    async fn refuse_pinned(
        &self,
        store: &dyn ObjectStore,
        volume: &VolumeDir,
        backup: &str,
        key: Option<&StoreKey>,
    ) -> BackupResult<()> {
        let object = volume.backup(backup)?;
        let memory = self.options.memory();
        let bytes = match memory.read(store, &object, RECORD_V0_MAX).await {
            Ok(bytes) => bytes,
            // One that no reader takes pins nothing.
            Err(BackupError::Memory { .. } | BackupError::Store(StoreError::TooLarge { .. }))
                if key.is_none() =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if key.is_some() {
            let record = BackupRecord::of_backup(volume, backup, &bytes, &mut memory.charge())?;
            trust::open(volume, &record, key, Unencrypted::RefusedWithKey)?;
        }
        match record::keep_until(&bytes) {
            Some(until) if until.holds(jiff::Timestamp::now()) => Err(BackupError::Pinned {
                backup: backup.to_owned(),
                volume: volume.name().to_owned(),
                until,
            }),
            _ => Ok(()),
        }
    }
}

type Needs = (Vec<crate::format::PackId>, Option<String>);

async fn reclaim(
    store: &Arc<dyn ObjectStore>,
    volume: &VolumeDir,
    lock: &Lock,
    record: &BackupRecord,
    (packs, manifest): Needs,
    memory: &Arc<Memory>,
    summary: &mut DeleteSummary,
) -> BackupResult<()> {
    // Moves are only followed: with or without a key what cannot be opened counts as not moved, so nothing
    // may be deleted then.
    let moves = if record.key_id.is_none() {
        Relocations::load(&**store, volume, &[Crypt::default()], memory).await?
    } else {
        Relocations::default()
    };
    let mut any_moves = false;
    let dir = volume.moves();
    let mut pages = Pages::new(&**store, &dir, Depth::One);
    while let Some(page) = pages.next().await? {
        any_moves |=
            page.objects.iter().any(|o| matches!(volume.object(&o.key), Some(Object::Relocations(_))));
    }
    if any_moves && record.key_id.is_some() {
        summary.deferred =
            Some("parts of its data were moved: prune, which has the key, removes them".into());
        return Ok(());
    }
    let live = Live::find(&**store, volume, &moves, memory).await?;
    let mut keys: Vec<String> = manifest.filter(|key| !live.manifests.contains(key)).into_iter().collect();
    keys.extend(
        packs
            .iter()
            .filter(|pack| !live.packs.contains_key(pack))
            .map(|pack| volume.pack(pack.run, pack.seq)),
    );
    for block in record.blocks.iter().filter(|_| record.format_version == 0) {
        if !live.blocks.contains(&block.block_checksum) {
            // A checksum that is none names no object of ours.
            keys.extend(volume.v0_block(&block.block_checksum).ok());
        }
    }
    if let Some(file) = record.v0_file()
        && volume.object(file) == Some(Object::V0File(record.name.clone()))
        && !live.files.contains(file)
    {
        keys.push(file.to_owned());
    }
    keys.sort_unstable();
    keys.dedup();
    summary.objects += keys.len() as u64;
    summary.bytes += sizes(&**store, volume, &keys).await?;
    // A mark would let a later backup use what is about to go.
    let runs: HashSet<u64> = packs.iter().map(|pack| pack.run).collect();
    let marks: Vec<String> = marked(&**store, volume)
        .await?
        .into_iter()
        .filter(|run| runs.contains(run))
        .map(|run| volume.run(run))
        .collect();
    lock.within(store.delete(&marks)).await?;
    remove(&**store, volume, lock, &keys).await
}

/// Deletes objects that nothing refers to any more, as long as the lock is good. What is not convoy's stays,
/// whoever named it.
pub(crate) async fn remove(
    store: &dyn ObjectStore,
    volume: &VolumeDir,
    lock: &Lock,
    keys: &[String],
) -> BackupResult<()> {
    if let Some(key) = keys.iter().find(|key| volume.object(key).is_none()) {
        let why = format!("{key:?} is no object of volume {}: nothing was deleted", volume.name());
        return Err(BackupError::Invalid(why));
    }
    for part in keys.chunks(AT_ONCE) {
        lock.within(store.delete(part)).await?;
    }
    Ok(())
}

/// Bytes of objects, asked directory by directory rather than one by one.
async fn sizes(store: &dyn ObjectStore, volume: &VolumeDir, keys: &[String]) -> BackupResult<u64> {
    let wanted: HashSet<&str> = keys.iter().map(String::as_str).collect();
    let mut dirs: HashSet<(String, Depth)> = HashSet::new();
    let mut total = 0_u64;
    for key in keys {
        match volume.object(key) {
            Some(Object::Pack(pack)) => {
                dirs.insert((volume.packs_of(pack.run), Depth::One));
            }
            Some(Object::V0Block(_)) => {
                dirs.insert((volume.v0_blocks(), Depth::All));
            }
            _ => match store.head(key).await {
                Ok(info) => total = total.saturating_add(info.size),
                Err(StoreError::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            },
        }
    }
    for (dir, depth) in dirs {
        let mut pages = Pages::new(store, &dir, depth);
        while let Some(page) = pages.next().await? {
            let found = page.objects.iter().filter(|object| wanted.contains(object.key.as_str()));
            total = found.fold(total, |total: u64, object| total.saturating_add(object.size));
        }
    }
    Ok(total)
}
