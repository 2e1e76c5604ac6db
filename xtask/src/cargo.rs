//! Runs cargo, in the root of the repository.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use convoy_tests::error::Context;
use convoy_tests::{Error, Result};

/// The root of the repository.
///
/// `cargo run` says at run time which clone it runs for. What it said when this program was compiled may be
/// another clone: cargo takes the program of one for that of another that uses the same target folder.
pub(crate) fn root() -> PathBuf {
    let compiled_in = || env!("CARGO_MANIFEST_DIR").into();
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(compiled_in, PathBuf::from);
    here.parent().map_or_else(|| here.clone(), PathBuf::from)
}

/// Where cargo builds: where the user says, or one place for every clone of this user.
pub(crate) fn target() -> PathBuf {
    if let Some(directory) = std::env::var_os("CARGO_TARGET_DIR") {
        return root().join(directory);
    }
    match std::env::var_os("HOME") {
        Some(home) => PathBuf::from(home).join(".cache/convoy/target"),
        None => root().join("target"),
    }
}

/// A cargo command in the root of the repository.
pub(crate) fn command(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).current_dir(root()).env("CARGO_TARGET_DIR", target()).stdin(Stdio::null());
    command
}

/// Runs cargo, its output going where ours goes.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let line = format!("cargo {}", words.join(" "));
    let status = command(words).status().during(|| format!("cannot start {line}"))?;
    if status.success() { Ok(()) } else { Err(Error::Unexpected(format!("{line}: {status}"))) }
}

/// Chooses every package but ebs, whose EC2 client takes minutes to compile.
const ALL_BUT_EBS: [&str; 3] = ["--workspace", "--exclude", "convoy-driver-ebs"];

/// The words of a cargo command for [`ALL_BUT_EBS`].
pub(crate) fn for_all_but_ebs<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [words, &ALL_BUT_EBS].concat()
}

/// Makes the documentation. On the pages of the SDK's types, which authors of drivers read, are no traits of
/// other crates.
pub(crate) fn doc() -> Result<()> {
    run(&for_all_but_ebs(&["doc", "--no-deps"]))?;
    let page = target().join("doc/convoy_driver_sdk/protocol/struct.Volume.html");
    let text = std::fs::read_to_string(&page).during(|| format!("cannot read {}", page.display()))?;
    if text.contains("abi_stable") {
        return Err(Error::Unexpected(format!("{} has traits of abi_stable", page.display())));
    }
    Ok(())
}

/// Checks that everything compiles with the oldest compiler that `rust-version` promises, where rustup has it
/// or can fetch it.
pub(crate) fn check_oldest() -> Result<()> {
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    let install = ["toolchain", "install", "--profile", "minimal", "--no-self-update", oldest];
    if !Command::new("rustup").args(install).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: Rust {oldest}, the oldest that must do. rustup cannot fetch it from here.");
        return Ok(());
    }
    let mut check = Command::new("rustup");
    check.args(["run", oldest, "cargo", "check", "--all-targets"]).args(ALL_BUT_EBS).current_dir(root());
    // What another compiler made would be thrown away.
    check.env("CARGO_TARGET_DIR", target().join("oldest"));
    let status = check.status().during(|| "cannot start rustup".to_owned())?;
    if status.success() { Ok(()) } else { Err(Error::Unexpected(format!("Rust {oldest}: {status}"))) }
}

/// Builds packages, or with none named [`ALL_BUT_EBS`], and gives the directory the programs and libraries
/// are in.
pub(crate) fn build_programs(packages: &[&str], release: bool) -> Result<PathBuf> {
    // A driver is a library (cdylib) and a program of its own.
    let mut words = vec!["build", "--lib", "--bins"];
    if packages.is_empty() {
        words.extend(ALL_BUT_EBS);
    }
    words.extend(packages.iter().flat_map(|package| ["--package", package]));
    words.extend(release.then_some("--release"));
    run(&words)?;
    Ok(target().join(if release { "release" } else { "debug" }))
}
