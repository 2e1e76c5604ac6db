//! `driver`: for those who install drivers, and for those who write them.

use super::{SnapshotKind, key_value, size, size_to_reach};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// The arguments of `convoy driver`.
#[derive(Debug, Args)]
pub struct DriverArgs {
    /// What to do; `list` when nothing is said.
    #[command(subcommand)]
    pub command: Option<DriverCommand>,
}

/// The commands under `driver`.
#[derive(Debug, Subcommand)]
pub enum DriverCommand {
    /// List the drivers: where they are, what they can do, how they are, why one cannot be loaded
    List(ListDriversArgs),
    /// Write a project for a new driver
    New(NewDriverArgs),
    /// Call a driver without a daemon
    Run(RunDriverArgs),
    /// Test a driver against the rules of the protocol, with real data and real crashes
    Test(Box<TestDriverArgs>),
    /// Load a driver and print what it says of itself, as JSON: what `list` runs for each
    #[command(hide = true)]
    Describe {
        /// Name or path of the driver
        driver: String,
        /// Where to look for it
        #[arg(long, env = "CONVOY_DRIVER_PATH", value_name = "DIR", value_delimiter = ':')]
        driver_path: Vec<PathBuf>,
    },
}

/// The arguments of `convoy driver list`.
#[derive(Debug, Default, Args)]
pub struct ListDriversArgs {
    /// A directory to look for drivers in; may be repeated
    #[arg(long, env = "CONVOY_DRIVER_PATH", value_name = "DIR", value_delimiter = ':')]
    pub driver_path: Vec<PathBuf>,
}

/// The language of a new driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// With the SDK
    Rust,
    /// With the standard library alone
    Python,
    /// With the standard library alone
    Go,
}

/// The carrier of a new driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A shared library, loaded into the daemon
    Library,
    /// A program of its own
    Process,
}

/// The arguments of `convoy driver new`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  convoy driver new scratch --sdk ../convoy/driver-sdk
  convoy driver new scratch --lang python
  convoy driver new scratch --lang go")]
pub struct NewDriverArgs {
    /// The driver's name: small letters, digits and dashes
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The language to write it in
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    pub lang: Language,
    /// What it becomes; the same code can be both
    #[arg(long, value_name = "KIND", default_value = "process")]
    pub kind: Kind,
    /// Where convoy-driver-sdk is: a directory, the URL of a git repository, or a version on crates.io
    #[arg(long, value_name = "SOURCE")]
    pub sdk: Option<String>,
    /// Where to write it [default: convoy-driver-NAME]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// The arguments of `convoy driver run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  convoy driver run ./convoy-driver-scratch -- create v1
  convoy driver run ./convoy-driver-scratch --root /tmp/x -- create v1 -- snapshot create v1 s1 -- list
  convoy driver run ./convoy-driver-scratch -- --help

Each command after `--` is one call, or a few. They are made one after the other to one driver, which is opened before
the first and told goodbye after the last.")]
pub struct RunDriverArgs {
    /// The driver: a file, or a name as `--drivers` takes it
    #[arg(value_name = "DRIVER")]
    pub driver: String,
    /// The directory for its records [default: one that is removed at the end]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// An option of the driver; may be repeated
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = key_value)]
    pub options: Vec<(String, String)>,
    /// How many seconds each call may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// A directory to look for drivers in; may be repeated
    #[arg(long, env = "CONVOY_DRIVER_PATH", value_name = "DIR", value_delimiter = ':')]
    pub driver_path: Vec<PathBuf>,
    /// What to call: describe, create v1, list, ...
    #[arg(last = true, required = true, num_args = 1.., value_name = "COMMAND")]
    pub commands: Vec<String>,
}

/// The arguments of `convoy driver test`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  convoy driver test ./convoy-driver-scratch
  convoy driver test ./convoy-driver-loop --option loop.path=/srv/xfs/test --size 32M --junit report.xml
  convoy driver test vfs --option vfs.path=/srv/test --case crash --case data

Exits with 0 if no case failed, with 3 if one did, and with 1 if the driver could not be tested. The driver is killed and started
again many times: give it storage that nothing else uses.")]
pub struct TestDriverArgs {
    /// The driver: a file, or a name as `--drivers` takes it
    #[arg(value_name = "DRIVER", required_unless_present = "list")]
    pub driver: Option<String>,
    /// An option of the driver; may be repeated
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = key_value)]
    pub options: Vec<(String, String)>,
    /// An option of every volume that is created; may be repeated
    #[arg(long = "create-option", value_name = "KEY=VALUE", value_parser = key_value)]
    pub create_options: Vec<(String, String)>,
    /// A create option that names a directory whose data a volume adopts and a delete keeps; may be repeated
    #[arg(long, value_name = "KEY=DIR", value_parser = key_value)]
    pub adopt: Vec<(String, String)>,
    /// The size of the volumes: their blocks are read and written whole [default: the driver's]
    #[arg(long, value_name = "SIZE", value_parser = size_to_reach)]
    pub size: Option<u64>,
    /// Run only cases with this in their ids; may be repeated
    #[arg(long = "case", value_name = "TEXT")]
    pub cases: Vec<String>,
    /// How many seconds each case may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// At how many moments of each call to kill the driver
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub kills: u32,
    /// Where to put the driver's records and the kit's files [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Write the report in JUnit's XML, for CI
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// List the cases and run none
    #[arg(long)]
    pub list: bool,
    /// A directory to look for drivers in; may be repeated
    #[arg(long, env = "CONVOY_DRIVER_PATH", value_name = "DIR", value_delimiter = ':')]
    pub driver_path: Vec<PathBuf>,
}

/// One command of `driver run`.
#[derive(Debug, Parser)]
#[command(name = "convoy driver run DRIVER --", bin_name = "convoy driver run DRIVER --")]
#[command(no_binary_name = true, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
pub struct DriverCall {
    /// What to call.
    #[command(subcommand)]
    pub call: DriverCallCommand,
}

/// What a driver can be told.
#[derive(Debug, Subcommand)]
pub enum DriverCallCommand {
    /// Who it is and what it can do; needs no root
    Describe,
    /// What `convoy info` would show
    Info,
    /// Whether the storage is well
    Probe,
    /// Create a volume
    Create {
        /// Name of the volume
        name: String,
        /// The size in bytes, or in K, M, G or T
        #[arg(long, value_parser = size)]
        size: Option<u64>,
        /// An option that the driver declares; may be repeated
        #[arg(long = "opt", value_name = "KEY=VALUE", value_parser = key_value)]
        options: Vec<(String, String)>,
    },
    /// Delete a volume
    Delete {
        /// Name of the volume
        name: String,
        /// Keep its data
        #[arg(long, short)]
        reference: bool,
    },
    /// Mount a volume
    Mount {
        /// Name of the volume
        name: String,
        /// The directory to mount it at
        #[arg(long, value_name = "DIR")]
        mountpoint: Option<PathBuf>,
    },
    /// Unmount a volume
    #[command(visible_alias = "unmount")]
    Umount {
        /// Name of the volume
        name: String,
    },
    /// Change the size of a volume
    Resize {
        /// Name of the volume
        name: String,
        /// The size to reach
        #[arg(value_parser = size_to_reach)]
        size: u64,
    },
    /// Create a volume with the contents of a snapshot
    Clone {
        /// Name of the volume that the snapshot is of
        source: String,
        /// Name of the snapshot
        snapshot: String,
        /// Name of the new volume
        name: String,
        /// The size in bytes, or in K, M, G or T
        #[arg(long, value_parser = size)]
        size: Option<u64>,
    },
    /// Make a volume's contents those of one of its snapshots
    Revert {
        /// Name of the volume
        name: String,
        /// Name of the snapshot
        snapshot: String,
    },
    /// Make a volume of a directory, or of the image of a block device
    Restore {
        /// Name of the new volume
        name: String,
        /// The directory or image
        from: PathBuf,
        /// The size in bytes, or in K, M, G or T
        #[arg(long, value_parser = size)]
        size: Option<u64>,
        /// An option that the driver declares; may be repeated
        #[arg(long = "opt", value_name = "KEY=VALUE", value_parser = key_value)]
        options: Vec<(String, String)>,
    },
    /// Compare records with the truth
    Check {
        /// Repair what can be repaired
        #[arg(long)]
        repair: bool,
    },
    /// List all volumes
    List,
    /// Show one volume
    Inspect {
        /// Name of the volume
        name: String,
    },
    /// Make, delete, list, show and read snapshots
    #[command(subcommand)]
    Snapshot(DriverSnapshotCommand),
}

/// The same for snapshots.
#[derive(Debug, Subcommand)]
pub enum DriverSnapshotCommand {
    /// Make a snapshot
    Create {
        /// Name of the volume
        volume: String,
        /// Name of the snapshot
        snapshot: String,
    },
    /// Delete a snapshot
    Delete {
        /// Name of the volume
        volume: String,
        /// Name of the snapshot
        snapshot: String,
    },
    /// List the snapshots of a volume
    List {
        /// Name of the volume
        volume: String,
    },
    /// Show a snapshot
    Inspect {
        /// Name of the volume
        volume: String,
        /// Name of the snapshot
        snapshot: String,
    },
    /// Open a snapshot, show where its bytes are and which, and close it
    Read {
        /// Name of the volume
        volume: String,
        /// Name of the snapshot
        snapshot: String,
        /// Only what changed since this one
        #[arg(long, value_name = "SNAPSHOT")]
        base: Option<String>,
        /// As a directory tree or as a block device, where the driver can hand over either [default: its own
        /// choice]
        #[arg(long = "as", value_name = "KIND")]
        kind: Option<SnapshotKind>,
    },
}
