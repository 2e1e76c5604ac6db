//! The daemon's settings: flags over environment variables over `convoy.toml` over what `convoy.cfg` kept of
//! an earlier start over defaults.
//!
//! `convoy.cfg` has the form of convoy 0.5, byte for byte. What is saved there holds where nobody says
//! anything. Where a flag says something else, the start is refused, since either could be the mistake.
//! `convoy.toml` is edited on purpose: what it says holds, and the difference is logged.
//!
//! - [`duration`] and [`options`]: values in them.
//! - [`destinations`]: how destinations of backups are reached, how fast, with which key.
//! - [`file`]: `convoy.toml`; [`setting`]: where a value comes from; [`live`]: settings that change while the
//!   daemon runs; `check`: `convoy config check`.

pub mod destinations;
pub mod duration;
pub mod file;
pub mod live;
pub mod options;
pub mod setting;

mod check;
mod merge;
mod schedules;
mod spelling;

pub use check::check_file;
pub use live::Live;

use crate::listen::Address;
use crate::logging;
use convoy_cli::args::DEFAULT_ROOT;
use convoy_client::types::General;
use convoy_driver_sdk::atomic;
use convoy_schedule::{InvalidSchedule, Schedule};
use convoy_volumes::{DockerRemove, DockerRules};
use destinations::{BackupSettings, SettingsError};
use file::File;
use options::Options;
use setting::{Layers, SettingValue, Shown, Source};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The driver of a daemon that was given none. It is compiled in.
pub const EMBEDDED: &str = "vfs";

/// The file's name, in the daemon's root.
pub const FILE: &str = "convoy.cfg";

/// The shortest time an external command of a driver may be given.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The saved ones cannot be read.
    #[error("cannot read the saved configuration {}: {error}; repair it, or start with --ignore-config-file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// They cannot be saved.
    #[error("cannot save the configuration {}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The command line says something else.
    #[error(
        "the saved configuration {} and the command line differ:{differences}\n\
         Leave the option out to go on as saved, or add --ignore-config-file to take the command line's.",
        path.display()
    )]
    Differs {
        /// The file.
        path: PathBuf,
        /// Each on a line of its own.
        differences: String,
    },
    /// `--cmd-timeout` is no duration, or too short.
    #[error("invalid --cmd-timeout {value:?}: {why}")]
    CmdTimeout {
        /// As given.
        value: String,
        /// Why.
        why: String,
    },
    /// `--mnt-ns` names nothing.
    #[error("invalid --mnt-ns {value:?}: expected a mount namespace like /proc/1/ns/mnt: {source}")]
    MountNamespace {
        /// As given.
        value: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file of settings cannot be read.
    #[error("cannot read the settings in {}: {source}", path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of settings is no such file.
    #[error("invalid settings in {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What and where.
        error: String,
    },
    /// A value that its setting cannot have.
    #[error("invalid {key} {value:?} ({at}): {why}")]
    Value {
        /// The setting.
        key: &'static str,
        /// As given.
        value: String,
        /// Where it comes from.
        at: Source,
        /// What was expected.
        why: String,
    },
    /// The settings of destinations.
    #[error(transparent)]
    Destinations(#[from] SettingsError),
    /// A schedule.
    #[error("{error} ({at})")]
    Schedule {
        /// Where it stands.
        at: Source,
        /// Which, and what is wrong.
        error: InvalidSchedule,
    },
    /// A driver option.
    #[error(transparent)]
    Option(#[from] options::OptionError),
    /// A destination that could not be used.
    #[error("destination {url} of the settings: {why}")]
    Destination {
        /// The destination.
        url: String,
        /// Why, and what to do.
        why: String,
    },
    /// A file that the settings name.
    #[error("{} is named in the settings and cannot be read: {source} ({at})", path.display())]
    NamedFile {
        /// The file.
        path: PathBuf,
        /// Where it is named.
        at: Source,
        /// Why.
        source: std::io::Error,
    },
    /// An option that no driver knows.
    #[error("no driver knows the option {name} ({at}): known are {known}")]
    UnknownOption {
        /// The option.
        name: String,
        /// Where it stands.
        at: Source,
        /// The ones that are known, with commas.
        known: String,
    },
    /// `--drivers` names no driver.
    #[error("invalid --drivers: a name is empty")]
    EmptyDriver,
}

/// How much is logged, when nobody says.
const LOG_LEVEL: &str = "info";

/// How long running work may take to end when the daemon stops, when nobody says: less than the 90 s after
/// which systemd kills.
const STOP_TIMEOUT: &str = "45s";

/// Where the daemon listens, and who may connect beside root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Everything is served here.
    pub admin: PathBuf,
    /// A group that may use it.
    pub admin_group: Option<String>,
    /// Docker's calls alone are served here.
    pub docker: Option<PathBuf>,
    /// A group that may use it.
    pub docker_group: Option<String>,
}

/// The settings of this run.
#[derive(Debug, Clone)]
pub struct Config {
    /// As they are shown and saved.
    pub general: General,
    /// How long an external command of a driver may take, where that was said.
    pub command_timeout: Option<Duration>,
    /// The mount namespace to mount in.
    pub mount_namespace: Option<PathBuf>,
    /// Whether nothing was saved, or what was saved is ignored.
    pub first_start: bool,
    /// Whether the command line also wins over what the drivers saved.
    pub override_saved: bool,
    /// The drivers' options.
    pub driver_options: Options,
    /// Where to look for drivers first.
    pub driver_path: Vec<PathBuf>,
    /// Where to listen.
    pub sockets: Sockets,
    /// How much is logged.
    pub log_level: String,
    /// What Docker's users may ask for.
    pub docker_rules: Arc<DockerRules>,
    /// What becomes of the data of a volume that has no policy of its own.
    pub docker_remove: DockerRemove,
    /// How long running work may take to end when the daemon stops.
    pub stop_timeout: Duration,
    /// Where metrics are told besides.
    pub metrics_listen: Option<Address>,
    /// How backups are made.
    pub backups: BackupSettings,
    /// What is backed up when.
    pub schedules: Vec<Schedule>,
    /// The file of settings, with the tables of other parts of the daemon.
    pub file: File,
    /// Every setting with where it comes from.
    pub shown: Shown,
}

/// The log's level, file and form, which are needed before everything else.
///
/// # Errors
/// [`ConfigError::Value`].
pub fn log(layers: Layers<'_>) -> Result<(String, Option<PathBuf>, Option<String>), ConfigError> {
    let level = log_level(layers)?.map_or_else(|| LOG_LEVEL.to_owned(), |given| given.value);
    let file = layers.pick("log", layers.args.log.clone(), layers.file.settings.log.as_ref());
    let format = log_format(layers)?.map(|given| given.value);
    Ok((level, file.map(|given| given.value), format))
}

/// The daemon's directory, which is needed to find what is saved.
pub fn root(layers: Layers<'_>) -> PathBuf {
    let given = layers.pick("root", layers.args.root.clone(), layers.file.settings.root.as_ref());
    given.map_or_else(|| PathBuf::from(DEFAULT_ROOT), |given| given.value)
}

/// Brings what is saved and what is asked for together.
///
/// # Errors
/// [`ConfigError`].
pub fn load(root: &Path, layers: Layers<'_>) -> Result<Config, ConfigError> {
    let path = root.join(FILE);
    let saved = if layers.args.ignore_config_file { None } else { read(&path)? };
    merge::merge(&path, root, saved, layers)
}

/// Saves settings, durably.
///
/// # Errors
/// [`ConfigError::Unwritable`].
pub fn save(root: &Path, general: &General) -> Result<(), ConfigError> {
    let path = root.join(FILE);
    let mut text = serde_json::to_vec(general)
        .map_err(|error| ConfigError::Unreadable { path: path.clone(), error: error.to_string() })?;
    text.push(b'\n');
    if std::fs::read(&path).is_ok_and(|saved| saved == text) {
        return Ok(());
    }
    atomic::write_atomic(&path, &text, 0o644).map_err(|source| ConfigError::Unwritable { path, source })
}

fn read(path: &Path) -> Result<Option<General>, ConfigError> {
    let unreadable = |error: String| ConfigError::Unreadable { path: path.to_owned(), error };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            // An object and nothing else: serde would take an array for one.
            .and_then(|fields: serde_json::Map<_, _>| serde_json::from_value(fields.into()))
            .map(Some)
            .map_err(|error| unreadable(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

fn log_format(layers: Layers<'_>) -> Result<Option<SettingValue<String>>, ConfigError> {
    let file = layers.file.settings.log_format.as_ref();
    match layers.pick("log-format", layers.args.log_format.clone(), file) {
        Some(SettingValue { value, source }) if !logging::FORMATS.contains(&value.as_str()) => {
            let why = format!("expected one of {}", logging::FORMATS.join(", "));
            Err(ConfigError::Value { key: "log-format", value, at: source, why })
        }
        given => Ok(given),
    }
}

fn log_level(layers: Layers<'_>) -> Result<Option<SettingValue<String>>, ConfigError> {
    let file = layers.file.settings.log_level.as_ref();
    let given = match (&layers.args.log_level, layers.args.debug) {
        (None, true) => Some(SettingValue { value: "debug".to_owned(), source: layers.flag("debug") }),
        (flag, _) => layers.pick("log-level", flag.clone(), file),
    };
    match given {
        Some(SettingValue { value, source })
            if !["error", "warn", "info", "debug", "trace"].contains(&value.as_str()) =>
        {
            let why = "expected error, warn, info, debug or trace".to_owned();
            Err(ConfigError::Value { key: "log-level", value, at: source, why })
        }
        given => Ok(given),
    }
}

#[cfg(test)]
mod tests;
