//! Schedules as they are shown.

use super::plan::{Plan, Stage};
use super::service::{Inner, Schedules};
use convoy_client::types::{ScheduleStatus, ScheduledVolume};
use convoy_driver_sdk::{Name, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

impl Schedules {
    /// All schedules by name, with their volumes.
    pub async fn status(&self) -> BTreeMap<String, ScheduleStatus> {
        let plans: Vec<Arc<Plan>> = self.0.state.lock().plans.values().cloned().collect();
        let mut all = BTreeMap::new();
        for plan in plans {
            all.insert(plan.schedule.name.clone(), self.0.status(&plan).await);
        }
        all
    }

    /// Where schedules back up to, each with its endpoint.
    pub fn destinations(&self) -> Vec<(String, String)> {
        let state = self.0.state.lock();
        let all = state.plans.values().map(|plan| &plan.schedule);
        all.filter(|schedule| !schedule.destination.is_empty())
            .map(|schedule| (schedule.destination.clone(), schedule.endpoint.clone()))
            .collect()
    }
}

impl Inner {
    async fn status(&self, plan: &Plan) -> ScheduleStatus {
        let schedule = &plan.schedule;
        // One list asks once for all its schedules.
        let labels = self.labels_for(plan, Duration::from_secs(1)).await;
        let now = Timestamp::now();
        let volumes: BTreeMap<String, ScheduledVolume> = self
            .meant(plan, labels.as_deref())
            .into_iter()
            .map(|(name, created)| (name.to_string(), volume(plan, &name, created, now)))
            .collect();
        let mut message = plan.memory.broken.clone().unwrap_or_default();
        if message.is_empty() && schedule.needs_docker() {
            message = self.state.lock().docker_error.clone().unwrap_or_default();
        }
        ScheduleStatus {
            name: schedule.name.clone(),
            kind: schedule.kind.as_str().to_owned(),
            cron: schedule.timing.cron.as_str().to_owned(),
            time_zone: schedule.timing.cron.zone().iana_name().unwrap_or("local").to_owned(),
            destination: schedule.destination.clone(),
            tags: schedule.tags.clone(),
            note: schedule.note.clone(),
            keep_until: schedule.keep_until.as_ref().map(ToString::to_string).unwrap_or_default(),
            keep_until_is_past: schedule.keep_until.is_some()
                && plan.keep_until(jiff::Timestamp::now()).is_empty(),
            paused: schedule.paused,
            next: volumes
                .values()
                .map(|volume| volume.next.clone())
                .filter(|next| !next.is_empty())
                .min()
                .unwrap_or_default(),
            message,
            volumes,
        }
    }
}

fn volume(plan: &Plan, name: &Name, created: Timestamp, now: Timestamp) -> ScheduledVolume {
    let runs = plan.memory.volumes.lock();
    let mut record = runs.record(plan, name, Some(created));
    let under_way = runs.running.get(name.as_str());
    let stage = under_way.map(|now| now.stage);
    if let Some(under_way) = under_way {
        // The next one, not this.
        record.running = None;
        record.last = under_way.at.map_or(record.last, |at| record.last.max(at));
    }
    let stopped = plan.schedule.paused || plan.memory.broken.is_some();
    let next = plan.schedule.timing.next(&record, now).filter(|_| !stopped);
    let text = |time: Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
    let ended = record.ended.as_ref();
    ScheduledVolume {
        next: text(next),
        state: match (stage, ended) {
            (Some(Stage::Waiting), _) => "waiting",
            (Some(Stage::Running), _) => "running",
            (None, None) => "",
            (None, Some(ended)) if ended.error.is_empty() => "success",
            (None, Some(_)) => "failure",
        }
        .to_owned(),
        last: text(ended.map(|ended| ended.ended)),
        seconds: ended.map_or(0, |ended| ended.seconds),
        error: ended.map(|ended| ended.error.clone()).unwrap_or_default(),
        last_success: text(record.succeeded),
        backup: ended.map(|ended| ended.backup.clone()).unwrap_or_default(),
        snapshots: record.snapshots.len() as u64,
    }
}
