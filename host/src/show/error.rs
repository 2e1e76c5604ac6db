//! What can go wrong where backups are shown.

use crate::config::ConfigError;
use convoy_mount::{KeeperError, MountpointError};
use convoy_volumes::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why backups are not shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShowError {
    /// The destination, a backup, or a key.
    #[error("{}", .0.plain().unwrap_or_else(|| .0.to_string()))]
    Backups(#[from] Error),
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory.
    #[error(transparent)]
    Mountpoint(#[from] MountpointError),
    /// The process that mounts did not.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The process that reads was killed.
    #[error("the process that reads the backups was ended by {0}; nothing is mounted any more")]
    Killed(String),
    /// The address.
    #[error("cannot listen at {address}: {source}")]
    Address {
        /// Which.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// An address that needs a password.
    #[error(
        "{address} can be reached by others: name a file with a password (--password-file), or an address of this \
         host alone (127.0.0.1)"
    )]
    Open {
        /// Which.
        address: SocketAddr,
    },
    /// The file with the password.
    #[error("cannot use the password file {}: {why}", path.display())]
    Password {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A path that no request can hold.
    #[error("the path {0} is not UTF-8")]
    Path(String),
    /// The system.
    #[error("cannot {what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// What it says.
        source: io::Error,
    },
}

impl ShowError {
    /// Makes an error of the system's.
    pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    /// The way out.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Backups(error) => error.hint(),
            Self::Path(_) => Some("name it by a path in UTF-8, such as a symbolic link".to_owned()),
            _ => None,
        }
    }
}
