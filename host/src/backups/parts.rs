//! Parts of a backup or snapshot, brought back into a volume that is there.

use super::error::backup_error;
use super::memory::Share;
use super::progress::watched;
use super::secret::Secret;
use super::service::Backups;
use super::source::{self, OpenSource};
use convoy_activity::events::about;
use convoy_activity::jobs::Running;
use convoy_activity::metrics::{Bytes, METRICS};
use convoy_backup::{
    BackupError, BackupKind, Browse, Change, Existing, PartsOptions, PartsSummary, Progress, RestoreOptions,
    Selection, Source, browse_directory, find_path, path_in_tree, restore_parts,
};
use convoy_client::types::{Event, RestoreChange, RestoreParts, RestoreReport};
use convoy_driver_sdk::{DriverError, ErrorKind};
use convoy_drivers::RequestContext;
use convoy_objectstore::{plain_url, split};
use convoy_volumes::{CHANGE, Error, Restoring, Result};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// So many changes are listed.
const LISTED: usize = 10_000;

/// What is looked into, and what is to be closed then.
struct Opened {
    browse: Arc<dyn Browse>,
    snapshot: Option<OpenSource>,
}

impl Backups {
    /// Brings parts of a backup or snapshot back into a volume, which may be in use. What could not be
    /// restored is in the report.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], [`Error::BeingRestored`], [`Error::SnapshotNotFound`] and the like;
    /// [`Error::Unsupported`] for backups and snapshots that have no files; those of the store and the
    /// driver.
    pub async fn restore_parts(
        &self,
        asked: &RestoreParts,
        job: &Arc<Running>,
        request_id: &str,
    ) -> Result<RestoreReport> {
        // What is wrong with the request is told before anything is opened.
        existing(&asked.existing)?;
        Selection::new(Vec::new(), &asked.exclude).map_err(backup_error)?;
        path_in_tree(asked.at.as_bytes()).map_err(backup_error)?;
        if asked.url.is_empty() == asked.snapshot_name.is_empty() {
            let text = "expected either the URL of a backup or the name of a snapshot";
            return Err(Error::InvalidRequest(text.to_owned()));
        }
        self.volumes.find(&asked.volume_name, &job.call(request_id)).await?;
        let (asked, job, id) = (asked.clone(), Arc::clone(job), request_id.to_owned());
        self.in_store(move |this| async move { this.bring_back(&asked, &job, &id).await }).await
    }

    async fn bring_back(
        &self,
        asked: &RestoreParts,
        job: &Running,
        request_id: &str,
    ) -> Result<RestoreReport> {
        let engine = self.memory.share(job).await?;
        let Opened { browse, snapshot } = match asked.url.as_str() {
            "" => self.look_into_snapshot(asked, job, request_id).await?,
            url => self.look_into_backup(&plain_url(url), asked, job, &engine).await?,
        };
        let restored = self.into_volume(browse, asked, job, &engine, request_id).await;
        if let Some(snapshot) = snapshot {
            snapshot.close(&self.volumes, request_id).await;
        }
        restored
    }

    async fn look_into_backup(
        &self,
        url: &str,
        asked: &RestoreParts,
        job: &Running,
        engine: &Share,
    ) -> Result<Opened> {
        if let Some(driver) = self.provider(split(url).0) {
            let what = "restoring parts of the backups that it keeps itself";
            return Err(Error::Unsupported { driver: driver.name().clone(), what });
        }
        let (store, backup) = self.destinations().open_backup(url, &asked.endpoint).await?;
        let there = self.engine.inspect(Arc::clone(&store.objects), &backup.volume, &backup.backup).await;
        let info = there.map_err(|error| store.missing(error, &backup.volume, Some(&backup.backup)))?;
        if info.kind == BackupKind::Block {
            return Err(of_blocks(&format!("backup {}", backup.backup), "backup", "--as tree"));
        }
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        let (key, unencrypted) = store.key_to_read(&self.engine, secret, asked.allow_unencrypted).await?;
        let options = RestoreOptions { key, unencrypted, allow_losses: true };
        let objects = Arc::clone(&store.objects);
        let browse = engine.browse(objects, &backup.volume, &backup.backup, &options, &job.cancel()).await;
        let browse = browse.map_err(backup_error)?;
        if let Some(older) = self.notice(&store, options.key.as_ref(), &backup.volume).await {
            tracing::warn!(volume = asked.volume_name, older, "there may have been newer backups");
        }
        Ok(Opened { browse, snapshot: None })
    }

    async fn look_into_snapshot(
        &self,
        asked: &RestoreParts,
        job: &Running,
        request_id: &str,
    ) -> Result<Opened> {
        let volume = (!asked.snapshot_volume.is_empty()).then_some(asked.snapshot_volume.as_str());
        let (entry, snapshot) = self.volumes.snapshot(&asked.snapshot_name, volume)?;
        let shape = source::shape(&entry.driver, "tree").map_err(|error| match error {
            Error::Unsupported { .. } => of_blocks(&format!("snapshot {}", snapshot.name), "snapshot", ""),
            other => other,
        })?;
        let call = job.call(request_id);
        let open = source::open(&self.volumes, &entry, &snapshot.name, shape, None, &call).await?;
        let browse = match open.source(&call) {
            Source::Tree { path, .. } => browse_directory(&path).map_err(backup_error),
            Source::Block { .. } => Err(of_blocks(&format!("snapshot {}", snapshot.name), "snapshot", "")),
        };
        match browse {
            Ok(browse) => Ok(Opened { browse, snapshot: Some(open) }),
            Err(error) => {
                open.close(&self.volumes, request_id).await;
                Err(error)
            }
        }
    }

    async fn into_volume(
        &self,
        browse: Arc<dyn Browse>,
        asked: &RestoreParts,
        job: &Running,
        engine: &Share,
        request_id: &str,
    ) -> Result<RestoreReport> {
        let restoring =
            self.volumes.begin_restore(&asked.volume_name, &job.call(request_id).within(CHANGE)).await?;
        let done = self.write(browse, asked, job, engine, &restoring).await;
        let (driver, volume) = (restoring.entry.driver.name().clone(), restoring.entry.volume.name.clone());
        // Not the job's call: a cancelled job unmounts what it mounted.
        self.volumes.end_restore(restoring, &RequestContext::new(request_id).within(CHANGE)).await;
        let report = done?;
        let source = if asked.url.is_empty() { &asked.snapshot_name } else { &asked.url };
        tracing::info!(
            %volume, source, dry_run = asked.dry_run, files = report.files, bytes = report.bytes,
            kept = report.kept, failed = report.failed, deleted = report.deleted, "restored parts"
        );
        if !asked.dry_run {
            METRICS.moved(Bytes::Restored, report.bytes);
            let event = about("volume.restore", &driver, &volume);
            let (snapshot, url) = (asked.snapshot_name.clone(), asked.url.clone());
            let message = format!("{} files from {source}", report.files);
            self.events.send(Event { snapshot, url, job: job.id().to_owned(), message, ..event });
        }
        Ok(report)
    }

    async fn write(
        &self,
        browse: Arc<dyn Browse>,
        asked: &RestoreParts,
        job: &Running,
        engine: &Share,
        restoring: &Restoring,
    ) -> Result<RestoreReport> {
        let root = restoring.root.try_clone();
        let root = root.map_err(|e| DriverError::io("cannot open the volume once more", &e))?;
        let (progress, cancel) = (Progress::new(), job.cancel());
        let (told, asked, only_looks) = (progress.clone(), asked.clone(), asked.dry_run);
        let work = tokio::task::spawn_blocking(move || run(&*browse, root, &asked, &told, &cancel));
        let phase = if only_looks { "looking" } else { "writing" };
        let done = watched(job, engine, &progress, phase, work).await;
        let (mut report, summary) = done
            .unwrap_or_else(|error| {
                let text = format!("the restore was broken off by a defect: {error}");
                Err(BackupError::Invalid(text))
            })
            .map_err(backup_error)?;
        report.volume_name = restoring.entry.volume.name.to_string();
        let lost = summary.losses.texts.into_iter().map(|loss| format!("lost: {loss}"));
        job.warn(lost.chain(summary.warnings));
        Ok(report)
    }
}

/// Does it, on a thread that may wait.
fn run(
    browse: &dyn Browse,
    root: OwnedFd,
    asked: &RestoreParts,
    progress: &Progress,
    cancel: &tokio_util::sync::CancellationToken,
) -> std::result::Result<(RestoreReport, PartsSummary), BackupError> {
    let paths = asked.paths.iter().map(|path| find_path(browse, path));
    let invalid = |error: Error| BackupError::Invalid(error.to_string());
    let options = PartsOptions {
        selection: Selection::new(paths.collect::<std::result::Result<_, _>>()?, &asked.exclude)?,
        at: path_in_tree(asked.at.as_bytes())?,
        existing: existing(&asked.existing).map_err(invalid)?,
        delete_extra: asked.delete_extra,
        dry_run: asked.dry_run,
        suffix: jiff::Timestamp::now().strftime(".before-restore-%Y%m%dT%H%M%SZ").to_string(),
    };
    let lists = asked.dry_run || asked.details;
    let (mut changes, mut not_listed) = (Vec::new(), 0);
    let mut told = |change: &Change| {
        if lists && changes.len() < LISTED {
            changes.push(shown(change));
        } else if lists {
            not_listed += 1;
        }
        Ok(())
    };
    let summary = restore_parts(browse, root, &options, &mut told, progress, cancel)?;
    let failed = |(path, why): &(_, String)| RestoreChange {
        action: "fail".to_owned(),
        path: format!("{path}"),
        why: why.clone(),
        ..RestoreChange::default()
    };
    let report = RestoreReport {
        volume_name: String::new(),
        dry_run: asked.dry_run,
        created: summary.created,
        replaced: summary.replaced,
        renamed: summary.renamed,
        updated: summary.updated,
        kept: summary.kept,
        same: summary.same,
        deleted: summary.deleted,
        excluded: summary.excluded,
        files: summary.files,
        bytes: summary.bytes,
        failed: summary.failed,
        failures: summary.failures.iter().map(failed).collect(),
        lost: summary.losses.count,
        changes,
        not_listed,
    };
    Ok((report, summary))
}

fn shown(change: &Change) -> RestoreChange {
    RestoreChange {
        action: change.action.as_str().to_owned(),
        kind: change.kind.to_owned(),
        path: change.path.to_string(),
        bytes: change.bytes,
        other: change.other.as_ref().map(ToString::to_string).unwrap_or_default(),
        why: change.why.clone(),
    }
}

/// What becomes of what is there.
fn existing(text: &str) -> Result<Existing> {
    Ok(match text {
        "" | "keep" => Existing::Keep,
        "replace" => Existing::Replace,
        "rename" => Existing::Rename,
        "newer" => Existing::Newer,
        other => {
            let text = format!("invalid Existing {other:?}: expected keep, replace, rename or newer");
            return Err(Error::InvalidRequest(text));
        }
    })
}

/// What has no files that could be picked.
fn of_blocks(what: &str, kind: &str, instead: &str) -> Error {
    let make = if instead.is_empty() {
        String::new()
    } else {
        format!("; the next {kind} has files with {instead}")
    };
    let whole = match kind {
        "snapshot" => "make a volume of it (`convoy snapshot clone`), mount that, and copy what you need",
        _ => {
            "restore it into a volume of its own (`convoy create NAME --backup URL`), mount that, and copy what you need"
        }
    };
    Error::Backup {
        kind: ErrorKind::Unsupported,
        message: format!("{what} is of a block device: parts are restored from directory trees alone"),
        hint: Some(format!("{whole}{make}")),
    }
}
