//! What is wrong with settings.

use super::destinations::SettingsError;
use super::options;
use convoy_cli::settings::values::{InvalidValue, Source, Values};
use convoy_schedule::InvalidSchedule;
use std::path::PathBuf;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum ConfigError {
    #[error("cannot read the saved configuration {}: {error}; repair it, or start with --ignore-config-file", path.display())]
    Unreadable { path: PathBuf, error: String },
    #[error("cannot save the configuration {}: {source}", path.display())]
    Unwritable { path: PathBuf, source: std::io::Error },
    #[error(
        "the saved configuration {} and the command line differ:{differences}\n\
         Leave the option out to go on as saved, or add --ignore-config-file to take the command line's.",
        path.display()
    )]
    Differs {
        path: PathBuf,
        /// Each on a line of its own.
        differences: String,
    },
    #[error("cannot read the settings in {}: {source}", path.display())]
    FileUnreadable { path: PathBuf, source: std::io::Error },
    #[error("invalid settings in {}: {error}", path.display())]
    File { path: PathBuf, error: String },
    #[error("invalid {key} {value:?} ({at}): {why}")]
    Value { key: &'static str, value: String, at: Source, why: String },
    #[error(transparent)]
    Destinations(#[from] SettingsError),
    #[error("{error} ({at})")]
    Schedule { at: Source, error: InvalidSchedule },
    #[error("exclude: {why} ({at})")]
    Exclude { at: Source, why: String },
    #[error(transparent)]
    Option(#[from] options::OptionError),
    #[error("destination {url} of the settings: {why}")]
    Destination { url: String, why: String },
    #[error("{} is named in the settings and cannot be read: {source} ({at})", path.display())]
    NamedFile { path: PathBuf, at: Source, source: std::io::Error },
    #[error("no driver knows the option {name} ({at}): known are {known}")]
    UnknownOption { name: String, at: Source, known: String },
}

/// Says where a value stands that its setting cannot have.
pub(super) fn refuse(values: &Values, InvalidValue { key, why }: InvalidValue) -> ConfigError {
    let at = values.0.get(key).map_or(Source::Default, |given| given.source.clone());
    ConfigError::Value { key, value: values.text(key), at, why }
}
