//! A look into backups and snapshots: the same commands under `backup` and under `snapshot`.

use crate::complete;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// The commands under `backup` that look into backups.
#[derive(Debug, Subcommand)]
pub enum BrowseBackupCommand {
    /// List what is in a backup
    Ls {
        /// URL of the backup
        #[arg(value_name = "URL", add = complete::backups())]
        url: String,
        /// What to list.
        #[command(flatten)]
        what: LsArgs,
        /// Whether what no key vouches for is read.
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// Print a file of a backup as it is
    Cat {
        /// URL of the backup
        #[arg(value_name = "URL", add = complete::backups())]
        url: String,
        /// The file, by its path from the top of the volume
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Whether what no key vouches for is read.
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// Find files in all backups at a destination, each version once, the newest first
    #[command(after_help = PATTERNS)]
    Find {
        /// URL of the destination
        #[arg(value_name = "DEST", add = complete::destinations())]
        dest: String,
        /// What to find.
        #[command(flatten)]
        what: FindArgs,
        /// Whether what no key vouches for is read.
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// Tell what differs between two backups
    #[command(after_help = SIGNS)]
    Diff {
        /// URL of the older backup
        #[arg(value_name = "OLD", add = complete::backups())]
        old: String,
        /// URL of the newer backup
        #[arg(value_name = "NEW", add = complete::backups())]
        new: String,
        /// Only at and below this path, from the top of the volume
        #[arg(value_name = "PATH")]
        path: Option<PathBuf>,
        /// Whether what no key vouches for is read.
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// Write what is in a backup to standard output, as an archive
    Dump {
        /// URL of the backup
        #[arg(value_name = "URL", add = complete::backups())]
        url: String,
        /// What to write.
        #[command(flatten)]
        what: DumpArgs,
        /// Whether what no key vouches for is read.
        #[command(flatten)]
        trust: TrustArgs,
    },
}

/// The commands under `snapshot` that look into snapshots.
#[derive(Debug, Subcommand)]
pub enum BrowseSnapshotCommand {
    /// List what is in a snapshot
    Ls {
        /// Name of the snapshot
        #[arg(value_name = "SNAPSHOT", add = complete::snapshots())]
        snapshot: String,
        /// What to list.
        #[command(flatten)]
        what: LsArgs,
        /// Of which volume it is.
        #[command(flatten)]
        of: OfVolumeArgs,
    },
    /// Print a file of a snapshot as it is
    Cat {
        /// Name of the snapshot
        #[arg(value_name = "SNAPSHOT", add = complete::snapshots())]
        snapshot: String,
        /// The file, by its path from the top of the volume
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Of which volume it is.
        #[command(flatten)]
        of: OfVolumeArgs,
    },
    /// Find files in all snapshots, each version once, the newest first
    #[command(after_help = PATTERNS)]
    Find {
        /// What to find.
        #[command(flatten)]
        what: FindArgs,
    },
    /// Tell what differs between two snapshots
    #[command(after_help = SIGNS)]
    Diff {
        /// Name of the older snapshot
        #[arg(value_name = "OLD", add = complete::snapshots())]
        old: String,
        /// Name of the newer snapshot
        #[arg(value_name = "NEW", add = complete::snapshots())]
        new: String,
        /// Only at and below this path, from the top of the volume
        #[arg(value_name = "PATH")]
        path: Option<PathBuf>,
        /// Of which volume both are.
        #[command(flatten)]
        of: OfVolumeArgs,
    },
    /// Write what is in a snapshot to standard output, as an archive
    Dump {
        /// Name of the snapshot
        #[arg(value_name = "SNAPSHOT", add = complete::snapshots())]
        snapshot: String,
        /// What to write.
        #[command(flatten)]
        what: DumpArgs,
        /// Of which volume it is.
        #[command(flatten)]
        of: OfVolumeArgs,
    },
}

const PATTERNS: &str = "\
Patterns (put them in quotes):
  'app.conf'           a file of this name, in any directory
  '*.{jpg,png}'        names that end so
  'etc/*/app.conf'     with a '/': the whole path, from the top of the volume
  '**/backup/*.sql'    '**' stands for any directories";

const SIGNS: &str = "\
In a terminal: + added, - removed, M other data, U only other metadata.
The time of a directory does not count.";

/// What `ls` lists.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// The directory, by its path from the top of the volume [default: the top]
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// Show mode, owner, size and time
    #[arg(short)]
    pub long: bool,
    /// List everything below it, too
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// What `find` finds.
#[derive(Debug, Args)]
pub struct FindArgs {
    /// A pattern of a name or, with a '/' in it, of a path
    #[arg(value_name = "PATTERN")]
    pub pattern: String,
    /// Only of this volume
    #[arg(long, alias = "volume-name", value_name = "NAME", add = complete::volumes())]
    pub volume: Option<String>,
    /// Only in what was made since then: a time, or how long ago (90s, 5m, 24h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

/// What `dump` writes.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// A directory or file, by its path from the top of the volume [default: everything]
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// The form of the archive
    #[arg(long, value_name = "FORM", default_value = "tar")]
    pub format: ArchiveForm,
}

/// The forms of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArchiveForm {
    /// With all metadata: owners, modes, times, attributes, hard links, devices
    Tar,
    /// Files, directories and symbolic links, with modes and times
    Zip,
}

/// For a name that snapshots of two volumes may have.
#[derive(Debug, Args)]
pub struct OfVolumeArgs {
    /// Its volume; needed only where two volumes have a snapshot of that name
    #[arg(long, value_name = "NAME", add = complete::volumes())]
    pub volume: Option<String>,
}

/// What is believed of a destination.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// Read backups that are not encrypted although a key is named; no key vouches for them
    #[arg(long)]
    pub allow_unencrypted: bool,
}
