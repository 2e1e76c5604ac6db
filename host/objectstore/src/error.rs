//! What can go wrong with an object store, and whether trying again can help.

use std::io;
use std::time::Duration;

/// A failed call to an object store.
///
/// Two texts are those of convoy 0.5, which scripts compare: [`StoreError::NotFound`] and
/// [`StoreError::NoDirectory`]. `op` is what was called: `read`, `write`, `list` ...
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum StoreError {
    #[error("cannot find {key} in objectstore")]
    NotFound { key: String },
    #[error("VFS path {path} doesn't exist or is not a directory")]
    NoDirectory { path: String },
    #[error(
        "AWS Error: NoSuchBucket The specified bucket does not exist: {bucket}; create it, or correct the \
         destination"
    )]
    NoBucket { bucket: String },
    #[error("{op} {key}: access denied ({detail}); check the credentials and their permissions")]
    Denied { op: &'static str, key: String, detail: String },
    #[error(
        "no credentials for {destination} ({detail}): name a file with credentials-file in its settings, or \
         set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the daemon"
    )]
    NoCredentials { destination: String, detail: String },
    #[error("{destination} refuses the credentials, whose token has expired ({detail}): renew them")]
    Expired { destination: String, detail: String },
    /// The network, or the store for the moment. Trying again can help.
    #[error("{op} {key}: {detail}")]
    Transient { op: &'static str, key: String, detail: String },
    /// No answer in time. Trying again can help.
    #[error("{op} {key}: no answer within {} s", after.as_secs())]
    Timeout { op: &'static str, key: String, after: Duration },
    #[error(
        "{path} has not answered for {seconds} s: look at the server or the disk behind it; it is used again \
         as soon as it answers, without a restart"
    )]
    Unresponsive { path: String, seconds: u64 },
    #[error(
        "{key} is {size} bytes, more than the {limit} expected at most: the store is damaged or not convoy's"
    )]
    TooLarge { key: String, size: u64, limit: u64 },
    #[error("{key}: expected {expected} bytes, found {found}")]
    Truncated { key: String, expected: u64, found: u64 },
    /// Something that convoy never makes is where a file or directory of the store should be.
    #[error(
        "{op} {key}: a {kind} is in its way, and below a destination convoy follows no links and opens \
         nothing but files: find out who put it there, and remove it"
    )]
    Foreign { op: &'static str, key: String, kind: &'static str },
    #[error("{key:?} cannot name an object: {why}")]
    InvalidKey { key: String, why: &'static str },
    #[error("{op} {key}: {source}")]
    Io { op: &'static str, key: String, source: io::Error },
    /// The store said no for good.
    #[error("{op} {key}: {detail}")]
    Refused { op: &'static str, key: String, detail: String },
    /// The destination cannot be used as it is configured.
    #[error("{0}")]
    Config(String),
}

impl StoreError {
    /// Whether the same call may succeed when repeated.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Transient { .. } | Self::Timeout { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::Interrupted
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::WouldBlock
                    | io::ErrorKind::StaleNetworkFileHandle
            ),
            _ => false,
        }
    }

    /// Whether the object is simply not there.
    pub fn not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    pub(crate) fn from_io(op: &'static str, key: &str, source: io::Error) -> Self {
        let key = key.to_owned();
        match source.kind() {
            // Only a link is refused so: paths of a store are resolved without them.
            _ if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                Self::Foreign { op, key, kind: "symbolic link" }
            }
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NotFound { key },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { op, key, detail: source.to_string() }
            }
            _ => Self::Io { op, key, source },
        }
    }
}
