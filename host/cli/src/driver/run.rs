//! `convoy driver run`: a driver, called without a daemon.

use super::calls::Calls;
use super::{Installed, not_loaded, refused, show, spec};
use crate::args::{DriverCall, DriverCallCommand, RunDriverArgs};
use crate::error::{Failure, Result};
use crate::output::Output;
use clap::Parser;
use convoy_driver_kit::Scratch;
use convoy_driver_sdk::protocol::Open;
use convoy_drivers::{DriverHandle, RestartPolicy};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How long a driver may take to end.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a call may go on after its time is over, or after Ctrl-C.
const END: Duration = Duration::from_secs(2);

pub(super) async fn run(args: RunDriverArgs, installed: Installed, output: &mut Output) -> Result<()> {
    let commands = match parse(&args.commands)? {
        Parsed::Commands(commands) => commands,
        Parsed::Help(text) => return output.styled(&text),
    };
    show_logs(output);
    // Of a driver that ends it is told how; it is not started again behind the back of whoever tries it.
    let drivers = installed(&args.driver_path).restarts(RestartPolicy::NEVER);
    let driver = drivers.load(&spec(&args.driver)?).await.map_err(|error| not_loaded(&error))?;
    if let [DriverCallCommand::Describe] = commands.as_slice() {
        let result = show::reply(output, driver.description());
        driver.stop(DRAIN).await;
        return result;
    }
    let root = Root::new(args.root.as_deref())?;
    let cancel = CancellationToken::new();
    let calls = Calls { driver: &driver, timeout: Duration::from_secs(args.timeout), cancel: cancel.clone() };
    let mut result = tokio::select! {
        biased;
        result = session(&calls, root.path(), args.options, &commands, output) => result,
        () = interrupted(&cancel) => Ok(()),
    };
    if cancel.is_cancelled() {
        result = Err(Failure::Interrupted { message: "interrupted".to_owned() });
    }
    let hangs = hangs(&driver, cancel.is_cancelled(), output).await;
    driver.stop(if hangs { Duration::ZERO } else { DRAIN }).await;
    if hangs {
        // Removing what a thread of the driver may still write to can only fail; the next run does.
        std::mem::forget(root);
        return result;
    }
    root.remove(output)?;
    result
}

/// Waits for Ctrl-C, cancels what is under way, and waits until that had its time to end, or for another
/// Ctrl-C.
async fn interrupted(cancel: &CancellationToken) {
    if tokio::signal::ctrl_c().await.is_err() {
        return std::future::pending().await;
    }
    cancel.cancel();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = tokio::time::sleep(END) => {}
    }
}

/// Whether calls of the driver do not end although their time is over. Says which, and what rule that breaks.
async fn hangs(driver: &DriverHandle, interrupted: bool, output: &Output) -> bool {
    let begun = Instant::now();
    while !driver.under_way().is_empty() && begun.elapsed() < END {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let calls = driver.under_way();
    for call in &calls {
        let rule = convoy_driver_kit::rules::rule(if interrupted { "R32" } else { "R31" });
        let rule = rule.map(|rule| format!("{}: {}", rule.id, rule.text)).unwrap_or_default();
        let seconds = call.age_ms / 1000;
        output.aside("broken rule", &format!("{} goes on after {seconds} s. {rule}", call.method));
    }
    !calls.is_empty()
}

async fn session(
    calls: &Calls<'_>,
    root: &Path,
    options: Vec<(String, String)>,
    commands: &[DriverCallCommand],
    output: &mut Output,
) -> Result<()> {
    let open = Open::new(root.to_owned()).options(options.into_iter().collect());
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
    let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let layer =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(colours);
    // Refused where there is a subscriber already.
    let _ = tracing_subscriber::registry().with(targets).with(layer).try_init();
}

/// Where the driver keeps its records.
enum Root {
    Given(PathBuf),
    Temporary(Scratch),
}

impl Root {
    fn new(given: Option<&Path>) -> Result<Self> {
        Ok(match given {
            Some(path) => Self::Given(std::path::absolute(path)?),
            None => Self::Temporary(Scratch::new(&std::env::temp_dir(), "convoy-driver-run")?),
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
        if let Some(kept) = dir.close()? {
            output.aside(
                "warning",
                &format!("something is still mounted below {}: it was kept", kept.display()),
            );
        }
        Ok(())
    }
}
