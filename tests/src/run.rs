//! Running a command to its end.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::patience;

/// How long a command may take before it is killed.
pub const LIMIT: Duration = Duration::from_secs(200);

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the command succeeded.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The output of a command that succeeded, without the last line end.
    ///
    /// # Errors
    /// [`Error::Command`] when it failed.
    pub fn ok(self) -> Result<String> {
        if !self.success() {
            return Err(self.into_error());
        }
        Ok(self.stdout.strip_suffix('\n').unwrap_or(&self.stdout).to_owned())
    }

    /// What a command that must fail printed, both streams together.
    ///
    /// # Errors
    /// [`Error::Command`] when it succeeded or died by a signal.
    pub fn refused(self) -> Result<String> {
        match self.status.code() {
            Some(code) if code != 0 => Ok(format!("{}{}", self.stdout, self.stderr)),
            _ => Err(self.into_error()),
        }
    }

    fn into_error(self) -> Error {
        Error::Command {
            command: self.command,
            status: self.status.to_string(),
            stdout: self.stdout,
            stderr: self.stderr,
        }
    }
}

/// A command line as a person would read it.
pub fn readable(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs a command with nothing on its standard input.
///
/// # Errors
/// When it cannot be started, or does not end within [`LIMIT`].
pub fn capture(command: &mut Command) -> Result<Output> {
    feed(command, Vec::new())
}

/// Runs a command with the bytes on its standard input.
///
/// # Errors
/// When it cannot be started, or does not end within [`LIMIT`].
pub fn feed(command: &mut Command, input: Vec<u8>) -> Result<Output> {
    let line = readable(command);
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .during(|| format!("cannot start {line}"))?;
    // A command that ends early leaves its input unread: its own status says what happened.
    let writer = child.stdin.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let _ = pipe.write_all(&input);
        })
    });
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let mut status = None;
    let ended = patience::until(&format!("the end of {line}"), LIMIT, || {
        status = child.try_wait().during(|| format!("cannot wait for {line}"))?;
        Ok(status.is_some())
    });
    if let Err(error) = ended {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    let status = status.ok_or_else(|| Error::Unexpected(format!("{line} has no status")))?;
    Ok(Output { command: line, status, stdout: text(stdout), stderr: text(stderr) })
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<Vec<u8>>> {
    pipe.map(|mut pipe| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            bytes
        })
    })
}

fn text(reader: Option<JoinHandle<Vec<u8>>>) -> String {
    let bytes = reader.and_then(|thread| thread.join().ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
