//! Two forms of everything that is printed: for scripts, and for people.

use crate::args::{GlobalArgs, OutputForm};
use crate::error::{Failure, Result};
use anstyle::{AnsiColor, Style};
use convoy_client::gojson;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

pub mod browse;
pub mod doctor;
mod log;
pub mod restores;
pub mod schedules;
pub mod stats;
pub mod table;
pub mod top;
pub(crate) mod values;
pub mod views;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();
const BOLD: Style = Style::new().bold();

/// Where a command prints.
pub struct Output {
    people: bool,
    debug: bool,
    colours: bool,
    /// How wide a table may be.
    width: table::Width,
    /// Whether standard output gets bytes as they are, and nothing of convoy's own.
    raw: bool,
    /// Printed and not yet written.
    pending: Vec<u8>,
}

impl Output {
    /// The form asked for, or the one that fits standard output.
    pub fn new(form: Option<OutputForm>, debug: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let people = form.map_or(terminal, |form| form == OutputForm::Table);
        // Honours NO_COLOR and its kin.
        let colours = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        let width = if terminal { console::Term::stdout().size_checked() } else { None };
        let width = width.map(|(_, columns)| usize::from(columns));
        Self { people, debug, colours, width, raw: false, pending: Vec::new() }
    }

    /// As arguments say.
    pub fn of(global: &GlobalArgs) -> Self {
        let mut output = Self::new(global.output, global.debug);
        output.width = output.width.filter(|_| !global.wide);
        output
    }

    /// How wide a table may be: as the terminal is, unless `--wide` is said.
    pub fn width(&self) -> table::Width {
        self.width
    }

    /// Whether people read it.
    pub fn is_for_people(&self) -> bool {
        self.people
    }

    /// From now on standard output gets bytes as they are: failures are told on standard error alone.
    pub fn set_raw(&mut self) {
        self.raw = true;
    }

    /// Bytes that were printed and are not yet written.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether details are wanted.
    pub fn is_debug(&self) -> bool {
        self.debug
    }

    /// Something beside the answer, on standard error in either form.
    pub fn aside(&self, what: &str, text: &str) {
        // Nobody is left to tell when standard error cannot be written to.
        let _ = writeln!(anstream::stderr(), "{HINT}{what}:{HINT:#} {}", table::printable(text));
    }

    /// Prints a line in either form.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn line(&mut self, text: impl std::fmt::Display) -> Result<()> {
        Ok(writeln!(self.pending, "{text}")?)
    }

    /// Prints a text that has colours and line ends of its own.
    pub fn styled(&mut self, text: &str) -> Result<()> {
        if self.colours {
            return self.bytes(text.as_bytes());
        }
        Ok(write!(self.pending, "{}", anstream::adapter::strip_str(text))?)
    }

    /// Prints bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.pending.write_all(bytes)?)
    }

    /// Prints an answer: to scripts as it is, to people as `view` has it.
    ///
    /// # Errors
    /// As [`Self::line`]; an answer that is no `T`.
    pub fn answer<T: DeserializeOwned>(&mut self, text: &str, view: impl FnOnce(&T) -> String) -> Result<()> {
        if !self.people {
            return self.line(text);
        }
        let view = view(&serde_json::from_str(text)?);
        self.styled(&view)
    }

    /// Prints the answer to something that has none: an empty line to scripts, a sentence to people.
    pub fn done(&mut self, sentence: std::fmt::Arguments<'_>) -> Result<()> {
        if self.people { self.line(sentence) } else { self.line("") }
    }

    /// A detail, with `--debug`, on standard error.
    pub fn debug(&self, message: &str) {
        if self.debug {
            self.log("debug", message, None);
        }
    }

    /// Hands everything to the kernel.
    pub fn finish(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let mut out = std::io::stdout().lock();
        out.write_all(&pending)?;
        Ok(out.flush()?)
    }

    /// Says that a command failed and answers the exit code.
    pub fn fail(&mut self, failure: &Failure) -> ExitCode {
        let code = ExitCode::from(failure.exit_code());
        if matches!(failure, Failure::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe) {
            // Whoever read has seen enough (`convoy list | head -1`).
            return code;
        }
        // What was printed before stays before; a failure to print is reported once, by the caller.
        let _ = self.finish();
        if self.people {
            self.fail_for_people(failure)
        } else {
            self.fail_for_scripts(failure)
        }
        code
    }

    fn fail_for_people(&mut self, failure: &Failure) {
        let mut err = anstream::stderr();
        // Nobody is left to tell when standard error cannot be written to.
        let _ = match failure {
            Failure::Usage { rendered, .. } => write!(err, "{}", rendered.ansi()),
            failure => writeln!(err, "{ERROR}error:{ERROR:#} {}", failure.for_people()),
        };
        if let Some(request) = failure.request_id() {
            let _ = writeln!(err, "The daemon's log has more under {request}.");
        }
        if let Some(hint) = failure.hint() {
            let _ = writeln!(err, "{HINT}hint:{HINT:#} {hint}");
        }
    }

    fn fail_for_scripts(&mut self, failure: &Failure) {
        let message = failure.for_scripts();
        self.log("error", &message, failure.hint().as_deref());
        if self.raw {
            return;
        }
        if let Ok(text) = gojson::to_string(&ErrorAnswer { error: &message }) {
            // As above; the exit code tells in any case.
            let _ = self.line(text).and_then(|()| self.finish());
        }
    }

    fn log(&self, level: &str, message: &str, hint: Option<&str>) {
        let mut err = anstream::stderr();
        let _ = writeln!(err, "{}", log::line(level, message, hint));
    }
}

/// A failure as pipes get it: `{"Error": "..."}`.
#[derive(Serialize)]
struct ErrorAnswer<'a> {
    #[serde(rename = "Error")]
    error: &'a str,
}
