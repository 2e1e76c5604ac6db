//! The daemon's life: drivers, volumes, ready, drain.

use super::error::DaemonError;
use super::socket::Listening;
use super::{drivers, monitor};
use crate::api;
use crate::app::{App, Stopped};
use crate::backups::Backups;
use crate::config::{self, Live};
use crate::listen::{self, Limits, Listener, Service};
use crate::logging::LogLevel;
use crate::notify::notify;
use crate::reload::{self, Reload};
use crate::schedules::{Schedules, Services};
use convoy_activity::events::Events;
use convoy_activity::jobs::Jobs;
use convoy_cli::args::DaemonArgs;
use convoy_volumes::{HalfRestoredVolumes, Ledger, NameCache, Policies, RUN, Volumes};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a driver may take to close.
const CLOSE: Duration = Duration::from_secs(10);

/// What a daemon is started with.
#[derive(Debug)]
pub struct Start<'a> {
    /// The daemon's root.
    pub root: &'a Path,
    /// The settings, which SIGHUP reads again.
    pub config: Live,
    /// The arguments of the command line.
    pub args: &'a DaemonArgs,
    /// Changes the level of the log.
    pub log_level: LogLevel,
    /// The sockets to listen at.
    pub sockets: Listening,
    /// The id of this boot, from the kernel.
    pub boot_id: &'a str,
}

/// Serves until told to stop.
pub async fn serve(start: Start<'_>) -> Result<(), DaemonError> {
    let began = Instant::now();
    let stopping = CancellationToken::new();
    tokio::spawn(wait_for_signals(stopping.clone()));
    let drivers = drivers::open(start.root, &start.config.now()).await?;
    start.config.set_default_driver(drivers.default_driver().name());
    config::save(start.root, &start.config.now().general)?;
    let ledger = Ledger::open(start.root, Path::new(RUN), start.boot_id)?;
    let events = Events::default();
    let volumes = Volumes::new(drivers, ledger, events.clone())
        .with_policies(Policies::open(start.root)?)
        .with_half_restored(HalfRestoredVolumes::open(start.root)?)
        .with_name_cache(NameCache::open(start.root))
        .with_mount_namespace(start.config.now().settings.mnt_ns.clone());
    let volumes = Arc::new(volumes);
    volumes.load(start.root).await;

    let settings = start.config.now().backups.clone();
    let backups = Backups::new(Arc::clone(&volumes), events.clone(), settings, start.root);
    let services = Services {
        volumes: Arc::clone(&volumes),
        backups: backups.clone(),
        events,
        jobs: Jobs::default(),
        tasks: TaskTracker::new(),
        stopping: stopping.clone(),
    };
    let schedules = Schedules::new(services.clone(), start.root);
    tokio::spawn(configure_schedules(schedules.clone(), start.config.clone()));
    let reload = Reload::new(start.root, start.args, start.config.clone(), start.log_level, backups);
    let reload = Arc::new(reload);
    let stopped = Stopped::open(start.root)?;
    let app = App::new(services, schedules.clone(), start.config.clone(), Arc::clone(&reload), stopped);
    tokio::spawn(reload::at_signal(reload));
    let looking_after = tokio::spawn({
        let volumes = Arc::clone(&volumes);
        async move { tokio::join!(volumes.look_after(), schedules.look_after()) }
    });
    let mut serving = vec![serve_at(start.sockets.admin.0, "admin", api::service(app.clone()), &stopping)?];
    if let Some((listener, _)) = start.sockets.docker {
        serving.push(serve_at(listener, "docker", api::docker_service(app.clone()), &stopping)?);
    }
    if let Some(address) = &start.config.now().settings.metrics_listen {
        monitor::start(address, api::service(app.clone()), stopping.clone())
            .await
            .map_err(|source| DaemonError::System { what: "listen at --metrics-listen", source })?;
    }
    tracing::info!(
        socket = %start.sockets.names,
        volumes = volumes.count(),
        millis = began.elapsed().as_millis(),
        "convoy {} is ready", env!("CARGO_PKG_VERSION")
    );
    notify("READY=1");
    tokio::spawn(app.clone().start_left_containers());

    stopping.cancelled().await;
    notify("STOPPING=1");
    looking_after.abort();
    app.drain(start.config.now().settings.stop_timeout).await;
    // The last answers are on their way: those who asked get them.
    if tokio::time::timeout(CLOSE, futures::future::join_all(serving)).await.is_err() {
        tracing::warn!("stopping although clients still read their answers");
    }
    volumes.close(CLOSE).await;
    Ok(())
}

/// Hands the schedules over, and again when the settings change.
async fn configure_schedules(schedules: Schedules, config: Live) {
    let mut changes = config.subscribe();
    let mut before = None;
    loop {
        let now = Arc::clone(&changes.borrow_and_update());
        let file = &now.file.tables;
        let asked = (file.scheduling.clone(), file.schedule.clone());
        if before.as_ref() != Some(&asked) {
            schedules.configure(&asked.0, now.schedules.clone()).await;
            before = Some(asked);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn serve_at(
    listener: UnixListener,
    name: &'static str,
    service: Service,
    stopping: &CancellationToken,
) -> Result<JoinHandle<()>, DaemonError> {
    let listener = tokio::net::UnixListener::from_std(listener)
        .map_err(|source| DaemonError::System { what: "listen at the socket", source })?;
    let (listener, limits) = (Listener::Unix(listener), Limits::API.within_open_files());
    Ok(tokio::spawn(listen::answer(listener, name, limits, service, stopping.clone())))
}

/// The first signal stops the daemon in order, the second at once.
async fn wait_for_signals(stopping: CancellationToken) {
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        tracing::error!("cannot wait for signals: only SIGKILL will stop this daemon");
        return;
    };
    for first in [true, false] {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if first {
            tracing::info!(signal = name, "stopping; a second signal stops at once");
            stopping.cancel();
        } else {
            tracing::warn!(signal = name, "stopping at once");
            std::process::exit(1);
        }
    }
}
