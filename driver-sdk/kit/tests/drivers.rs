//! The kit on drivers that are well: all of them pass. Run as root, with the programs that `cargo xtask test`
//! builds.

#![allow(clippy::unwrap_used, clippy::panic)]

use convoy_driver_kit::{Options, Report, Verdict, run};
use convoy_tests::{Lab, Result, Storage, programs};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Small volumes: their blocks are read and written whole.
const SIZE: u64 = 32 << 20;

fn process(name: &str) -> Result<PathBuf> {
    Ok(programs::directory()?.join(format!("convoy-driver-{name}")))
}

fn library(name: &str) -> Result<PathBuf> {
    Ok(programs::directory()?.join(format!("libconvoy_driver_{name}.so")))
}

/// Runs the kit, in which no case must fail and many must pass.
fn passes(lab: &Lab, driver: &Path, options: &Options, at_least: usize) -> Result<Report> {
    let report = run(driver, &options.clone().work(lab.directory()).kills(2)).unwrap();
    report.assert_passed();
    let passed = report.cases.iter().filter(|case| case.verdict == Verdict::Passed).count();
    assert!(passed >= at_least, "{passed} passed: {report}");
    Ok(report)
}

#[test]
fn vfs() -> Result<()> {
    Lab::run(|lab| {
        for (driver, least) in [(process("vfs")?, 30), (library("vfs")?, 15)] {
            let path = lab.make(&format!("volumes-{least}"))?;
            // Root's alone, or the driver would shelter it with a mount that stays.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            let options = Options::default().option("vfs.path", path.display().to_string());
            passes(lab, &driver, &options, least)?;
        }
        Ok(())
    })
}

#[test]
fn tmpfs() -> Result<()> {
    Lab::run(|lab| {
        for (driver, least) in [(process("tmpfs")?, 20), (library("tmpfs")?, 10)] {
            passes(lab, &driver, &Options::default().size(SIZE), least)?;
        }
        Ok(())
    })
}

#[test]
fn the_loop_example() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 2 << 30, "")?;
        for (driver, least) in [(process("loop")?, 45), (library("loop")?, 25)] {
            let path = storage.path().join(least.to_string());
            let options = Options::default().option("loop.path", path.display().to_string()).size(SIZE);
            passes(lab, &driver, &options, least)?;
        }
        Ok(())
    })
}

#[test]
fn the_python_example() -> Result<()> {
    Lab::run(|lab| {
        // Where the checkout is, others may write.
        let program = lab.make("python")?.join("convoy-driver-folder");
        std::fs::copy(
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/python/convoy-driver-folder"),
            &program,
        )
        .unwrap();
        let path = lab.make("folder")?.display().to_string();
        passes(lab, &program, &Options::default().option("folder.path", path), 30)?;
        Ok(())
    })
}

/// The Go example, which needs nothing but Go; where that is not installed nothing is tested, and it says so.
#[test]
fn the_go_example() -> Result<()> {
    let Ok(version) = std::process::Command::new("go").arg("version").output() else {
        eprintln!("SKIPPED: Go is not installed: examples/go is neither built nor tested");
        return Ok(());
    };
    println!("{}", String::from_utf8_lossy(&version.stdout));
    Lab::run(|lab| {
        let program = lab.make("go")?.join("convoy-driver-shelf");
        let mut build = std::process::Command::new("go");
        build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/go"));
        build.args(["build", "-buildvcs=false", "-o"]).arg(&program).arg(".");
        // What it makes on the way is the test's own.
        build.env("GOCACHE", lab.make("cache")?).env("GOFLAGS", "-mod=mod").env("GOTOOLCHAIN", "local");
        assert!(build.status().unwrap().success());
        passes(lab, &program, &Options::default(), 25)?;
        Ok(())
    })
}
