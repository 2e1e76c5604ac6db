//! Servers made by others that tests talk to, from the registries of their languages.
//!
//! Each is installed once, into a cache that all clones of a user share, and before the tests: a test has a time limit,
//! and building a server takes minutes. Tests that are run without `cargo xtask` install what they miss themselves.

use std::path::PathBuf;
use std::process::Command;

use convoy_tests::error::Context;
use convoy_tests::run::readable;
use convoy_tests::{Error, Result};

/// The version of s3s-fs that tests are run against.
const S3S_FS: &str = "0.14.1";

/// Installs what is missing.
///
/// # Errors
/// When an installation fails.
pub(crate) fn install() -> Result<()> {
    let cache = cache()?;
    std::fs::create_dir_all(&cache).during(|| format!("cannot make {}", cache.display()))?;
    if std::env::var_os("CONVOY_TEST_MOTO").is_none() && !cache.join("moto/bin/moto_server").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(cache.join("moto")))?;
        run(Command::new(cache.join("moto/bin/pip")).args(["install", "--quiet", "moto[server]"]))?;
    }
    if std::env::var_os("CONVOY_TEST_S3S_FS").is_none() && !cache.join("tools/bin/s3s-fs").exists() {
        let mut install = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        install.args([
            "install",
            "--quiet",
            "s3s-fs",
            "--version",
            S3S_FS,
            "--locked",
            "--features",
            "binary",
        ]);
        install.arg("--root").arg(cache.join("tools")).env("CARGO_TARGET_DIR", cache.join("tools-target"));
        run(&mut install)?;
    }
    Ok(())
}

/// Where they are kept; the tests look there as well.
fn cache() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("CONVOY_TEST_CACHE") {
        return Ok(given.into());
    }
    match std::env::var_os("HOME") {
        Some(home) => Ok(PathBuf::from(home).join(".cache/convoy")),
        None => Err(Error::Unexpected(
            "HOME is not set: say where to keep test servers in CONVOY_TEST_CACHE".to_owned(),
        )),
    }
}

fn run(command: &mut Command) -> Result<()> {
    let line = readable(command);
    eprintln!("+ {line}");
    let status = command.status().during(|| format!("cannot start {line}"))?;
    if status.success() { Ok(()) } else { Err(Error::Unexpected(format!("{line}: {status}"))) }
}
