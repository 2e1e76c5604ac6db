//! What cases say when something is not as it should be.

use crate::rules::Rule;
use convoy_driver_sdk::{DriverError, ErrorKind};
use std::fmt::{Debug, Display};

/// A rule that the driver broke, and how.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) rule: Rule,
    pub(crate) text: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Stop {
    /// The driver broke a rule.
    Failed(Failure),
    /// It turned out that there is nothing to test.
    Skipped(String),
}

pub(crate) type Outcome<T = ()> = Result<T, Stop>;

/// The rule is broken: this was expected, that was found.
pub(crate) fn fail<T>(rule: Rule, text: impl Into<String>) -> Outcome<T> {
    Err(Stop::Failed(Failure { rule, text: text.into() }))
}

pub(crate) fn skip<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Stop::Skipped(why.into()))
}

pub(crate) fn ensure(rule: Rule, good: bool, text: impl FnOnce() -> String) -> Outcome {
    if good { Ok(()) } else { fail(rule, text()) }
}

pub(crate) fn same<T: PartialEq + Debug>(rule: Rule, what: &str, expected: &T, found: &T) -> Outcome {
    ensure(rule, expected == found, || format!("{what}: expected {expected:?}, found {found:?}"))
}

/// The answer of a call that must succeed.
pub(crate) fn done<T>(rule: Rule, what: &str, answer: Result<T, DriverError>) -> Outcome<T> {
    answer.or_else(|error| {
        fail(broken_by(rule, &error), format!("{what}: expected success, found {}", in_words(&error)))
    })
}

/// The error of a call that must be refused in one of these ways.
pub(crate) fn refused<T>(
    rule: Rule,
    what: &str,
    expected: &[ErrorKind],
    answer: Result<T, DriverError>,
) -> Outcome<DriverError> {
    let wanted = || expected.iter().map(|kind| name(*kind)).collect::<Vec<_>>().join(" or ");
    match answer {
        Ok(_) => fail(rule, format!("{what}: expected {}, found success", wanted())),
        Err(error) if !expected.contains(&error.kind) => fail(
            broken_by(rule, &error),
            format!("{what}: expected {}, found {}", wanted(), in_words(&error)),
        ),
        Err(error) if error.message.trim().is_empty() => {
            fail(crate::rules::ERRORS, format!("{what}: expected a message with {}, found none", wanted()))
        }
        Err(error) => Ok(error),
    }
}

/// The call must be refused because what it names is not there.
pub(crate) fn not_found<T>(rule: Rule, what: &str, answer: Result<T, DriverError>) -> Outcome {
    refused(rule, what, &[ErrorKind::NotFound], answer).map(drop)
}

/// The call must be refused because the name it gives is taken.
pub(crate) fn already_exists<T>(rule: Rule, what: &str, answer: Result<T, DriverError>) -> Outcome {
    refused(rule, what, &[ErrorKind::AlreadyExists], answer).map(drop)
}

/// Whatever else a call was to show: that it is not there, or did not end in time, is another rule.
fn broken_by(rule: Rule, error: &DriverError) -> Rule {
    // What the host refuses of an answer it names itself.
    if let Some(broken) = convoy_drivers::broken_rule(error).and_then(crate::rules::rule) {
        return broken;
    }
    match error.kind {
        // The kit calls only what is declared.
        ErrorKind::Unsupported => crate::rules::CAPABILITIES,
        ErrorKind::DeadlineExceeded if rule != crate::rules::DEADLINE => crate::rules::TIME,
        _ => rule,
    }
}

pub(crate) fn in_words(error: &DriverError) -> String {
    format!("{}: {}", name(error.kind), error.message)
}

/// A kind as it is written in the protocol.
pub(crate) fn name(kind: ErrorKind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}

/// Something on the side of the kit that went wrong because of what the driver gave: a file in a volume that
/// cannot be written.
pub(crate) fn io<T, E: Display>(rule: Rule, what: impl Display, result: Result<T, E>) -> Outcome<T> {
    result.or_else(|error| fail(rule, format!("{what}: {error}")))
}
