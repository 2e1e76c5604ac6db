//! `cargo xtask ci`: what `deny.toml` asks of the dependencies.

use convoy_tests::Result;

use crate::{cargo, dependencies};

/// Checks licences, sources and banned crates; advisories too, where their database can be fetched.
///
/// # Errors
/// When a dependency does not hold to `deny.toml`, or cargo-deny cannot be installed.
pub(crate) fn run() -> Result<()> {
    dependencies::install_deny()?;
    cargo::run(&["deny", "check", "bans", "licenses", "sources"])?;
    if cargo::run(&["deny", "fetch", "db"]).is_err() {
        eprintln!("advisories were not checked: their database cannot be fetched from here");
        return Ok(());
    }
    cargo::run(&["deny", "check", "advisories"])
}
