//! Waiting for a condition.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Asks until the answer is yes.
///
/// # Errors
/// What the question fails with, or [`Error::Timeout`] after the limit.
pub fn until(what: &str, limit: Duration, question: impl FnMut() -> Result<bool>) -> Result<()> {
    wait(what, limit, question)
}

/// The same for a question that fails with an error of another kind.
///
/// # Errors
/// As [`until`].
pub fn wait<E: From<Error>>(
    what: &str,
    limit: Duration,
    mut question: impl FnMut() -> std::result::Result<bool, E>,
) -> std::result::Result<(), E> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    while !question()? {
        if start.elapsed() > limit {
            return Err(Error::Timeout { what: what.to_owned(), seconds: limit.as_secs() }.into());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    Ok(())
}
