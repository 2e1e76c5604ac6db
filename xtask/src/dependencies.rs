//! What has to be on the machine, and how it gets there.

use std::path::Path;
use std::process::Command;

use convoy_tests::error::Context;
use convoy_tests::run::capture;
use convoy_tests::{Error, Result};

use crate::cargo;

/// How one sees that something is there.
enum Sign {
    /// A program: by its path, or by its name among root's programs.
    Program(&'static str),
    /// Nothing but the package itself: headers, libraries, a kernel.
    Package,
}

/// Something that is needed, and the packages it comes with: the name in Debian 12, then those of other
/// releases.
struct Need {
    sign: Sign,
    packages: &'static [&'static str],
}

const fn program(name: &'static str, packages: &'static [&'static str]) -> Need {
    Need { sign: Sign::Program(name), packages }
}

const fn package(packages: &'static [&'static str]) -> Need {
    Need { sign: Sign::Package, packages }
}

/// What the demonstration runs with.
const ENGINE: [Need; 4] = [
    program("cc", &["build-essential"]),
    program("dockerd", &["docker.io"]),
    // Newer releases carry the client in a package of its own.
    program("docker", &["docker.io", "docker-cli"]),
    program("/bin/busybox", &["busybox-static"]),
];

/// What every driver is compiled with.
const BUILD: [Need; 5] = [
    program("cc", &["build-essential"]),
    program("pkg-config", &["pkg-config"]),
    // The bindings of the devicemapper driver are made from the headers; nothing of these is linked.
    package(&["libclang-dev"]),
    program("clang", &["clang"]),
    package(&["libdevmapper-dev"]),
];

/// What a package is made and checked with, and the tools that go into a managed plugin.
const PACKAGE: [Need; 9] = [
    program("strip", &["binutils"]),
    program("dpkg-deb", &["dpkg"]),
    program("/bin/busybox", &["busybox-static"]),
    program("mount", &["mount"]),
    program("mkfs.ext4", &["e2fsprogs"]),
    program("mkfs.xfs", &["xfsprogs"]),
    program("mkfs.btrfs", &["btrfs-progs"]),
    program("thin_delta", &["thin-provisioning-tools"]),
    program("udevadm", &["udev"]),
];

/// What tests and measurements need beside that.
const LAB: [Need; 25] = [
    program("setfattr", &["attr"]),
    program("setfacl", &["acl"]),
    program("losetup", &["mount"]),
    program("unshare", &["util-linux"]),
    program("script", &["bsdutils"]),
    program("strace", &["strace"]),
    program("openssl", &["openssl"]),
    package(&["python3-venv"]),
    // Reads the metrics in a test, as Prometheus does.
    package(&["python3-prometheus-client"]),
    // Asks every question of the dashboard.
    program("prometheus", &["prometheus"]),
    // Reads the units as systemd will.
    program("systemd-analyze", &["systemd"]),
    // Boots it, where the package is installed.
    program("systemd-nspawn", &["systemd-container"]),
    program("docker-compose", &["docker-compose"]),
    // Runs what the documents say of it.
    program("podman", &["podman"]),
    program("curl", &["curl"]),
    program("jq", &["jq"]),
    // A virtual machine with a kernel that has device-mapper, for the tests of that driver.
    program("qemu-system-x86_64", &["qemu-system-x86"]),
    package(&["linux-image-amd64", "linux-image-virtual"]),
    program("cpio", &["cpio"]),
    program("modprobe", &["kmod"]),
    program("dmsetup", &["dmsetup"]),
    program("sfdisk", &["fdisk"]),
    // And an NFS server, clients and their networks.
    program("rpc.nfsd", &["nfs-kernel-server"]),
    program("mount.nfs4", &["nfs-common"]),
    program("ip", &["iproute2"]),
];

/// What measurements compare with.
const PEERS: [Need; 1] = [program("restic", &["restic"])];

/// Installs what measurements compare with and is missing.
pub(crate) fn install_peers() -> Result<()> {
    packages(&PEERS.iter().collect::<Vec<_>>())
}

/// Installs what the demonstration needs and is missing.
pub(crate) fn install_engine() -> Result<()> {
    packages(&ENGINE.iter().collect::<Vec<_>>())
}

/// Installs what a package is made with and is missing.
pub(crate) fn install_package() -> Result<()> {
    packages(&BUILD.iter().chain(&PACKAGE).collect::<Vec<_>>())
}

/// Installs the command `cargo NAME` from `package` unless it is there.
pub(crate) fn install_tool(name: &str, package: &str, features: &str) -> Result<()> {
    if capture(&mut cargo::command(&[name, "--version"])).is_ok_and(|output| output.success()) {
        return Ok(());
    }
    cargo_install(&format!("install {package} --locked {features}"))
}

/// Installs what is missing.
///
/// # Errors
/// When something is missing and cannot be installed; the message says what to do.
pub(crate) fn install() -> Result<()> {
    packages(&ENGINE.iter().chain(&BUILD).chain(&PACKAGE).chain(&LAB).collect::<Vec<_>>())?;
    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if capture(&mut cargo::command(&[tool, "--version"])).is_ok_and(|output| output.success()) {
            continue;
        }
        say(&format!("rustup component add {component}"));
        status(Command::new("rustup").args(["component", "add", component]))?;
    }
    // Without what updates it over the network.
    install_tool("nextest", "cargo-nextest", "--no-default-features --features default-no-update")
}

fn packages(needs: &[&Need]) -> Result<()> {
    let missing: Vec<_> = needs.iter().copied().filter(|need| !present(need)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().filter_map(|need| choose(need)).collect();
    packages.dedup();
    may_install(&packages)?;
    update();
    // With the lists fresh, the right name of each is known.
    let mut packages: Vec<_> = missing.iter().filter_map(|need| choose(need)).collect();
    packages.dedup();
    apt(&packages)?;
    let still: Vec<_> =
        missing.iter().filter(|need| !present(need)).filter_map(|need| need.packages.last()).collect();
    if !still.is_empty() {
        apt(&still.into_iter().copied().collect::<Vec<_>>())?;
    }
    match missing.iter().find(|need| !present(need)) {
        Some(need) => {
            Err(Error::Unexpected(format!("missing after its installation: {}", need.packages.join(" or "))))
        }
        None => Ok(()),
    }
}

/// Builds a tool with little optimisation: it runs once, or waits for others.
pub(crate) fn cargo_install(words: &str) -> Result<()> {
    say(&format!("cargo {words}"));
    let mut command = cargo::command(&words.split(' ').collect::<Vec<_>>());
    command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
    status(command.env_remove("CARGO_TARGET_DIR"))
}

/// Says what to do where we cannot do it.
fn may_install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !exists("apt-get") {
        return Err(Error::Unexpected(format!(
            "this machine has no apt-get: install what these Debian packages hold: {list}"
        )));
    }
    if root() {
        return Ok(());
    }
    Err(Error::Unexpected(format!(
        "packages are missing and only root can install them; run\n  sudo apt-get update && sudo apt-get \
         install -y {list}\n\
         and then this command as root, since it mounts file systems and starts containers"
    )))
}

fn update() {
    say("apt-get update");
    // A stale or partly unreachable list need not stop us: the installation says what is really missing.
    let _ = status(Command::new("apt-get").args(["-qq", "update"]));
}

fn apt(packages: &[&str]) -> Result<()> {
    say(&format!("apt-get install {}", packages.join(" ")));
    status(
        Command::new("apt-get")
            .args(["install", "-qq", "-y", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// The first of the packages that this release has.
fn choose(need: &Need) -> Option<&'static str> {
    let known = |package: &str| {
        capture(Command::new("apt-cache").args(["show", "--no-all-versions", package]))
            .is_ok_and(|output| output.success())
    };
    need.packages.iter().copied().find(|package| known(package)).or_else(|| need.packages.first().copied())
}

fn present(need: &Need) -> bool {
    match need.sign {
        Sign::Program(name) => exists(name),
        Sign::Package => need.packages.iter().any(|package| installed(package)),
    }
}

/// Whether a package is installed. Without Debian's tools nobody knows: the build will say.
fn installed(package: &str) -> bool {
    let query =
        capture(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]));
    query.map_or(true, |output| output.success() && output.stdout == "installed")
}

pub(crate) fn exists(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"]);
    places.filter(|place| !place.is_empty()).any(|place| Path::new(place).join(program).is_file())
}

pub(crate) fn root() -> bool {
    capture(Command::new("id").arg("-u")).and_then(convoy_tests::run::Output::ok).is_ok_and(|id| id == "0")
}

fn say(what: &str) {
    eprintln!("+ {what}");
}

/// Runs a command, whose output is seen.
pub(crate) fn status(command: &mut Command) -> Result<()> {
    let line = convoy_tests::run::readable(command);
    let status = command.status().during(|| format!("cannot start {line}"))?;
    if status.success() { Ok(()) } else { Err(Error::Unexpected(format!("{line}: {status}"))) }
}
