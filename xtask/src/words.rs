//! `cargo xtask words`: the spelling of code and documents, by the program `typos`.

use std::process::Command;

use convoy_tests::error::Context;
use convoy_tests::{Error, Result};

use crate::{cargo, dependencies};

/// Checks the spelling; `typos.toml` has the words that only look wrong.
pub(crate) fn run() -> Result<()> {
    if !dependencies::exists("typos") {
        dependencies::cargo_install("install typos-cli --locked --version ^1.40")?;
    }
    let status = Command::new("typos").current_dir(cargo::root()).status();
    let status = status.during(|| "cannot start typos: is ~/.cargo/bin in PATH?".to_owned())?;
    if status.success() { Ok(()) } else { Err(Error::Unexpected(format!("typos: {status}"))) }
}
