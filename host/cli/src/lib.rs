//! convoy's command line.
//!
//! - [`args`]: every command and flag, as clap derives; [`spelling`] takes the spellings convoy 0.5 took
//!   besides; [`settings`]: the table of the daemon's settings, and its flags.
//! - `commands`: what each does, in a few lines over [`convoy_client`].
//! - [`driver`]: what is installed, and help for those who write drivers.
//! - `plugin`: commands that driver packages bring along.
//! - [`output`]: two forms of everything, one for scripts (byte for byte what 0.5 printed) and one for
//!   people.
//! - `complete`: names for shells that complete what is typed.
//! - `progress`: long work, with a bar, and Ctrl-C.
//! - [`error`]: what can go wrong, with the way out; `documents`: completions and man pages.
//!
//! [`main`] is the whole program but for what the daemon's side does and the drivers that are compiled in,
//! which it is handed.

use crate::args::{
    BackupArgs, BackupCommand, Cli, Command, ConfigArgs, ConfigCommand, DaemonArgs, GlobalArgs, OutputForm,
    Show,
};
use crate::error::Failure;
use crate::output::Output;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use convoy_client::types::Diagnosis;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

pub mod args;
mod commands;
mod complete;
mod documents;
pub mod driver;
pub mod error;
pub mod output;
mod plugin;
mod progress;
pub mod settings;
pub mod spelling;

/// The whole program: parses the arguments of the process, runs the client, or hands over to the daemon.
///
/// No thread and no runtime is started before `daemon` is called. `installed` makes what drivers can be
/// loaded; `check` checks a file of settings; `doctor` examines what it can where no daemon runs; `show` shows
/// backups as directories, which no daemon is needed for.
pub fn main(
    daemon: impl FnOnce(DaemonArgs) -> ExitCode,
    installed: driver::Installed,
    check: impl FnOnce(&Path) -> Result<String, String>,
    doctor: Option<Doctor>,
    show: impl FnOnce(Show) -> ExitCode,
) -> ExitCode {
    if complete::answer() {
        return ExitCode::SUCCESS;
    }
    match parse(std::env::args_os()) {
        Parsed::Client(Cli { global, command }) => match command {
            Command::Config(ConfigArgs { command: ConfigCommand::Check { file } }) => {
                say(&global, check(&file))
            }
            Command::Backup(BackupArgs { command: BackupCommand::Show(command), s3_endpoint, key }) => {
                show(Show { endpoint: s3_endpoint.unwrap_or_default(), key, command })
            }
            command => run(Cli { global, command }, installed, doctor),
        },
        Parsed::Daemon(args) => daemon(args),
        Parsed::Done(code) => code,
    }
}

/// Examines the machine and a daemon's directory while no daemon runs: its root, its socket, whether to
/// repair.
pub type Doctor = fn(&Path, &Path, bool) -> Diagnosis;

/// What the arguments say is to be done.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one of it in a process")]
pub enum Parsed {
    /// Something for [`run`].
    Client(Cli),
    /// Start the daemon.
    Daemon(DaemonArgs),
    /// Nothing any more: help, the version, or what is wrong with the arguments, has been printed.
    Done(ExitCode),
}

/// Parses arguments, the program's name first.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Parsed {
    let mut command = without_empty_variables(command());
    let typed: Vec<OsString> = arguments.into_iter().collect();
    if let Some(call) = plugin::find(&command, &typed) {
        return Parsed::Done(call.run());
    }
    let arguments = spelling::normalise(&command, typed);
    let form = spelling::output_form(&arguments);
    if plugin::is_help(&arguments) {
        command = plugin::show(command);
    }
    let mut cli = understand(&mut command, arguments.clone());
    if cli.as_ref().is_err_and(|error| error.kind() == ErrorKind::MissingSubcommand) {
        // `convoy` and `convoy backup` alone: say what there is, as 0.5 did.
        cli = understand(&mut command, arguments.into_iter().chain(["--help".into()]).collect());
    }
    let cli = match cli {
        Ok(cli) => cli,
        Err(error) => return Parsed::Done(refuse(&error, form)),
    };
    match cli.command {
        Command::Daemon(mut args) => match args.add_environment() {
            Ok(()) => Parsed::Daemon(args),
            Err(message) => Parsed::Done(fail(&message, None)),
        },
        command => Parsed::Client(Cli { command, ..cli }),
    }
}

fn understand(command: &mut clap::Command, arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(command))
}

/// Prints what the daemon's side answered without a daemon.
fn say(global: &GlobalArgs, answer: Result<String, String>) -> ExitCode {
    let mut output = Output::of(global);
    let printed = answer
        .map_err(|message| Failure::Other { message, hint: None })
        .and_then(|text| output.line(&text))
        .and_then(|()| output.finish());
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}

/// Runs anything but the daemon. Without a `doctor` only a daemon that runs is examined.
pub fn run(cli: Cli, installed: driver::Installed, doctor: Option<Doctor>) -> ExitCode {
    let mut output = Output::of(&cli.global);
    let result = commands::run(cli, installed, doctor, &mut output);
    let result = result.and_then(|code| output.finish().map(|()| code));
    match result {
        Ok(code) => code,
        Err(failure) => output.fail(&failure),
    }
}

/// Says that something failed, in the form that fits where it is printed, and answers the exit code.
///
/// For what fails outside of [`run`], such as the start of the daemon.
pub fn fail(message: &str, hint: Option<&str>) -> ExitCode {
    let failure = Failure::Other { message: message.to_owned(), hint: hint.map(str::to_owned) };
    Output::new(None, false).fail(&failure)
}

/// Prints a line for who started the program, and for scripts.
///
/// # Errors
/// When nobody reads it.
pub fn say_line(text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// An environment variable that is set to nothing says nothing (`CONVOY_OUTPUT= convoy list`).
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |argument: &clap::Arg| {
        argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|argument| if is_empty(&argument) { argument.env(None) } else { argument })
        .mut_subcommands(without_empty_variables)
}

/// The definition of every command and flag, for completions, man pages and tests.
pub fn command() -> clap::Command {
    Cli::command().version(concat!("v", env!("CARGO_PKG_VERSION")))
}

/// Prints help, the version, or what is wrong with the arguments.
fn refuse(error: &clap::Error, form: Option<OutputForm>) -> ExitCode {
    let mut output = Output::new(form, false);
    let printed = match error.kind() {
        ErrorKind::DisplayVersion => output.line(concat!("Convoy version v", env!("CARGO_PKG_VERSION"))),
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output.styled(&error.render().ansi().to_string())
        }
        _ => Err(Failure::usage(error)),
    };
    match printed.and_then(|()| output.finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}
