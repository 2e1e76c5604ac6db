//! Backups in a store: made, listed, looked at, deleted, checked and tidied.

use super::progress::watched;
use super::secret::Secret;
use super::settings::Destinations;
use super::store::{For, Store};
use super::{Backups, source};
use crate::events::about;
use crate::jobs::{Running, STALLED};
use crate::metrics::{Bytes, METRICS};
use crate::volumes::error::{Error, Result};
use crate::volumes::index::Entry;
use convoy_backup::{
    BackupError, BackupKind, BackupMeta, BackupOptions, Engine, Format, Progress, PruneOptions,
    VerifyOptions, VerifySummary,
};
use convoy_client::types::{
    BackupInfo, BackupRef, CreateBackup, Event, ListBackups, Pairs, Problem, PruneBackups, PruneReport,
    VerifyBackups, VerifyReport,
};
use convoy_driver_sdk::Timestamp;
use convoy_driver_sdk::protocol::{Snapshot, SourceKind};
use convoy_objectstore::StoreError;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Backups {
    /// Backs a snapshot up to a store and answers the backup's URL.
    pub(super) async fn back_up_to_store(
        &self,
        entry: &Entry,
        snapshot: &Snapshot,
        asked: &CreateBackup,
        url: &str,
        job: &Running,
        request_id: &str,
    ) -> Result<String> {
        let format = match asked.format.as_str() {
            "" | "v1" => Format::V1,
            "v0" => Format::V0,
            other => {
                let text =
                    format!("invalid format {other:?}: expected v1, or v0 for what convoy 0.5 can restore");
                return Err(Error::InvalidRequest(text));
            }
        };
        let shape = source::shape(&entry.driver, &asked.kind)?;
        if shape.told && format == Format::V0 {
            let text =
                "convoy 0.5 restores only what is of the driver's own kind: leave out the format or the kind";
            return Err(Error::InvalidRequest(text.to_owned()));
        }
        let store = self.destinations().open(url, &asked.endpoint).await?;
        // What 0.5 is to restore cannot be encrypted: only a key that was asked for is refused.
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        let key = match (format, secret) {
            (Format::V0, None) => None,
            (_, secret) => store.key(&self.engine, secret, For::Writing).await?,
        };
        let level = store.level(asked.compression)?;
        let volume = &entry.volume.name;
        let _reading = self.volumes.reading(volume);
        let kind = shape.kind.map(|kind| match kind {
            SourceKind::Tree => BackupKind::Tree,
            SourceKind::Block => BackupKind::Block,
        });
        let options =
            BackupOptions { format, kind, recheck: asked.full, key, level, ..BackupOptions::default() };
        let engine = self.memory.share(job).await?;
        let preparing = engine.prepare(Arc::clone(&store.objects), volume, &options);
        let prepared = job.attended(STALLED, preparing, async { engine.lend() }).await?;
        let base = prepared.parent().map(|parent| parent.snapshot);
        let call = job.call(request_id);
        let opened =
            source::open(&self.volumes, entry, &snapshot.name, shape, base.as_deref(), &call).await?;
        let meta = BackupMeta {
            backup: crate::volumes::create::generated_name("backup")?.to_string(),
            volume: volume.to_string(),
            driver: entry.driver.name().to_string(),
            volume_size: opened.size().unwrap_or(entry.volume.size),
            volume_created: entry.volume.created.to_legacy(),
            snapshot: snapshot.name.to_string(),
            snapshot_created: snapshot.created.to_legacy(),
            created: Timestamp::now().to_legacy(),
            options: opened.restore_options(),
        };
        let backup = meta.backup.clone();
        let (progress, cancel) = (Progress::new(), job.cancel());
        let running = prepared.run(meta, opened.source(&call), &progress, &cancel);
        let result = watched(job, &engine, &progress, "reading", Box::pin(running)).await;
        opened.close(&self.volumes, request_id).await;
        let summary = result.map_err(heal)?;
        let url = store.destination.backup_url(&backup, volume);
        tracing::info!(
            %volume, snapshot = %snapshot.name, backup, parent = summary.parent,
            bytes = summary.stats.bytes, read = summary.stats.bytes_read, added = summary.stats.bytes_added,
            "backed up"
        );
        METRICS.moved(Bytes::BackedUp, summary.stats.bytes);
        METRICS.moved(Bytes::Read, summary.stats.bytes_read);
        METRICS.moved(Bytes::Stored, summary.stats.bytes_added);
        self.note(volume, store.destination.to_string(), &snapshot.name, &url).await;
        let event = about("backup.create", entry.driver.name(), volume);
        self.volumes.events.send(Event {
            snapshot: snapshot.name.to_string(),
            message: url.clone(),
            ..event
        });
        Ok(url)
    }

    pub(super) async fn list_in_store(
        &self,
        url: &str,
        asked: &ListBackups,
    ) -> Result<BTreeMap<String, BackupInfo>> {
        let store = if asked.must_exist {
            self.destinations().open_known(&self.engine, url, &asked.endpoint).await?
        } else {
            self.destinations().open(url, &asked.endpoint).await?
        };
        let volume = (!asked.volume_name.is_empty()).then_some(asked.volume_name.as_str());
        let listing = match self.engine.list(Arc::clone(&store.objects), volume).await {
            Err(BackupError::Store(error @ StoreError::NotFound { .. })) if volume.is_some() => {
                return Err(Error::NoBackups(error.to_string()));
            }
            listing => listing?,
        };
        for (volume, backup, error) in &listing.unreadable {
            tracing::warn!(volume, backup, %error, "a backup cannot be listed");
        }
        let wanted = |snapshot: &str| asked.snapshot_name.is_empty() || asked.snapshot_name == snapshot;
        Ok(listing
            .backups
            .into_iter()
            .filter(|info| wanted(&info.snapshot))
            .map(|info| {
                let url = store.destination.backup_url(&info.backup, &info.volume);
                (url.clone(), shown(&info, &url))
            })
            .collect())
    }

    pub(super) async fn inspect_in_store(&self, url: &str, asked: &BackupRef) -> Result<BackupInfo> {
        let (store, backup) = self.destinations().open_backup(url, &asked.endpoint).await?;
        let info = self.engine.inspect(store.objects, &backup.volume, &backup.backup).await?;
        Ok(shown(&info, &backup.to_string()))
    }

    pub(super) async fn delete_in_store(&self, url: &str, asked: &BackupRef) -> Result<()> {
        let (store, backup) = self.destinations().open_backup(url, &asked.endpoint).await?;
        let summary = self.engine.delete(store.objects, &backup.volume, &backup.backup).await?;
        if let Some(why) = summary.deferred {
            tracing::info!(backup = %backup, why, "the backup is gone; its data is removed later");
        }
        self.forget(&backup.to_string()).await;
        let event = about("backup.delete", "", &backup.volume);
        self.volumes.events.send(Event { message: backup.to_string(), ..event });
        Ok(())
    }

    pub(super) async fn verify_in_store(
        &self,
        url: &str,
        asked: &VerifyBackups,
        job: &Running,
    ) -> Result<VerifyReport> {
        let (store, volume, backup) =
            scope(&self.destinations(), &self.engine, url, &asked.endpoint, &asked.volume_name).await?;
        if asked.read_data > 100 {
            let text = format!("invalid ReadData {}: expected 0 to 100 percent", asked.read_data);
            return Err(Error::InvalidRequest(text));
        }
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        let key = store.key(&self.engine, secret, For::Reading).await?;
        let options = VerifyOptions { read_data: asked.read_data, key };
        let (progress, cancel) = (Progress::new(), job.cancel());
        let objects = Arc::clone(&store.objects);
        let engine = self.memory.share(job).await?;
        let running =
            engine.verify(objects, volume.as_deref(), backup.as_deref(), &options, &progress, &cancel);
        let summary = watched(job, &engine, &progress, "verifying", running).await?;
        Ok(report(&store, summary))
    }

    pub(super) async fn prune_in_store(
        &self,
        url: &str,
        asked: &PruneBackups,
        job: &Running,
    ) -> Result<PruneReport> {
        let store = self.destinations().open_known(&self.engine, url, &asked.endpoint).await?;
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        let key = store.key(&self.engine, secret, For::Reading).await?;
        let options = PruneOptions { dry_run: asked.dry_run, key, ..PruneOptions::default() };
        let volume = (!asked.volume_name.is_empty()).then_some(asked.volume_name.as_str());
        let (progress, cancel) = (Progress::new(), job.cancel());
        let engine = self.memory.share(job).await?;
        let running = engine.prune(Arc::clone(&store.objects), volume, &options, &progress, &cancel);
        let summary = watched(job, &engine, &progress, "pruning", running).await?;
        let mut skipped = summary.skipped;
        let strange = summary.strange.iter();
        skipped.extend(strange.map(|key| format!("{key}: that is no name that convoy gives to an object")));
        let more = summary.strange_count.saturating_sub(summary.strange.len() as u64);
        if more > 0 {
            skipped.push(format!("{more} further objects with names that convoy does not give"));
        }
        Ok(PruneReport {
            dry_run: asked.dry_run,
            objects: summary.objects + summary.repacked + summary.partial,
            bytes: summary.bytes + summary.repacked_bytes,
            volumes: summary.volumes,
            skipped,
        })
    }
}

/// A damaged parent cannot be built on as it is; there is a way out.
fn heal(error: BackupError) -> Error {
    let damaged = matches!(error, BackupError::Damaged { .. });
    match Error::from(error) {
        Error::Backup { kind, message, .. } if damaged => Error::Backup {
            kind,
            message,
            hint: Some("the last backup is damaged: --full makes one that does not rely on it, and repairs it where it can".to_owned()),
        },
        other => other,
    }
}

/// What is to be verified: one backup, one volume's, or everything at a destination.
async fn scope(
    destinations: &Destinations,
    engine: &Engine,
    url: &str,
    endpoint: &str,
    volume: &str,
) -> Result<(Store, Option<String>, Option<String>)> {
    if url.contains('?') {
        let (store, backup) = destinations.open_backup(url, endpoint).await?;
        return Ok((store, Some(backup.volume), Some(backup.backup)));
    }
    let store = destinations.open_known(engine, url, endpoint).await?;
    Ok((store, (!volume.is_empty()).then(|| volume.to_owned()), None))
}

fn report(store: &Store, summary: VerifySummary) -> VerifyReport {
    VerifyReport {
        backups: summary.backups,
        bytes_read: summary.bytes_read,
        garbage: summary.garbage,
        problems: summary
            .faults
            .into_iter()
            .map(|fault| Problem {
                backup_url: match (fault.backup.as_str(), fault.volume.as_str()) {
                    ("", _) | (_, "") => String::new(),
                    (backup, volume) => store.destination.backup_url(backup, volume),
                },
                object: String::new(),
                message: fault.what,
            })
            .collect(),
    }
}

fn shown(info: &convoy_backup::BackupInfo, url: &str) -> BackupInfo {
    let pairs: Pairs = info.to_map(url);
    pairs.into()
}
