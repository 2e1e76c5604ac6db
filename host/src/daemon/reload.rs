//! SIGHUP: the settings are read again.

use super::config::Live;
use super::logging::LogLevel;
use super::notify::notify;
use crate::backups::Backups;
use convoy_cli::args::DaemonArgs;
use rustix::time::{ClockId, clock_gettime};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// What a reload works with.
#[derive(Debug)]
pub struct Reload {
    /// The daemon's directory.
    pub root: PathBuf,
    /// What it was told on its command line.
    pub args: DaemonArgs,
    /// Its settings.
    pub config: Live,
    /// How much it logs.
    pub log_level: LogLevel,
    /// Its backups.
    pub backups: Arc<Backups>,
}

/// Reads the settings again at each SIGHUP.
pub async fn at_signal(reload: Reload) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            return tracing::error!(%error, "cannot wait for SIGHUP: settings change by a restart only");
        }
    };
    while hangup.recv().await.is_some() {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        // systemd wants to know which SIGHUP this is the answer to.
        notify(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        once(&reload);
        notify("READY=1");
    }
}

fn once(reload: &Reload) {
    match reload.config.reload(&reload.root, &reload.args) {
        Ok(done) => {
            let now = reload.config.now();
            reload.log_level.set(&now.log_level);
            reload.backups.set_destinations(now.backups.destinations.clone());
            tracing::info!(applied = done.applied.join(","), "the settings were read again");
            if !done.needs_restart.is_empty() {
                tracing::warn!(
                    settings = done.needs_restart.join(","),
                    "these settings change with the next restart"
                );
            }
        }
        Err(error) => tracing::error!(%error, "the settings stay as they are"),
    }
}
