//! The schedules of a daemon: what they are, which volumes they are for, and what is remembered of them.

use super::plan::{Memory, Plan, RunTable};
use super::store::Store;
use crate::backups::Backups;
use crate::docker::{Docker, Labels};
use convoy_activity::events::{Events, about};
use convoy_activity::jobs::Jobs;
use convoy_activity::metrics::METRICS;
use convoy_client::types::Event;
use convoy_driver_sdk::{Name, Timestamp};
use convoy_schedule::record::RunRecord;
use convoy_schedule::{Schedule, SchedulingConfig};
use convoy_volumes::{Error, Result, Volumes};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The schedules. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Schedules(pub(super) Arc<Inner>);

/// The services of a daemon that schedules work with.
#[derive(Debug, Clone)]
pub struct Services {
    /// The volume service.
    pub volumes: Arc<Volumes>,
    /// The backup service.
    pub backups: Backups,
    /// Is told what happened.
    pub events: Events,
    /// Lists runs as jobs.
    pub jobs: Jobs,
    /// What has to come to an end before the daemon does.
    pub tasks: TaskTracker,
    /// Set when the daemon stops.
    pub stopping: CancellationToken,
}

/// What all copies of [`Schedules`] share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) services: Services,
    pub(super) store: Store,
    pub(super) state: Mutex<State>,
    /// Told when there is something else to wait for.
    pub(super) changed: Notify,
    /// One at a time asks Docker: when that was, and for how long the answer is good.
    pub(super) asking: tokio::sync::Mutex<Option<(Instant, Duration)>>,
}

/// What changes with the settings, and what Docker said.
#[derive(Debug)]
pub(super) struct State {
    pub(super) docker: Docker,
    pub(super) slots: Arc<Semaphore>,
    /// For how long a run without progress keeps its slot.
    pub(super) stalled_after: Duration,
    pub(super) plans: BTreeMap<String, Arc<Plan>>,
    /// What Docker said last, and why it did not say more lately.
    pub(super) labels: Option<Arc<Labels>>,
    pub(super) docker_error: Option<String>,
}

impl Schedules {
    /// Creates schedules whose records are in `root`; nothing runs before [`Self::look_after`].
    pub fn new(services: Services, root: &Path) -> Self {
        let settings = SchedulingConfig::default();
        Self(Arc::new(Inner {
            services,
            store: Store::new(root),
            state: Mutex::new(State {
                docker: Docker::at(&settings.docker_socket),
                slots: Arc::new(Semaphore::new(settings.parallel)),
                stalled_after: settings.stalled_after.0,
                plans: BTreeMap::new(),
                labels: None,
                docker_error: None,
            }),
            changed: Notify::new(),
            asking: tokio::sync::Mutex::default(),
        }))
    }

    /// Takes these schedules in place of those it had. What runs goes on to its end.
    pub async fn configure(&self, settings: &SchedulingConfig, schedules: Vec<Schedule>) {
        let before = self.0.state.lock().plans.clone();
        let mut plans = BTreeMap::new();
        for schedule in schedules {
            let name = schedule.name.clone();
            let memory = match before.get(&name).filter(|plan| plan.memory.broken.is_none()) {
                Some(plan) => Arc::clone(&plan.memory),
                None => Arc::new(self.0.load(&name).await),
            };
            plans.insert(name, Arc::new(Plan { schedule, memory }));
        }
        tracing::info!(schedules = plans.len(), "scheduled");
        {
            let mut state = self.0.state.lock();
            state.docker = Docker::at(&settings.docker_socket);
            state.slots = Arc::new(Semaphore::new(settings.parallel.max(1)));
            state.stalled_after = settings.stalled_after.0;
            state.plans = plans;
        }
        self.0.changed.notify_one();
    }

    /// Says in words what a schedule chooses volumes by.
    ///
    /// # Errors
    /// [`Error::ScheduleNotFound`].
    pub fn chosen_by(&self, schedule: &str) -> Result<String> {
        Ok(self.0.plan(schedule)?.schedule.selection.to_string())
    }
}

impl Inner {
    /// Finds a schedule that can run.
    pub(super) fn plan(&self, name: &str) -> Result<Arc<Plan>> {
        let plan = self.state.lock().plans.get(name).cloned();
        let plan = plan.ok_or_else(|| Error::ScheduleNotFound(name.to_owned()))?;
        match &plan.memory.broken {
            Some(why) => Err(Error::InvalidRequest(why.clone())),
            None => Ok(plan),
        }
    }

    /// Lists the volumes a schedule is for, or the one of them that was named.
    pub(super) async fn chosen(&self, plan: &Plan, volume: Option<&str>) -> Result<Vec<Name>> {
        // A person may have given the label a moment ago.
        let labels = self.labels_for(plan, Duration::ZERO).await;
        if let (true, None) = (plan.schedule.selection.needs_labels(), &labels) {
            let why = self.state.lock().docker_error.clone().unwrap_or_default();
            return Err(Error::InvalidRequest(format!("the labels of volumes are not known: {why}")));
        }
        let all: Vec<Name> = self.meant(plan, labels.as_deref()).into_iter().map(|(name, _)| name).collect();
        match volume {
            None => Ok(all),
            Some(volume) => match all.into_iter().find(|name| **name == *volume) {
                Some(name) => Ok(vec![name]),
                None if self.services.volumes.get(volume).is_none() => {
                    Err(Error::VolumeNotFound(volume.to_owned()))
                }
                None => {
                    let schedule = &plan.schedule;
                    let text = format!(
                        "schedule {} is not for volume {volume}: {}",
                        schedule.name, schedule.selection
                    );
                    Err(Error::InvalidRequest(text))
                }
            },
        }
    }

    /// Lists the volumes a schedule is for, and when each was created.
    pub(super) fn meant(&self, plan: &Plan, labels: Option<&Labels>) -> Vec<(Name, Timestamp)> {
        let mut meant = Vec::new();
        self.services.volumes.each(|entry| {
            let name = &entry.volume.name;
            let labels = labels.and_then(|labels| labels.of(name, entry.is_known_to_docker()));
            if plan.schedule.selection.matches(name, labels) {
                meant.push((name.clone(), entry.volume.created));
            }
        });
        meant
    }

    async fn load(&self, schedule: &str) -> Memory {
        let (store, name, now) = (self.store.clone(), schedule.to_owned(), Timestamp::now());
        let loaded = tokio::task::spawn_blocking(move || store.load(&name, now)).await;
        let loaded = loaded.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        match loaded {
            Ok(loaded) => Memory {
                since: loaded.since,
                broken: None,
                volumes: Mutex::new(RunTable { records: loaded.records, running: HashMap::new() }),
            },
            Err(error) => {
                let why = format!("what is remembered of schedule {schedule} cannot be read: {error}");
                tracing::error!(schedule, %error, "a schedule cannot run");
                Memory { since: now, broken: Some(why), volumes: Mutex::default() }
            }
        }
    }

    /// Changes a record and writes it durably.
    pub(super) async fn remember(
        &self,
        plan: &Plan,
        volume: &Name,
        change: impl FnOnce(&mut RunRecord),
    ) -> std::io::Result<RunRecord> {
        let created = self.services.volumes.get(volume).map(|entry| entry.volume.created);
        let record = {
            let mut runs = plan.memory.volumes.lock();
            let mut record = runs.record(plan, volume, created);
            change(&mut record);
            runs.records.insert(volume.to_string(), record.clone());
            record
        };
        let (store, saved) = (self.store.clone(), record.clone());
        tokio::task::spawn_blocking(move || store.save(&saved))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map(|()| record)
    }

    /// Tells of a run that does not take place.
    pub(super) fn skip(&self, plan: &Plan, volume: &Name, why: String) {
        self.tell("schedule.skip", plan, volume, why);
        METRICS.ran(&plan.schedule.name, "skip");
    }

    /// Sends an event about a schedule and a volume.
    pub(super) fn tell(&self, kind: &str, plan: &Plan, volume: &Name, message: String) {
        let entry = self.services.volumes.get(volume);
        let driver = entry.as_ref().map(|entry| entry.driver.name().as_str()).unwrap_or_default();
        let event = about(kind, driver, volume);
        let message = format!("{}: {message}", plan.schedule.name);
        self.services.events.send(Event { message, ..event });
    }
}
