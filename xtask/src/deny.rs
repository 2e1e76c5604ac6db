//! What `deny.toml` asks of the dependencies.

use convoy_tests::Result;

use crate::{cargo, dependencies};

/// Checks licences, sources and banned crates, which needs no network but to install cargo-deny.
///
/// # Errors
/// When a dependency does not hold to `deny.toml`, or cargo-deny cannot be installed.
pub(crate) fn run() -> Result<()> {
    dependencies::install_tool("deny", "cargo-deny", "--no-default-features")?;
    cargo::run(&["deny", "check", "bans", "licenses", "sources"])
}

/// Checks the advisories, where their database can be fetched.
///
/// # Errors
/// When a dependency has an advisory that `deny.toml` does not name, or cargo-deny cannot be installed.
pub(crate) fn advisories() -> Result<()> {
    dependencies::install_tool("deny", "cargo-deny", "--no-default-features")?;
    if cargo::run(&["deny", "fetch", "db"]).is_err() {
        eprintln!("SKIPPED: advisories. Their database cannot be fetched from here.");
        return Ok(());
    }
    cargo::run(&["deny", "check", "advisories"])
}
