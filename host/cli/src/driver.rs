//! `convoy driver`: what is installed, and help for those who write drivers.
//!
//! Beside the health of drivers that a daemon has loaded, nothing here needs a daemon.

use crate::args::{DriverArgs, DriverCommand};
use crate::error::{Failure, Result};
use crate::output::Output;
use convoy_client::Client;
use convoy_driver_sdk::DriverError;
use convoy_drivers::{DriverSpec, Drivers, LoadError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod calls;
mod list;
mod new;
mod run;
mod show;
mod test;

pub use list::describe_apart;

/// Makes what can be loaded from these directories, from the standard ones and from the program itself.
pub type Installed = fn(&[PathBuf]) -> Drivers;

pub(crate) async fn run(
    args: DriverArgs,
    installed: Installed,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode> {
    match args.command.unwrap_or_else(|| DriverCommand::List(Default::default())) {
        DriverCommand::List(args) => list::list(&args, installed, client, output).await?,
        DriverCommand::New(args) => new::new(&args, output)?,
        DriverCommand::Run(args) => run::run(args, installed, output).await?,
        DriverCommand::Test(args) => return test::test(*args, installed, output).await,
        DriverCommand::Describe { driver, driver_path } => {
            list::describe(&driver, &installed(&driver_path), output).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A driver as it was typed: a name, or a path as a shell takes it.
fn spec(text: &str) -> Result<DriverSpec> {
    let (carrier, rest) = match text.split_once(':') {
        Some((carrier, rest)) if !carrier.contains('/') => (format!("{carrier}:"), rest),
        _ => (String::new(), text),
    };
    let path = Path::new(rest);
    // What is there as a file is meant as one: `convoy driver run target/debug/convoy-driver-x`.
    let text = if rest.contains('/') {
        format!("{carrier}{}", std::path::absolute(path)?.display())
    } else {
        text.to_owned()
    };
    text.parse().map_err(|error| not_loaded(&error))
}

fn not_loaded(error: &LoadError) -> Failure {
    Failure::Other { message: error.to_string(), hint: Some(error.hint()) }
}

fn refused(what: &str, error: DriverError) -> Failure {
    let kind = show::word(&error.kind);
    Failure::Other { message: format!("{what}: {} ({kind})", error.message), hint: error.hint }
}
