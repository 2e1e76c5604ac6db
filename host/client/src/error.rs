//! What can go wrong between a client and the daemon.
//!
//! `Display` says what happened; [`Error::hint`] says what to do about it.

use crate::types::StreamError;
use std::path::{Path, PathBuf};

/// The kind of the error that a restore with losses ends with.
pub const LOSSES: &str = "losses";

/// What a call comes back with.
pub type Result<T> = std::result::Result<T, Error>;

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum Error {
    /// Nobody listens at the socket.
    #[error("cannot connect to {}: is `convoy daemon` running? ({source})", socket.display())]
    NotRunning { socket: PathBuf, source: std::io::Error },
    #[error("cannot connect to {}: permission denied", socket.display())]
    PermissionDenied { socket: PathBuf },
    #[error("cannot connect to {}: {source}", socket.display())]
    Connect { socket: PathBuf, source: std::io::Error },
    #[error("the connection to {} broke before the answer to {call} was complete: {source}", socket.display())]
    Broken { socket: PathBuf, call: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// The daemon speaks another version of the API.
    #[error("{0}")]
    Version(String),
    #[error("the daemon does not know the call {call}")]
    UnknownCall { call: String },
    /// The daemon refused, or failed.
    #[error("{0}")]
    Server(Box<ServerError>),
    #[error("cannot understand the daemon's answer to {call}: {source}")]
    Answer { call: String, source: serde_json::Error },
}

/// An error that the daemon answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ServerError {
    /// The HTTP status: 404 for an unknown volume, else 400.
    pub status: u16,
    /// The kind of failure, as in the driver protocol (`not_found`, `cancelled`); empty where it was not
    /// said.
    pub kind: String,
    /// What was expected and what was found, in the words of 0.5 where it had any.
    pub message: String,
    /// The same in words for people, where those of 0.5 are not.
    pub plain: Option<String>,
    /// What to do, where the daemon knows.
    pub hint: Option<String>,
    /// Names the request in the daemon's log; empty where it was not said.
    pub request_id: String,
}

impl From<StreamError> for Error {
    fn from(error: StreamError) -> Self {
        let StreamError { status, kind, message, plain, hint } = error;
        let request_id = String::new();
        Self::Server(Box::new(ServerError { status, kind, message, plain, hint, request_id }))
    }
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotRunning { .. } => {
                "start it with `convoy daemon`, or name its socket with --socket or CONVOY_SOCKET"
            }
            Self::PermissionDenied { .. } => {
                "the socket belongs to the user the daemon runs as: use sudo, or join the group that owns it"
            }
            Self::Connect { .. } => {
                "check that --socket names the socket that `convoy daemon` was started with"
            }
            Self::Broken { .. } => {
                "the daemon may have stopped: see its log; what it had not acknowledged can be repeated"
            }
            Self::Version(_) => "install the same version of convoy for the client and the daemon",
            Self::UnknownCall { .. } => {
                "the daemon is older than this command: install this version and start it again"
            }
            Self::Server(error) => return error.hint.clone(),
            Self::Answer { .. } => {
                "check with `convoy --version` that the client and the daemon are of one version"
            }
        };
        Some(hint.to_owned())
    }

    /// Whether the daemon said that the work was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Server(error) if error.kind == "cancelled")
    }

    /// Whether a restore was undone because the file system refuses a part of the backup
    /// ([`CreateVolume::allow_losses`](crate::types::CreateVolume::allow_losses) keeps the rest).
    pub fn is_losses(&self) -> bool {
        matches!(self, Self::Server(error) if error.kind == LOSSES)
    }

    pub(crate) fn connect(socket: &Path, source: std::io::Error) -> Self {
        let socket = socket.to_owned();
        match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                Self::NotRunning { socket, source }
            }
            std::io::ErrorKind::PermissionDenied => Self::PermissionDenied { socket },
            _ => Self::Connect { socket, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn each_way_of_not_connecting_has_its_way_out() {
        let failed = |kind: ErrorKind| Error::connect(Path::new("/run/s"), kind.into());
        for kind in [ErrorKind::NotFound, ErrorKind::ConnectionRefused] {
            let error = failed(kind);
            assert!(error.to_string().starts_with("cannot connect to /run/s: is `convoy daemon` running? ("));
            assert!(error.hint().unwrap().contains("CONVOY_SOCKET"));
        }
        let error = failed(ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), "cannot connect to /run/s: permission denied");
        assert!(error.hint().unwrap().contains("sudo"));
        assert!(failed(ErrorKind::NotADirectory).hint().unwrap().contains("--socket"));
    }
}
