//! A daemon's services together: what the API, the doctor and the metrics work with.
//!
//! - `create`: volumes, empty or from a snapshot or a backup; `docker`: what Docker means by its calls.
//! - `in_place`: a volume changed altogether, by a restore in place or a revert; `stopped`: the containers that
//!   were stopped for that.

mod create;
mod docker;
mod in_place;
mod stopped;

use crate::backups::Backups;
use crate::config::live::ReloadReport;
use crate::config::{Config, ConfigError, Live};
use crate::reload::Reload;
use crate::schedules::{Schedules, Services};
use convoy_activity::events::Events;
use convoy_activity::jobs::{About, Jobs};
use convoy_client::types::{Event, Pairs};
use convoy_driver_sdk::{DriverError, ErrorKind};
use convoy_volumes::{Entry, Error, Result, Volumes};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use stopped::Stopped;
pub(crate) use stopped::names;

/// The services of a daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    services: Services,
    schedules: Schedules,
    config: Live,
    reload: Arc<Reload>,
    stopped: Stopped,
}

impl App {
    /// Brings the services of a daemon together.
    pub fn new(
        services: Services,
        schedules: Schedules,
        config: Live,
        reload: Arc<Reload>,
        stopped: Stopped,
    ) -> Self {
        Self(Arc::new(Parts { services, schedules, config, reload, stopped }))
    }

    /// Gives the volume service.
    pub fn volumes(&self) -> &Arc<Volumes> {
        &self.0.services.volumes
    }

    /// Gives the backup service.
    pub fn backups(&self) -> &Backups {
        &self.0.services.backups
    }

    /// Gives the schedules.
    pub fn schedules(&self) -> &Schedules {
        &self.0.schedules
    }

    /// Gives the jobs that run.
    pub fn jobs(&self) -> &Jobs {
        &self.0.services.jobs
    }

    /// Gives the events, to send and to listen.
    pub fn events(&self) -> &Events {
        &self.0.services.events
    }

    /// Gives the records of containers that were stopped.
    pub(crate) fn stopped(&self) -> &Stopped {
        &self.0.stopped
    }

    /// Gives the settings as they are now.
    pub fn config(&self) -> Arc<Config> {
        self.0.config.now()
    }

    /// Gives the path of the daemon's root.
    pub fn root(&self) -> PathBuf {
        self.config().general.root.clone().into()
    }

    /// Is cancelled when the daemon stops: what has no end of its own ends.
    pub fn stopping(&self) -> &CancellationToken {
        &self.0.services.stopping
    }

    /// Reads the settings again.
    ///
    /// # Errors
    /// Settings that cannot be used: everything stays as it was. The outer error is that of a daemon that
    /// fails.
    pub async fn reload(&self) -> Result<Result<ReloadReport, ConfigError>, JoinError> {
        let reload = Arc::clone(&self.0.reload);
        tokio::task::spawn_blocking(move || reload.once()).await
    }

    /// Compares the settings on disk with those that hold: see [`Reload::differences`].
    pub async fn settings_on_disk(&self) -> Result<Pairs, JoinError> {
        let reload = Arc::clone(&self.0.reload);
        tokio::task::spawn_blocking(move || reload.differences()).await
    }

    /// Runs work that the end of the daemon waits for.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.0.services.tasks.spawn(work)
    }

    /// Counts the work that the end of the daemon would wait for.
    pub fn tasks(&self) -> usize {
        self.0.services.tasks.len()
    }

    /// Lets what runs come to an end, cancels what does not in a third of `limit`, and waits for the rest of
    /// it.
    pub async fn drain(&self, limit: Duration) {
        let tasks = &self.0.services.tasks;
        tasks.close();
        // What runs may end by itself; then it is cancelled and undoes what it began.
        let (patience, undo) = (limit / 3, limit - limit / 3);
        if !tasks.is_empty() {
            tracing::info!(calls = tasks.len(), seconds = patience.as_secs(), "waiting for running calls");
        }
        if tokio::time::timeout(patience, tasks.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(calls = tasks.len(), seconds = undo.as_secs(), "cancelling what still runs");
        self.jobs().cancel_all();
        if tokio::time::timeout(undo, tasks.wait()).await.is_err() {
            tracing::error!(calls = tasks.len(), "stopping although calls still run");
        }
    }

    /// Tells of work that somebody asked for and that failed: an event, and a line in the log. `job` is the
    /// id of its job; empty where it had none.
    pub fn tell_failure(&self, about: &About, job: &str, error: &str) {
        let About { kind, volume, snapshot, url, schedule } = about;
        // Whose snapshot it is, where only one volume has one of that name.
        let of_snapshot = self.volumes().snapshot(snapshot, (!volume.is_empty()).then_some(volume));
        let entry = self.volumes().get(volume).or_else(|| of_snapshot.ok().map(|(entry, _)| entry));
        let named = |entry: &Entry| (entry.volume.name.to_string(), entry.driver.name().to_string());
        let (volume, driver) = entry.as_ref().map_or_else(|| (volume.clone(), String::new()), named);
        tracing::warn!(job, volume, snapshot, url, schedule, error, "{kind} failed");
        let prefix = if schedule.is_empty() { String::new() } else { format!("{schedule}: ") };
        self.events().send(Event {
            kind: about.failure().to_owned(),
            driver,
            volume,
            snapshot: snapshot.clone(),
            url: url.clone(),
            job: job.to_owned(),
            message: format!("{prefix}{kind}: {error}"),
            ..Event::default()
        });
    }

    /// Runs work to its end, also when whoever asked for it goes away. That it failed is told.
    pub async fn detached<T: Send + 'static>(
        &self,
        about: About,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let app = self.clone();
        let work = async move {
            let done = AssertUnwindSafe(work).catch_unwind().await;
            let done = done.unwrap_or_else(|_| Err(broken()));
            done.inspect_err(|error| app.tell_failure(&about, "", &error.full_text()))
        };
        self.spawn(work.in_current_span()).await.unwrap_or_else(|_| Err(broken()))
    }
}

/// Creates the error of work that panicked.
pub fn broken() -> Error {
    let text = "the daemon failed in this call: see its log";
    DriverError::new(ErrorKind::Internal, text).into()
}
