//! The closed set of errors a driver can answer with.
//!
//! Rules for authors: say in `message` what was expected and what was found, in `hint` what the user can do,
//! and set the kind truthfully, since the host decides by it (a retryable error of an idempotent call may be
//! tried again; `NotFound` on a delete is success to Docker). Never put a secret in either text.
//!
//! ```
//! use convoy_driver_sdk::{DriverError, ErrorKind};
//!
//! let error = DriverError::busy("expected disk-7 to be detached, found it attaching").hint("wait a minute");
//! assert!(error.kind == ErrorKind::Busy && error.retryable);
//!
//! let full = std::io::ErrorKind::StorageFull.into();
//! assert_eq!(DriverError::io("write /srv/disk-7", &full).kind, ErrorKind::Exhausted);
//! ```

use convoy_tree::TreeError;
use serde::{Deserialize, Serialize};

/// What a driver call comes back with.
pub type Result<T> = std::result::Result<T, DriverError>;

/// The kinds of error of the driver protocol. The set is closed: a new kind is a new major version. A driver
/// that is compiled against that goes on, if its matches have an arm for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The volume, snapshot, source, target or backup named does not exist.
    NotFound,
    /// Something of that name exists already and is not what was asked for.
    AlreadyExists,
    /// The volume or snapshot is mounted, open or attached, here or elsewhere.
    InUse,
    /// Another operation holds it for now; trying again later can help.
    Busy,
    /// A name, size, option or combination that can never be accepted.
    InvalidArgument,
    /// The driver does not declare the capability for this call.
    Unsupported,
    /// No space, quota, device name or other resource is left.
    Exhausted,
    /// The operating system or the provider refused access.
    PermissionDenied,
    /// The storage, or the driver itself, cannot be reached at the moment.
    Unavailable,
    /// The caller cancelled the call.
    Cancelled,
    /// The deadline of the call passed before it was done.
    DeadlineExceeded,
    /// Data or records are damaged; what is damaged was left as it is.
    DataLoss,
    /// Anything else: a defect of the driver, or a failure of the machine it could not classify.
    Internal,
}

impl ErrorKind {
    /// Whether the same call, made again later, may succeed without anybody changing anything.
    pub fn retryable_by_default(self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable | Self::DeadlineExceeded)
    }
}

/// A constructor for each kind of error.
macro_rules! errors {
    ($($(#[$doc:meta])* $constructor:ident $kind:ident,)*) => {$(
        $(#[$doc])*
        pub fn $constructor(message: impl Into<String>) -> Self {
            Self::new(ErrorKind::$kind, message)
        }
    )*};
}

/// An error of a driver call, as it crosses the boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{message}")]
#[non_exhaustive]
pub struct DriverError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What was expected and what was found, for a person.
    pub message: String,
    /// Whether trying the same call again can help.
    #[serde(default)]
    pub retryable: bool,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl DriverError {
    /// An error of this kind, retryable if its kind usually is.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retryable: kind.retryable_by_default(), hint: None }
    }

    errors! {
        /// What is named does not exist.
        not_found NotFound,
        /// Something of that name exists already.
        already_exists AlreadyExists,
        /// It is mounted, open or attached.
        in_use InUse,
        /// Another operation holds it for now.
        busy Busy,
        /// A name, size, option or combination that can never be accepted.
        invalid InvalidArgument,
        /// No space or other resource is left.
        exhausted Exhausted,
        /// The system or the provider refused access.
        permission_denied PermissionDenied,
        /// The storage or the driver cannot be reached at the moment.
        unavailable Unavailable,
        /// The caller cancelled the call.
        cancelled Cancelled,
        /// The deadline of the call passed.
        deadline_exceeded DeadlineExceeded,
        /// Data or records are damaged.
        data_loss DataLoss,
        /// A defect, or a failure that cannot be classified.
        internal Internal,
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says whether a retry can help where the kind's default is wrong.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// An I/O error met while doing `what` (for example `"write /srv/volumes/config/x.json"`), classified by
    /// errno.
    pub fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::AlreadyExists,
            Io::PermissionDenied => ErrorKind::PermissionDenied,
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::Exhausted,
            Io::ResourceBusy => ErrorKind::Busy,
            Io::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
            Io::StaleNetworkFileHandle | Io::TimedOut | Io::HostUnreachable | Io::NetworkUnreachable => {
                ErrorKind::Unavailable
            }
            Io::InvalidInput | Io::InvalidFilename => ErrorKind::InvalidArgument,
            _ => ErrorKind::Internal,
        };
        let hint = match error.kind() {
            Io::StorageFull => Some("free some space on that file system and try again"),
            Io::QuotaExceeded => Some("raise the quota or free some space, and try again"),
            Io::ReadOnlyFilesystem => {
                Some("the file system is mounted read-only: see the kernel log for why")
            }
            Io::StaleNetworkFileHandle => {
                Some("the NFS server no longer knows this directory: mount it again")
            }
            _ => None,
        };
        let mut built = Self::new(kind, format!("{what}: {error}"));
        built.hint = hint.map(str::to_owned);
        built
    }

    /// The call is not among the driver's declared capabilities.
    pub fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Unsupported, format!("this driver does not support {what}"))
    }
}

impl From<TreeError> for DriverError {
    fn from(error: TreeError) -> Self {
        let text = error.to_string();
        match error {
            TreeError::Io { action, path, source } => {
                Self::io(format_args!("cannot {action} {path}"), &source)
            }
            TreeError::Cancelled => Self::new(ErrorKind::Cancelled, text),
            TreeError::MountPoint { .. } => Self::new(ErrorKind::InUse, text),
            TreeError::Archive(_) => Self::new(ErrorKind::DataLoss, text),
            _ => Self::new(ErrorKind::Internal, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tree_says_keeps_its_kind() {
        let full = TreeError::Io {
            action: "write",
            path: "a/b".to_owned(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        let error = DriverError::from(full);
        assert_eq!(error.kind, ErrorKind::Exhausted);
        assert!(error.message.starts_with("cannot write a/b: ") && error.hint.is_some(), "{error:?}");
        assert_eq!(DriverError::from(TreeError::Cancelled).kind, ErrorKind::Cancelled);
        let mounted = TreeError::MountPoint { path: "a".to_owned() };
        assert_eq!(DriverError::from(mounted).kind, ErrorKind::InUse);
    }
}
