//! One run of one schedule for one volume: hooks, snapshot, backup, retention.
//!
//! The record is written before anything is done and names the snapshot that is about to be made. A run that
//! was cut off is repeated with the same names, so that it finds and uses what it made before.

use super::hooks;
use super::notify::{self, Report};
use super::plan::{Plan, RunGuard};
use super::service::{Inner, Schedules};
use convoy_activity::jobs::{About, Running};
use convoy_activity::metrics::METRICS;
use convoy_client::types::CreateBackup;
use convoy_driver_sdk::protocol::SourceKind;
use convoy_driver_sdk::{Name, Timestamp};
use convoy_schedule::config::Kind;
use convoy_schedule::naming::free_name;
use convoy_schedule::record::ScheduledSnapshot;
use convoy_schedule::schedule::Hook;
use convoy_volumes::{Error, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// How a run ended.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The name of the volume.
    pub volume: String,
    /// The name of the snapshot; empty if none was made.
    pub snapshot: String,
    /// The URL of the backup; empty if none was made.
    pub backup: String,
    /// Why it failed; empty if it did not.
    pub error: String,
}

impl Outcome {
    pub(super) fn refused(volume: &Name, why: &str) -> Self {
        Self { volume: volume.to_string(), error: why.to_owned(), ..Self::default() }
    }

    fn note(&mut self, error: String) {
        if self.error.is_empty() {
            self.error = error;
        } else {
            self.error = format!("{}; {error}", self.error);
        }
    }
}

impl Schedules {
    /// Runs a schedule now, for one of its volumes or for all, and answers how each run ended.
    ///
    /// # Errors
    /// [`Error::ScheduleNotFound`]; [`Error::InvalidRequest`] for a volume that it is not for.
    pub async fn run_now(
        &self,
        schedule: &str,
        volume: Option<&str>,
        cancel: &CancellationToken,
    ) -> Result<Vec<Outcome>> {
        let plan = self.0.plan(schedule)?;
        let volumes = self.0.chosen(&plan, volume).await?;
        let now = Timestamp::now();
        let runs = volumes.into_iter().map(|volume| {
            let begun = plan.memory.begin(&volume, None);
            let (inner, plan) = (Arc::clone(&self.0), Arc::clone(&plan));
            async move {
                match begun {
                    Some(under_way) => inner.spawn(plan, under_way, now, true, cancel).await,
                    None => {
                        let why = "a run of this schedule is under way for it";
                        inner.skip(&plan, &volume, why.to_owned());
                        Outcome::refused(&volume, why)
                    }
                }
            }
        });
        Ok(futures::future::join_all(runs).await)
    }
}

/// A run that has a slot.
struct Run<'a> {
    plan: &'a Plan,
    volume: &'a Name,
    /// The name of the snapshot to make.
    name: &'a str,
    at: Timestamp,
    began: Timestamp,
    job: &'a Arc<Running>,
    /// How long it may make no progress.
    patience: Duration,
    /// Others wait for it; given up when the run stalls.
    slot: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Run<'_> {
    fn seconds(&self) -> u64 {
        u64::try_from(Timestamp::now().unix() - self.began.unix()).unwrap_or_default()
    }
}

impl Inner {
    /// Runs to the end, also when nobody waits any more.
    pub(super) async fn spawn(
        self: Arc<Self>,
        plan: Arc<Plan>,
        under_way: RunGuard,
        at: Timestamp,
        by_hand: bool,
        cancel: &CancellationToken,
    ) -> Outcome {
        let volume = under_way.volume.clone();
        let span = tracing::info_span!("schedule", schedule = plan.schedule.name, %volume);
        let (this, of, cancel) = (Arc::clone(&self), Arc::clone(&plan), cancel.clone());
        let running = async move { Box::pin(this.run(&of, under_way, at, by_hand, cancel)).await };
        match self.services.tasks.spawn(running.instrument(span)).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let outcome = Outcome::refused(&volume, &format!("the daemon failed in this run: {error}"));
                self.report(&plan, "failure", &outcome, at, 0).await;
                outcome
            }
        }
    }

    async fn run(
        &self,
        plan: &Plan,
        under_way: RunGuard,
        at: Timestamp,
        by_hand: bool,
        cancel: CancellationToken,
    ) -> Outcome {
        let volume = &under_way.volume;
        let schedule = &plan.schedule;
        let name = self.snapshot_name(plan, volume, at);
        let kind = match schedule.kind {
            Kind::Snapshot => "scheduled snapshot",
            Kind::Backup => "scheduled backup",
        };
        let about = About {
            kind,
            volume: volume.to_string(),
            snapshot: name.clone(),
            url: schedule.destination.clone(),
            schedule: schedule.name.clone(),
        };
        let job = Arc::new(self.services.jobs.begin(about));
        let mut outcome = Outcome { volume: volume.to_string(), ..Outcome::default() };
        let (slots, patience) = {
            let state = self.state.lock();
            (Arc::clone(&state.slots), state.stalled_after)
        };
        let stopped = async {
            tokio::select! {
                () = job.cancel().cancelled_owned() => {}
                () = cancel.cancelled() => {}
            }
        };
        let slot = tokio::select! {
            slot = slots.acquire_owned() => slot.ok(),
            () = stopped => {
                job.failed();
                let outcome = Outcome::refused(volume, "cancelled");
                self.cancelled(plan, volume, at, by_hand, &outcome).await;
                return outcome;
            }
        };
        under_way.is_running();
        let began = Timestamp::now();
        let run = Run { plan, volume, name: &name, at, began, job: &job, patience, slot: Mutex::new(slot) };
        let recorded = self.remember(plan, volume, |record| {
            record.begin(at, by_hand, began);
            if record.snapshots.iter().all(|made| made.name != name) {
                record.snapshots.push(ScheduledSnapshot { name: name.clone(), at });
            }
        });
        match recorded.await {
            Err(error) => outcome.error = format!("cannot write the record of the run: {error}"),
            Ok(record) => {
                let again = record.running.is_some_and(|running| running.attempt > 1);
                self.work(&run, again, &cancel, &mut outcome).await;
            }
        }
        if self.services.stopping.is_cancelled() && !outcome.error.is_empty() {
            // The record says that it was cut off: it is repeated after the next start.
            tracing::warn!(error = outcome.error, "the run was cut off by the end of the daemon");
            return outcome;
        }
        self.end(&run, &mut outcome).await;
        let seconds = run.seconds();
        drop(run);
        if !outcome.error.is_empty() {
            job.failed();
        }
        drop(job);
        let result = if outcome.error.is_empty() { "success" } else { "failure" };
        self.report(plan, result, &outcome, at, seconds).await;
        outcome
    }

    /// The name of a run's snapshot. One that was cut off goes on with the name it had.
    fn snapshot_name(&self, plan: &Plan, volume: &Name, at: Timestamp) -> String {
        let runs = plan.memory.volumes.lock();
        let cut_off = runs
            .records
            .get(volume.as_str())
            .filter(|record| record.running.as_ref().is_some_and(|running| running.at == at))
            .and_then(|record| record.snapshots.iter().rev().find(|made| made.at == at));
        if let Some(made) = cut_off {
            return made.name.clone();
        }
        drop(runs);
        let volumes = &self.services.volumes;
        free_name(&plan.schedule.name, volume, at, |name| volumes.snapshot(name, Some(volume)).is_ok())
    }

    /// A run was cancelled before it began.
    async fn cancelled(&self, plan: &Plan, volume: &Name, at: Timestamp, by_hand: bool, outcome: &Outcome) {
        // What the end of the daemon cancels is still due when it starts again.
        if self.services.stopping.is_cancelled() {
            return;
        }
        let now = Timestamp::now();
        let ended = self.remember(plan, volume, |record| {
            record.begin(at, by_hand, now);
            record.end(Err(outcome.error.clone()), now);
        });
        self.log_unsaved(plan, volume, ended.await.err());
        self.report(plan, "failure", outcome, at, 0).await;
    }

    /// Hooks, snapshot and backup. Whatever fails is noted in the outcome, beside what was made.
    async fn work(&self, run: &Run<'_>, again: bool, cancel: &CancellationToken, outcome: &mut Outcome) {
        let &Run { plan, volume, name, job, .. } = run;
        let schedule = &plan.schedule;
        let late = Arc::new(AtomicBool::new(false));
        let stop = job.cancel();
        // What ends the run early, in whose name ever, cancels its job.
        let watch = {
            let (late, stop, cancel, limit) =
                (Arc::clone(&late), stop.clone(), cancel.clone(), schedule.timeout);
            tokio::spawn(async move {
                let limit = async {
                    match limit {
                        Some(limit) => tokio::time::sleep(limit).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = limit => late.store(true, Ordering::Release),
                    () = cancel.cancelled() => {}
                }
                stop.cancel();
            })
        };
        let snapshot = match self.hooks(&schedule.before, plan, volume, name, "", &stop).await {
            Ok(()) => self.snapshot(run).await.map_err(|error| error.full_text()),
            Err(error) => Err(format!("before the snapshot: {error}")),
        };
        let result = match &snapshot {
            Ok(()) => "success",
            Err(_) => "failure",
        };
        // Also after a failure: what the hooks before it began they end.
        let after = self.hooks(&schedule.after, plan, volume, name, result, &CancellationToken::new()).await;
        match snapshot {
            Err(error) => outcome.note(error),
            Ok(()) => {
                outcome.snapshot = name.to_owned();
                if schedule.kind == Kind::Backup {
                    match job
                        .attended(run.patience, Box::pin(self.back_up(run, again)), self.stalled(run))
                        .await
                    {
                        Ok(url) => outcome.backup = url,
                        Err(error) => outcome.note(error.full_text()),
                    }
                }
            }
        }
        if let Err(error) = after {
            outcome.note(format!("after the snapshot: {error}"));
        }
        watch.abort();
        if late.load(Ordering::Acquire) {
            let limit = schedule.timeout.unwrap_or_default().as_secs();
            outcome.error = format!("it took longer than {limit} s and was cancelled");
        }
    }

    /// Takes the end down, and applies the rules of what is kept.
    async fn end(&self, run: &Run<'_>, outcome: &mut Outcome) {
        let &Run { plan, volume, job, .. } = run;
        let done = match plan.schedule.kind {
            Kind::Snapshot => !outcome.snapshot.is_empty(),
            Kind::Backup => !outcome.backup.is_empty(),
        };
        if done && plan.schedule.kind == Kind::Backup {
            let snapshot = outcome.snapshot.clone();
            let based = self.remember(plan, volume, |record| record.base = Some(snapshot)).await;
            self.log_unsaved(plan, volume, based.err());
        }
        // After a failure too: snapshots of backups that fail every day would pile up.
        if outcome.error.is_empty() || done || !outcome.snapshot.is_empty() {
            let (_, failed) = self.retain(plan, volume, false, job.id()).await;
            if let Some(error) = failed {
                outcome.note(format!("what is old could not be deleted: {}", error.full_text()));
            }
        }
        let now = Timestamp::now();
        let (backup, error) = (outcome.backup.clone(), outcome.error.clone());
        let ended = self.remember(plan, volume, |record| {
            record.end(if error.is_empty() { Ok(backup) } else { Err(error) }, now);
        });
        if let Err(error) = ended.await {
            outcome.note(format!("cannot write the record of the run: {error}"));
        }
    }

    async fn snapshot(&self, run: &Run<'_>) -> Result<()> {
        let &Run { plan, volume, name, job, .. } = run;
        let volumes = &self.services.volumes;
        if volumes.snapshot(name, Some(volume)).is_ok() {
            tracing::info!(snapshot = name, "the snapshot was made before the run was cut off");
            return Ok(());
        }
        let name = Name::parse(name).map_err(|error| Error::InvalidName(error.0))?;
        let call = job.call(job.id());
        volumes.create_snapshot(volume, &name, plan.schedule.freeze, &call).await.map(drop)
    }

    async fn back_up(&self, run: &Run<'_>, again: bool) -> Result<String> {
        let &Run { plan, volume, name: snapshot, job, .. } = run;
        let schedule = &plan.schedule;
        let backups = &self.services.backups;
        if again {
            let made = self.backups_of(plan, volume, snapshot, &job.call(job.id())).await?;
            if let Some(url) = made.into_keys().next() {
                tracing::info!(url, "the backup was made before the run was cut off");
                return Ok(url);
            }
        }
        let asked = CreateBackup {
            url: schedule.destination.clone(),
            endpoint: schedule.endpoint.clone(),
            snapshot_name: snapshot.to_owned(),
            volume_name: volume.to_string(),
            kind: schedule.source.map(SourceKind::as_str).unwrap_or_default().to_owned(),
            encryption_key_file: plan.key_file(),
            passphrase_file: plan.passphrase_file(),
            encryption: plan.encryption(),
            exclude: schedule.exclude_files.clone(),
            exclude_if_present: schedule.exclude_if_present.clone(),
            exclude_caches: schedule.exclude_caches,
            allow_convoyignore: schedule.allow_convoyignore,
            tags: schedule.tags.clone(),
            note: schedule.note.clone(),
            keep_until: plan.keep_until(jiff::Timestamp::now()),
            ..CreateBackup::default()
        };
        Ok(backups.back_up(&asked, job, job.id()).await?.url)
    }

    /// Nothing moves any more, and that may end by itself. Until then somebody has to know, and others go on.
    async fn stalled(&self, run: &Run<'_>) {
        drop(run.slot.lock().take());
        let error = format!(
            "nothing has moved for {} s: look at the storage of the volume and of its backups; the run goes \
             on when that answers, and other runs do not wait for it",
            run.patience.as_secs()
        );
        let (volume, snapshot) = (run.volume.to_string(), run.name.to_owned());
        let outcome = Outcome { volume, snapshot, error, ..Outcome::default() };
        self.report(run.plan, "stall", &outcome, run.at, run.seconds()).await;
    }

    /// Runs hooks one after the other; the first that fails and is not optional ends it.
    async fn hooks(
        &self,
        all: &[Hook],
        plan: &Plan,
        volume: &Name,
        snapshot: &str,
        result: &'static str,
        stop: &CancellationToken,
    ) -> std::result::Result<(), String> {
        let docker = self.state.lock().docker.clone();
        let environment = [
            ("CONVOY_SCHEDULE", plan.schedule.name.clone()),
            ("CONVOY_VOLUME", volume.to_string()),
            ("CONVOY_SNAPSHOT", snapshot.to_owned()),
            ("CONVOY_RESULT", result.to_owned()),
        ];
        for hook in all {
            let running = hooks::run(hook, &docker, volume, &environment);
            let ran = tokio::select! {
                ran = running => ran.map_err(|error| error.to_string()),
                () = stop.cancelled() => Err("cancelled".to_owned()),
            };
            match ran {
                Ok(()) => {}
                Err(error) if hook.optional && !stop.is_cancelled() => {
                    tracing::warn!(error, "a hook failed that may fail");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells how a run ended, or that it does not.
    async fn report(
        &self,
        plan: &Plan,
        result: &'static str,
        outcome: &Outcome,
        at: Timestamp,
        seconds: u64,
    ) {
        let failed = !outcome.error.is_empty();
        let name = &plan.schedule.name;
        let report = Report {
            schedule: name.clone(),
            volume: outcome.volume.clone(),
            result,
            error: outcome.error.clone(),
            at: at.to_string(),
            snapshot: outcome.snapshot.clone(),
            backup: outcome.backup.clone(),
            seconds,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        };
        METRICS.ran(name, report.result);
        let ended = if result == "stall" { "does not go on" } else { "failed" };
        let message = if failed {
            tracing::error!(error = outcome.error, seconds, "a scheduled run {ended}");
            outcome.error.clone()
        } else {
            tracing::info!(
                snapshot = outcome.snapshot,
                backup = outcome.backup,
                seconds,
                "a scheduled run ended"
            );
            [&outcome.backup, &outcome.snapshot]
                .into_iter()
                .find(|text| !text.is_empty())
                .cloned()
                .unwrap_or_default()
        };
        if let Ok(volume) = Name::parse(outcome.volume.clone()) {
            self.tell(&format!("schedule.{result}"), plan, &volume, message);
        }
        notify::tell(&plan.schedule.notify, &report).await;
    }
}
