//! `backup` and what stands under it.

use super::exclude::ExcludeArgs;
use super::label::{LabelFilterArgs, NewLabelArgs, PinArgs, TagArgs, UnpinArgs};
use super::{BrowseBackupCommand, ProgressArgs, ShowCommand};
use crate::complete;
use clap::{Args, Subcommand, ValueEnum};
use convoy_driver_sdk::protocol::SourceKind;
use convoy_objectstore::forms;
use std::path::PathBuf;

/// Where the daemon finds what opens encrypted backups: one of the two.
#[derive(Debug, Args)]
pub struct KeyFileArgs {
    /// The file with the key that encrypts the backups, on the daemon's host
    #[arg(long, global = true, env = "CONVOY_ENCRYPTION_KEY_FILE", value_name = "FILE")]
    pub encryption_key_file: Option<PathBuf>,
    /// The file with the passphrase that encrypts the backups, in the place of a key, on the daemon's host
    #[arg(long, global = true, env = "CONVOY_PASSPHRASE_FILE", value_name = "FILE")]
    #[arg(conflicts_with = "encryption_key_file")]
    pub passphrase_file: Option<PathBuf>,
}

fn about_urls() -> String {
    format!(
        "A destination is a URL: {}. Without a region it takes that of the environment.\n\
         Put a backup's URL in quotes: it contains '&'. The forms \\u0026 and u0026 are understood too.",
        forms(" or ")
    )
}

/// The arguments of `convoy backup`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = about_urls())]
pub struct BackupArgs {
    /// The S3 server, like `http://minio.example.com:9000` [default: Amazon's]
    #[arg(long, global = true, value_name = "URL")]
    pub s3_endpoint: Option<String>,
    /// What opens the backups.
    #[command(flatten)]
    pub key: KeyFileArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: BackupCommand,
}

/// The commands under `backup`.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Back a snapshot up and print the backup's URL
    Create(CreateBackupArgs),
    /// Delete a backup and the data that no other backup needs
    Delete {
        /// URL of the backup
        #[arg(value_name = "URL", add = complete::backups())]
        url: String,
    },
    /// Show one backup
    Inspect {
        /// URL of the backup
        #[arg(value_name = "URL", add = complete::backups())]
        url: String,
    },
    /// Change the tags and the note of a backup
    Tag(TagArgs),
    /// Keep a backup, whatever the rules of schedules say and whoever would delete it
    Pin(PinArgs),
    /// Let a backup be deleted again
    Unpin(UnpinArgs),
    /// List the backups at a destination
    List(ListBackupsArgs),
    /// A look into backups.
    #[command(flatten)]
    Browse(BrowseBackupCommand),
    /// Backups as directories.
    #[command(flatten)]
    Show(ShowCommand),
    /// Check that backups are whole
    Verify(VerifyArgs),
    /// Remove the data at a destination that no backup needs
    Prune(PruneArgs),
    /// Count what the backups at a destination hold, and what they take there
    Stats(StatsArgs),
    /// List, add and remove the keys that open the encrypted backups at a destination
    Key(KeyArgs),
}

/// The arguments of `convoy backup key`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
To change a key:
  convoy backup key add DEST --encryption-key-file OLD --new-key-file NEW
  convoy backup key list DEST
  convoy backup key remove DEST NAME-OF-THE-OLD --encryption-key-file NEW
A passphrase is changed alike, with --passphrase-file and --new-passphrase-file.")]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// The commands under `backup key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys by name; the first is called `first`
    List {
        /// URL of the destination
        #[arg(value_name = "DEST", add = complete::destinations())]
        dest: String,
    },
    /// Let a further key open the backups, and print its name
    Add {
        /// URL of the destination
        #[arg(value_name = "DEST", add = complete::destinations())]
        dest: String,
        /// The file with the further key, on the daemon's host
        #[arg(long, value_name = "FILE", required_unless_present = "new_passphrase_file")]
        new_key_file: Option<PathBuf>,
        /// The file with a passphrase as the further key, on the daemon's host
        #[arg(long, value_name = "FILE", conflicts_with = "new_key_file")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Take from a key that it opens the backups
    Remove {
        /// URL of the destination
        #[arg(value_name = "DEST", add = complete::destinations())]
        dest: String,
        /// The key, as `backup key list` names it
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// The arguments of `convoy backup create`.
#[derive(Debug, Args)]
pub struct CreateBackupArgs {
    /// Name of the snapshot
    #[arg(value_name = "SNAPSHOT", add = complete::snapshots())]
    pub snapshot: String,
    /// Its volume; needed only where two volumes have a snapshot of that name
    #[arg(long, value_name = "NAME", add = complete::volumes())]
    pub volume: Option<String>,
    /// Where to.
    #[arg(long, value_name = "URL", add = complete::destinations())]
    #[arg(help = format!("Where to: {} [default: the driver's own store, if it has one]", forms(" or ")))]
    pub dest: Option<String>,
    /// The form of the backup [default: the newest]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// As its files or as its blocks, where the driver can hand over either [default: the driver's own
    /// choice]. Files can be restored with any driver that can give a directory
    #[arg(long = "as", value_name = "KIND")]
    pub kind: Option<SnapshotKind>,
    /// Read everything and check that the store has it, whatever earlier backups say
    #[arg(long)]
    pub full: bool,
    /// The level of zstd, 1 to 19, or 0 to store everything as it is [default: as the daemon is set, else 1]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=19))]
    pub compression: Option<u8>,
    /// Store it in the clear, also where the destination has a key or encrypted backups
    #[arg(long, value_name = "HOW")]
    pub encryption: Option<Encryption>,
    /// What is left out.
    #[command(flatten)]
    pub exclude: ExcludeArgs,
    /// What is said of it.
    #[command(flatten)]
    pub labels: NewLabelArgs,
    /// How progress is shown.
    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// How a backup is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Encryption {
    /// Not at all
    None,
}

/// The two shapes of what is in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SnapshotKind {
    /// A directory tree
    Tree,
    /// A block device
    Block,
}

impl From<SnapshotKind> for SourceKind {
    fn from(kind: SnapshotKind) -> Self {
        match kind {
            SnapshotKind::Tree => Self::Tree,
            SnapshotKind::Block => Self::Block,
        }
    }
}

/// The forms of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// What convoy 0.5 can restore
    V0,
    /// Deduplicated, compressed, optionally encrypted
    V1,
}

/// The arguments of `convoy backup list`.
#[derive(Debug, Args)]
pub struct ListBackupsArgs {
    /// URL of the destination
    #[arg(value_name = "DEST", add = complete::destinations())]
    pub dest: String,
    /// Only the backups of this volume
    #[arg(long, alias = "volume-uuid", value_name = "NAME", add = complete::volumes())]
    pub volume_name: Option<String>,
    /// Only the backups of this snapshot
    #[arg(long, value_name = "NAME", add = complete::snapshots())]
    pub snapshot_name: Option<String>,
    /// By what is said of them.
    #[command(flatten)]
    pub labels: LabelFilterArgs,
}

/// The arguments of `convoy backup verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all is well, 3 something is missing, damaged or not to be trusted, 1 it could not be checked."
)]
pub struct VerifyArgs {
    /// A backup, or a destination to check all its backups
    #[arg(value_name = "URL", add = complete::backups())]
    pub url: String,
    /// Only the backups of this volume
    #[arg(long, value_name = "NAME", add = complete::volumes())]
    pub volume_name: Option<String>,
    /// Read the data and check every byte, or only so many percent of it, chosen at random
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, default_value = "0", default_missing_value = "100")]
    #[arg(require_equals = true)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100), hide_default_value = true)]
    pub read_data: u8,
    /// Check backups that are not encrypted too, although a key is named; no key vouches for them
    #[arg(long)]
    pub allow_unencrypted: bool,
    /// How progress is shown.
    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// The arguments of `convoy backup prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// URL of the destination
    #[arg(value_name = "DEST", add = complete::destinations())]
    pub dest: String,
    /// Only the data of this volume
    #[arg(long, value_name = "NAME", add = complete::volumes())]
    pub volume_name: Option<String>,
    /// Say what would be removed and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Make packs of backups that are not encrypted smaller too, although a key is named
    #[arg(long)]
    pub allow_unencrypted: bool,
    /// How progress is shown.
    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// The arguments of `convoy backup stats`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all was counted, 3 something is damaged and the rest was counted, 1 nothing was."
)]
pub struct StatsArgs {
    /// URL of the destination
    #[arg(value_name = "DEST", add = complete::destinations())]
    pub dest: String,
    /// Only the backups of this volume
    #[arg(long, alias = "volume-name", value_name = "NAME", add = complete::volumes())]
    pub volume: Option<String>,
    /// How progress is shown.
    #[command(flatten)]
    pub progress: ProgressArgs,
}
