//! What can go wrong with a volume, in the words scripts have always been given where they were given any.

use convoy_driver_sdk::{DriverError, ErrorKind, Name};

/// What a call of the volume service comes back with.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call that did not succeed. Whatever it says, nothing has changed unless it says so.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum Error {
    /// No volume of that name. The APIs have texts of their own for it.
    #[error("volume {0} doesn't exist")]
    VolumeNotFound(String),
    /// No driver keeps data of a forgotten volume of that name.
    #[error("nothing is kept of a volume {name}{}", if *.volume { ": it is a volume" } else { "" })]
    NothingKept {
        name: Name,
        /// Whether there is a volume of that name, which is not meant.
        volume: bool,
    },
    #[error("Volume {0} already exists ")]
    VolumeExists(Name),
    /// Docker asked for a volume under the name of one that an engine has itself.
    #[error("the name {volume} is taken by a volume that driver {driver} lists")]
    NameOfDockersVolume { volume: Name, driver: Name },
    /// Docker asked for a volume of a driver that has Docker make its volumes.
    #[error("driver {0} makes volumes of Docker itself: it makes none as a plugin of Docker")]
    DriverOfDocker(Name),
    #[error("Volume {0} is being created by another request")]
    BeingCreated(Name),
    #[error("Volume name {0} is taken by a snapshot")]
    NameOfSnapshot(Name),
    #[error("Snapshot name {0} already exists")]
    SnapshotExists(Name),
    /// No snapshot of that name.
    #[error("cannot find volume for snapshot {0}")]
    SnapshotNotFound(String),
    #[error("volume {volume} has no snapshot {snapshot}")]
    SnapshotOfAnother { snapshot: String, volume: String },
    #[error("several volumes have a snapshot {snapshot}: {}", .volumes.join(", "))]
    AmbiguousSnapshot { snapshot: String, volumes: Vec<String> },
    /// A text that is no name, where a volume was to be made.
    #[error("Invalid volume name {0}. Can only contain 0-9, a-z, dash(-), underscore(_) and dot(.)")]
    InvalidVolumeName(String),
    /// A text that is no name.
    #[error("Invalid name {0}")]
    InvalidName(String),
    /// The volume is in use.
    #[error("Cannot delete volume {0}. It is still mounted")]
    StillMounted(Name),
    /// The volume is in use, and what was asked for would change it under its users.
    #[error("volume {volume} is mounted: it cannot {wanted}")]
    StillUsed { volume: Name, wanted: &'static str },
    #[error("volume {0} is being backed up")]
    BeingRead(Name),
    /// Parts of a backup or snapshot are being brought back into it.
    #[error("a restore into volume {0} is running")]
    BeingRestored(Name),
    /// A restore in place of it was begun and is not finished.
    #[error("volume {volume} is half restored from {source_text}, and cannot be used")]
    HalfRestored {
        volume: Name,
        source_text: String,
        /// Commands that lead out of it.
        ways: String,
    },
    /// Containers use the volume, and what was asked for would change it under them.
    #[error("volume {volume} is used by the containers {containers}")]
    UsedBy { volume: Name, containers: String },
    /// `umount` by hand of a volume that containers use, or a change of it.
    #[error("volume {volume} is mounted for {} container(s), by Docker's mount ids \
             {}", .users.len(), .users.join(", "))]
    UsedByContainers {
        volume: Name,
        /// The ids that Docker gave its mounts. They are not those of containers.
        users: Vec<String>,
    },
    #[error("Cannot find driver {0}")]
    UnknownDriver(String),
    #[error("schedule {0} not found")]
    ScheduleNotFound(String),
    /// A destination that can be used has no backup of the volume.
    #[error("{message}")]
    NoBackups {
        /// The text of the store, as 0.5 gave it.
        message: String,
        /// The same for people.
        plain: String,
        hint: String,
    },
    /// What scripts know in the words of 0.5, which do not help people.
    #[error("{message}")]
    InOldWords {
        kind: ErrorKind,
        /// In the words of 0.5.
        message: String,
        plain: String,
        hint: String,
    },
    #[error("unknown option {option:?} for driver {driver}: known options are {known}")]
    UnknownOption { driver: Name, option: String, known: String },
    /// A value that an option cannot have.
    #[error("{0}")]
    InvalidRequest(String),
    /// Docker's users may not ask for it.
    #[error("{what}")]
    NotForDocker { what: String, hint: String },
    /// The driver mounts where it wants.
    #[error("{} doesn't support specified mount point", .0.to_uppercase())]
    FixedMountPoint(Name),
    #[error("volume {volume} is mounted at {at} already")]
    MountedElsewhere { volume: Name, at: String },
    /// The driver of the volume does not declare what was asked for.
    #[error("driver {driver} does not support {what}")]
    Unsupported { driver: Name, what: &'static str },
    #[error("volume {volume} is busy: {holder} has been running for {seconds} s")]
    Busy { volume: Name, holder: &'static str, seconds: u64 },
    #[error("cannot record the mount of volume {volume}: {error}")]
    Ledger { volume: Name, error: String },
    /// The daemon is stopping, or the caller no longer waits.
    #[error("{0}")]
    Cancelled(String),
    /// The backup, or its destination.
    #[error("{message}")]
    Backup { kind: ErrorKind, message: String, hint: Option<String> },
    /// The server of a destination refused or failed.
    #[error("{message}")]
    Server {
        kind: ErrorKind,
        message: String,
        /// The same without a word of the server's.
        plain: String,
    },
    /// A restore was undone because the file system refuses a part of the backup.
    #[error("{0}")]
    Losses(String),
    /// The driver refused or failed.
    #[error("{0}")]
    Driver(DriverError),
}

impl From<DriverError> for Error {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

impl Error {
    /// The kind, as in the driver protocol.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::VolumeNotFound(_)
            | Self::NothingKept { .. }
            | Self::SnapshotNotFound(_)
            | Self::SnapshotOfAnother { .. }
            | Self::UnknownDriver(_)
            | Self::ScheduleNotFound(_)
            | Self::NoBackups { .. } => ErrorKind::NotFound,
            Self::VolumeExists(_)
            | Self::NameOfDockersVolume { .. }
            | Self::NameOfSnapshot(_)
            | Self::SnapshotExists(_) => ErrorKind::AlreadyExists,
            Self::StillMounted(_)
            | Self::StillUsed { .. }
            | Self::BeingRead(_)
            | Self::BeingRestored(_)
            | Self::HalfRestored { .. }
            | Self::UsedBy { .. }
            | Self::UsedByContainers { .. }
            | Self::MountedElsewhere { .. } => ErrorKind::InUse,
            Self::BeingCreated(_) | Self::Busy { .. } => ErrorKind::Busy,
            Self::AmbiguousSnapshot { .. }
            | Self::InvalidVolumeName(_)
            | Self::InvalidName(_)
            | Self::UnknownOption { .. }
            | Self::DriverOfDocker(_)
            | Self::InvalidRequest(_) => ErrorKind::InvalidArgument,
            Self::FixedMountPoint(_) | Self::Unsupported { .. } | Self::Losses(_) => ErrorKind::Unsupported,
            Self::Ledger { .. } => ErrorKind::Internal,
            Self::Cancelled(_) => ErrorKind::Cancelled,
            Self::NotForDocker { .. } => ErrorKind::PermissionDenied,
            Self::Backup { kind, .. } | Self::Server { kind, .. } | Self::InOldWords { kind, .. } => *kind,
            Self::Driver(error) => error.kind,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Driver(error) => return error.hint.clone(),
            Self::Backup { hint, .. } => return hint.clone(),
            Self::NotForDocker { hint, .. }
            | Self::InOldWords { hint, .. }
            | Self::NoBackups { hint, .. } => return Some(hint.clone()),
            Self::HalfRestored { ways, .. } => return Some(ways.clone()),
            Self::VolumeNotFound(_) => "`convoy list` shows the volumes",
            Self::VolumeExists(name) => {
                return Some(format!("choose another name; `convoy inspect {name}` shows that volume"));
            }
            Self::SnapshotNotFound(_) | Self::SnapshotOfAnother { .. } => {
                "`convoy snapshot list` shows the snapshots"
            }
            Self::DriverOfDocker(_) => {
                "leave --driver out, and Docker makes the volume; or have another driver of convoy make it: \
                 `-o driver=vfs`, or the first of --drivers"
            }
            Self::NameOfDockersVolume { volume, .. } => {
                return Some(format!(
                    "choose another name, or make convoy forget that one: `convoy delete --reference {volume}`"
                ));
            }
            Self::FixedMountPoint(_) => "leave the mount point out",
            Self::UnknownOption { .. } => "`convoy driver list` says what each is for",
            Self::BeingCreated(_) => "wait for it: `convoy jobs list` shows what is running",
            Self::NameOfSnapshot(_) | Self::SnapshotExists(_) => {
                "volumes and snapshots share their names: choose another"
            }
            Self::AmbiguousSnapshot { .. } => "say of which volume (--volume, VolumeName in the API)",
            Self::InvalidVolumeName(_) | Self::InvalidName(_) => {
                "a name has 2 to 200 characters and begins with a letter or a digit"
            }
            Self::StillMounted(_) | Self::StillUsed { .. } => {
                "stop the containers that use it; `convoy umount` takes a mount by hand back, and `convoy \
                 umount --force` those of containers that are gone"
            }
            Self::UsedBy { .. } => "stop them, or have them stopped and started again with --stop",
            Self::BeingRead(_) => "wait for the backup, or cancel it: `convoy jobs list`",
            Self::BeingRestored(_) => "wait for it, or cancel it: `convoy jobs list`",
            Self::UsedByContainers { volume, .. } => {
                return Some(format!(
                    "`docker ps --all --filter volume={volume}` names the containers: stop them, or take \
                     their mounts back with `convoy umount --force` if they are gone"
                ));
            }
            Self::UnknownDriver(_) => "`convoy driver list` shows the drivers",
            Self::NothingKept { .. } => "`convoy list --kept` shows what is kept",
            Self::ScheduleNotFound(_) => "`convoy schedule list` shows the schedules",
            Self::MountedElsewhere { .. } => "take that mount back first",
            Self::Busy { .. } => "try again; `convoy jobs list` shows what is running",
            Self::Losses(_) => {
                "restore into another driver or file system, or keep the rest with --allow-losses \
                 (allow-losses=true for Docker)"
            }
            Self::Ledger { .. } => "make room on, or repair, the file system of the daemon's root",
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// What people are told in the place of words that scripts have always been given.
    pub fn plain(&self) -> Option<String> {
        Some(match self {
            Self::InOldWords { plain, .. } | Self::NoBackups { plain, .. } => plain.clone(),
            Self::VolumeExists(name) => format!("volume {name} already exists"),
            Self::SnapshotNotFound(name) => format!("there is no snapshot {name}"),
            Self::InvalidVolumeName(name) | Self::InvalidName(name) => format!("{name:?} cannot be a name"),
            Self::FixedMountPoint(driver) => format!("driver {driver} mounts volumes only in its own place"),
            _ => return None,
        })
    }

    /// The text for Docker's users: what a server said is not for them.
    pub fn docker_text(&self) -> String {
        match self {
            Self::Server { plain, .. } => format!("{plain} (the daemon's log has its answer)"),
            _ => self.full_text(),
        }
    }

    /// Message and hint in one text, for those who get no more than a text.
    pub fn full_text(&self) -> String {
        match self {
            // Known to the byte by those who read it; that a name may be too short or too long it does not
            // say.
            Self::InvalidVolumeName(name) if !has_only_letters_of_names(name) => self.to_string(),
            Self::VolumeNotFound(_)
            | Self::VolumeExists(_)
            | Self::StillMounted(_)
            | Self::UnknownDriver(_)
            | Self::UnknownOption { .. }
            | Self::FixedMountPoint(_) => self.to_string(),
            Self::InOldWords { plain, hint, .. } | Self::NoBackups { plain, hint, .. } => {
                format!("{plain} ({hint})")
            }
            _ => match self.hint() {
                Some(hint) => format!("{self} ({hint})"),
                None => self.to_string(),
            },
        }
    }
}

/// Whether what is wrong with a name is its length, or what it begins with.
fn has_only_letters_of_names(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
