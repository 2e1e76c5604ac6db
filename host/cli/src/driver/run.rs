//! `convoy driver run`: a driver, called without a daemon.

use super::calls::Calls;
use super::{Installed, not_loaded, refused, show, spec};
use crate::args::{DriverCall, DriverCallCommand, RunDriverArgs};
use crate::error::{Failure, Result};
use crate::output::Output;
use clap::Parser;
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::Open;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How long a driver may take to end.
const DRAIN: Duration = Duration::from_secs(10);

pub(super) async fn run(args: RunDriverArgs, installed: Installed, output: &mut Output) -> Result<()> {
    let commands = match parse(&args.commands)? {
        Parsed::Commands(commands) => commands,
        Parsed::Help(text) => return output.styled(&text),
    };
    show_logs(output);
    let driver =
        installed(&args.driver_path).load(&spec(&args.driver)?).await.map_err(|error| not_loaded(&error))?;
    let cancel = CancellationToken::new();
    let interrupted = cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    let calls = Calls { driver: &driver, timeout: Duration::from_secs(args.timeout), cancel };
    let result = match commands.as_slice() {
        [DriverCallCommand::Describe] => show::reply(output, driver.description()),
        commands => {
            let root = Root::new(args.root.as_deref())?;
            let result = session(&calls, root.path(), args.options, commands, output).await;
            driver.stop(DRAIN).await;
            root.remove(output)?;
            return result;
        }
    };
    driver.stop(DRAIN).await;
    result
}

async fn session(
    calls: &Calls<'_>,
    root: &Path,
    options: Vec<(String, String)>,
    commands: &[DriverCallCommand],
    output: &mut Output,
) -> Result<()> {
    let open = Open { root: root.to_owned(), options: options.into_iter().collect(), ..Open::default() };
    let opened = calls.open(open).await.map_err(|error| refused("driver.open", error))?;
    for line in &opened.recovered {
        output.aside("recovered", line);
    }
    for line in &opened.warnings {
        output.aside("warning", line);
    }
    for (number, command) in commands.iter().enumerate() {
        if number > 0 && output.is_for_people() {
            output.line("")?;
        }
        calls.make(command, output).await?;
        // What was done is seen although a later command fails.
        output.finish()?;
    }
    Ok(())
}

enum Parsed {
    Commands(Vec<DriverCallCommand>),
    /// It was asked for.
    Help(String),
}

/// Splits the commands at `--`, and understands each.
fn parse(words: &[String]) -> Result<Parsed> {
    let mut commands = Vec::new();
    for words in words.split(|word| word == "--") {
        match DriverCall::try_parse_from(words) {
            Ok(parsed) => commands.push(parsed.call),
            Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => {
                return Ok(Parsed::Help(error.render().ansi().to_string()));
            }
            Err(error) => return Err(Failure::usage(&error)),
        }
    }
    Ok(Parsed::Commands(commands))
}

/// What the driver logs, and what it writes beside the protocol, goes to standard error.
fn show_logs(output: &Output) {
    let level = if output.is_debug() { LevelFilter::DEBUG } else { LevelFilter::INFO };
    // That target would show whole messages, secrets included.
    let targets = Targets::new().with_default(level).with_target("jsonrpsee-client", LevelFilter::OFF);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    // Refused where there is a subscriber already.
    let _ = tracing_subscriber::registry().with(targets).with(layer).try_init();
}

/// Where the driver keeps its records.
enum Root {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Root {
    fn new(given: Option<&Path>) -> Result<Self> {
        Ok(match given {
            Some(path) => Self::Given(std::path::absolute(path)?),
            None => Self::Temporary(tempfile::Builder::new().prefix("convoy-driver-run-").tempdir()?),
        })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }

    /// Removes a temporary directory, unless something is still mounted in it.
    fn remove(self, output: &Output) -> Result<()> {
        let Self::Temporary(dir) = self else { return Ok(()) };
        let mounted = MountTable::read().map(|mounts| mounts.under(dir.path()).next().is_some());
        if mounted.unwrap_or(true) {
            let kept = dir.keep();
            output.aside(
                "warning",
                &format!("something is still mounted below {}: it was kept", kept.display()),
            );
            return Ok(());
        }
        Ok(dir.close()?)
    }
}
