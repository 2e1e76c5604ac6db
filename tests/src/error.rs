//! What goes wrong in a test, or in the commands built on the harness.

use std::io;

/// A failed step, with what a person needs to find out why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, and to what.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A command ended otherwise than it should.
    #[error("{command}\n  ended with {status}\n  stdout: {stdout}\n  stderr: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it printed.
        stdout: String,
        /// What it complained of.
        stderr: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s")]
    Timeout {
        /// What was awaited.
        what: String,
        /// How long, in seconds.
        seconds: u64,
    },
    /// An answer or a state is not what it must be.
    #[error("{0}")]
    Unexpected(String),
}

/// The result of every step.
pub type Result<T> = std::result::Result<T, Error>;

/// Fails with a message unless the condition holds.
///
/// # Errors
/// [`Error::Unexpected`] with the message.
pub fn check(condition: bool, message: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::Unexpected(message())) }
}

/// Says what was being done when the system refused.
pub trait Context<T> {
    /// Adds what was being done.
    ///
    /// # Errors
    /// [`Error::Io`] with the text and the cause.
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}
