//! The daemon's settings: flags over environment variables over `convoy.toml` over what `convoy.cfg` kept of
//! an earlier start over defaults.
//!
//! `convoy.cfg` has the form of convoy 0.5, byte for byte. What is saved there holds where nobody says
//! anything. Where a flag says something else, the start is refused, since either could be the mistake.
//! `convoy.toml` is edited on purpose: what it says holds, and the difference is logged.
//!
//! Each setting is a row of [`convoy_cli::settings`]. Here are the layers:
//!
//! - [`file`]: `convoy.toml`, with its tables [`destinations`], `schedules`
//!   and [`options`] of drivers.
//! - `merge`: one layer over the other; [`live`]: what changes while the daemon runs.
//! - `check`: `convoy config check`; [`secret`]: what `convoy config show` does not show.

pub mod destinations;
pub mod file;
pub mod live;
pub mod options;
pub mod secret;

mod check;
mod merge;
mod schedules;
mod spelling;

pub use check::check_file;
pub use live::Live;

use convoy_cli::args::DaemonArgs;
use convoy_cli::settings::Settings;
use convoy_cli::settings::values::{InvalidValue, Source, Values, one_of, optional};
use convoy_client::types::General;
use convoy_driver_sdk::atomic;
use convoy_schedule::{InvalidSchedule, Schedule};
use convoy_volumes::{DockerRemove, DockerRules};
use destinations::{BackupSettings, SettingsError};
use file::File;
use options::Options;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the file of saved settings, in the daemon's root.
pub const FILE: &str = "convoy.cfg";

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The saved settings cannot be read.
    #[error("cannot read the saved configuration {}: {error}; repair it, or start with --ignore-config-file", path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong, and where.
        error: String,
    },
    /// The settings cannot be saved.
    #[error("cannot save the configuration {}: {source}", path.display())]
    Unwritable {
        /// The path of the file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The command line says something else.
    #[error(
        "the saved configuration {} and the command line differ:{differences}\n\
         Leave the option out to go on as saved, or add --ignore-config-file to take the command line's.",
        path.display()
    )]
    Differs {
        /// The path of the file.
        path: PathBuf,
        /// Each on a line of its own.
        differences: String,
    },
    /// The file of settings cannot be read.
    #[error("cannot read the settings in {}: {source}", path.display())]
    FileUnreadable {
        /// The path of the file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file of settings is no such file.
    #[error("invalid settings in {}: {error}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// What and where.
        error: String,
    },
    /// A value that its setting cannot have.
    #[error("invalid {key} {value:?} ({at}): {why}")]
    Value {
        /// The key of the setting.
        key: &'static str,
        /// The value as it was given.
        value: String,
        /// Where it comes from.
        at: Source,
        /// What was expected.
        why: String,
    },
    /// Settings of destinations that cannot be used.
    #[error(transparent)]
    Destinations(#[from] SettingsError),
    /// A schedule that cannot run.
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
        /// The URL of the destination.
        url: String,
        /// Why, and what to do.
        why: String,
    },
    /// A file that the settings name.
    #[error("{} is named in the settings and cannot be read: {source} ({at})", path.display())]
    NamedFile {
        /// The path of the file.
        path: PathBuf,
        /// Where it is named.
        at: Source,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A driver option that no driver knows.
    #[error("no driver knows the option {name} ({at}): known are {known}")]
    UnknownOption {
        /// The name of the option.
        name: String,
        /// Where it stands.
        at: Source,
        /// The ones that are known, with commas.
        known: String,
    },
}

/// What a user asks for: flags and environment over the file.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// The command line, with what the environment gives.
    pub args: &'a DaemonArgs,
    /// The file of settings.
    pub file: &'a File,
}

impl Layers<'_> {
    /// The values of all layers but the saved one.
    fn values(&self) -> Values {
        Values::defaults().under(&self.file.values).under(&self.args.values)
    }
}

/// The settings of this run.
#[derive(Debug, Clone)]
pub struct Config {
    /// The settings, parsed.
    pub settings: Settings,
    /// The settings as `convoy info` shows them and `convoy.cfg` keeps them.
    pub general: General,
    /// Whether nothing was saved, or what was saved is ignored.
    pub first_start: bool,
    /// Whether the command line also wins over what the drivers saved.
    pub override_saved: bool,
    /// The drivers' options.
    pub driver_options: Options,
    /// What Docker's users may ask for.
    pub docker_rules: Arc<DockerRules>,
    /// What becomes of the data of a volume that has no policy of its own.
    pub docker_remove: DockerRemove,
    /// How backups are made.
    pub backups: BackupSettings,
    /// What is backed up when.
    pub schedules: Vec<Schedule>,
    /// The file of settings, with the tables of other parts of the daemon.
    pub file: File,
    /// Every setting with where it comes from.
    pub shown: Values,
}

/// Gives the log's level, file and form, which are needed before everything else.
///
/// # Errors
/// [`ConfigError::Value`].
pub fn log(layers: Layers<'_>) -> Result<(String, Option<PathBuf>, String), ConfigError> {
    let values = layers.values();
    let log = || {
        let level = values.parse("log-level", one_of)?;
        Ok((level, values.parse("log", optional)?, values.parse("log-format", one_of)?))
    };
    log().map_err(|invalid| refuse(&values, invalid))
}

/// Gives the daemon's directory, which is needed to find what is saved.
pub fn root(layers: Layers<'_>) -> PathBuf {
    layers.values().text("root").into()
}

/// Brings what is saved and what is asked for together.
///
/// # Errors
/// [`ConfigError`].
pub fn load(root: &Path, layers: Layers<'_>) -> Result<Config, ConfigError> {
    let saved = if layers.args.ignore_config_file { None } else { read(&root.join(FILE))? };
    merge::merge(root, saved, layers)
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

/// Says where a value stands that its setting cannot have.
fn refuse(values: &Values, InvalidValue { key, why }: InvalidValue) -> ConfigError {
    let at = values.0.get(key).map_or(Source::Default, |given| given.source.clone());
    ConfigError::Value { key, value: values.text(key), at, why }
}

#[cfg(test)]
mod tests;
