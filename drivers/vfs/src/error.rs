//! What can go wrong with volumes that are directories.

use std::io;
use std::path::{Path, PathBuf};

use convoy_driver_sdk::copies::CopyError;
use convoy_driver_sdk::flock::LockError;
use convoy_driver_sdk::mountinfo::MountinfoError;
use convoy_driver_sdk::records::RecordError;
use convoy_driver_sdk::tree::{Losses, TreeError};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};

/// The smallest size that is enforced, in bytes: less holds hardly more than the directory.
pub(crate) const LEAST: u64 = 1 << 20;

pub(crate) type VfsResult<T> = Result<T, VfsError>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum VfsError {
    #[error("volume {0} does not exist")]
    NoVolume(Name),
    #[error("volume {0} exists already")]
    VolumeExists(Name),
    #[error("'config' is reserved: the driver keeps its records there")]
    Reserved,
    #[error("the data of volume {volume} is at {}, not where the driver could exchange it", path.display())]
    DataElsewhere { volume: Name, path: PathBuf },
    #[error("volume {volume} has no snapshot {snapshot}")]
    NoSnapshot { volume: Name, snapshot: Name },
    #[error("volume {volume} has a snapshot {snapshot} already")]
    SnapshotExists { volume: Name, snapshot: Name },
    #[error("the data of volume {volume} is not at {}", path.display())]
    DataMissing { volume: Name, path: PathBuf },
    #[error("the data of snapshot {snapshot} of volume {volume} is not at {}", path.display())]
    SnapshotMissing { volume: Name, snapshot: Name, path: PathBuf },
    #[error("snapshot {snapshot} of volume {volume} is being read")]
    SnapshotOpen { volume: Name, snapshot: Name },
    #[error("volume {0} is being changed by another call or another host")]
    Locked(Name),
    #[error("volume {0} is mounted, here or on another host")]
    UsedElsewhere(Name),
    #[error("what {} holds could not be settled", .0.display())]
    Unsettled(PathBuf),
    #[error("expected a directory at {}, found something else", .0.display())]
    NotADirectory(PathBuf),
    #[error("data is kept at {} from an earlier volume of that name", .0.display())]
    KeptData(PathBuf),
    #[error("nothing is kept of a volume {0}")]
    NothingKept(Name),
    #[error("the data of {volume} at {} was not made by convoy", path.display())]
    NotOurs { volume: Name, path: PathBuf },
    #[error("{} is mounted inside the volume", .0.display())]
    MountedInside(PathBuf),
    #[error("option {name} is {value:?}: expected {expected}")]
    BadOption { name: &'static str, value: String, expected: &'static str },
    #[error("{option} was {saved:?} until now, according to {}, and is {given:?} on the command line", file.display())]
    ConfigDiffers { option: &'static str, saved: String, given: String, file: PathBuf },
    #[error(
        "every user of this host can enter {}, and so run set-user-ID programs that containers put into {}",
        dir.display(), data.display()
    )]
    Reachable { dir: PathBuf, data: PathBuf },
    #[error("{} has no records though it was used before", .0.display())]
    PathGone(PathBuf),
    /// 0.5's words, which scripts know.
    #[error("VFS doesn't support specified mount point")]
    MountPoint,
    #[error("the size of volume {volume} cannot be enforced: {obstacle}")]
    NotEnforced { volume: Name, obstacle: Obstacle },
    #[error("volume {volume} holds {used} bytes, more than the {size} that it may have")]
    TooMuch { volume: Name, used: u64, size: u64 },
    #[error("a size of {0} bytes is too small: expected at least {LEAST}")]
    TooSmall(u64),
    #[error("volume {volume} has {size} bytes, which cannot become fewer ({wanted})")]
    Shrink { volume: Name, size: u64, wanted: u64 },
    #[error("a restore into a vfs volume is a restore of a directory tree, not of a block device")]
    BlockRestore,
    #[error("the tree has no file disk.img, which a volume for a virtual machine must have")]
    NoImage,
    #[error("the file system refuses {count} things of the snapshot, the first of them: {first}")]
    Refused { count: u64, first: String },
    #[error("{0:?} is not an open restore")]
    NoRestore(String),
    #[error("the file {} is damaged: {reason}", path.display())]
    BadState { path: PathBuf, reason: String },
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
    /// Cancelled, or out of time.
    #[error(transparent)]
    Call(#[from] DriverError),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Obstacle {
    #[error("the file system of vfs.path has no quotas for directories")]
    FileSystem,
    #[error("the file system of vfs.path does not enforce quotas of projects")]
    ProjectsOff,
    #[error("the btrfs of vfs.path has quotas off")]
    SubvolumesOff,
    #[error("vfs.path passes on project {0}, whose quota counts")]
    OtherProject(u32),
    #[error("its directory was made without a limit")]
    MadeWithout,
    #[error("its directory has a limit of {0} bytes")]
    Differs(u64),
    #[error("the kernel does not tell of quotas: {0}")]
    Kernel(#[from] io::Error),
}

impl Obstacle {
    /// What an administrator can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::FileSystem => {
                "put vfs.path on an XFS or ext4 that is mounted with prjquota or on a btrfs with quotas, or \
                 use a driver whose volumes have a size, such as devicemapper"
            }
            Self::ProjectsOff => {
                "mount it with -o prjquota, on Linux 5.14 or newer; an ext4 has to be unmounted and needs \
                 `tune2fs -O project,quota -Q prjquota DEVICE` first"
            }
            Self::SubvolumesOff => "`btrfs quota enable` on it turns them on",
            Self::OtherProject(_) => "limit that project, or take it from the directory: `chattr -P`",
            Self::MadeWithout => {
                "a volume that is made of its snapshot has a limit (convoy snapshot clone SNAPSHOT NAME \
                 --size SIZE); one with a size gets it when it goes back to a snapshot"
            }
            Self::Differs(_) => "convoy doctor --repair sets the limit that is recorded",
            Self::Kernel(_) => "limits need root's CAP_SYS_ADMIN and, on btrfs, Linux 5.9 and /sys",
        }
    }
}

impl From<CopyError> for VfsError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Tree(error) => Self::Tree(error),
            CopyError::Call(error) => Self::Call(error),
            other => Self::Call(DriverError::internal(other.to_string())),
        }
    }
}

/// For `map_err`: what was being done, and where.
pub(crate) fn io_error<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl Fn(E) -> VfsError {
    move |source| VfsError::Io { action, path: path.to_owned(), source: source.into() }
}

/// Fails if the file system has refused something that a volume is made of.
pub(crate) fn refuse_losses(losses: Losses) -> VfsResult<()> {
    match losses.texts.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(VfsError::Refused { count: losses.count, first }),
    }
}

impl From<VfsError> for DriverError {
    fn from(error: VfsError) -> Self {
        let text = error.to_string();
        let new = |kind| Self::new(kind, text.clone());
        match error {
            VfsError::NoVolume(_)
            | VfsError::NothingKept(_)
            | VfsError::NoSnapshot { .. }
            | VfsError::NoRestore(_) => new(ErrorKind::NotFound),
            VfsError::NotOurs { volume, path } => new(ErrorKind::InvalidArgument).hint(format!(
                "move {} away, and repeat this for what is left; or make it a volume again and delete that \
                 with its data: `convoy create {volume}`, `convoy delete {volume}`",
                path.display()
            )),
            VfsError::VolumeExists(_) | VfsError::SnapshotExists { .. } => new(ErrorKind::AlreadyExists),
            VfsError::KeptData(path) => new(ErrorKind::AlreadyExists).hint(format!(
                "create the volume without a backup to use that data again, or move {} away, or restore \
                 under another name",
                path.display()
            )),
            VfsError::DataMissing { .. } => {
                new(ErrorKind::DataLoss).hint("is the file system with the volumes mounted?")
            }
            VfsError::SnapshotMissing { .. } => {
                new(ErrorKind::DataLoss).hint("delete the snapshot if its data is gone for good")
            }
            VfsError::DataElsewhere { .. } => new(ErrorKind::Unsupported)
                .hint("make a new volume from the snapshot instead, or copy its files"),
            VfsError::PathGone(_) => {
                new(ErrorKind::Unavailable).hint("is the file system with the volumes mounted?")
            }
            VfsError::Reachable { dir, data } => new(ErrorKind::PermissionDenied).hint(format!(
                "`chmod 0700 {}`, through which containers need no way; or mount the file system of {} with \
                 nosuid,nodev",
                dir.display(),
                data.display()
            )),
            VfsError::SnapshotOpen { .. } => {
                new(ErrorKind::InUse).hint("wait until the backup that reads it is done")
            }
            VfsError::Locked(_) | VfsError::Unsettled(_) => new(ErrorKind::Busy),
            VfsError::UsedElsewhere(_) => {
                new(ErrorKind::InUse).hint("unmount it on the hosts that share the directory")
            }
            VfsError::MountedInside(path) => {
                new(ErrorKind::InUse).hint(format!("unmount {} first", path.display()))
            }
            VfsError::ConfigDiffers { option, file, .. } => new(ErrorKind::InvalidArgument).hint(format!(
                "leave {option} out, give the value used until now, or start once with --ignore-config-file \
                 to save the new one in {}",
                file.display()
            )),
            VfsError::MountPoint => new(ErrorKind::Unsupported)
                .hint("a vfs volume is used where it is: mount it without a mount point"),
            VfsError::NotEnforced { obstacle, .. } => new(ErrorKind::Unsupported).hint(obstacle.hint()),
            VfsError::TooMuch { .. } => {
                new(ErrorKind::Exhausted).hint("give a larger size, or delete files first")
            }
            VfsError::BlockRestore | VfsError::Refused { .. } => new(ErrorKind::Unsupported),
            VfsError::Reserved
            | VfsError::NotADirectory(_)
            | VfsError::BadOption { .. }
            | VfsError::TooSmall(_)
            | VfsError::Shrink { .. } => new(ErrorKind::InvalidArgument),
            VfsError::NoImage | VfsError::BadState { .. } => new(ErrorKind::DataLoss),
            VfsError::Io { action, path, source } => {
                squashed(Self::io(format_args!("cannot {action} {}", path.display()), &source), source.kind())
            }
            VfsError::Record(RecordError::Io { action, path, source }) => {
                squashed(Self::io(format_args!("cannot {action} {}", path.display()), &source), source.kind())
            }
            VfsError::Record(error) => error.into(),
            VfsError::Lock(error) => error.into(),
            VfsError::Tree(error) => tree_error(error, text),
            VfsError::Mounts(_) => new(ErrorKind::Internal),
            VfsError::Call(error) => error,
        }
    }
}

/// Root may do everything on a local file system: what it may not do, it may not on a server.
fn squashed(error: DriverError, kind: io::ErrorKind) -> DriverError {
    match kind {
        io::ErrorKind::PermissionDenied if nix::unistd::geteuid().is_root() => error.hint(
            "on NFS, export the directory with no_root_squash; elsewhere look for flags with lsattr -d",
        ),
        _ => error,
    }
}

fn tree_error(error: TreeError, text: String) -> DriverError {
    match error {
        TreeError::Io { action, path, source } => {
            DriverError::io(format_args!("cannot {action} {path}"), &source)
        }
        TreeError::Path(_) | TreeError::Archive(_) => DriverError::data_loss(text),
        TreeError::Limit { .. } => DriverError::exhausted(text),
        TreeError::MountPoint { .. } => DriverError::in_use(text),
        TreeError::Cancelled => DriverError::cancelled(text),
    }
}
