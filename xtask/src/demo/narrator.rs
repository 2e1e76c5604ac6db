//! Tells what is run and what came back.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use convoy_tests::error::Context;
use convoy_tests::run::Output;
use convoy_tests::{Error, Result};

/// How many lines of an answer are shown.
const SHOWN: usize = 12;

/// Prints to a person, in colour on a terminal; and notices when that person has seen enough.
pub(super) struct Narrator {
    directory: PathBuf,
    colour: bool,
    steps: Cell<u32>,
    interrupted: Arc<AtomicBool>,
    /// The steps in colour, for a picture.
    transcript: RefCell<String>,
}

impl Narrator {
    /// Prints paths below `directory` as `$DEMO`. From now on Ctrl-C ends the demo between two commands.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .during(|| "cannot listen for Ctrl-C".to_owned())?;
        }
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (steps, transcript) = Default::default();
        Ok(Self { directory: directory.to_owned(), colour, steps, interrupted, transcript })
    }

    pub(super) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    pub(super) fn title(&self, text: &str) {
        println!("\n{}", self.shown(&paint("1", text)));
    }

    pub(super) fn note(&self, text: &str) {
        println!("{}", self.shown(&paint("2", text)));
    }

    pub(super) fn step(&self, text: &str) {
        self.steps.set(self.steps.get() + 1);
        self.print(&paint("1;36", &format!("\n{}. {text}", self.steps.get())));
    }

    pub(super) fn command(&self, line: &str) {
        self.print(&format!("{} {}", paint("32", "$"), paint("1", line)));
    }

    pub(super) fn answer(&self, text: &str) {
        let lines: Vec<_> = text.lines().collect();
        for line in lines.iter().take(SHOWN) {
            self.print(&self.short(line));
        }
        if lines.len() > SHOWN {
            self.print(&paint("2", &format!("... and {} more lines", lines.len() - SHOWN)));
        }
    }

    pub(super) fn done(&self, text: &str) {
        println!("\n{}", self.shown(&paint("1;32", text)));
    }

    /// Draws the steps so far as a terminal shows them.
    pub(super) fn picture(&self) -> String {
        anstyle_svg::Term::new().render_svg(&self.transcript.borrow())
    }

    fn print(&self, line: &str) {
        println!("{}", self.shown(line));
        self.transcript.borrow_mut().extend([line, "\n"]);
    }

    /// Takes the colours away where nobody sees them.
    fn shown<'a>(&self, line: &'a str) -> Cow<'a, str> {
        if self.colour { line.into() } else { anstream::adapter::strip_str(line).to_string().into() }
    }

    /// Shows a command line, runs it, shows its answer and gives it.
    pub(super) fn run(
        &self,
        program: &str,
        words: &[&str],
        action: impl FnOnce() -> Result<Output>,
    ) -> Result<String> {
        let line: Vec<_> =
            std::iter::once(program.to_owned()).chain(words.iter().map(|word| quoted(word))).collect();
        self.command(&self.short(&line.join(" ")));
        let answer = action().and_then(Output::ok)?;
        if self.interrupted() {
            return Err(Error::Unexpected("interrupted".to_owned()));
        }
        self.answer(&answer);
        Ok(answer)
    }

    fn short(&self, text: &str) -> String {
        text.replace(&*self.directory.to_string_lossy(), "$DEMO")
    }
}

fn paint(code: &str, text: &str) -> String {
    format!("\x1b[{code}m{text}\x1b[0m")
}

fn quoted(word: &str) -> String {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c));
    if plain && !word.is_empty() {
        word.to_owned()
    } else if word.contains(['"', '$', '`', '!']) {
        format!("'{}'", word.replace('\'', "'\\''"))
    } else {
        format!("\"{word}\"")
    }
}
