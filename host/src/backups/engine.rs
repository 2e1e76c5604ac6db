//! Backups in a store: made, listed, looked at, deleted, checked and tidied.

use super::error::backup_error;
use super::labels::{self, LabelFilter};
use super::last::Last;
use super::progress::watched;
use super::secret::Secret;
use super::service::Backups;
use super::shown::shown;
use super::source;
use super::store::Store;
use crate::config::destinations::Destinations;
use convoy_activity::events::about;
use convoy_activity::jobs::{Running, STALLED};
use convoy_activity::metrics::{Bytes, METRICS};
use convoy_backup::{
    BackupError, BackupKind, BackupMeta, BackupOptions, DeleteOptions, Engine, ExcludeRules, Format,
    Progress, PruneOptions, StoreKey, VerifyOptions, VerifySummary,
};
use convoy_client::types::{
    BackupCost, BackupInfo, BackupRef, CreateBackup, CreatedBackup, Event, ListBackups, Problem,
    PruneBackups, PruneReport, VerifyBackups, VerifyReport,
};
use convoy_driver_sdk::Timestamp;
use convoy_driver_sdk::protocol::{Snapshot, SourceKind};
use convoy_volumes::{Entry, Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

impl Backups {
    /// Backs a snapshot up to a store.
    pub(super) async fn back_up_to_store(
        &self,
        entry: &Entry,
        snapshot: &Snapshot,
        asked: &CreateBackup,
        url: &str,
        job: &Running,
        request_id: &str,
    ) -> Result<CreatedBackup> {
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
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        let allow_plain = match (asked.encryption.as_str(), &secret) {
            ("", _) => false,
            ("none", None) => true,
            ("none", Some(_)) => {
                let text = "expected either a key or encryption \"none\", found both";
                return Err(Error::InvalidRequest(text.to_owned()));
            }
            (other, _) => {
                let text = format!("invalid encryption {other:?}: expected none, or nothing");
                return Err(Error::InvalidRequest(text));
            }
        };
        // What 0.5 is to restore cannot be encrypted: only a key that was asked for is refused.
        let key = match (format, secret) {
            (Format::V0, None) => None,
            _ if allow_plain => None,
            (_, secret) => store.key_to_write(&self.engine, secret).await?,
        };
        let level = store.level(asked.compression)?;
        let exclude = self.excluded_from(&entry.volume.name).and(excludes(asked));
        let said = labels::of_new(asked)?;
        let volume = &entry.volume.name;
        let _reading = self.volumes.reading(volume);
        let kind = shape.kind.map(|kind| match kind {
            SourceKind::Tree => BackupKind::Tree,
            SourceKind::Block => BackupKind::Block,
        });
        let place = store.destination.to_string();
        if let Some(older) = self.notice(&store, key.as_ref(), volume).await {
            tracing::warn!(%volume, destination = %place, older, "there may have been newer backups");
        }
        let after = self.seen.newest(&place, volume).map_or(0, |newest| newest.sequence);
        let recheck = asked.full;
        let options = BackupOptions {
            format,
            kind,
            recheck,
            key,
            level,
            allow_plain,
            after,
            exclude,
            ..BackupOptions::default()
        };
        let engine = self.memory.share(job).await?;
        let preparing = engine.prepare(Arc::clone(&store.objects), volume, &options);
        let failed = |error| store.full(&error).unwrap_or_else(|| heal(error));
        let prepared = job.attended(STALLED, preparing, async { engine.lend() }).await.map_err(failed)?;
        let base = prepared.parent().map(|parent| parent.snapshot);
        let call = job.call(request_id);
        let opened =
            source::open(&self.volumes, entry, &snapshot.name, shape, base.as_deref(), &call).await?;
        let meta = BackupMeta {
            backup: convoy_volumes::generated_name("backup")?.to_string(),
            volume: volume.to_string(),
            driver: entry.driver.name().to_string(),
            volume_size: opened.size().unwrap_or(entry.volume.size),
            volume_created: entry.volume.created.to_legacy(),
            snapshot: snapshot.name.to_string(),
            snapshot_created: snapshot.created.to_legacy(),
            created: Timestamp::now().to_legacy(),
            options: opened.restore_options(),
            labels: said,
        };
        let backup = meta.backup.clone();
        let (progress, cancel) = (Progress::new(), job.cancel());
        let running = prepared.run(meta, opened.source(&call), &progress, &cancel);
        let result = watched(job, &engine, &progress, "reading", Box::pin(running)).await;
        opened.close(&self.volumes, request_id).await;
        let summary = result.map_err(failed)?;
        job.warn(summary.warnings);
        let url = store.destination.backup_url(&backup, volume);
        tracing::info!(
            %volume, snapshot = %snapshot.name, backup, parent = summary.parent,
            warnings = summary.stats.warnings, bytes = summary.stats.bytes,
            read = summary.stats.bytes_read, added = summary.stats.bytes_added,
            "backed up"
        );
        let stats = &summary.stats;
        let cost = BackupCost {
            bytes: stats.bytes,
            bytes_read: stats.bytes_read,
            bytes_added: stats.bytes_added,
            files: stats.files,
            millis: stats.millis,
            warnings: stats.warnings,
            excluded_files: summary.excluded.files,
            excluded_directories: summary.excluded.directories,
        };
        METRICS.moved(Bytes::BackedUp, summary.stats.bytes);
        METRICS.moved(Bytes::Read, summary.stats.bytes_read);
        METRICS.moved(Bytes::Stored, summary.stats.bytes_added);
        if summary.sequence > 0 {
            self.seen.compare(&place, volume, &[(backup, summary.sequence)]);
        }
        let last = Last {
            bytes: Some(cost.bytes),
            files: (summary.kind == BackupKind::Tree).then_some(cost.files),
            bytes_added: Some(cost.bytes_added),
            ..Last::new(&snapshot.name, &url)
        };
        self.note(volume, place, last).await;
        let event = about("backup.create", entry.driver.name(), volume);
        self.events.send(Event { snapshot: snapshot.name.to_string(), message: url.clone(), ..event });
        Ok(CreatedBackup { url, cost: Some(cost) })
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
        let filter = LabelFilter::of(asked)?;
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        // Listing needs no key; with one it says which backups are authentic.
        let key = match store.key_to_read(&self.engine, secret, true).await {
            Ok((key, _)) => key,
            Err(error) => {
                tracing::warn!(%error, "the backups are listed without a key");
                None
            }
        };
        let listed = self.engine.list_checked(Arc::clone(&store.objects), volume, key.as_ref()).await;
        let listing = match listed {
            Err(error) if volume.is_some() => {
                return Err(match store.missing(error, &asked.volume_name, None) {
                    Error::InOldWords { message, plain, hint, .. } => {
                        Error::NoBackups { message, plain, hint }
                    }
                    other => other,
                });
            }
            listing => listing.map_err(backup_error)?,
        };
        for (volume, backup, error) in &listing.unreadable {
            tracing::warn!(volume, backup, %error, "a backup cannot be listed");
        }
        let older = match &key {
            Some(_) => self.compare(&store, volume, authentic(&listing.backups), false),
            None => BTreeMap::new(),
        };
        // Each is of one backup, which added all of it.
        let mut archives = match asked.details {
            true => {
                self.engine.archive_sizes(&*store.objects, &listing.backups).await.map_err(backup_error)?
            }
            false => HashMap::new(),
        };
        let wanted = |snapshot: &str| asked.snapshot_name.is_empty() || asked.snapshot_name == snapshot;
        Ok(listing
            .backups
            .into_iter()
            .filter(|info| wanted(&info.snapshot) && filter.wants(&info.labels))
            .map(|info| {
                let url = store.destination.backup_url(&info.backup, &info.volume);
                let mut shown = shown(&info, &url, asked.details);
                let archive = archives.remove(&(info.volume.clone(), info.backup.clone()));
                shown.extra.extend(archive.map(|bytes| ("BytesAdded".to_owned(), bytes.to_string())));
                if let Some(older) = older.get(&info.volume) {
                    shown.extra.insert("Warning".to_owned(), older.clone());
                }
                (url, shown)
            })
            .collect())
    }

    /// Compares what is there with what this host saw, of one volume or of all. Answers what to tell, by
    /// volume; with `settle` for the last time.
    fn compare(
        &self,
        store: &Store,
        volume: Option<&str>,
        mut there: BTreeMap<String, Vec<(String, u64)>>,
        settle: bool,
    ) -> BTreeMap<String, String> {
        let place = store.destination.to_string();
        let wanted = |name: &String| volume.is_none_or(|volume| name == volume);
        for name in self.seen.volumes(&place).into_iter().filter(wanted) {
            there.entry(name).or_default();
        }
        let told = |(name, there): (String, Vec<_>)| {
            let older = match settle {
                true => self.seen.settle(&place, &name, &there)?,
                false => self.seen.compare(&place, &name, &there)?,
            };
            tracing::warn!(volume = name, destination = %place, older, "there were newer backups");
            Some((name, older))
        };
        there.into_iter().filter_map(told).collect()
    }

    /// What is older of a volume than this host saw it. It costs a request unless the newest backup that was
    /// seen is gone. What cannot be told is not told.
    pub(super) async fn notice(&self, store: &Store, key: Option<&StoreKey>, volume: &str) -> Option<String> {
        let key = key?;
        let place = store.destination.to_string();
        let newest = self.seen.newest(&place, volume)?;
        let objects = || Arc::clone(&store.objects);
        if self.engine.has_backup(objects(), volume, &newest.backup).await.ok()? {
            return self.seen.compare(&place, volume, &[(newest.backup, newest.sequence)]);
        }
        let listed = match self.engine.list_checked(objects(), Some(volume), Some(key)).await {
            Ok(listing) => listing.backups,
            Err(error) if error.not_found() => Vec::new(),
            Err(_) => return None,
        };
        self.compare(store, Some(volume), authentic(&listed), false).remove(volume)
    }

    /// See [`Backups::older`].
    pub(super) async fn older_in_store(&self, url: &str, endpoint: &str) -> Result<Vec<String>> {
        let store = self.destinations().open(url, endpoint).await?;
        let volumes = self.seen.volumes(&store.destination.to_string());
        if volumes.is_empty() {
            return Ok(Vec::new());
        }
        let (key, _) = store.key_to_read(&self.engine, None, true).await?;
        let mut older = Vec::new();
        for volume in volumes {
            older.extend(self.notice(&store, key.as_ref(), &volume).await);
        }
        Ok(older)
    }

    pub(super) async fn inspect_in_store(&self, url: &str, asked: &BackupRef) -> Result<BackupInfo> {
        let (store, backup) = self.destinations().open_backup(url, &asked.endpoint).await?;
        let info = self.engine.inspect(Arc::clone(&store.objects), &backup.volume, &backup.backup).await;
        let info = info.map_err(|error| store.missing(error, &backup.volume, Some(&backup.backup)))?;
        let mut shown = shown(&info, &backup.to_string(), asked.details);
        if asked.details {
            let archive = self.engine.archive_sizes(&*store.objects, &[info]).await.map_err(backup_error)?;
            let archive = archive.into_values().next();
            shown.extra.extend(archive.map(|bytes| ("BytesAdded".to_owned(), bytes.to_string())));
        }
        Ok(shown)
    }

    /// Deletes a backup. With `vouched` only one for which the key vouches, where one is named.
    pub(super) async fn delete_in_store(&self, url: &str, asked: &BackupRef, vouched: bool) -> Result<()> {
        let (store, backup) = self.destinations().open_backup(url, &asked.endpoint).await?;
        let key = match vouched {
            true => {
                let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
                store.key_to_read(&self.engine, secret, false).await?.0
            }
            false => None,
        };
        let objects = Arc::clone(&store.objects);
        let options = DeleteOptions { key };
        let deleted = self.engine.delete_with(objects, &backup.volume, &backup.backup, &options).await;
        let summary = deleted.map_err(|error| {
            labels::pinned(error, &backup.to_string())
                .unwrap_or_else(|error| store.missing(error, &backup.volume, Some(&backup.backup)))
        })?;
        if let Some(why) = summary.deferred {
            tracing::info!(backup = %backup, why, "the backup is gone; its data is removed later");
        }
        self.seen.forget(&store.destination.to_string(), &backup.volume, Some(&backup.backup));
        self.forget(&backup.to_string()).await;
        let event = about("backup.delete", "", &backup.volume);
        self.events.send(Event { message: backup.to_string(), ..event });
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
        let (key, unencrypted) = store.key_to_read(&self.engine, secret, asked.allow_unencrypted).await?;
        let with_key = key.is_some();
        let options = VerifyOptions { read_data: asked.read_data, key, unencrypted };
        let (progress, cancel) = (Progress::new(), job.cancel());
        let objects = Arc::clone(&store.objects);
        let engine = self.memory.share(job).await?;
        let running =
            engine.verify(objects, volume.as_deref(), backup.as_deref(), &options, &progress, &cancel);
        let verified = watched(job, &engine, &progress, "verifying", running).await;
        let summary = verified.map_err(|error| match &volume {
            Some(volume) => store.missing(error, volume, backup.as_deref()),
            None => backup_error(error),
        })?;
        let mut report = report(&store, &summary);
        // What was looked at in whole can be older than it was.
        if with_key && backup.is_none() {
            let mut there: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
            for (volume, backup, sequence) in summary.authentic {
                there.entry(volume).or_default().push((backup, sequence));
            }
            let older = self.compare(&store, volume.as_deref(), there, true).into_values();
            let problem = |message| Problem { message, kind: "older".to_owned(), ..Problem::default() };
            report.problems.extend(older.map(problem));
        }
        Ok(report)
    }

    pub(super) async fn prune_in_store(
        &self,
        url: &str,
        asked: &PruneBackups,
        job: &Running,
    ) -> Result<PruneReport> {
        let store = self.destinations().open_known(&self.engine, url, &asked.endpoint).await?;
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        let (key, unencrypted) = store.key_to_read(&self.engine, secret, asked.allow_unencrypted).await?;
        let options = PruneOptions { dry_run: asked.dry_run, key, unencrypted, ..PruneOptions::default() };
        let volume = (!asked.volume_name.is_empty()).then_some(asked.volume_name.as_str());
        let (progress, cancel) = (Progress::new(), job.cancel());
        let engine = self.memory.share(job).await?;
        let running =
            Box::pin(engine.prune(Arc::clone(&store.objects), volume, &options, &progress, &cancel));
        let summary = watched(job, &engine, &progress, "pruning", running).await.map_err(backup_error)?;
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
    let damaged = matches!(error, BackupError::Damaged { .. } | BackupError::Memory { .. });
    match backup_error(error) {
        Error::Backup { kind, message, .. } if damaged => Error::Backup {
            kind,
            message,
            hint: Some(
                "the last backup is damaged: --full makes one that does not rely on it, and repairs \
                        it where it can"
                    .to_owned(),
            ),
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

/// The backups of each volume for which the key vouches, with their sequences.
fn authentic(backups: &[convoy_backup::BackupInfo]) -> BTreeMap<String, Vec<(String, u64)>> {
    let mut there: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for info in backups.iter().filter(|info| info.authentic) {
        there.entry(info.volume.clone()).or_default().push((info.backup.clone(), info.sequence));
    }
    there
}

fn report(store: &Store, summary: &VerifySummary) -> VerifyReport {
    VerifyReport {
        backups: summary.backups,
        bytes_read: summary.bytes_read,
        garbage: summary.garbage,
        problems: summary
            .faults
            .iter()
            .map(|fault| Problem {
                backup_url: match (fault.backup.as_str(), fault.volume.as_str()) {
                    ("", _) | (_, "") => String::new(),
                    (backup, volume) => store.destination.backup_url(backup, volume),
                },
                object: String::new(),
                kind: fault.kind.as_str().to_owned(),
                message: fault.what.clone(),
            })
            .collect(),
    }
}

/// What a request leaves out.
pub(super) fn excludes(asked: &CreateBackup) -> ExcludeRules {
    ExcludeRules {
        patterns: asked.exclude.clone(),
        if_present: asked.exclude_if_present.clone(),
        caches: asked.exclude_caches,
        ignore_file: asked.allow_convoyignore,
    }
}
