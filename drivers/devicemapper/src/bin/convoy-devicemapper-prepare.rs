//! `convoy devicemapper prepare /dev/sdX [--write-to-disk]`: partitions an empty disk for a pool, or says how
//! it would; `convoy devicemapper prepare --loop DIR --size 20G`: sparse files with loop devices, for a
//! trial.

use clap::Parser;
use convoy_driver_devicemapper::prepare;
use convoy_driver_sdk::{Context, DriverError};
use std::path::PathBuf;
use std::process::ExitCode;

/// Gets devices ready for a pool of the devicemapper driver.
#[derive(Parser)]
#[command(
    name = "convoy-devicemapper-prepare",
    bin_name = "convoy devicemapper prepare",
    version,
    max_term_width = 100
)]
#[command(after_help = "\
Examples:
  convoy devicemapper prepare /dev/sdX                   says what it would do
  convoy devicemapper prepare /dev/sdX --write-to-disk   does it
  convoy devicemapper prepare --loop DIR --size 20G      a trial; again after a reboot")]
struct Args {
    /// An empty disk.
    #[arg(required_unless_present = "directory")]
    disk: Option<PathBuf>,
    /// Write the partitions; without it, nothing is written.
    #[arg(long, requires = "disk")]
    write_to_disk: bool,
    /// Volumes and snapshots to have metadata for.
    #[arg(long, default_value_t = prepare::DEVICES)]
    max_devices: u64,
    /// Make sparse files here, with loop devices, or attach those that are here again.
    #[arg(long = "loop", value_name = "DIRECTORY", conflicts_with = "disk", requires = "size")]
    directory: Option<PathBuf>,
    /// Size of the data file.
    #[arg(long, requires = "directory")]
    size: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let context = Context::default();
    let prepared = match (&args.disk, &args.directory, &args.size) {
        (Some(disk), ..) => prepare::disk(disk, args.max_devices, args.write_to_disk, &context),
        (None, Some(directory), Some(size)) => {
            prepare::parse_size(size).and_then(|size| prepare::loop_files(directory, size, &context))
        }
        // clap has refused these.
        (None, ..) => return ExitCode::FAILURE,
    };
    match prepared.map_err(DriverError::from) {
        Ok(prepared) => {
            println!("{prepared}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            if let Some(hint) = &error.hint {
                eprintln!("{hint}");
            }
            ExitCode::FAILURE
        }
    }
}
