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

A new volume with all of a backup: convoy create NAME --backup URL. A new volume with all of a snapshot:
convoy snapshot clone SNAPSHOT NAME.

Exit codes: 0 all is restored, 3 something could not be and everything else is, 4 the file system refused
a part of what is restored, 1 nothing more could be done.")]
pub struct RestoreArgs {
    /// The backup's URL, or a snapshot's name
    #[arg(value_name = "SOURCE", add = complete::backups())]
    pub source: String,
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
    #[arg(long, value_name = "VOLUME", add = complete::volumes())]
    pub into: String,
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
