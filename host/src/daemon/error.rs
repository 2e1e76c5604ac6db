//! Why a daemon cannot start, or had to stop.

use super::drivers::DriversError;
use super::root::RootError;
use super::socket::SocketError;
use crate::config::ConfigError;
use crate::config::destinations::SettingsError;
use crate::logging::LogError;
use convoy_driver_sdk::records::RecordError;
use convoy_volumes::LedgerError;
use std::io;

/// A daemon that cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum DaemonError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Drivers(#[from] DriversError),
    /// The settings of backups cannot be used.
    #[error(transparent)]
    Backups(#[from] SettingsError),
    /// The policies of volumes cannot be read.
    #[error(transparent)]
    Records(#[from] RecordError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
}
