//! The daemon's life: drivers, volumes, ready, drain.

use super::listen::{Limits, Listener};
use super::logging::LogLevel;
use super::notify::notify;
use super::socket::Listening;
use super::{DaemonError, drivers, listen, monitor, reload};
use crate::api::{self, App};
use crate::backups::Backups;
use crate::call::RequestContext;
use crate::config::{self, Live};
use crate::events::Events;
use crate::jobs::Jobs;
use crate::schedules::{Schedules, Services};
use crate::volumes::Volumes;
use crate::volumes::backend::ManagedDriver;
use crate::volumes::ledger::{self, Ledger};
use crate::volumes::name_cache::NameCache;
use crate::volumes::retain::Policies;
use convoy_cli::args::DaemonArgs;
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
    /// Its directory.
    pub root: &'a Path,
    /// Its settings.
    pub config: Live,
    /// What it was told on its command line.
    pub args: &'a DaemonArgs,
    /// How much it logs.
    pub log_level: LogLevel,
    /// Its sockets.
    pub sockets: Listening,
    /// Names the boot.
    pub boot_id: &'a str,
}

/// Serves until told to stop.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn serve(start: Start<'_>) -> Result<(), DaemonError> {
    let began = Instant::now();
    let stopping = CancellationToken::new();
    tokio::spawn(wait_for_signals(stopping.clone()));
    let drivers = drivers::open(start.root, &start.config.now()).await?;
    start.config.set_default_driver(drivers.default_driver().name());
    config::save(start.root, &start.config.now().general)?;
    let ledger::LedgerDir { dir, first } =
        ledger::settle(start.root, &ledger::MEMORIES.map(Path::new), start.boot_id)?;
    let ledger = Ledger::open(&dir, start.boot_id)?;
    let volumes = Volumes::new(drivers, ledger, Events::default())
        .with_policies(Policies::open(start.root)?)
        .with_known(NameCache::open(start.root))
        .with_mount_namespace(start.config.now().settings.mnt_ns.clone());
    let volumes = Arc::new(volumes);
    load(&volumes, start.root, first).await;

    let services = Services {
        volumes: Arc::clone(&volumes),
        backups: Arc::new(Backups::new(Arc::clone(&volumes), start.config.now().backups.clone(), start.root)),
        jobs: Jobs::default(),
        tasks: TaskTracker::new(),
        stopping: stopping.clone(),
    };
    let schedules = Schedules::new(services.clone(), start.root);
    tokio::spawn(configure_schedules(schedules.clone(), start.config.clone()));
    let Services { backups, jobs, tasks, .. } = services;
    let reload = Arc::new(reload::Reload {
        root: start.root.to_owned(),
        args: start.args.clone(),
        config: start.config.clone(),
        log_level: start.log_level,
        backups: Arc::clone(&backups),
        running: std::sync::Mutex::default(),
    });
    let app = App {
        volumes: Arc::clone(&volumes),
        backups,
        schedules: schedules.clone(),
        jobs,
        config: start.config.clone(),
        reload: Arc::clone(&reload),
        tasks,
        stopping: stopping.clone(),
    };
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
        volumes = volumes.index.len(),
        millis = began.elapsed().as_millis(),
        "convoy {} is ready", env!("CARGO_PKG_VERSION")
    );
    notify("READY=1");

    stopping.cancelled().await;
    notify("STOPPING=1");
    looking_after.abort();
    drain(&app).await;
    // The last answers are on their way: those who asked get them.
    if tokio::time::timeout(CLOSE, futures::future::join_all(serving)).await.is_err() {
        tracing::warn!("stopping although clients still read their answers");
    }
    close(&volumes).await;
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

/// Answers at a socket.
fn serve_at(
    listener: UnixListener,
    name: &'static str,
    service: api::Service,
    stopping: &CancellationToken,
) -> Result<JoinHandle<()>, DaemonError> {
    let listener = tokio::net::UnixListener::from_std(listener)
        .map_err(|source| DaemonError::System { what: "listen at the socket", source })?;
    let (listener, limits) = (Listener::Unix(listener), Limits::API.within_open_files());
    Ok(tokio::spawn(listen::answer(listener, name, limits, service, stopping.clone())))
}

/// Reads what the drivers have, and brings the mount ledger in line with it. A slow driver keeps no other
/// waiting.
async fn load(volumes: &Volumes, root: &Path, first: bool) {
    let call = RequestContext::new("start");
    let load_one = async |driver: &Arc<ManagedDriver>| {
        if driver.failure().is_some() {
            let orphans = volumes.add_orphans(driver, root).await.added;
            tracing::warn!(driver = %driver.name(), volumes = ?orphans, "these volumes cannot be used");
        } else if let Err(error) = volumes.refresh(driver, &call).await {
            tracing::error!(driver = %driver.name(), %error, "cannot list the volumes of a driver: trying again");
            driver.suspect();
        }
    };
    futures::future::join_all(volumes.drivers.iter().map(load_one)).await;
    volumes.reconcile_mounts(first, &call).await;
}

/// Lets what runs come to an end, and cancels what does not.
async fn drain(app: &App) {
    app.tasks.close();
    let limit = app.config.now().settings.stop_timeout;
    // What runs may end by itself; then it is cancelled and undoes what it began.
    let (patience, undo) = (limit / 3, limit - limit / 3);
    if !app.tasks.is_empty() {
        tracing::info!(calls = app.tasks.len(), seconds = patience.as_secs(), "waiting for running calls");
    }
    if tokio::time::timeout(patience, app.tasks.wait()).await.is_ok() {
        return;
    }
    tracing::warn!(calls = app.tasks.len(), seconds = undo.as_secs(), "cancelling what still runs");
    app.jobs.cancel_all();
    if tokio::time::timeout(undo, app.tasks.wait()).await.is_err() {
        tracing::error!(calls = app.tasks.len(), "stopping although calls still run");
    }
}

async fn close(volumes: &Volumes) {
    futures::future::join_all(volumes.drivers.iter().map(|driver| driver.stop(CLOSE))).await;
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
