//! What can go wrong with volumes that Docker has.

use std::io;
use std::path::{Path, PathBuf};

use convoy_driver_sdk::copies::CopyError;
use convoy_driver_sdk::flock::LockError;
use convoy_driver_sdk::mountinfo::MountinfoError;
use convoy_driver_sdk::records::RecordError;
use convoy_driver_sdk::tree::{Losses, TreeError};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};

pub(crate) type LocalResult<T> = Result<T, LocalError>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error("volume {0} does not exist")]
    NoVolume(Name),
    #[error("volume {0} exists already")]
    VolumeExists(Name),
    #[error("snapshots of an earlier volume {0}, or its data, are kept")]
    Kept(Name),
    #[error("volume {volume} has no snapshot {snapshot}")]
    NoSnapshot { volume: Name, snapshot: Name },
    #[error("volume {volume} has a snapshot {snapshot} already")]
    SnapshotExists { volume: Name, snapshot: Name },
    #[error("the data of snapshot {snapshot} of volume {volume} is not at {}", path.display())]
    SnapshotMissing { volume: Name, snapshot: Name, path: PathBuf },
    #[error("snapshot {snapshot} of volume {volume} is being read")]
    SnapshotOpen { volume: Name, snapshot: Name },
    #[error("Docker has no volume {0} any more: only its snapshots are left")]
    Gone(Name),
    #[error("the directory {} of volume {volume} cannot be used: {why}", path.display())]
    Unusable { volume: Name, path: PathBuf, why: String },
    #[error("volume {0} was made with Docker, not with convoy: convoy does not delete it")]
    NotOurs(Name),
    #[error("volume {0} is a directory of this host: convoy does not delete it")]
    BindMount(Name),
    #[error("containers use volume {volume}: {containers}")]
    Used { volume: Name, containers: String },
    #[error(
        "no directory for snapshots is on the file system of {}, where volume {volume} is",
        path.display()
    )]
    NoVault { volume: Name, path: PathBuf },
    #[error("convoy has no directory on the file system of {}, where Docker's volumes are", .0.display())]
    NoStage(PathBuf),
    #[error("a volume of Docker's is mounted in its own place")]
    MountPoint,
    #[error("a restore into a volume of Docker's is a restore of a directory tree, not of a block device")]
    BlockRestore,
    #[error("the file system refuses {count} things of the snapshot, the first of them: {first}")]
    Refused { count: u64, first: String },
    #[error("{0:?} is not an open restore")]
    NoRestore(String),
    #[error("option {name} is {value:?}: expected {expected}")]
    BadOption { name: &'static str, value: String, expected: &'static str },
    #[error("others than root can enter {}, where snapshots would be", .0.display())]
    OpenVault(PathBuf),
    #[error("cannot ask Docker at {}: {why}", socket.display())]
    Unreachable { socket: PathBuf, why: String },
    #[error("user {user}, not root, runs the engine at {}", socket.display())]
    Stranger { socket: PathBuf, user: u32 },
    #[error("Docker refused {call}: {message}")]
    EngineRefused { call: String, status: u16, message: String },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Mounts(#[from] MountinfoError),
    /// Cancelled, or out of time; options.
    #[error(transparent)]
    Call(#[from] DriverError),
}

impl From<CopyError> for LocalError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Tree(error) => Self::Tree(error),
            CopyError::Call(error) => Self::Call(error),
            other => Self::Call(DriverError::internal(other.to_string())),
        }
    }
}

/// For `map_err`: what was being done, and where.
pub(crate) fn io_error<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl Fn(E) -> LocalError {
    move |source| LocalError::Io { action, path: path.to_owned(), source: source.into() }
}

/// Fails if the file system has refused something that a volume is made of.
pub(crate) fn refuse_losses(losses: Losses) -> LocalResult<()> {
    match losses.texts.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(LocalError::Refused { count: losses.count, first }),
    }
}

impl From<LocalError> for DriverError {
    fn from(error: LocalError) -> Self {
        let text = error.to_string();
        let new = |kind| Self::new(kind, text.clone());
        match error {
            LocalError::NoVolume(_) | LocalError::NoSnapshot { .. } | LocalError::NoRestore(_) => {
                new(ErrorKind::NotFound)
            }
            LocalError::VolumeExists(_) | LocalError::SnapshotExists { .. } => new(ErrorKind::AlreadyExists),
            LocalError::Kept(name) => new(ErrorKind::AlreadyExists).hint(format!(
                "`convoy create {name} --driver local` brings it back; or choose another name"
            )),
            LocalError::SnapshotMissing { .. } => new(ErrorKind::DataLoss).hint(
                "is the file system with the snapshots mounted? Delete the snapshot if its data is gone for \
                 good",
            ),
            LocalError::SnapshotOpen { .. } => {
                new(ErrorKind::InUse).hint("wait until the backup that reads it is done")
            }
            LocalError::Gone(name) => new(ErrorKind::DataLoss).hint(format!(
                "`convoy snapshot clone SNAPSHOT NEW` makes a volume of one; `convoy delete {name}` deletes \
                 them"
            )),
            LocalError::Unusable { .. } => {
                new(ErrorKind::DataLoss).hint("is the file system that it is on mounted?")
            }
            LocalError::NotOurs(name) => new(ErrorKind::InvalidArgument).hint(format!(
                "`docker volume rm {name}` deletes it; `convoy delete --reference {name}` makes convoy \
                 forget it and keeps its snapshots"
            )),
            LocalError::BindMount(name) => new(ErrorKind::InvalidArgument).hint(format!(
                "`convoy delete --reference {name}` makes convoy forget it and keeps its snapshots"
            )),
            LocalError::Used { .. } => new(ErrorKind::InUse).hint("remove these containers first"),
            LocalError::NoVault { path, .. } => new(ErrorKind::Unsupported).hint(format!(
                "name a directory for snapshots, on the same file system so that they share blocks if it \
                 can: --driver-opts local.snapshots=DIR; {} needs as much room again",
                path.display()
            )),
            LocalError::NoStage(path) => new(ErrorKind::Unsupported).hint(format!(
                "name one on the file system of {}: --driver-opts local.snapshots=DIR; or let another driver \
                 make the volume (--driver vfs)",
                path.display()
            )),
            LocalError::MountPoint => new(ErrorKind::Unsupported).hint("leave the mount point out"),
            LocalError::BlockRestore | LocalError::Refused { .. } => new(ErrorKind::Unsupported),
            LocalError::BadOption { .. } => new(ErrorKind::InvalidArgument),
            LocalError::OpenVault(path) => {
                new(ErrorKind::PermissionDenied).hint(format!("chmod 0700 {}", path.display()))
            }
            LocalError::Unreachable { .. } => new(ErrorKind::Unavailable)
                .hint("does it run? --driver-opts local.docker=unix:///PATH names its socket"),
            LocalError::Stranger { .. } => new(ErrorKind::PermissionDenied).hint(
                "whoever runs an engine could show convoy any directory of this host: only engines of root \
                 are asked",
            ),
            LocalError::EngineRefused { status, .. } => new(match status {
                404 => ErrorKind::NotFound,
                409 => ErrorKind::InUse,
                _ => ErrorKind::Internal,
            }),
            LocalError::Io { action, path, source } => {
                Self::io(format_args!("cannot {action} {}", path.display()), &source)
            }
            LocalError::Record(error) => error.into(),
            LocalError::Lock(error) => error.into(),
            LocalError::Tree(TreeError::Limit { .. }) => new(ErrorKind::Exhausted),
            LocalError::Tree(error) => error.into(),
            LocalError::Mounts(error) => error.into(),
            LocalError::Call(error) => error,
        }
    }
}
