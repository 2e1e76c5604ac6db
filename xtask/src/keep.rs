//! `cargo xtask keep VERSION COMMIT`: keeps a host and drivers of a minor version of the protocol, as tests
//! meet them.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use convoy_tests::error::Context;
use convoy_tests::run::capture;
use convoy_tests::{Error, Result};

use crate::cargo;

const KEPT: [&str; 5] = [
    "examples/visit",
    "examples/convoy-driver-misbehaving",
    "examples/libconvoy_driver_misbehaving.so",
    "convoy-driver-vfs",
    "libconvoy_driver_vfs.so",
];

/// Small, since they stay in the repository.
const PROFILE: &str = "
[profile.peer]
inherits = \"release\"
opt-level = \"z\"
lto = \"fat\"
codegen-units = 1
strip = true
debug = false
";

/// The best of zstd's usual levels: it is packed once.
const LEVEL: i32 = 19;

/// Builds them from the commit and packs them.
pub(crate) fn run(version: &str, commit: &str) -> Result<()> {
    let source = cargo::target().join("peers").join(version);
    let _ = fs::remove_dir_all(&source);
    fs::create_dir_all(&source).during(|| format!("cannot make {}", source.display()))?;
    let archive = source.join("source.tar");
    capture(
        Command::new("git").current_dir(cargo::root()).args(["archive", "-o"]).arg(&archive).arg(commit),
    )?
    .ok()?;
    capture(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source))?.ok()?;
    let visit = Path::new("host/drivers/examples/visit.rs");
    if !source.join(visit).exists() {
        // It is younger than version 1.0.
        fs::copy(cargo::root().join(visit), source.join(visit))
            .during(|| "cannot copy the visit".to_owned())?;
    }
    let manifest = source.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).during(|| "cannot read the manifest".to_owned())? + PROFILE;
    fs::write(&manifest, text).during(|| "cannot write the manifest".to_owned())?;

    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(&source).env("CARGO_TARGET_DIR", source.join("target"));
    // Where it was built is nobody's business.
    let home = std::env::var("HOME").unwrap_or_default();
    build.env(
        "RUSTFLAGS",
        format!("--remap-path-prefix={home}=home --remap-path-prefix={home}/.cargo/registry/src=registry"),
    );
    build.args(["build", "--locked", "--profile", "peer", "-p", "convoy-drivers", "-p", "convoy-driver-vfs"]);
    build.args(["--lib", "--bins", "--example", "visit"]);
    build.args(["--example", "convoy-driver-misbehaving", "--example", "convoy_driver_misbehaving"]);
    let status = build.status().during(|| "cannot start cargo".to_owned())?;
    if !status.success() {
        return Err(Error::Unexpected(format!("{commit} does not compile: {status}")));
    }
    let place = cargo::root().join("host/drivers/tests/peers").join(version);
    fs::create_dir_all(&place).during(|| format!("cannot make {}", place.display()))?;
    for file in KEPT {
        let built = source.join("target/peer").join(file);
        let name = built.file_name().unwrap_or_default().to_string_lossy();
        let packed = place.join(format!("{name}.zst"));
        let what = || format!("cannot pack {}", built.display());
        let (from, to) = (File::open(&built).during(what)?, File::create(&packed).during(what)?);
        zstd::stream::copy_encode(from, to, LEVEL).during(what)?;
        println!("{} ({} KiB)", packed.display(), fs::metadata(&packed).map_or(0, |meta| meta.len()) / 1024);
    }
    Ok(())
}
