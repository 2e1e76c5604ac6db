//! A whole volume in place: what it has becomes what a backup or a snapshot has, and only what differs is
//! written.
//!
//! Before the first change the state of before is kept as a snapshot, and a record says that the volume is
//! half restored; the record goes when everything is there and durable. Whoever calls has taken the volume.

use super::error::backup_error;
use super::memory::Share;
use super::parts::{ChangeList, check_source, source};
use super::progress::watched;
use super::service::Backups;
use convoy_activity::events::about;
use convoy_activity::jobs::Running;
use convoy_activity::metrics::{Bytes, METRICS};
use convoy_backup::{BackupError, Browse, Change, PartsSummary, Progress, restore_in_place};
use convoy_client::types::{Event, RestoreParts, RestoreReport};
use convoy_driver_sdk::protocol::Capability;
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_drivers::RequestContext;
use convoy_objectstore::plain_url;
use convoy_volumes::{Alone, CHANGE, Entry, Error, Restoring, Result};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// So many names for the snapshot are tried: volumes and snapshots share them.
const NAMES: usize = 9;

/// What is done once the source is open and before the volume is touched: its containers are stopped.
pub type Ready = BoxFuture<'static, Result<()>>;

/// A volume that is about to be changed.
struct Target {
    entry: Entry,
    alone: Arc<Alone>,
    asked: RestoreParts,
    request_id: String,
}

/// The snapshot with the state of before.
#[derive(Debug, Default)]
struct Kept {
    /// Empty: none.
    name: String,
    /// Whether this restore made it, and no earlier one that was not finished.
    made: bool,
}

impl Backups {
    /// Makes a volume, which the caller has taken and nobody may use, what a backup or a snapshot is.
    ///
    /// With failures in the report, or with an error, the volume is half restored if anything was changed
    /// ([`Volumes::half_restored`](convoy_volumes::Volumes::half_restored)).
    ///
    /// # Errors
    /// As [`Self::restore_parts`]; [`Error::StillUsed`], [`Error::UsedByContainers`]; [`Error::Unsupported`]
    /// where the state of before cannot be kept.
    pub async fn restore_in_place(
        &self,
        asked: &RestoreParts,
        (entry, alone): (&Entry, &Arc<Alone>),
        ready: Ready,
        job: &Arc<Running>,
        request_id: &str,
    ) -> Result<RestoreReport> {
        check_source(asked)?;
        self.check_kept(asked, entry)?;
        let target = Target {
            entry: entry.clone(),
            alone: Arc::clone(alone),
            asked: asked.clone(),
            request_id: request_id.to_owned(),
        };
        let job = Arc::clone(job);
        self.in_store(move |this| async move {
            let engine = this.memory.share(&job).await?;
            let asked = source(&target.asked);
            let tree = this.open_tree(&asked, Some(&engine), &job, &target.request_id).await?;
            let done = this.make_it(Arc::clone(&tree.browse), &target, ready, &job, &engine).await;
            tree.close(&this, &target.request_id).await;
            done
        })
        .await
    }

    /// Tells what a restore in place would do, also while others use the volume.
    ///
    /// # Errors
    /// As [`Self::restore_in_place`].
    pub async fn look_in_place(
        &self,
        asked: &RestoreParts,
        job: &Arc<Running>,
        request_id: &str,
    ) -> Result<RestoreReport> {
        check_source(asked)?;
        let entry = self.volumes.find(&asked.volume_name, &job.call(request_id)).await?;
        self.check_kept(asked, &entry)?;
        let (asked, job, id) = (asked.clone(), Arc::clone(job), request_id.to_owned());
        self.in_store(move |this| async move {
            let engine = this.memory.share(&job).await?;
            let tree = this.open_tree(&source(&asked), Some(&engine), &job, &id).await?;
            let call = job.call(&id).within(CHANGE);
            let done = match this.volumes.begin_restore(&asked.volume_name, &call).await {
                Ok(restoring) => {
                    let browse = Arc::clone(&tree.browse);
                    let nothing = Box::new(|| Ok(()));
                    let done = write(browse, &restoring, &asked, nothing, &job, &engine).await;
                    let call = RequestContext::new(&id).within(CHANGE);
                    this.volumes.end_restore(restoring, &call).await;
                    done
                }
                Err(error) => Err(error),
            };
            tree.close(&this, &id).await;
            let mut report = done?;
            report.volume_name = asked.volume_name.clone();
            Ok(report)
        })
        .await
    }

    /// Refuses, before anything is done, what cannot be kept.
    fn check_kept(&self, asked: &RestoreParts, entry: &Entry) -> Result<()> {
        if !asked.keep_as.is_empty() {
            Name::parse(&asked.keep_as).map_err(|error| Error::InvalidName(error.0))?;
            if let Some(half) = self.volumes.half_restored(entry) {
                let text = format!(
                    "an earlier restore of volume {} is not finished: {}; leave the name of a snapshot out",
                    entry.volume.name,
                    match half.kept.as_str() {
                        "" => "the state of before was not kept".to_owned(),
                        kept => format!("the state of before is kept as {kept} already"),
                    }
                );
                return Err(Error::InvalidRequest(text));
            }
        }
        let keeps = !asked.no_keep && self.volumes.half_restored(entry).is_none();
        if keeps && entry.driver.failure().is_none() && !entry.driver.can(Capability::Snapshots) {
            let what = "snapshots: the state of before cannot be kept (--no-keep restores without that)";
            return Err(Error::Unsupported { driver: entry.driver.name().clone(), what });
        }
        Ok(())
    }

    async fn make_it(
        &self,
        browse: Arc<dyn Browse>,
        target: &Target,
        ready: Ready,
        job: &Running,
        engine: &Share,
    ) -> Result<RestoreReport> {
        let (entry, id) = (&target.entry, target.request_id.as_str());
        let volume = &entry.volume.name;
        let what = self.source_in_words(&target.asked)?;
        ready.await?;
        self.volumes.refuse_if_in_use(volume).await?;
        let kept = self.keep(target, job).await?;
        let call = job.call(id).within(CHANGE);
        let restoring = match self.volumes.begin_in_place(entry, &target.alone, &call).await {
            Ok(restoring) => restoring,
            Err(error) => {
                self.drop_kept(entry, &kept, id).await;
                return Err(error);
            }
        };
        let begun = Arc::new(AtomicBool::new(false));
        let begins = {
            let (volumes, entry, begun) = (Arc::clone(&self.volumes), entry.clone(), Arc::clone(&begun));
            let (source, of, kept) = (what.0.clone(), what.1.clone(), kept.name.clone());
            Box::new(move || {
                let noted = volumes.note_half_restored(&entry, &source, &of, &kept);
                noted.map_err(|error| BackupError::Invalid(error.to_string()))?;
                begun.store(true, Ordering::Relaxed);
                Ok(())
            })
        };
        let done = write(browse, &restoring, &target.asked, begins, job, engine).await;
        // Not the job's call: a cancelled job unmounts what it mounted.
        self.volumes.end_restore(restoring, &RequestContext::new(id).within(CHANGE)).await;
        let mut report = match done {
            Ok(report) => report,
            Err(error) => {
                if !begun.load(Ordering::Relaxed) {
                    self.drop_kept(entry, &kept, id).await;
                }
                return Err(error);
            }
        };
        report.volume_name = volume.to_string();
        report.snapshot = kept.name;
        if report.failed == 0 {
            self.volumes.note_whole(volume)?;
        } else if let Some(half) = self.volumes.half_restored(entry) {
            report.unfinished = format!(
                "{} things could not be restored, and the volume cannot be mounted: {}",
                report.failed,
                half.ways_out(entry)
            );
        }
        tracing::info!(
            %volume, source = what.0, files = report.files, bytes = report.bytes, reused = report.reused,
            same = report.same, failed = report.failed, deleted = report.deleted, kept = report.snapshot,
            "restored in place"
        );
        METRICS.moved(Bytes::Restored, report.bytes);
        let event = about("volume.restore", entry.driver.name(), volume);
        let (snapshot, url) = (target.asked.snapshot_name.clone(), target.asked.url.clone());
        let message = format!("in place, {} files from {}", report.files, what.0);
        self.events.send(Event { snapshot, url, job: job.id().to_owned(), message, ..event });
        Ok(report)
    }

    /// The source as it is given to commands, and the volume of a snapshot.
    fn source_in_words(&self, asked: &RestoreParts) -> Result<(String, String)> {
        if asked.snapshot_name.is_empty() {
            return Ok((plain_url(&asked.url), String::new()));
        }
        let of = (!asked.snapshot_volume.is_empty()).then_some(asked.snapshot_volume.as_str());
        let (entry, snapshot) = self.volumes.snapshot(&asked.snapshot_name, of)?;
        Ok((snapshot.name.to_string(), entry.volume.name.to_string()))
    }

    /// Keeps the state of before, unless it is not to be, or an earlier restore that was not finished has.
    async fn keep(&self, target: &Target, job: &Running) -> Result<Kept> {
        let (entry, asked) = (&target.entry, &target.asked);
        let volume = &entry.volume.name;
        if let Some(half) = self.volumes.half_restored(entry) {
            let now = self.volumes.get(volume);
            let is_there =
                now.is_some_and(|now| now.volume.snapshots.iter().any(|it| *it.name == *half.kept));
            return Ok(Kept { name: if is_there { half.kept } else { String::new() }, made: false });
        }
        if asked.no_keep {
            return Ok(Kept::default());
        }
        let base = match asked.keep_as.as_str() {
            "" => jiff::Timestamp::now().strftime("before-restore-%Y%m%d-%H%M%S").to_string(),
            name => name.to_owned(),
        };
        let mut number = 1;
        loop {
            let text = if number == 1 { base.clone() } else { format!("{base}-{number}") };
            let name = Name::parse(&text).map_err(|error| Error::InvalidName(error.0))?;
            let call = job.call(&target.request_id);
            match self.volumes.create_snapshot(volume, &name, false, &call).await {
                Ok(_) => return Ok(Kept { name: text, made: true }),
                Err(Error::SnapshotExists(_) | Error::BeingCreated(_))
                    if asked.keep_as.is_empty() && number < NAMES =>
                {
                    number += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes a snapshot of a state that did not change.
    async fn drop_kept(&self, entry: &Entry, kept: &Kept, request_id: &str) {
        if !kept.made {
            return;
        }
        let volume = &entry.volume.name;
        let call = RequestContext::new(request_id).within(CHANGE);
        if let Err(error) = self.volumes.delete_snapshot(&kept.name, Some(volume), &call).await {
            tracing::warn!(%volume, snapshot = kept.name, %error, "a snapshot of a volume that was not \
                changed after all stays");
        }
    }
}

/// What is called before the first change.
type Begins = Box<dyn FnMut() -> std::result::Result<(), BackupError> + Send>;

async fn write(
    browse: Arc<dyn Browse>,
    restoring: &Restoring,
    asked: &RestoreParts,
    mut begins: Begins,
    job: &Running,
    engine: &Share,
) -> Result<RestoreReport> {
    let root = restoring.root.try_clone();
    let root = root.map_err(|e| DriverError::io("cannot open the volume once more", &e))?;
    let (progress, cancel) = (Progress::new(), job.cancel());
    let (told, dry_run) = (progress.clone(), asked.dry_run);
    let mut list = ChangeList::new(dry_run || asked.details);
    let work = tokio::task::spawn_blocking(move || {
        let mut tell = |change: &Change| list.add(change);
        let summary = restore_in_place(&*browse, root, dry_run, &mut *begins, &mut tell, &told, &cancel)?;
        Ok((list, summary))
    });
    let phase = if dry_run { "looking" } else { "writing" };
    let done = watched(job, engine, &progress, phase, work).await;
    let (list, summary): (ChangeList, PartsSummary) = done
        .unwrap_or_else(|error| {
            Err(BackupError::Invalid(format!("the restore was broken off by a defect: {error}")))
        })
        .map_err(|error| explain(error, restoring))?;
    let report = list.report(&summary, dry_run);
    let lost = summary.losses.texts.into_iter().map(|loss| format!("lost: {loss}"));
    job.warn(lost.chain(summary.warnings));
    Ok(report)
}

/// Says what to do where the volume is too small.
fn explain(error: BackupError, restoring: &Restoring) -> Error {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let is_full = match &error {
        BackupError::Tree(error) => error.io_error().map(std::io::Error::kind),
        BackupError::Io { source, .. } => Some(source.kind()),
        _ => None,
    };
    let error = backup_error(error);
    if !matches!(is_full, Some(StorageFull | QuotaExceeded)) {
        return error;
    }
    let volume = &restoring.entry.volume.name;
    let hint = format!(
        "make it larger (`convoy resize {volume} SIZE`, where its driver can), or restore into a new volume \
         (`convoy create NAME --backup URL --size SIZE`)"
    );
    let message = format!("volume {volume} is too small, with what it still has: {error}");
    Error::Backup { kind: ErrorKind::Exhausted, message, hint: Some(hint) }
}
