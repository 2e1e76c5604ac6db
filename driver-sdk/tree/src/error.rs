//! What can go wrong with a tree.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::limits::Limit;
use crate::path::{PathError, RelPath, shorten};

/// The result of an operation on a tree.
pub type TreeResult<T> = Result<T, TreeError>;

/// An error about one place in a tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The kernel refused an operation.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb: "open", "list".
        action: &'static str,
        /// Where, as far as it is known.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A path that cannot be inside a tree.
    #[error(transparent)]
    Path(#[from] PathError),
    /// An archive that is damaged, or holds what cannot be in a tree.
    #[error("the archive is damaged: {0}")]
    Archive(String),
    /// The tree is larger than what is read of one.
    #[error("{path}: {limit}, which is the most that is read of a tree")]
    Limit {
        /// The path in the tree.
        path: String,
        /// What is too much.
        limit: Limit,
    },
    /// A directory below the tree is a mount point.
    #[error("{path} is a mount point of another file system: unmount it first")]
    MountPoint {
        /// The path in the tree.
        path: String,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

impl TreeError {
    pub(crate) fn io(action: &'static str, path: &RelPath, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.shown(), source: source.into() }
    }

    pub(crate) fn at(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: shorten(path.display().to_string()), source: source.into() }
    }

    pub(crate) fn limit(limit: Limit, path: &RelPath) -> Self {
        Self::Limit { path: path.shown(), limit }
    }

    /// The system's error, where there is one.
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether the disk, or a quota, is full.
    pub fn is_full(&self) -> bool {
        self.io_error()
            .is_some_and(|e| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// Whether an error says that what was listed is no longer there, or is something else now.
pub(crate) fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || matches!(
            Errno::from_io_error(error),
            Some(Errno::NOTDIR | Errno::LOOP | Errno::STALE | Errno::NXIO)
        )
}
