//! Saying what was expected and is not so.

use std::fmt::{self, Display};

/// Why a scenario stopped.
#[derive(Debug)]
pub struct Failure(String);

/// What a step of a scenario comes back with.
pub type Step<T = ()> = Result<T, Failure>;

impl Failure {
    /// With this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The same, and what it may come from.
    pub fn with(self, more: &Step<String>) -> Self {
        match more {
            Ok(more) => Self(format!("{self}\n{more}")),
            Err(failure) => Self(format!("{self}\n{failure}")),
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        let place = std::panic::Location::caller();
        Self(format!("{}:{}: {error}", place.file(), place.line()))
    }
}

/// Stops the scenario unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            let place = format!("{}:{}: ", file!(), line!());
            return Err($crate::guest::check::Failure::new(place + &format!($($text)+)));
        }
    };
}

/// Stops the scenario unless both are the same.
#[macro_export]
macro_rules! ensure_eq {
    ($left:expr, $right:expr) => {
        match (&$left, &$right) {
            (left, right) => {
                $crate::ensure!(left == right, "{} is {left:?}, not {right:?}", stringify!($left))
            }
        }
    };
}
