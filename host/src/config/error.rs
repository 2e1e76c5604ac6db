//! What is wrong with settings.

use super::destinations::SettingsError;
use super::options;
use convoy_cli::settings::values::{InvalidValue, Source, Values};
use convoy_schedule::InvalidSchedule;
use std::path::PathBuf;

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
    /// A rule that leaves something out of backups.
    #[error("exclude: {why} ({at})")]
    Exclude {
        /// Where it stands.
        at: Source,
        /// What is wrong.
        why: String,
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

/// Says where a value stands that its setting cannot have.
pub(super) fn refuse(values: &Values, InvalidValue { key, why }: InvalidValue) -> ConfigError {
    let at = values.0.get(key).map_or(Source::Default, |given| given.source.clone());
    ConfigError::Value { key, value: values.text(key), at, why }
}
