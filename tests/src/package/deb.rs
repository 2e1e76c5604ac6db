//! The Debian package, and what a machine sees of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Result, check as must};
use crate::run::{Output, capture};

/// The scripts dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// What the scripts run on a machine without systemd.
const APPLETS: [&str; 5] = ["sh", "rm", "rmdir", "echo", "true"];

/// How the files are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Small. xz would take minutes for next to nothing more.
    Gzip,
    /// Quick, for a package that is installed once.
    None,
}

/// Makes the package from a tree and gives its path.
///
/// # Errors
/// When dpkg-deb fails.
pub fn build(tree: &Path, place: &Path, compression: Compression) -> Result<PathBuf> {
    let work = place.join("deb");
    if work.exists() {
        fs::remove_dir_all(&work).during(|| format!("cannot remove {}", work.display()))?;
    }
    capture(Command::new("cp").arg("-a").arg(tree).arg(&work))?.ok()?;
    let about = work.join("DEBIAN");
    fs::create_dir(&about).during(|| format!("cannot make {}", about.display()))?;
    let arch = capture(Command::new("dpkg").arg("--print-architecture"))?.ok()?;
    let size = capture(Command::new("du").arg("-sk").arg(tree))?.ok()?;
    let control = read("control")?
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@ARCH@", &arch)
        .replace("@MAINTAINER@", &maintainer())
        .replace("@SIZE@", size.split_whitespace().next().unwrap_or("0"))
        .replace("@LIBC@", &libc_needed(tree)?);
    write(&about.join("control"), &control, 0o644)?;
    write(&about.join("conffiles"), "/etc/convoy/convoy.toml\n", 0o644)?;
    for script in SCRIPTS {
        write(&about.join(script), &read(script)?, 0o755)?;
    }
    let package = place.join(format!("convoy_{}_{arch}.deb", env!("CARGO_PKG_VERSION")));
    let mut command = Command::new("dpkg-deb");
    // The same commit makes the same package.
    command
        .env("SOURCE_DATE_EPOCH", commit_time())
        .arg(match compression {
            Compression::Gzip => "-Zgzip",
            Compression::None => "-Znone",
        })
        .args(["--root-owner-group", "--build"])
        .arg(&work)
        .arg(&package);
    capture(&mut command)?.ok()?;
    Ok(package)
}

/// Whoever makes the package answers for it: who they say they are, as Debian's tools have it, or else the
/// author of the last commit.
fn maintainer() -> String {
    if let (Ok(name), Ok(email)) = (std::env::var("DEBFULLNAME"), std::env::var("DEBEMAIL")) {
        return format!("{name} <{email}>");
    }
    let unknown = || "The convoy authors <https://github.com/rancher/convoy/issues>".to_owned();
    last_commit("%an <%ae>").unwrap_or_else(unknown)
}

/// When the source was last committed: files of 1970 look like a clock that was wrong. Without git, they are.
fn commit_time() -> String {
    last_commit("%ct").unwrap_or_else(|| "0".to_owned())
}

/// What git says of the last commit; nothing where the source is not in git.
fn last_commit(format: &str) -> Option<String> {
    let mut git = Command::new("git");
    git.args(["log", "-1", &format!("--format={format}")]).current_dir(super::shipped());
    capture(&mut git).and_then(Output::ok).ok()
}

/// The newest version of the C library that a symbol of any program asks for.
fn libc_needed(tree: &Path) -> Result<String> {
    let text = capture(
        Command::new("sh")
            .arg("-c")
            .arg("objdump -T \"$1\"/usr/bin/* \"$1\"/usr/lib/convoy/drivers/* | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1")
            .arg("sh")
            .arg(tree),
    )?
    .ok()?;
    Ok(text.strip_prefix("GLIBC_").unwrap_or("2.36").to_owned())
}

/// Installs, upgrades, removes and purges the package in a bare root, by the real dpkg.
///
/// # Errors
/// When a step fails or leaves what it must not leave, or takes what it must leave.
pub fn check(package: &Path, root: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(root);
    for directory in
        ["bin", "var/lib/dpkg/info", "var/lib/dpkg/updates", "tmp", "etc", "usr/lib/systemd/system"]
    {
        let path = root.join(directory);
        fs::create_dir_all(&path).during(|| format!("cannot make {}", path.display()))?;
    }
    write(&root.join("var/lib/dpkg/status"), "", 0o644)?;
    fs::copy("/bin/busybox", root.join("bin/busybox")).during(|| "cannot copy busybox".to_owned())?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).during(|| "cannot link busybox".to_owned())?;
    }
    let dpkg = |words: &[&str]| -> Result<String> {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", root.display())).args(["--force-depends", "--force-bad-path"]);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let output = capture(command.args(words))?;
        let said = output.stderr.clone();
        output.ok().map(|printed| printed + &said)
    };
    let file = package.to_string_lossy();
    let there = |below: &str| root.join(below).exists();
    let settings = root.join("etc/convoy/convoy.toml");
    dpkg(&["--install", &file])?;
    must(there("usr/bin/convoy") && there("usr/lib/docker/plugins/convoy.spec"), || {
        "the package installs no program".to_owned()
    })?;
    // What a person changed and stored survives an upgrade and a removal.
    write(&settings, "log-level = \"debug\"\n", 0o644)?;
    write(&root.join("var/lib/rancher/convoy/vfs/volumes/data/file"), "data", 0o600)?;
    dpkg(&["--install", &file])?;
    dpkg(&["--remove", "convoy"])?;
    must(settings.exists() && !there("usr/bin/convoy"), || "removal takes the wrong files".to_owned())?;
    dpkg(&["--install", &file])?;
    // As `systemctl enable` leaves it.
    let enabled = root.join("etc/systemd/system/sockets.target.wants/convoy-docker.socket");
    write(&enabled, "", 0o644)?;
    let said = dpkg(&["--purge", "convoy"])?;
    must(!enabled.exists(), || "purging leaves a socket enabled".to_owned())?;
    must(!there("etc/convoy") && !there("usr/lib/convoy") && !there("usr/lib/docker"), || {
        "purging leaves files".to_owned()
    })?;
    must(there("var/lib/rancher/convoy/vfs/volumes/data/file"), || "purging takes volumes".to_owned())?;
    must(said.contains("are left alone"), || format!("purging does not say what it leaves: {said}"))?;
    fs::remove_dir_all(root).during(|| format!("cannot remove {}", root.display()))
}

fn read(name: &str) -> Result<String> {
    let path = super::shipped().join("debian").join(name);
    fs::read_to_string(&path).during(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).during(what)?;
    }
    fs::write(path, text).during(what)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).during(what)
}
