//! Finds what is due, every few seconds and when something changes.

use super::plan::Plan;
use super::service::{Inner, Schedules};
use crate::docker::Labels;
use convoy_activity::metrics::METRICS;
use convoy_driver_sdk::{Name, Timestamp};
use convoy_schedule::due::{Decision, Why};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long is slept at most: a clock that is set is noticed within this time.
const PERIOD: Duration = Duration::from_secs(15);

/// How long what Docker said of labels is believed.
const FRESH: Duration = Duration::from_secs(60);

/// How long after a failure Docker is not asked again.
const RETRY: Duration = Duration::from_secs(5);

/// How long a volume that is gone is remembered, in seconds.
const FORGET_AFTER: i64 = 30 * 86_400;

impl Schedules {
    /// Runs what is due until the daemon stops.
    pub async fn look_after(&self) {
        let stopping = self.0.services.stopping.clone();
        let mut tidied: Option<Instant> = None;
        while !stopping.is_cancelled() {
            let next = self.0.tick(Timestamp::now()).await;
            if tidied.is_none_or(|tidied| tidied.elapsed() > Duration::from_secs(3600)) {
                self.0.forget_volumes(Timestamp::now()).await;
                tidied = Some(Instant::now());
            }
            tokio::select! {
                () = stopping.cancelled() => {}
                () = self.0.changed.notified() => {}
                () = tokio::time::sleep(until(next)) => {}
            }
        }
    }
}

fn until(next: Option<Timestamp>) -> Duration {
    let Some(next) = next else { return PERIOD };
    let seconds = u64::try_from(next.unix() - Timestamp::now().unix()).unwrap_or_default();
    // Times are cut to the second: a little late is in time.
    Duration::from_secs(seconds)
        .saturating_add(Duration::from_millis(20))
        .clamp(Duration::from_millis(200), PERIOD)
}

impl Inner {
    /// Begins everything that is due, and answers when the next thing is.
    async fn tick(self: &Arc<Self>, now: Timestamp) -> Option<Timestamp> {
        let plans: Vec<Arc<Plan>> = self.state.lock().plans.values().cloned().collect();
        let mut next: Option<Timestamp> = None;
        for plan in plans {
            if plan.schedule.paused || plan.memory.broken.is_some() {
                continue;
            }
            let labels = self.labels_for(&plan, FRESH).await;
            for (volume, created) in self.meant(&plan, labels.as_deref()) {
                let begins = self.consider(&plan, &volume, created, now).await;
                next = [next, begins].into_iter().flatten().min();
            }
        }
        next
    }

    /// Begins a run for a volume if it is due; else answers when it will be.
    async fn consider(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        volume: &Name,
        created: Timestamp,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let (mut record, under_way) = {
            let runs = plan.memory.volumes.lock();
            (runs.record(plan, volume, Some(created)), runs.running.get(volume.as_str()).copied())
        };
        let schedule = &plan.schedule.name;
        if let Some(now) = under_way {
            record.running = None;
            // One that still waits for others is not in the record yet.
            record.last = now.at.map_or(record.last, |at| record.last.max(at));
        }
        match plan.schedule.timing.decide(&record, now) {
            Decision::Wait(next) => next,
            Decision::Run { at, .. } if under_way.is_some() => {
                tracing::warn!(schedule, %volume, %at, "skipped: the run before is still under way");
                self.skip(plan, volume, "the run before is still under way".to_owned());
                self.go_on_after(plan, volume, at).await;
                None
            }
            Decision::Run { at, why } => {
                match why {
                    Why::OnTime => tracing::info!(schedule, %volume, %at, "it is time"),
                    Why::Missed(first) => {
                        tracing::warn!(schedule, %volume, %at, %first, "making good for what was missed");
                    }
                    Why::CutOff => tracing::warn!(schedule, %volume, %at, "repeating a run that was cut off"),
                }
                if let Some(under_way) = plan.memory.begin(volume, Some(at)) {
                    let never = tokio_util::sync::CancellationToken::new();
                    let (inner, plan) = (Arc::clone(self), Arc::clone(plan));
                    drop(tokio::spawn(async move { inner.spawn(plan, under_way, at, false, &never).await }));
                }
                None
            }
            Decision::Skip { until } => {
                tracing::warn!(schedule, %volume, %until, "what was missed is not made good, as configured");
                self.skip(plan, volume, format!("missed until {until}"));
                self.go_on_after(plan, volume, until).await;
                None
            }
            Decision::GiveUp => {
                let error = "the daemon ended during this run again and again".to_owned();
                tracing::error!(schedule, %volume, "given up: {error}");
                self.tell("schedule.failure", plan, volume, error.clone());
                METRICS.ran(schedule, "failure");
                let ended = self.remember(plan, volume, |record| record.end(Err(error), now)).await;
                self.log_unsaved(plan, volume, ended.err());
                None
            }
            Decision::Rebase => {
                tracing::warn!(schedule, %volume, last = %record.last, "the clock was set back: going on \
                    from now");
                let rebased = self.remember(plan, volume, |record| record.last = now).await;
                self.log_unsaved(plan, volume, rebased.err());
                None
            }
        }
    }

    async fn go_on_after(&self, plan: &Plan, volume: &Name, at: Timestamp) {
        let skipped = self.remember(plan, volume, |record| record.last = record.last.max(at)).await;
        self.log_unsaved(plan, volume, skipped.err());
    }

    pub(super) fn log_unsaved(&self, plan: &Plan, volume: &Name, error: Option<std::io::Error>) {
        if let Some(error) = error {
            tracing::error!(schedule = plan.schedule.name, %volume, %error, "cannot write a schedule's \
                record");
        }
    }

    /// The labels of volumes, if the schedule needs them: asked for, or what Docker said last when it does
    /// not answer. An answer of this age at most is not asked for again.
    pub(super) async fn labels_for(&self, plan: &Plan, fresh: Duration) -> Option<Arc<Labels>> {
        if !plan.schedule.selection.needs_labels() {
            return None;
        }
        let mut asked = self.asking.lock().await;
        if asked.is_none_or(|(at, good)| at.elapsed() >= good.min(fresh)) {
            let docker = self.state.lock().docker.clone();
            let answer = docker.labels().await;
            let mut state = self.state.lock();
            match answer {
                Ok(labels) => {
                    state.labels = Some(Arc::new(labels));
                    state.docker_error = None;
                    *asked = Some((Instant::now(), FRESH));
                }
                Err(error) => {
                    let error = error.to_string();
                    if state.docker_error.as_ref() != Some(&error) {
                        tracing::warn!(error, "the labels of volumes are not known, or as they were");
                    }
                    state.docker_error = Some(error);
                    *asked = Some((Instant::now(), RETRY));
                }
            }
        }
        self.state.lock().labels.clone()
    }

    /// Forgets volumes that have been gone for long.
    async fn forget_volumes(&self, now: Timestamp) {
        let plans: Vec<Arc<Plan>> = self.state.lock().plans.values().cloned().collect();
        for plan in plans {
            let gone: Vec<String> = {
                let mut runs = plan.memory.volumes.lock();
                let old = |volume: &str, last: Timestamp| {
                    now.unix() - last.unix() > FORGET_AFTER && self.services.volumes.get(volume).is_none()
                };
                let gone: Vec<String> = runs
                    .records
                    .iter()
                    .filter(|(volume, record)| record.running.is_none() && old(volume, record.last))
                    .map(|(volume, _)| volume.clone())
                    .collect();
                gone.iter().for_each(|volume| drop(runs.records.remove(volume)));
                gone
            };
            for volume in gone {
                let (store, name) = (self.store.clone(), plan.schedule.name.clone());
                let forgotten = tokio::task::spawn_blocking(move || store.forget(&name, &volume)).await;
                if let Ok(Err(error)) = forgotten {
                    tracing::warn!(%error, "cannot forget a volume that is gone");
                }
            }
        }
    }
}
