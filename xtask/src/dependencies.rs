//! What has to be on the machine, and how it gets there.

use std::path::Path;
use std::process::Command;

use convoy_tests::error::Context;
use convoy_tests::run::capture;
use convoy_tests::{Error, Result};

use crate::cargo;

/// A program that is needed, the Debian and Ubuntu package it comes with, and where that differs, a second.
struct Need {
    program: &'static str,
    package: &'static str,
    otherwise: Option<&'static str>,
}

const fn need(program: &'static str, package: &'static str) -> Need {
    Need { program, package, otherwise: None }
}

/// Everything that is not Rust.
const NEEDS: [Need; 13] = [
    need("cc", "build-essential"),
    need("dockerd", "docker.io"),
    // Newer releases carry the client in a package of its own.
    Need { program: "docker", package: "docker.io", otherwise: Some("docker-cli") },
    need("/bin/busybox", "busybox-static"),
    need("setfattr", "attr"),
    need("setfacl", "acl"),
    need("mkfs.xfs", "xfsprogs"),
    need("mkfs.btrfs", "btrfs-progs"),
    need("mkfs.ext4", "e2fsprogs"),
    need("losetup", "mount"),
    need("unshare", "util-linux"),
    need("script", "bsdutils"),
    need("python3", "python3-venv"),
];

/// Installs what is missing.
///
/// # Errors
/// When something is missing and cannot be installed; the message says what to do.
pub(crate) fn install() -> Result<()> {
    let missing: Vec<_> = NEEDS.iter().filter(|need| !present(need.program)).collect();
    if !missing.is_empty() {
        let mut packages: Vec<_> = missing.iter().map(|need| need.package).collect();
        packages.dedup();
        apt(&packages)?;
        let second: Vec<_> =
            missing.iter().filter(|need| !present(need.program)).filter_map(|need| need.otherwise).collect();
        if !second.is_empty() {
            apt(&second)?;
        }
        if let Some(need) = missing.iter().find(|need| !present(need.program)) {
            return Err(Error::Unexpected(format!(
                "{} is still missing after package {} was installed",
                need.program, need.package
            )));
        }
    }
    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if capture(&mut cargo::command(&[tool, "--version"])).is_ok_and(|output| output.success()) {
            continue;
        }
        say(&format!("rustup component add {component}"));
        status(Command::new("rustup").args(["component", "add", component]))?;
    }
    if !capture(&mut cargo::command(&["nextest", "--version"])).is_ok_and(|output| output.success()) {
        nextest()?;
    }
    Ok(())
}

/// The test runner, without what updates it over the network and without optimisation: it has to be built here, and
/// it spends its time waiting for tests.
fn nextest() -> Result<()> {
    let words = "install cargo-nextest --locked --no-default-features --features default-no-update";
    say(&format!("cargo {words}"));
    let mut command = cargo::command(&words.split(' ').collect::<Vec<_>>());
    command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
    status(command.env_remove("CARGO_TARGET_DIR"))
}

fn apt(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !root() {
        return Err(Error::Unexpected(format!(
            "packages are missing and only root can install them; run:\n  sudo apt-get update && sudo apt-get install \
             -y {list}"
        )));
    }
    if !present("apt-get") {
        return Err(Error::Unexpected(format!(
            "this machine has no apt-get: install what these Debian packages hold: {list}"
        )));
    }
    say(&format!("apt-get install {list}"));
    // A stale or partly unreachable list of packages need not stop us: the installation says what is really missing.
    let _ = status(Command::new("apt-get").args(["-qq", "update"]));
    status(
        Command::new("apt-get")
            .args(["install", "-qq", "-y", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Whether a program is there: by its path, or by its name among the programs of root, who has the longest list.
fn present(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"]);
    places.filter(|place| !place.is_empty()).any(|place| Path::new(place).join(program).is_file())
}

/// Whether we are root.
pub(crate) fn root() -> bool {
    capture(Command::new("id").arg("-u")).and_then(convoy_tests::run::Output::ok).is_ok_and(|id| id == "0")
}

fn say(what: &str) {
    eprintln!("+ {what}");
}

fn status(command: &mut Command) -> Result<()> {
    let line = convoy_tests::run::readable(command);
    let status = command.status().during(|| format!("cannot start {line}"))?;
    if status.success() { Ok(()) } else { Err(Error::Unexpected(format!("{line}: {status}"))) }
}
