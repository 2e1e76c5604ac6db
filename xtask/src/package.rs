//! `cargo xtask package`: a Debian package and an archive with everything a host needs, made from a release
//! build.
//!
//! Both hold the same tree. It is put together here and not by cargo-deb, which has to be compiled first
//! (more than a hundred crates) and knows the programs of one package only, while this tree holds those of
//! several, and what the built program prints: completions and manual pages. `dpkg-deb` is on every Debian
//! machine.

use std::path::PathBuf;
use std::process::Command;

use convoy_tests::error::{Context, check};
use convoy_tests::package::{deb, tree};
use convoy_tests::run::capture;
use convoy_tests::{Result, plugin, programs};

use crate::cargo;

/// The drivers that go with the program; each as a library and as a program.
const DRIVERS: [&str; 3] = ["vfs", "devicemapper", "digitalocean"];

/// The driver whose client takes minutes and gigabytes to compile.
const SLOW_DRIVER: &str = "ebs";

/// Builds package and archive, and checks both.
///
/// # Errors
/// When something does not compile or cannot be written; when what was packed does not do.
pub(crate) fn run(with_ebs: bool) -> Result<()> {
    let mut drivers = DRIVERS.to_vec();
    drivers.extend(with_ebs.then_some(SLOW_DRIVER));
    let packages: Vec<_> = drivers.iter().map(|driver| format!("convoy-driver-{driver}")).collect();
    let packages: Vec<_> = std::iter::once("convoy").chain(packages.iter().map(String::as_str)).collect();
    // Programs built elsewhere can be packed, too: by a builder with an older C library, say.
    let programs = match std::env::var_os(programs::DIRECTORY) {
        Some(directory) => PathBuf::from(directory),
        None => cargo::build_programs(&packages, true)?,
    };
    let place = cargo::target().join("package");
    let tree = tree::make(&place.join("tree"), &programs, &drivers)?;
    let name = format!("convoy-{}-{}-linux", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let archive = place.join(format!("{name}.tar.gz"));
    pack(&tree, &name, &archive)?;
    let package = deb::build(&tree, &place, deb::Compression::Gzip)?;
    deb::check(&package, &place.join("check"))?;
    let plugin = place.join("docker-plugin");
    plugin::make(&plugin, &programs, &drivers)?;
    println!("{}: for `docker plugin create NAME DIRECTORY`", plugin.display());
    for file in [&archive, &package] {
        println!("{} ({} KiB)", file.display(), std::fs::metadata(file).map_or(0, |meta| meta.len()) / 1024);
    }
    Ok(())
}

/// The same tree makes the same archive: sorted, owned by root, with one time.
fn pack(tree: &std::path::Path, name: &str, archive: &std::path::Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "-czf"]);
    tar.arg(archive).arg("-C").arg(tree).arg(format!("--transform=s,^\\.,{name},")).arg(".");
    capture(&mut tar)?.ok()?;
    // What was packed is what comes out, and it runs.
    let place = archive.with_file_name("unpacked");
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place)
        .during(|| "cannot make a directory to check the archive in".to_owned())?;
    capture(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&place))?.ok()?;
    let version = capture(Command::new(place.join(name).join("usr/bin/convoy")).arg("--version"))?.ok()?;
    check(version.contains(env!("CARGO_PKG_VERSION")), || format!("the packed program says {version:?}"))?;
    std::fs::remove_dir_all(&place).during(|| "cannot remove the check".to_owned())
}
