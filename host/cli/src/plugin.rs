//! Commands that driver packages bring along: `convoy devicemapper prepare` runs
//! `convoy-devicemapper-prepare`.

use crate::args::{EXAMPLES, OutputForm};
use crate::error::Failure;
use crate::output::Output;
use clap::{ArgMatches, Command};
use convoy_drivers::commands::{self, DriverCommand};
use convoy_drivers::{LoadError, SearchPath};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where drivers are looked for besides the usual directories, as the daemon's variable says it.
const PATH_VARIABLE: &str = "CONVOY_DRIVER_PATH";

#[derive(Debug)]
pub(crate) struct PluginCommand {
    driver: String,
    /// All commands of that driver.
    known: Vec<DriverCommand>,
    /// The command and what goes with it.
    words: Vec<OsString>,
    socket: Option<PathBuf>,
    form: Option<OutputForm>,
}

/// The call that arguments (the program's name first) ask for, if their command is none of convoy's own but
/// the name of a driver that has commands.
pub(crate) fn find(command: &Command, arguments: &[OsString]) -> Option<PluginCommand> {
    let own = |name: &str| name == "help" || command.find_subcommand(name).is_some();
    let lax = command.clone().allow_external_subcommands(true).subcommand_required(false);
    let matches = lax.try_get_matches_from(arguments).ok()?;
    let (driver, rest) = matches.subcommand().filter(|(name, _)| !own(name))?;
    let known: Vec<_> = installed().into_iter().filter(|found| found.driver == driver).collect();
    if known.is_empty() {
        return None;
    }
    Some(PluginCommand {
        driver: driver.to_owned(),
        known,
        words: rest.get_many::<OsString>("").unwrap_or_default().cloned().collect(),
        socket: given(&matches, "socket"),
        form: given(&matches, "output"),
    })
}

fn given<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Option<T> {
    let said = matches.value_source(name)? != clap::parser::ValueSource::DefaultValue;
    matches.get_one::<T>(name).filter(|_| said).cloned()
}

fn installed() -> Vec<DriverCommand> {
    let extra = std::env::var_os(PATH_VARIABLE).unwrap_or_default();
    let extra: Vec<_> = std::env::split_paths(&extra).filter(|dir| *dir != Path::new("")).collect();
    commands::list(&SearchPath::standard(&extra))
}

impl PluginCommand {
    /// Becomes the program; comes back only if that fails, or if there is none to become.
    pub(crate) fn run(self) -> ExitCode {
        let Some((word, arguments)) = self.words.split_first() else { return self.help() };
        if word == "--help" || word == "-h" || word == "help" {
            return self.help();
        }
        let Some(found) = self.known.iter().find(|found| *word == *found.command) else {
            return self.fail(&Failure::Other {
                message: format!("Unrecognized command: {} {}", self.driver, word.display()),
                hint: Some(format!("the driver {} has: {}", self.driver, self.names())),
            });
        };
        let program = match found.trusted() {
            Ok(program) => program,
            Err(error) => return self.fail(&refused(&error)),
        };
        let mut command = std::process::Command::new(&program);
        command.args(arguments);
        // What was said to convoy holds for its command, too.
        if let Some(socket) = &self.socket {
            command.env("CONVOY_SOCKET", socket);
        }
        if let Some(form) = self.form {
            command.env("CONVOY_OUTPUT", if form == OutputForm::Json { "json" } else { "table" });
        }
        let error = command.exec();
        self.fail(&Failure::Other {
            message: format!("cannot start {}: {error}", program.display()),
            hint: Some("check that the file is made for this machine".to_owned()),
        })
    }

    fn names(&self) -> String {
        self.known.iter().map(|found| found.command.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn help(&self) -> ExitCode {
        let mut output = Output::new(self.form, false);
        let mut text = format!("Commands that the driver {} brings along:\n", self.driver);
        for found in &self.known {
            text.push_str(&format!("  convoy {} {} --help\n", self.driver, found.command));
        }
        match output.bytes(text.as_bytes()).and_then(|()| output.finish()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => output.fail(&failure),
        }
    }

    fn fail(&self, failure: &Failure) -> ExitCode {
        Output::new(self.form, false).fail(failure)
    }
}

fn refused(error: &LoadError) -> Failure {
    let message = match error {
        LoadError::Untrusted { path, reason, .. } => format!("refusing to run {}: {reason}", path.display()),
        other => other.to_string(),
    };
    Failure::Other { message, hint: Some(error.hint()) }
}

/// Whether help is asked for, perhaps that of convoy as a whole.
pub(crate) fn is_help(arguments: &[OsString]) -> bool {
    arguments.len() < 2 || arguments.iter().any(|word| word == "--help" || word == "-h" || word == "help")
}

/// Adds the commands of drivers to the help of convoy as a whole.
pub(crate) fn show(command: Command) -> Command {
    let installed = installed();
    if installed.is_empty() {
        return command;
    }
    let lines: String =
        installed.iter().map(|found| format!("  convoy {} {}\n", found.driver, found.command)).collect();
    command.after_help(format!("Commands of drivers (each with --help):\n{lines}\n{EXAMPLES}"))
}
