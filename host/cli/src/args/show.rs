//! Backups shown as directories: commands that read a destination themselves, without a daemon.

use super::backup::KeyFileArgs;
use super::browse::TrustArgs;
use crate::complete;
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The commands under `backup` that show backups as directories.
#[derive(Debug, Subcommand)]
pub enum ShowCommand {
    /// Mount backups as directories, read-only, until it is unmounted or interrupted
    #[command(after_help = MOUNTED)]
    Mount {
        /// URL of the destination, or of one backup
        #[arg(value_name = "URL", add = complete::backups())]
        url: String,
        /// An empty directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Let other users in; each sees what the modes and ACLs of the files let them
        #[arg(long)]
        allow_other: bool,
        /// How the destination is read.
        #[command(flatten)]
        how: ShowArgs,
    },
    /// Serve backups to file managers and programs that speak WebDAV, read-only, until it is interrupted
    #[command(after_help = SERVED)]
    Serve {
        /// URL of the destination, or of one backup
        #[arg(value_name = "URL", add = complete::backups())]
        url: String,
        /// The address and port to listen at; one that other hosts reach needs --password-file
        #[arg(long, value_name = "ADDRESS:PORT")]
        webdav: SocketAddr,
        /// A file with the password that clients give; the user is `convoy`
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// How the destination is read.
        #[command(flatten)]
        how: ShowArgs,
    },
}

/// How a destination is read.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The daemon's file of settings, for what it says of destinations [default: /etc/convoy/convoy.toml, if it
    /// is there]
    #[arg(long, env = "CONVOY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Whether what no key vouches for is read.
    #[command(flatten)]
    pub trust: TrustArgs,
}

const MOUNTED: &str = "\
Needs root, and no daemon. What is there, for the URL of a destination:
  DIR/volumes/VOLUME/2026-11-30T06:16:06Z/   what is in the backup
  DIR/volumes/VOLUME/latest                  the newest one
A backup of a block device has disk.img, the device, and files/, the files on it.
With the URL of a backup, DIR is that backup. Backups made since are seen after mounting again.";

const SERVED: &str = "\
Needs neither root nor a daemon. With curl:
  curl http://127.0.0.1:8080/volumes/VOLUME/latest/etc/app.conf
The directories are those of `backup mount`, but for files/.";

/// A [`ShowCommand`] with all that was said of the destination.
#[derive(Debug)]
pub struct Show {
    /// The S3 server; empty for that of the settings.
    pub endpoint: String,
    /// What opens the backups.
    pub key: KeyFileArgs,
    /// What to do.
    pub command: ShowCommand,
}
