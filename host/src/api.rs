//! HTTP on the daemon's socket: bodies to the calls of the services, and their results to the answers scripts
//! and Docker know. No logic.
//!
//! - [`front`]: what every request passes first: versions, prefixes, the id of the request.
//! - [`answer`]: the forms of answers; [`stream`]: answers that report progress; [`view`]: volumes as JSON.
//! - `docker`: the volume plugin protocol; `health`: `/healthz`; `admin`: everything else.

mod admin;
mod answer;
mod docker;
mod front;
mod health;
mod stream;
mod view;

use crate::backups::Backups;
use crate::config::Live;
use crate::daemon::reload::Reload;
use crate::jobs::{About, Jobs};
use crate::schedules::Schedules;
use crate::volumes::Volumes;
use crate::volumes::index::Entry;
use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use convoy_client::types::Event;
use futures::FutureExt;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Layer;
use tower::util::BoxCloneSyncService;

/// The API: an answer to every request.
pub type Service = BoxCloneSyncService<Request, Response, Infallible>;

/// What the handlers work with.
#[derive(Debug, Clone)]
pub struct App {
    /// The volumes.
    pub volumes: Arc<Volumes>,
    /// Their backups.
    pub backups: Arc<Backups>,
    /// What is done by itself.
    pub schedules: Schedules,
    /// What takes long.
    pub jobs: Jobs,
    /// The daemon's settings.
    pub config: Live,
    /// Reads them again.
    pub reload: Arc<Reload>,
    /// Everything that was begun and has to be brought to an end before the daemon stops.
    pub tasks: TaskTracker,
    /// Set when the daemon stops: what has no end of its own ends.
    pub stopping: CancellationToken,
}

impl App {
    /// The daemon's directory.
    pub(crate) fn root(&self) -> std::path::PathBuf {
        self.config.now().general.root.clone().into()
    }

    /// Tells of work that somebody asked for and that failed: an event, and a line in the log. `job` is the
    /// id of its job; empty where it had none.
    pub(crate) fn tell_failure(&self, about: &About, job: &str, error: &str) {
        let About { kind, volume, snapshot, url, schedule } = about;
        // Whose snapshot it is, where only one volume has one of that name.
        let of_snapshot = self.volumes.index.snapshot(snapshot, (!volume.is_empty()).then_some(volume));
        let entry = self.volumes.index.get(volume).or_else(|| of_snapshot.ok().map(|(entry, _)| entry));
        let known = |entry: &Entry| (entry.volume.name.to_string(), entry.driver.name().to_string());
        let (volume, driver) = entry.as_ref().map_or_else(|| (volume.clone(), String::new()), known);
        tracing::warn!(job, volume, snapshot, url, schedule, error, "{kind} failed");
        let named = if schedule.is_empty() { String::new() } else { format!("{schedule}: ") };
        self.volumes.events.send(Event {
            kind: about.failure().to_owned(),
            driver,
            volume,
            snapshot: snapshot.clone(),
            url: url.clone(),
            job: job.to_owned(),
            message: format!("{named}{kind}: {error}"),
            ..Event::default()
        });
    }

    /// Runs work to its end, also when whoever asked for it goes away. That it failed is told.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        about: About,
        work: impl Future<Output = crate::volumes::Result<T>> + Send + 'static,
    ) -> crate::volumes::Result<T> {
        use tracing::Instrument;
        let app = self.clone();
        let told = async move {
            let done = AssertUnwindSafe(work).catch_unwind().await;
            let done = done.unwrap_or_else(|_| Err(broken()));
            done.inspect_err(|error| app.tell_failure(&about, "", &error.full_text()))
        };
        self.tasks.spawn(told.in_current_span()).await.unwrap_or_else(|_| Err(broken()))
    }
}

/// The error of work that panicked.
fn broken() -> crate::volumes::Error {
    let text = "the daemon failed in this call: see its log";
    convoy_driver_sdk::DriverError::new(convoy_driver_sdk::ErrorKind::Internal, text).into()
}

/// The whole API as a service.
pub fn service(app: App) -> Service {
    finish(docker::routes().merge(admin::routes()), app)
}

/// Docker's part of the API as a service, for those who are to have nothing else.
pub fn docker_service(app: App) -> Service {
    finish(docker::routes(), app)
}

fn finish(routes: Router<App>, app: App) -> Service {
    let routes = routes.route("/healthz", get(health::healthz));
    let routes: Router = routes.fallback(front::not_found).with_state(app);
    let routes = routes.method_not_allowed_fallback(front::not_found);
    // Around the routes and not in them: it changes the path that they are chosen by.
    BoxCloneSyncService::new(axum::middleware::from_fn(front::front).layer(routes))
}
