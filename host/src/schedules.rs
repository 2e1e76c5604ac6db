//! Schedules: snapshots and backups that are made by themselves, and what becomes of the old ones.
//!
//! - `tick`: finds what is due; `run`: one run of one schedule for one volume; `retain`: deletes what is no longer kept.
//! - `hooks`, `docker`: commands before and after; `notify`: tells whoever wants to know.
//! - `store`: what is remembered, durably; `view`: what is shown. The rules themselves are in `convoy_schedule`.

mod docker;
mod hooks;
mod notify;
mod retain;
mod run;
mod store;
mod tick;
mod view;

use crate::backups::Backups;
use crate::events::about;
use crate::jobs::Jobs;
use crate::metrics::METRICS;
use crate::volumes::Volumes;
use crate::volumes::error::{Error, Result};
use crate::volumes::locks::unpoisoned;
use convoy_client::types::Event;
use convoy_driver_sdk::{Name, Timestamp};
use convoy_schedule::record::RunRecord;
use convoy_schedule::{Schedule, SchedulingConfig};
use docker::{Docker, Labels};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use store::Store;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The schedules. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Schedules(Arc<Inner>);

/// What schedules work with.
#[derive(Debug, Clone)]
pub struct Services {
    /// The volumes.
    pub volumes: Arc<Volumes>,
    /// Their backups.
    pub backups: Arc<Backups>,
    /// Where runs are listed.
    pub jobs: Jobs,
    /// What has to come to an end before the daemon does.
    pub tasks: TaskTracker,
    /// Set when the daemon stops.
    pub stopping: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    services: Services,
    store: Store,
    state: Mutex<State>,
    /// Told when there is something else to wait for.
    changed: Notify,
    /// One at a time asks Docker: when that was, and for how long the answer is good.
    asking: tokio::sync::Mutex<Option<(Instant, Duration)>>,
}

#[derive(Debug)]
struct State {
    docker: Docker,
    slots: Arc<Semaphore>,
    /// For how long a run without progress keeps its slot.
    stalled_after: Duration,
    plans: BTreeMap<String, Arc<Plan>>,
    /// What Docker said last, and why it did not say more lately.
    labels: Option<Arc<Labels>>,
    docker_error: Option<String>,
}

/// A schedule and what is remembered of it.
#[derive(Debug)]
struct Plan {
    schedule: Schedule,
    memory: Arc<Memory>,
}

#[derive(Debug)]
struct Memory {
    /// Since when there is the schedule.
    since: Timestamp,
    /// Why it cannot run.
    broken: Option<String>,
    volumes: Mutex<RunTable>,
}

#[derive(Debug, Default)]
struct RunTable {
    records: HashMap<String, RunRecord>,
    /// Volumes that a run is under way for.
    running: HashMap<String, Now>,
}

/// A run that is under way.
#[derive(Debug, Clone, Copy)]
struct Now {
    stage: Stage,
    /// The moment of the schedule it is for; `None` when somebody asked for it.
    at: Option<Timestamp>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It waits for others.
    Waiting,
    /// It works.
    Running,
}

/// A run that is under way; dropped at its end.
#[derive(Debug)]
struct UnderWay {
    memory: Arc<Memory>,
    volume: Name,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        unpoisoned(self.memory.volumes.lock()).running.remove(self.volume.as_str());
    }
}

impl UnderWay {
    fn is_running(&self) {
        if let Some(now) = unpoisoned(self.memory.volumes.lock()).running.get_mut(self.volume.as_str()) {
            now.stage = Stage::Running;
        }
    }
}

impl Schedules {
    /// Schedules of a daemon; nothing runs before [`Self::look_after`].
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
        let before = unpoisoned(self.0.state.lock()).plans.clone();
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
            let mut state = unpoisoned(self.0.state.lock());
            state.docker = Docker::at(&settings.docker_socket);
            state.slots = Arc::new(Semaphore::new(settings.parallel.max(1)));
            state.stalled_after = settings.stalled_after.0;
            state.plans = plans;
        }
        self.0.changed.notify_one();
    }

    /// Runs a schedule now, for one of its volumes or for all, and answers how each run ended.
    ///
    /// # Errors
    /// [`Error::ScheduleNotFound`]; [`Error::InvalidRequest`] for a volume that it is not for.
    pub async fn run_now(
        &self,
        schedule: &str,
        volume: Option<&str>,
        cancel: &CancellationToken,
    ) -> Result<Vec<run::Outcome>> {
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
                        run::Outcome::refused(&volume, why)
                    }
                }
            }
        });
        Ok(futures::future::join_all(runs).await)
    }

    /// What a schedule chooses volumes by, in words.
    ///
    /// # Errors
    /// [`Error::ScheduleNotFound`].
    pub fn chosen_by(&self, schedule: &str) -> Result<String> {
        Ok(self.0.plan(schedule)?.schedule.selection.to_string())
    }

    /// Applies the rules of a schedule to what there is, and deletes nothing with `dry_run`.
    ///
    /// # Errors
    /// As [`Self::run_now`]; those of the store.
    pub async fn retain(
        &self,
        schedule: &str,
        volume: Option<&str>,
        dry_run: bool,
        request_id: &str,
    ) -> Result<convoy_client::types::RetainReport> {
        let plan = self.0.plan(schedule)?;
        let mut report = convoy_client::types::RetainReport { dry_run, ..Default::default() };
        for volume in self.0.chosen(&plan, volume).await? {
            let (decided, failed) = self.0.retain(&plan, &volume, dry_run, request_id).await;
            report.kept.extend(decided.kept);
            report.removed.extend(decided.removed);
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(report)
    }
}

impl Inner {
    fn plan(&self, name: &str) -> Result<Arc<Plan>> {
        let plan = unpoisoned(self.state.lock()).plans.get(name).cloned();
        let plan = plan.ok_or_else(|| Error::ScheduleNotFound(name.to_owned()))?;
        match &plan.memory.broken {
            Some(why) => Err(Error::InvalidRequest(why.clone())),
            None => Ok(plan),
        }
    }

    /// The volumes a schedule is for, or the one of them that was named.
    async fn chosen(&self, plan: &Plan, volume: Option<&str>) -> Result<Vec<Name>> {
        // A person may have given the label a moment ago.
        let labels = self.labels_for(plan, Duration::ZERO).await;
        if let (true, None) = (plan.schedule.selection.needs_labels(), &labels) {
            let why = unpoisoned(self.state.lock()).docker_error.clone().unwrap_or_default();
            return Err(Error::InvalidRequest(format!("the labels of volumes are not known: {why}")));
        }
        let all: Vec<Name> = self.meant(plan, labels.as_deref()).into_iter().map(|(name, _)| name).collect();
        match volume {
            None => Ok(all),
            Some(volume) => match all.into_iter().find(|name| **name == *volume) {
                Some(name) => Ok(vec![name]),
                None if self.services.volumes.index.get(volume).is_none() => {
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

    /// The volumes a schedule is for, and when each was created.
    fn meant(&self, plan: &Plan, labels: Option<&Labels>) -> Vec<(Name, Timestamp)> {
        let mut meant = Vec::new();
        self.services.volumes.index.each(|entry| {
            let name = &entry.volume.name;
            let labels = labels.and_then(|labels| labels.get(name.as_str()));
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
            Ok(known) => Memory {
                since: known.since,
                broken: None,
                volumes: Mutex::new(RunTable { records: known.records, running: HashMap::new() }),
            },
            Err(error) => {
                let why = format!("what is remembered of schedule {schedule} cannot be read: {error}");
                tracing::error!(schedule, %error, "a schedule cannot run");
                Memory { since: now, broken: Some(why), volumes: Mutex::default() }
            }
        }
    }

    /// Changes a record and writes it durably.
    async fn remember(
        &self,
        plan: &Plan,
        volume: &Name,
        change: impl FnOnce(&mut RunRecord),
    ) -> std::io::Result<RunRecord> {
        let created = self.services.volumes.index.get(volume).map(|entry| entry.volume.created);
        let record = {
            let mut known = unpoisoned(plan.memory.volumes.lock());
            let mut record = known.record(plan, volume, created);
            change(&mut record);
            known.records.insert(volume.to_string(), record.clone());
            record
        };
        let (store, saved) = (self.store.clone(), record.clone());
        tokio::task::spawn_blocking(move || store.save(&saved))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map(|()| record)
    }

    /// Tells of a run that does not take place.
    fn skip(&self, plan: &Plan, volume: &Name, why: String) {
        self.tell("schedule.skip", plan, volume, why);
        METRICS.ran(&plan.schedule.name, "skip");
    }

    fn tell(&self, kind: &str, plan: &Plan, volume: &Name, message: String) {
        let entry = self.services.volumes.index.get(volume);
        let driver = entry.as_ref().map(|entry| entry.driver.name().as_str()).unwrap_or_default();
        let event = about(kind, driver, volume);
        let message = format!("{}: {message}", plan.schedule.name);
        self.services.volumes.events.send(Event { message, ..event });
    }
}

impl Plan {
    /// The file with the key, as requests name it; empty: none.
    fn key_file(&self) -> String {
        self.schedule.encryption_key_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }

    /// The file with the passphrase, as requests name it; empty: none.
    fn passphrase_file(&self) -> String {
        self.schedule.passphrase_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}

impl Plan {
    /// How backups are encrypted, as requests name it; empty: as the destination is.
    fn encryption(&self) -> String {
        if self.schedule.unencrypted { "none".to_owned() } else { String::new() }
    }
}

impl Memory {
    /// Begins a run, unless one is under way.
    fn begin(self: &Arc<Self>, volume: &Name, at: Option<Timestamp>) -> Option<UnderWay> {
        let mut known = unpoisoned(self.volumes.lock());
        if known.running.contains_key(volume.as_str()) {
            return None;
        }
        known.running.insert(volume.to_string(), Now { stage: Stage::Waiting, at });
        Some(UnderWay { memory: Arc::clone(self), volume: volume.clone() })
    }
}

impl RunTable {
    /// What is remembered of a volume. Of one that nothing ran for, every moment counts since there has been both the
    /// schedule and the volume.
    fn record(&self, plan: &Plan, volume: &Name, created: Option<Timestamp>) -> RunRecord {
        self.records.get(volume.as_str()).cloned().unwrap_or_else(|| {
            let since = plan.memory.since;
            let since = created.map_or(since, |created| created.max(since));
            RunRecord::new(&plan.schedule.name, volume, since)
        })
    }
}
