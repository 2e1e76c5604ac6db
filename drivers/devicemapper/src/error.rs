//! What can go wrong between this driver, the kernel and the thin pool's tools.

use convoy_driver_sdk::command::CommandError;
use convoy_driver_sdk::records::RecordError;
use convoy_driver_sdk::{DriverError, ErrorKind};
use std::io;
use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, before it crosses the boundary as a [`DriverError`].
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each says what its fields are")]
pub enum Error {
    #[error("cannot {action} the device-mapper device {name}: {source}")]
    Kernel { action: &'static str, name: String, source: io::Error },
    #[error("the pool {pool} refused {message:?}: {source}")]
    Message { pool: String, message: String, source: io::Error },
    /// The kernel answered what cannot be understood, or the library failed beside the kernel.
    #[error("device-mapper: {0}")]
    Library(String),
    /// The kernel has no device-mapper, or no thin target.
    #[error("this kernel offers no {missing}: {reason}")]
    NoDeviceMapper { missing: &'static str, reason: String },
    #[error("udev did not confirm the device {name} within {seconds} s")]
    UdevSilent { name: String, seconds: u64 },
    /// A dm device of that name exists and is not this driver's.
    #[error("the device-mapper name {name} is taken by a device that is not of the pool {pool}: {found}")]
    Foreign { name: String, pool: String, found: String },
    #[error("the device {} is open ({count} times)", device.display())]
    Open { device: PathBuf, count: i32 },
    /// The pool cannot take new work.
    #[error("the pool {pool} {state}")]
    Pool { pool: String, state: String, hint: String, space: bool },
    /// Pool, devices and options do not fit together.
    #[error("{message}")]
    Setup { message: String, hint: String, kind: ErrorKind },
    #[error("cannot understand what {tool} wrote: {reason}")]
    Output { tool: &'static str, reason: String },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The call ended, or the SDK refused.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

impl Error {
    /// An I/O error met while doing `what`.
    pub fn io(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.to_string(), source }
    }

    /// The errno of a kernel answer, if it is one.
    pub fn errno(&self) -> Option<nix::errno::Errno> {
        match self {
            Self::Kernel { source, .. } | Self::Message { source, .. } | Self::Io { source, .. } => {
                source.raw_os_error().map(nix::errno::Errno::from_raw)
            }
            _ => None,
        }
    }

    /// Whether the kernel gave exactly this answer.
    pub fn is(&self, errno: nix::errno::Errno) -> bool {
        self.errno() == Some(errno)
    }
}

/// Refuses to change what somebody uses.
pub(crate) fn in_use(text: String) -> DriverError {
    DriverError::in_use(text)
}

impl From<Error> for DriverError {
    fn from(error: Error) -> Self {
        use nix::errno::Errno;
        let text = error.to_string();
        match error {
            Error::Kernel { .. } | Error::Message { .. } => match error.errno() {
                Some(Errno::EBUSY) => Self::new(ErrorKind::Busy, text),
                Some(Errno::ENODATA) => Self::new(ErrorKind::DataLoss, text)
                    .hint("the pool has no device of that id: were the pool's devices exchanged?"),
                Some(Errno::ENOSPC) => Self::new(ErrorKind::Exhausted, text),
                Some(Errno::EPERM | Errno::EACCES) => Self::new(ErrorKind::PermissionDenied, text),
                Some(Errno::ENXIO) => Self::new(ErrorKind::NotFound, text),
                _ => Self::new(ErrorKind::Internal, text).hint("the kernel log (dmesg) says more"),
            },
            Error::NoDeviceMapper { .. } => Self::new(ErrorKind::Unavailable, text).retryable(false).hint(
                "load the modules (`modprobe dm-thin-pool`), and in a container give it /dev/mapper/control",
            ),
            Error::UdevSilent { .. } => Self::new(ErrorKind::Unavailable, text).retryable(false).hint(
                "in a container: share the host's IPC namespace (--ipc=host), or hide /run/udev from it",
            ),
            Error::Foreign { .. } => {
                Self::new(ErrorKind::AlreadyExists, text).hint("choose another name; nothing was changed")
            }
            Error::Open { ref device, .. } => {
                let hint = format!("see who has it open with: fuser -v {}", device.display());
                Self::new(ErrorKind::InUse, text).hint(hint)
            }
            Error::Pool { hint, space, .. } => {
                let kind = if space { ErrorKind::Exhausted } else { ErrorKind::Unavailable };
                Self::new(kind, text).retryable(false).hint(hint)
            }
            Error::Setup { hint, kind, .. } => Self::new(kind, text).retryable(false).hint(hint),
            Error::Library(_) | Error::Output { .. } => Self::new(ErrorKind::Internal, text),
            Error::Io { what, source } => Self::io(what, &source),
            Error::Command(error) => error.into(),
            Error::Record(error) => error.into(),
            Error::Driver(error) => error,
        }
    }
}
