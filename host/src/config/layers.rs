//! The settings that a user asks for: on the command line, in the environment, in the file.

use super::error::{ConfigError, refuse};
use super::file::File;
use convoy_cli::args::DaemonArgs;
use convoy_cli::settings::values::{Values, one_of, optional};
use std::path::PathBuf;

/// What a user asks for: flags and environment over the file.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// The command line, with what the environment gives.
    pub args: &'a DaemonArgs,
    /// The file of settings.
    pub file: &'a File,
}

impl Layers<'_> {
    pub(super) fn values(&self) -> Values {
        Values::defaults().under(&self.file.values).under(&self.args.values)
    }
}

/// Gives the log's level, file and form, which are needed before everything else.
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
