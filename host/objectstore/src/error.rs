//! What can go wrong with an object store, and whether trying again can help.

use std::io;
use std::time::Duration;

/// A failed call to an object store.
///
/// Two texts are those of convoy 0.5, which scripts compare: [`StoreError::NotFound`] and
/// [`StoreError::NoDirectory`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("cannot find {key} in objectstore")]
    NotFound {
        /// The key of the object.
        key: String,
    },
    /// The directory a store was to be opened in is not there.
    #[error("VFS path {path} doesn't exist or is not a directory")]
    NoDirectory {
        /// What was to be opened.
        path: String,
    },
    /// The bucket is not there.
    #[error(
        "AWS Error: NoSuchBucket The specified bucket does not exist: {bucket}; create it, or correct the destination"
    )]
    NoBucket {
        /// What was asked for.
        bucket: String,
    },
    /// The store refuses these credentials, or the file system this user.
    #[error("{op} {key}: access denied ({detail}); check the credentials and their permissions")]
    Denied {
        /// What was called: `read`, `write`, `list` ...
        op: &'static str,
        /// The key of the object.
        key: String,
        /// What the store said.
        detail: String,
    },
    /// Nothing on this host offers credentials.
    #[error(
        "no credentials for {destination} ({detail}): name a file with credentials-file in its settings, or set \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the daemon"
    )]
    NoCredentials {
        /// The destination, as a user wrote it.
        destination: String,
        /// What was looked for in vain.
        detail: String,
    },
    /// The credentials were good until some time ago.
    #[error("{destination} refuses the credentials, whose token has expired ({detail}): renew them")]
    Expired {
        /// The destination, as a user wrote it.
        destination: String,
        /// What the store said.
        detail: String,
    },
    /// The network, or the store for the moment. Trying again can help.
    #[error("{op} {key}: {detail}")]
    Transient {
        /// What was called: `read`, `write`, `list` ...
        op: &'static str,
        /// The key of the object.
        key: String,
        /// What was seen.
        detail: String,
    },
    /// No answer in time. Trying again can help.
    #[error("{op} {key}: no answer within {} s", after.as_secs())]
    Timeout {
        /// What was called: `read`, `write`, `list` ...
        op: &'static str,
        /// The key of the object.
        key: String,
        /// How long was waited.
        after: Duration,
    },
    /// The directory does not answer, as when an NFS server is gone.
    #[error(
        "{path} has not answered for {seconds} s: look at the server or the disk behind it; it is used again as soon as it answers, without a restart"
    )]
    Unresponsive {
        /// Where the store is.
        path: String,
        /// For how long.
        seconds: u64,
    },
    /// The object is larger than the caller is ready to hold.
    #[error(
        "{key} is {size} bytes, more than the {limit} expected at most: the store is damaged or not convoy's"
    )]
    TooLarge {
        /// The key of the object.
        key: String,
        /// Its size in bytes.
        size: u64,
        /// What the caller accepts, in bytes.
        limit: u64,
    },
    /// The object ends before the bytes asked for do.
    #[error("{key}: expected {expected} bytes, found {found}")]
    Truncated {
        /// The key of the object.
        key: String,
        /// Bytes asked for.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// Something that convoy never makes is where a file or directory of the store should be.
    #[error(
        "{op} {key}: a {kind} is in its way, and below a destination convoy follows no links and opens nothing but files: find out who put it there, and remove it"
    )]
    Foreign {
        /// What was called: `read`, `write`, `list` ...
        op: &'static str,
        /// The key of the object.
        key: String,
        /// What is there.
        kind: &'static str,
    },
    /// Not a name an object can have.
    #[error("{key:?} cannot name an object: {why}")]
    InvalidKey {
        /// The name that was given.
        key: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// The file system said no.
    #[error("{op} {key}: {source}")]
    Io {
        /// What was called: `read`, `write`, `list` ...
        op: &'static str,
        /// The key of the object.
        key: String,
        /// What the server or the system said.
        source: io::Error,
    },
    /// The store said no for good.
    #[error("{op} {key}: {detail}")]
    Refused {
        /// What was called: `read`, `write`, `list` ...
        op: &'static str,
        /// The key of the object.
        key: String,
        /// What the store said.
        detail: String,
    },
    /// The destination cannot be used as it is configured.
    #[error("{0}")]
    Config(String),
}

impl StoreError {
    /// Whether the same call may succeed when repeated.
    #[must_use]
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
    #[must_use]
    pub fn not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// A file system's answer about an object.
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
