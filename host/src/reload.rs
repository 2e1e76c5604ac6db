//! The settings are read again, by SIGHUP or `convoy config reload`; and compared with those that hold.

use crate::backups::Backups;
use crate::config::live::ReloadReport;
use crate::config::{ConfigError, Live};
use crate::logging::LogLevel;
use crate::notify::notify;
use convoy_cli::args::DaemonArgs;
use convoy_client::types::Pairs;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Reads the settings of a running daemon again.
#[derive(Debug)]
pub struct Reload {
    root: PathBuf,
    args: DaemonArgs,
    config: Live,
    log_level: LogLevel,
    backups: Backups,
    /// Held while it works.
    running: Mutex<()>,
}

impl Reload {
    /// Prepares to read the settings again that `config` holds: of the daemon with this directory that was
    /// started with these arguments. `log_level` and `backups` take over what changes for them.
    pub fn new(root: &Path, args: &DaemonArgs, config: Live, log_level: LogLevel, backups: Backups) -> Self {
        Self {
            root: root.to_owned(),
            args: args.clone(),
            config,
            log_level,
            backups,
            running: Mutex::default(),
        }
    }

    /// Reads the settings again. systemd hears of it, whoever wants it.
    ///
    /// # Errors
    /// Settings that cannot be used: everything stays as it was.
    pub fn once(&self) -> Result<ReloadReport, ConfigError> {
        let _one_at_a_time = self.running.lock();
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        // systemd wants to know which SIGHUP this is the answer to.
        notify(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        let result = self.config.reload(&self.root, &self.args);
        match &result {
            Ok(done) => {
                let now = self.config.now();
                self.log_level.set(&now.settings.log_level);
                self.backups.set_settings(&now.backups);
                now.file.warn();
                tracing::info!(applied = done.applied.join(","), "the settings were read again");
                if !done.needs_restart.is_empty() {
                    tracing::warn!(
                        settings = done.needs_restart.join(","),
                        "these settings change with the next restart"
                    );
                }
                notify("READY=1\nSTATUS=");
            }
            Err(error) => {
                tracing::error!(%error, "the settings stay as they are");
                let line = error.to_string().replace('\n', " ");
                notify(&format!("READY=1\nSTATUS=The settings on disk are not those that hold: {line}"));
            }
        }
        result
    }

    /// How the settings on disk differ from those that hold, for people; empty if they do not.
    pub fn differences(&self) -> Pairs {
        let mut told = Pairs::new();
        match self.config.differences(&self.root, &self.args) {
            Ok(ReloadReport { applied, needs_restart }) => {
                let mut tell = |name: &str, keys: Vec<String>| {
                    if !keys.is_empty() {
                        told.insert(name.to_owned(), keys.join(", "));
                    }
                };
                tell(CHANGED, applied);
                tell(NEEDS_RESTART, needs_restart);
            }
            Err(error) => {
                told.insert(UNUSABLE.to_owned(), error.to_string());
            }
        }
        told
    }
}

/// What [`Reload::differences`] calls settings that a reload would take over.
pub const CHANGED: &str = "Changed";

/// What it calls those that need a restart.
pub const NEEDS_RESTART: &str = "NeedsRestart";

/// What it calls the reason for which neither a reload nor a start can use the file.
pub const UNUSABLE: &str = "Error";

/// Reads the settings again at each SIGHUP.
pub async fn at_signal(reload: Arc<Reload>) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            return tracing::error!(%error, "cannot wait for SIGHUP: settings change by a restart only");
        }
    };
    while hangup.recv().await.is_some() {
        // What is wrong is in the log and in systemd's status.
        let _ = reload.once();
    }
}
