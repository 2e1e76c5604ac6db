//! `cargo xtask test`: style, lints, every test, and a summary anybody can read.

use std::time::Instant;

use convoy_tests::{Error, Result, leaks, peers, programs};

use crate::cargo::{self, for_all_but_ebs};
use crate::deny;

struct Step {
    name: &'static str,
    seconds: f64,
    result: Result<()>,
}

/// Runs every check; or with arguments, the tests they choose.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    sweep()?;
    if !arguments.is_empty() {
        cargo::build_programs(&[], false)?;
        let words: Vec<_> = arguments.iter().map(String::as_str).collect();
        return tests(&[&for_all_but_ebs(&["nextest", "run"]), &words[..]].concat());
    }
    let start = Instant::now();
    let mut steps = vec![
        step("style (cargo fmt)", style),
        step("dependencies (cargo deny)", deny::run),
        step("lints (cargo clippy)", || {
            cargo::run(&for_all_but_ebs(&["clippy", "--all-targets", "--quiet"]))
        }),
    ];
    let build = step("programs and drivers", || cargo::build_programs(&[], false).map(|_| ()));
    let built = build.result.is_ok();
    steps.push(build);
    steps.push(step("what tests need of others", peers::fetch));
    if built {
        steps.push(step("tests (cargo nextest)", || {
            // One more than there are cores: what uses an engine, one test at a time, mostly waits.
            let threads = std::thread::available_parallelism().map_or(2, usize::from) + 1;
            let words = ["nextest", "run", "--profile", "ci", "--no-fail-fast", "-j", &threads.to_string()];
            tests(&for_all_but_ebs(&words))
        }));
        if cfg!(target_arch = "x86_64") {
            // Of the same packages as before, which are compiled by now: chosen alone, it would have other
            // features.
            let words = [
                "nextest",
                "run",
                "--features",
                "convoy-vm-tests/vm",
                "--profile",
                "ci",
                "-E",
                "package(convoy-vm-tests)",
                "-j",
                "4",
            ];
            steps.push(step("device-mapper, in a virtual machine", || tests(&for_all_but_ebs(&words))));
        }
        // Its EC2 client takes minutes to compile: last, and once.
        steps.push(step("the ebs driver", || {
            tests(&["nextest", "run", "--package", "convoy-driver-ebs", "--profile", "ci"])
        }));
        steps.push(step("examples in the documentation", || {
            cargo::run(&for_all_but_ebs(&["test", "--doc", "--quiet"]))
        }));
    }
    steps.push(step("nothing left behind", sweep));
    summary(&steps, start.elapsed().as_secs_f64())
}

/// The fuzz targets are a workspace of their own, which `--all` does not reach.
fn style() -> Result<()> {
    cargo::run(&["fmt", "--all", "--check"])?;
    cargo::run(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])
}

fn tests(words: &[&str]) -> Result<()> {
    let mut command = cargo::command(words);
    command.env(programs::DIRECTORY, cargo::target().join("debug"));
    let status = command
        .status()
        .map_err(|source| Error::Io { what: "cannot start cargo nextest".to_owned(), source })?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Unexpected(format!("cargo {}: {status}", words.join(" "))))
    }
}

/// Clears what tests left that were killed before they could clean up.
fn sweep() -> Result<()> {
    for found in leaks::sweep()? {
        eprintln!("cleared what a killed test had left: {found}");
    }
    Ok(())
}

fn step(name: &'static str, action: impl FnOnce() -> Result<()>) -> Step {
    eprintln!("\n=== {name}");
    let start = Instant::now();
    let result = action();
    if let Err(error) = &result {
        eprintln!("{error}");
    }
    Step { name, seconds: start.elapsed().as_secs_f64(), result }
}

fn summary(steps: &[Step], seconds: f64) -> Result<()> {
    println!("\n{:<38} {:>8}", "check", "seconds");
    for step in steps {
        let verdict = if step.result.is_ok() { "passed" } else { "FAILED" };
        println!("{:<38} {:>8.1}  {verdict}", step.name, step.seconds);
    }
    let failed = steps.iter().filter(|step| step.result.is_err()).count();
    if failed == 0 {
        println!("\nOK: every check passed in {seconds:.0} s");
        return Ok(());
    }
    Err(Error::Unexpected(format!("{failed} of {} checks failed", steps.len())))
}
