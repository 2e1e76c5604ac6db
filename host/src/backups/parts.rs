//! Parts of a backup or snapshot, brought back into a volume that is there.

use super::error::backup_error;
use super::memory::Share;
use super::progress::watched;
use super::service::Backups;
use convoy_activity::events::about;
use convoy_activity::jobs::Running;
use convoy_activity::metrics::{Bytes, METRICS};
use convoy_backup::{
    BackupError, Browse, Change, Existing, PartsOptions, PartsSummary, Progress, Selection, find_path,
    path_in_tree, restore_parts,
};
use convoy_client::types::{Event, RestoreChange, RestoreParts, RestoreReport, TreeRef};
use convoy_driver_sdk::DriverError;
use convoy_drivers::RequestContext;
use convoy_volumes::{CHANGE, Error, Restoring, Result};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// So many changes are listed.
const LISTED: usize = 10_000;

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
        check_source(asked)?;
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
        let tree = self.open_tree(&source(asked), Some(&engine), job, request_id).await?;
        let restored = self.write_to_volume(Arc::clone(&tree.browse), asked, job, &engine, request_id).await;
        tree.close(self, request_id).await;
        restored
    }

    async fn write_to_volume(
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

/// Refuses what names no source, or two.
pub(super) fn check_source(asked: &RestoreParts) -> Result<()> {
    if asked.url.is_empty() == asked.snapshot_name.is_empty() {
        let text = "expected either the URL of a backup or the name of a snapshot";
        return Err(Error::InvalidRequest(text.to_owned()));
    }
    Ok(())
}

/// What is restored.
pub(super) fn source(asked: &RestoreParts) -> TreeRef {
    TreeRef {
        url: asked.url.clone(),
        endpoint: asked.endpoint.clone(),
        encryption_key_file: asked.encryption_key_file.clone(),
        passphrase_file: asked.passphrase_file.clone(),
        allow_unencrypted: asked.allow_unencrypted,
        snapshot_name: asked.snapshot_name.clone(),
        volume_name: asked.snapshot_volume.clone(),
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
    let mut list = ChangeList::new(asked.dry_run || asked.details);
    let summary = restore_parts(browse, root, &options, &mut |change| list.add(change), progress, cancel)?;
    Ok((list.report(&summary, asked.dry_run), summary))
}

/// The changes that are told word by word.
#[derive(Debug)]
pub(super) struct ChangeList {
    wanted: bool,
    changes: Vec<RestoreChange>,
    not_listed: u64,
}

impl ChangeList {
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, changes: Vec::new(), not_listed: 0 }
    }

    pub(super) fn add(&mut self, change: &Change) -> std::result::Result<(), BackupError> {
        if self.wanted && self.changes.len() < LISTED {
            self.changes.push(shown(change));
        } else if self.wanted {
            self.not_listed += 1;
        }
        Ok(())
    }

    /// What became of a restore, as it is answered.
    pub(super) fn report(self, summary: &PartsSummary, dry_run: bool) -> RestoreReport {
        let failed = |(path, why): &(_, String)| RestoreChange {
            action: "fail".to_owned(),
            path: format!("{path}"),
            why: why.clone(),
            ..RestoreChange::default()
        };
        RestoreReport {
            dry_run,
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
            reused: summary.reused,
            failed: summary.failed,
            failures: summary.failures.iter().map(failed).collect(),
            lost: summary.losses.count,
            changes: self.changes,
            not_listed: self.not_listed,
            ..RestoreReport::default()
        }
    }
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
