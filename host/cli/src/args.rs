//! The command line: every command and flag, and nothing about what they do.

use crate::complete;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

mod backup;
mod browse;
mod daemon;
mod driver;
mod exclude;
mod label;
mod restore;
mod schedule;
mod show;
mod watch;

pub use backup::{
    BackupArgs, BackupCommand, CreateBackupArgs, Encryption, Format, KeyArgs, KeyCommand, KeyFileArgs,
    ListBackupsArgs, PruneArgs, SnapshotKind, VerifyArgs,
};
pub use browse::{
    ArchiveForm, BrowseBackupCommand, BrowseSnapshotCommand, DumpArgs, FindArgs, LsArgs, OfVolumeArgs,
    TrustArgs,
};
pub use daemon::{DEFAULT_CONFIG, DaemonArgs};
pub use driver::{
    DriverArgs, DriverCall, DriverCallCommand, DriverCommand, DriverSnapshotCommand, Kind, Language,
    ListDriversArgs, NewDriverArgs, RunDriverArgs, TestDriverArgs,
};
pub use exclude::ExcludeArgs;
pub use label::{LabelFilterArgs, NewLabelArgs, PinArgs, TagArgs, UnpinArgs};
pub use restore::{ExistingPolicy, RestoreArgs};
pub use schedule::{ScheduleArgs, ScheduleCommand};
pub use show::{Show, ShowArgs, ShowCommand};
pub(crate) use watch::since;
pub use watch::{DoctorArgs, EventsArgs, TopArgs};

const ABOUT: &str = "Volumes for containers: snapshots, incremental backups, any storage";

pub(crate) const EXAMPLES: &str = "\
Examples:
  convoy create data --size 10G
  convoy snapshot create data --name monday
  convoy backup create monday --dest s3://bucket@eu-west-1/convoy/
  convoy create copy --backup 's3://bucket@eu-west-1/convoy/?backup=backup-...&volume=data'
  docker run -v data:/data --volume-driver=convoy busybox ls /data

Piped, every command prints what scripts of convoy 0.5 read; in a terminal, what people read.";

/// What was typed after `convoy`.
#[derive(Debug, Parser)]
#[command(name = "convoy", bin_name = "convoy", about = ABOUT, after_help = EXAMPLES)]
#[command(disable_version_flag = true, propagate_version = false, version, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, subcommand_value_name = "COMMAND")]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command; may stand before and after it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The unix socket between client and daemon
    #[arg(long, short, global = true, env = "CONVOY_SOCKET", value_name = "PATH")]
    #[arg(default_value = convoy_client::DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Log every call, on standard error
    #[arg(long, short, global = true, env = "CONVOY_DEBUG")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub debug: bool,
    /// Print the whole volume, snapshot or backup that was made, and not only its name
    #[arg(long, global = true)]
    pub verbose: bool,
    /// What to print: what scripts read or what people read [default: by whether it goes to a terminal]
    #[arg(long, global = true, env = "CONVOY_OUTPUT", value_name = "FORM")]
    pub output: Option<OutputForm>,
    /// Print tables whole, also where they are wider than the terminal
    #[arg(long, global = true)]
    pub wide: bool,
    /// Print the version
    #[arg(long, short = 'v', action = clap::ArgAction::Version)]
    version: Option<bool>,
}

/// Who reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// Names and tab-indented JSON, as convoy 0.5 printed them
    Json,
    /// Tables and sentences
    Table,
}

/// How to show the progress of long work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressForm {
    /// A line of JSON an event, on standard error
    Json,
    /// A bar, on standard error
    Bar,
    /// No progress
    None,
}

/// For commands that take long.
#[derive(Debug, Clone, Default, Args)]
pub struct ProgressArgs {
    /// How to show progress [default: a bar in a terminal, else nothing]
    #[arg(long, value_name = "FORM")]
    pub progress: Option<ProgressForm>,
}

/// The commands of `convoy`.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it in a process")]
pub enum Command {
    /// Start the daemon
    Daemon(DaemonArgs),
    /// Show the daemon's settings and its drivers'
    Info,
    /// Check the daemon's settings, and show where they come from
    Config(ConfigArgs),
    /// Create a volume, empty or from a backup
    Create(CreateArgs),
    /// Delete volumes and their data
    Delete(DeleteArgs),
    /// Mount a volume and print where
    Mount(MountArgs),
    /// Unmount a volume
    #[command(visible_alias = "unmount")]
    Umount(UmountArgs),
    /// List all volumes
    List(ListArgs),
    /// Show one volume
    Inspect(NameArgs),
    /// Change the size of a volume and of the file system on it
    Resize(ResizeArgs),
    /// Say what becomes of a volume's data when Docker removes the volume
    Retain(RetainArgs),
    /// Make, list, delete and inspect snapshots
    Snapshot(SnapshotArgs),
    /// Make, delete, inspect, list and verify backups
    Backup(BackupArgs),
    /// Bring files and directories of a backup or snapshot back into a volume
    Restore(RestoreArgs),
    /// See and run what is done by schedule
    Schedule(ScheduleArgs),
    /// List and cancel running work
    Jobs(JobsArgs),
    /// See what drivers there are, write one, call one
    #[command(visible_alias = "drivers")]
    Driver(DriverArgs),
    /// Print what happens, as it happens
    Events(EventsArgs),
    /// Print the daemon's metrics, in the text form of OpenMetrics
    Metrics,
    /// Find out what is wrong, and how to repair it
    Doctor(DoctorArgs),
    /// Watch jobs, schedules and drivers
    Top(TopArgs),
    /// Print a script that completes convoy's commands in a shell
    Completions {
        /// The shell to complete in
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man {
        /// Where; made if missing
        directory: PathBuf,
    },
}

/// The arguments of `convoy create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  convoy create data
  convoy create data --driver devicemapper --size 10G
  convoy create copy --backup 'vfs:///srv/backups?backup=backup-0123456789abcdef&volume=data'")]
pub struct CreateArgs {
    /// The volume's name: letters, digits, '-', '_' and '.' [default: a generated one]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// The driver [default: the daemon's first]
    #[arg(long, value_name = "DRIVER", add = complete::drivers())]
    pub driver: Option<String>,
    /// The size in bytes, or in K, M, G or T [default: the driver's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub size: Option<u64>,
    /// Fill the volume from this backup
    #[arg(long, value_name = "URL", add = complete::backups())]
    pub backup: Option<String>,
    /// The S3 server of the backup, like `http://minio.example.com:9000` [default: Amazon's]
    #[arg(long, value_name = "URL")]
    pub s3_endpoint: Option<String>,
    /// What opens an encrypted backup.
    #[command(flatten)]
    pub key: KeyFileArgs,
    /// Restore a backup that is not encrypted although a key is named; no key vouches for it
    #[arg(long, requires = "backup")]
    pub allow_unencrypted: bool,
    /// Keep what can be restored where the file system refuses a part of the backup, and list what it refused
    #[arg(long, requires = "backup")]
    pub allow_losses: bool,
    /// Let the storage system copy a backup of another region here first, which may cost money
    #[arg(long, requires = "backup")]
    pub copy: bool,
    /// Take over an existing volume of the storage system, by its own id
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The storage system's kind of volume
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// I/O operations per second to reserve
    #[arg(long, value_name = "NUMBER")]
    pub iops: Option<u64>,
    /// Make an image file for a virtual machine instead of a file system
    #[arg(long)]
    pub vm: bool,
    /// An option that the driver declares (see `convoy driver list`); may be repeated
    #[arg(long = "opt", value_name = "KEY=VALUE", value_parser = key_value)]
    pub options: Vec<(String, String)>,
    /// Progress of a restore.
    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// The arguments of `convoy delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Names of the volumes
    #[arg(required = true, value_name = "NAME", add = complete::deletable())]
    pub names: Vec<String>,
    /// Forget the volumes and keep their data
    #[arg(long, short)]
    pub reference: bool,
    /// Delete what is kept of volumes that were forgotten, and no volume
    #[arg(long, conflicts_with = "reference")]
    pub kept: bool,
    /// The driver that keeps it, where several keep data under a name
    #[arg(long, value_name = "DRIVER", requires = "kept", add = complete::drivers())]
    pub driver: Option<String>,
}

/// The arguments of `convoy mount`.
#[derive(Debug, Args)]
pub struct MountArgs {
    /// Name of the volume
    #[arg(value_name = "NAME", add = complete::volumes())]
    pub name: String,
    /// Where to mount it, where the driver can [default: the driver's own place]
    #[arg(long, value_name = "DIR")]
    pub mountpoint: Option<PathBuf>,
}

/// The arguments of `convoy umount`.
#[derive(Debug, Args)]
pub struct UmountArgs {
    /// Name of the volume
    #[arg(value_name = "NAME", add = complete::volumes())]
    pub name: String,
    /// Unmount it although Docker still uses it
    #[arg(long)]
    pub force: bool,
}

/// The arguments of `convoy list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show what the drivers say of their volumes
    #[arg(long)]
    pub driver: bool,
    /// Show what is kept of volumes that were forgotten
    #[arg(long, conflicts_with = "driver")]
    pub kept: bool,
}

/// A command about one volume.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// Name of the volume
    #[arg(value_name = "NAME", add = complete::volumes())]
    pub name: String,
}

/// The arguments of `convoy resize`.
#[derive(Debug, Args)]
pub struct ResizeArgs {
    /// Name of the volume
    #[arg(value_name = "NAME", add = complete::volumes())]
    pub name: String,
    /// The size to reach, in bytes or in K, M, G or T
    #[arg(value_name = "SIZE", value_parser = size_to_reach)]
    pub size: u64,
}

/// The arguments of `convoy retain`.
#[derive(Debug, Args)]
#[command(after_help = "`convoy delete` deletes the data in any case, `convoy delete --reference` never.")]
pub struct RetainArgs {
    /// Name of the volume
    #[arg(value_name = "NAME", add = complete::volumes())]
    pub name: String,
    /// What to do with it
    #[arg(value_name = "POLICY")]
    pub policy: RetainPolicy,
}

/// What becomes of a volume's data when Docker removes the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RetainPolicy {
    /// It is kept
    Keep,
    /// It is deleted
    Delete,
    /// What the daemon's setting docker-remove says
    Default,
}

/// The arguments of `convoy snapshot`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct SnapshotArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SnapshotCommand,
}

/// The commands under `snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Make a snapshot of a volume
    Create {
        /// Name of the volume
        #[arg(add = complete::volumes())]
        volume: String,
        /// The snapshot's name [default: a generated one]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Hold writes to the volume back while the snapshot is made
        #[arg(long)]
        freeze: bool,
        /// How progress is shown.
        #[command(flatten)]
        progress: ProgressArgs,
    },
    /// List snapshots, of all volumes or of one
    List {
        /// The volume [default: all]
        #[arg(value_name = "VOLUME", add = complete::volumes())]
        volume: Option<String>,
    },
    /// Delete a snapshot
    Delete(SnapshotNameArgs),
    /// Show one snapshot
    Inspect(SnapshotNameArgs),
    /// A look into snapshots.
    #[command(flatten)]
    Browse(BrowseSnapshotCommand),
    /// Create a volume with the contents of a snapshot
    Clone(CloneArgs),
    /// Make a volume's contents those of one of its snapshots; what was written since is lost
    Revert {
        /// The snapshot's name.
        #[command(flatten)]
        which: SnapshotNameArgs,
        /// Stop the containers that use the volume, and start them again, whatever happens
        #[arg(long)]
        stop: bool,
        /// How progress is shown.
        #[command(flatten)]
        progress: ProgressArgs,
    },
}

/// A command about one snapshot.
#[derive(Debug, Args)]
pub struct SnapshotNameArgs {
    /// Name of the snapshot
    #[arg(value_name = "SNAPSHOT", add = complete::snapshots())]
    pub name: String,
    /// Its volume; needed only where two volumes have a snapshot of that name
    #[arg(long, value_name = "NAME", add = complete::volumes())]
    pub volume: Option<String>,
}

/// The arguments of `convoy snapshot clone`.
#[derive(Debug, Args)]
pub struct CloneArgs {
    /// Name of the snapshot
    #[arg(value_name = "SNAPSHOT", add = complete::snapshots())]
    pub snapshot: String,
    /// The new volume's name [default: a generated one]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// The new volume's size, at least the snapshot's, in bytes or in K, M, G or T [default: the snapshot's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub size: Option<u64>,
    /// An option that the driver declares (see `convoy driver list`); may be repeated
    #[arg(long = "opt", value_name = "KEY=VALUE", value_parser = key_value)]
    pub options: Vec<(String, String)>,
    /// How progress is shown.
    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// The arguments of `convoy jobs`.
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// What to do; `list` when nothing is said.
    #[command(subcommand)]
    pub command: Option<JobsCommand>,
}

/// The commands under `jobs`.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List running work
    List,
    /// Stop a running job and undo what it began
    Cancel {
        /// The job, as `jobs list` names it
        #[arg(value_name = "ID", add = complete::jobs())]
        id: String,
    },
}

/// The arguments of `convoy config`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// The commands under `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a file of settings, without a daemon
    Check {
        /// The settings file to check
        #[arg(value_name = "FILE", env = "CONVOY_CONFIG", default_value = DEFAULT_CONFIG)]
        file: PathBuf,
    },
    /// Show the settings of the running daemon, and where each comes from
    Show,
    /// Let the running daemon read its settings again; fails, and changes nothing, if they cannot be used
    Reload,
}

/// Parses `KEY=VALUE`; the value may be empty and may contain `=`.
fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Parses a size and hands clap the part of the error that it does not say itself. Nothing is 0, the driver's
/// own size, as it was in 0.5 (`--size "$SIZE"`).
fn size(text: &str) -> Result<u64, String> {
    use convoy_driver_sdk::size::InvalidSize;
    if text.is_empty() {
        return Ok(0);
    }
    convoy_driver_sdk::size::parse(text).map_err(|error| match error {
        InvalidSize::Malformed(_) => {
            "expected bytes, or a whole number followed by K, M, G or T (10G)".to_owned()
        }
        InvalidSize::TooLarge(_) => "more than the 9223372036854775807 bytes a device can have".to_owned(),
    })
}

/// The same for a resize, where nothing is no size.
pub(crate) fn size_to_reach(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("expected a size greater than 0".to_owned()),
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
