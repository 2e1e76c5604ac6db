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
pub enum DaemonError {
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The directory cannot be used.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nobody can listen at a socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The drivers cannot be used.
    #[error(transparent)]
    Drivers(#[from] DriversError),
    /// The settings of backups cannot be used.
    #[error(transparent)]
    Backups(#[from] SettingsError),
    /// The policies of volumes cannot be read.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The mount ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The operating system refuses something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried, as in "cannot start threads".
        what: &'static str,
        /// The error of the system call.
        source: io::Error,
    },
}
