//! `cargo xtask package`: an archive with everything a host needs, made from a release build.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use convoy_tests::error::{Context, check};
use convoy_tests::run::capture;
use convoy_tests::{Result, programs};

use crate::cargo;

/// The drivers that go with the program; each as a library and as a program.
const DRIVERS: [&str; 1] = ["vfs"];

/// What the archive says of itself.
const README: &str = "\
convoy: volumes for containers that can be snapshotted, backed up and restored.

bin/convoy                      the daemon and its command line; vfs is built in
lib/convoy/drivers/             the drivers, as libraries and as programs: name the directory with --driver-path
share/bash-completion, zsh, fish  completions
share/man/man1/                 manual pages: man -M share/man convoy
etc/convoy.service              an example for systemd

Unpack it anywhere, or into /usr/local: tar -C /usr/local --strip-components=1 -xzf ARCHIVE
The programs are linked to the C library of the machine they were built on: use a host as new as that, or newer.
This archive is neither signed nor a distribution's package.
";

const SERVICE: &str = "\
[Unit]
Description=convoy, volumes for containers
Before=docker.service
RequiresMountsFor=/var/lib/rancher/convoy

[Service]
ExecStart=/usr/local/bin/convoy daemon
Restart=on-failure
# What it has mounted stays mounted when it restarts.
KillMode=mixed

[Install]
WantedBy=multi-user.target
";

/// Builds the archive and checks that the program in it runs.
///
/// # Errors
/// When something does not compile or cannot be written.
pub(crate) fn run() -> Result<()> {
    let drivers = DRIVERS.map(|driver| format!("convoy-driver-{driver}"));
    let packages: Vec<_> = std::iter::once("convoy").chain(drivers.iter().map(String::as_str)).collect();
    // Programs built elsewhere can be packed, too: by a builder with an older C library, say.
    let programs = match std::env::var_os(programs::DIRECTORY) {
        Some(directory) => PathBuf::from(directory),
        None => cargo::build_programs(&packages, true)?,
    };
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("convoy-{version}-{}-linux", std::env::consts::ARCH);
    let top = cargo::target().join("package").join(&name);
    if top.exists() {
        fs::remove_dir_all(&top).during(|| format!("cannot remove {}", top.display()))?;
    }
    let place = |below: &str| -> Result<PathBuf> {
        let path = top.join(below);
        let parent = path.parent().unwrap_or(&top);
        fs::create_dir_all(parent).during(|| format!("cannot make {}", parent.display()))?;
        Ok(path)
    };
    let convoy = place("bin/convoy")?;
    copy(&programs.join("convoy"), &convoy, 0o755)?;
    for driver in DRIVERS {
        let library = format!("libconvoy_driver_{driver}.so");
        let program = format!("convoy-driver-{driver}");
        copy(&programs.join(&library), &place(&format!("lib/convoy/drivers/{library}"))?, 0o644)?;
        copy(&programs.join(&program), &place(&format!("lib/convoy/drivers/{program}"))?, 0o755)?;
    }
    for (shell, file) in [
        ("bash", "share/bash-completion/completions/convoy"),
        ("zsh", "share/zsh/site-functions/_convoy"),
        ("fish", "share/fish/vendor_completions.d/convoy.fish"),
    ] {
        let script = capture(Command::new(&convoy).args(["completions", shell]))?.ok()?;
        write(&place(file)?, &script)?;
    }
    let pages = place("share/man/man1/x")?;
    let pages = pages.parent().unwrap_or(&top);
    capture(Command::new(&convoy).arg("man").arg(pages))?.ok()?;
    write(&place("README")?, README)?;
    write(&place("etc/convoy.service")?, SERVICE)?;
    copy(&cargo::root().join("LICENSE"), &place("LICENSE")?, 0o644)?;

    let archive = top.with_file_name(format!("{name}.tar.gz"));
    pack(&top, &name, &archive)?;
    println!("{} ({} KiB)", archive.display(), fs::metadata(&archive).map_or(0, |meta| meta.len()) / 1024);
    Ok(())
}

/// The same tree makes the same archive: sorted, owned by root, with one time.
fn pack(top: &Path, name: &str, archive: &Path) -> Result<()> {
    let parent = top.parent().unwrap_or(top);
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "-czf"]);
    tar.arg(archive).arg("-C").arg(parent).arg(name);
    capture(&mut tar)?.ok()?;
    // What was packed is what comes out, and it runs.
    let check_place = parent.join("check");
    let _ = fs::remove_dir_all(&check_place);
    fs::create_dir_all(&check_place)
        .during(|| "cannot make a directory to check the archive in".to_owned())?;
    capture(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&check_place))?.ok()?;
    let version = capture(Command::new(check_place.join(name).join("bin/convoy")).arg("--version"))?.ok()?;
    check(version.contains(env!("CARGO_PKG_VERSION")), || format!("the packed program says {version:?}"))?;
    fs::remove_dir_all(&check_place).during(|| "cannot remove the check".to_owned())
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let what = || format!("cannot copy {} to {}", from.display(), to.display());
    fs::copy(from, to).during(what)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).during(what)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).during(|| format!("cannot write {}", path.display()))
}
