//! Running the program.

use std::path::Path;
use std::process::{Command, Output};

/// The program, with nothing of this process's settings.
pub(crate) fn convoy(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convoy-cli"));
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("CONVOY_") {
            command.env_remove(key);
        }
    }
    command.env("CONVOY_SOCKET", socket).env("NO_COLOR", "1").env("TZ", "UTC");
    command
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs the program with standard output and error piped.
pub(crate) fn run<S: AsRef<str>>(socket: &Path, words: &[S]) -> Ran {
    convoy(socket).args(words.iter().map(AsRef::as_ref)).output().unwrap().into()
}

/// Splits a command line as a shell does, as far as the recordings need it: blanks and single quotes.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
