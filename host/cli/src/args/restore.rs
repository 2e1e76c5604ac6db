//! `restore`.

use super::{KeyFileArgs, ProgressArgs};
use crate::complete;
use clap::{Args, ValueEnum};

/// The arguments of `convoy restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
A restore puts each file in its place at once and whole, also while containers use the volume.

Examples:
  convoy restore 'vfs:///srv/backups?backup=backup-0123456789abcdef&volume=data' --path etc/app.conf --into data
  convoy restore monday --path www --into data --at from-monday
  convoy restore monday --path www --into data --existing replace --delete-extra --dry-run

A whole volume in place, which nobody may use meanwhile; the state of before is kept as a snapshot:
  convoy restore monday --in-place data --dry-run
  convoy restore 'vfs:///srv/backups?backup=backup-0123456789abcdef&volume=data' --in-place data --stop

A new volume with all of a backup: convoy create NAME --backup URL. A new volume with all of a snapshot:
convoy snapshot clone SNAPSHOT NAME.

Exit codes: 0 all is restored, 3 something could not be and everything else is (in place with --stop: the
volume went back to what it was), 4 the file system refused
a part of what is restored, 1 nothing more could be done.")]
pub struct RestoreArgs {
    /// The backup's URL, or a snapshot's name
    #[arg(value_name = "SOURCE", required_unless_present = "accept", add = complete::backups())]
    pub source: Option<String>,
    /// The volume of the snapshot; needed only where two volumes have a snapshot of that name
    #[arg(long, value_name = "NAME", add = complete::volumes())]
    pub volume: Option<String>,
    /// Only this file, or this directory with all below it, from the root of the backup; may be repeated
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<String>,
    /// Leave out what matches, as in a `.gitignore` at the root of the backup; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// The volume to restore into, which containers may be using
    #[arg(long, value_name = "VOLUME", required_unless_present_any = ["in_place", "accept"],
        add = complete::volumes())]
    pub into: Option<String>,
    /// The volume to make exactly what the backup or snapshot is: only what differs is written, and what the
    /// backup has not is deleted
    #[arg(long, value_name = "VOLUME", add = complete::volumes(),
        conflicts_with_all = ["into", "paths", "exclude", "at", "existing", "delete_extra"])]
    pub in_place: Option<String>,
    /// In place: stop the containers that use the volume, and start them again, whatever happens
    #[arg(long, requires = "in_place")]
    pub stop: bool,
    /// In place: do not keep the state of before as a snapshot
    #[arg(long, requires = "in_place", conflicts_with = "keep_as")]
    pub no_keep: bool,
    /// In place: the name of the snapshot with the state of before [default: `before-restore-` and the time]
    #[arg(long, value_name = "NAME", requires = "in_place")]
    pub keep_as: Option<String>,
    /// Take a volume as it is whose restore in place was not finished, and restore nothing
    #[arg(long, value_name = "VOLUME", add = complete::volumes(),
        conflicts_with_all = ["source", "into", "in_place", "dry_run"])]
    pub accept: Option<String>,
    /// The directory in the volume to restore below, made if it is missing [default: the root of the volume]
    #[arg(long, value_name = "DIR")]
    pub at: Option<String>,
    /// What becomes of files that are there and differ
    #[arg(long, value_name = "POLICY", default_value = "keep")]
    pub existing: ExistingPolicy,
    /// Delete, in the directories that are restored, what the backup has not
    #[arg(long)]
    pub delete_extra: bool,
    /// Say what would be done and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The S3 server of the backup, like `http://minio.example.com:9000` [default: Amazon's]
    #[arg(long, value_name = "URL")]
    pub s3_endpoint: Option<String>,
    /// What opens an encrypted backup.
    #[command(flatten)]
    pub key: KeyFileArgs,
    /// Restore from a backup that is not encrypted although a key is named; no key vouches for it
    #[arg(long)]
    pub allow_unencrypted: bool,
    /// How progress is shown.
    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// What becomes of what is there and differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExistingPolicy {
    /// They stay
    Keep,
    /// The backup's take their place
    Replace,
    /// They get another name, which ends in `.before-restore-` and the time
    Rename,
    /// The backup's take the place of those that were changed earlier than they
    Newer,
}

impl ExistingPolicy {
    /// As the daemon reads it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Replace => "replace",
            Self::Rename => "rename",
            Self::Newer => "newer",
        }
    }
}
