//! `cargo xtask`: the one door for building, testing, showing and measuring convoy.

mod bench;
mod cargo;
mod demo;
mod deny;
mod dependencies;
mod fuzz;
mod keep;
mod package;
mod test;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use convoy_tests::Result;

/// Build, test, show and measure convoy. Each command installs what it needs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the main job with a real Docker engine: write, snapshot, back up, restore, read
    Demo {
        /// Draw what the terminal shows into this file, too, as SVG
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Check the style and run every test; with words, run `cargo nextest run WORDS` alone
    Test {
        #[arg(value_name = "WORDS", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Measure, and compare with the goals; with names, only those
    Bench {
        #[arg(value_name = "NAMES", value_parser = bench::names())]
        names: Vec<String>,
    },
    /// Keep a host and drivers of an earlier version of the protocol, for tests
    Keep {
        /// The version of the protocol, such as 1.2
        version: String,
        /// The commit that they are built from
        commit: String,
    },
    /// Feed the parsers of what comes from outside with nonsense
    Fuzz {
        /// How long each target runs
        #[arg(value_name = "SECONDS", default_value_t = 20)]
        seconds: u64,
    },
    /// Make a Debian package and an archive
    Package {
        /// With the ebs driver, which takes minutes to compile
        #[arg(long)]
        with_ebs: bool,
    },
    /// Check the spelling of code and documents
    Words,
    /// Do all of it: test, fuzz for a minute each, spelling, documentation, oldest compiler, demo, package
    Ci,
    /// Install what the others need
    InstallDeps,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo { svg } => {
            dependencies::install_engine()?;
            demo::run(svg.as_deref())
        }
        Command::Test { words } => {
            dependencies::install()?;
            test::run(&words)
        }
        Command::Bench { names } => {
            dependencies::install()?;
            dependencies::install_peers()?;
            bench::run(&names)
        }
        Command::Keep { version, commit } => keep::run(&version, &commit),
        Command::Fuzz { seconds } => fuzz::run(seconds),
        Command::Package { with_ebs } => {
            dependencies::install_package()?;
            package::run(with_ebs)
        }
        Command::Words => words::run(),
        Command::Ci => ci(),
        Command::InstallDeps => dependencies::install(),
    }
}

fn ci() -> Result<()> {
    dependencies::install()?;
    test::run(&[])?;
    fuzz::run_in_ci()?;
    words::run()?;
    cargo::doc()?;
    cargo::check_oldest()?;
    deny::advisories()?;
    demo::run(None)?;
    package::run(false)
}
