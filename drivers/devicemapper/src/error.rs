//! What can go wrong between this driver, the kernel and the thin pool's tools.

use convoy_driver_sdk::command::CommandError;
use convoy_driver_sdk::records::RecordError;
use convoy_driver_sdk::{DriverError, ErrorKind};
use std::io;
use std::path::PathBuf;

/// What a function of this driver comes back with.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, before it crosses the boundary as a [`DriverError`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused an operation on a device-mapper device.
    #[error("cannot {action} the device-mapper device {name}: {source}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// The device.
        name: String,
        /// Its answer.
        source: io::Error,
    },
    /// A message to the thin pool was refused.
    #[error("the pool {pool} refused {message:?}: {source}")]
    Message {
        /// The pool.
        pool: String,
        /// The message.
        message: String,
        /// Its answer.
        source: io::Error,
    },
    /// The kernel answered what cannot be understood, or the library failed beside the kernel.
    #[error("device-mapper: {0}")]
    Library(String),
    /// The kernel has no device-mapper, or no thin target.
    #[error("this kernel offers no {missing}: {reason}")]
    NoDeviceMapper {
        /// `device-mapper`, `thin-pool target`.
        missing: &'static str,
        /// What was seen.
        reason: String,
    },
    /// udev was asked to make device nodes and did not answer.
    #[error("udev did not confirm the device {name} within {seconds} s")]
    UdevSilent {
        /// The device.
        name: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A dm device of that name exists and is not this driver's.
    #[error("the device-mapper name {name} is taken by a device that is not of the pool {pool}: {found}")]
    Foreign {
        /// The name.
        name: String,
        /// Our pool.
        pool: String,
        /// Its table.
        found: String,
    },
    /// Somebody has a device open.
    #[error("the device {} is open ({count} times)", device.display())]
    Open {
        /// Its node.
        device: PathBuf,
        /// By how many.
        count: i32,
    },
    /// The pool cannot take new work.
    #[error("the pool {pool} {state}")]
    Pool {
        /// Its name.
        pool: String,
        /// In which state, as the end of the sentence "the pool ...".
        state: String,
        /// What to do.
        hint: String,
        /// Whether it is a lack of space, rather than damage.
        space: bool,
    },
    /// Pool, devices and options do not fit together.
    #[error("{message}")]
    Setup {
        /// What was expected and what was found.
        message: String,
        /// What to do.
        hint: String,
        /// The kind of failure it is for the caller.
        kind: ErrorKind,
    },
    /// A tool of thin-provisioning-tools wrote something unexpected.
    #[error("cannot understand what {tool} wrote: {reason}")]
    Output {
        /// Which.
        tool: &'static str,
        /// Expected and found.
        reason: String,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Its answer.
        source: io::Error,
    },
    /// An external program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A record could not be read or written.
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
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::Kernel { source, .. } | Self::Message { source, .. } | Self::Io { source, .. } => {
                rustix::io::Errno::from_io_error(source)
            }
            _ => None,
        }
    }

    /// Whether the kernel gave exactly this answer.
    pub fn is(&self, errno: rustix::io::Errno) -> bool {
        self.errno() == Some(errno)
    }
}

impl From<Error> for DriverError {
    fn from(error: Error) -> Self {
        use rustix::io::Errno;
        let text = error.to_string();
        match error {
            Error::Kernel { .. } | Error::Message { .. } => match error.errno() {
                Some(Errno::BUSY) => Self::new(ErrorKind::Busy, text),
                Some(Errno::NODATA) => Self::new(ErrorKind::DataLoss, text)
                    .hint("the pool has no device of that id: were the pool's devices exchanged?"),
                Some(Errno::NOSPC) => Self::new(ErrorKind::Exhausted, text),
                Some(Errno::PERM | Errno::ACCESS) => Self::new(ErrorKind::PermissionDenied, text),
                Some(Errno::NXIO) => Self::new(ErrorKind::NotFound, text),
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
