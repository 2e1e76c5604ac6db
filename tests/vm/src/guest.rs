//! What runs inside the machine: scenarios, each a function, chosen by name.
//!
//! A scenario stops at the first thing that is not as it must be, with a text that says what was expected.

pub mod bytes;
pub mod check;
pub mod lab;

mod backups;
mod carriers;
mod clock;
mod crash;
mod daemon;
mod docker;
mod everyday;
mod flakey;
mod full;
mod hung;
mod kit;
mod namespace;
mod nfs;
mod power;
mod prepare;
mod quotas;
mod reboot;
mod recovery;
mod scale;
mod service;
mod takeover;
mod trees;

use check::Step;
use std::process::ExitCode;

/// Runs the scenario that the arguments name.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = std::time::Instant::now();
    let level = std::env::var("CONVOY_VM_LOG").unwrap_or_else(|_| "warn".to_owned());
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(level.parse().unwrap_or(tracing::Level::WARN))
        .init();
    match run(&words) {
        Ok(()) => {
            println!("{} passed in {:.1} s", args.join(" "), started.elapsed().as_secs_f32());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{} FAILED: {failure}", args.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Step {
    match words {
        ["everyday", filesystem] => everyday::run(filesystem.parse()?),
        ["udev"] => everyday::with_udev(),
        ["namespace"] => namespace::run(),
        ["carriers"] => carriers::run(),
        ["kit"] => kit::run_kit(),
        ["prepare"] => prepare::run(),
        ["takeover"] => takeover::run(),
        ["before-reboot"] => reboot::before(),
        ["after-reboot"] => reboot::after(),
        ["quotas", filesystem] => quotas::run(filesystem),
        ["recovery"] => recovery::run(),
        ["full"] => full::run(),
        ["failing"] => {
            full::failing_metadata()?;
            flakey::failing_data()
        }
        ["nfs"] => nfs::run(),
        ["hung"] => hung::run(),
        ["clock"] => clock::run(),
        ["crash", rounds] => crash::run(rounds.parse()?),
        ["storm", root, seed] => crash::storm(root.as_ref(), seed.parse()?),
        ["cuts", rounds] => flakey::cuts(rounds.parse()?),
        ["scale"] => scale::run(),
        ["docker"] => docker::run(),
        ["service"] => service::run(),
        ["power", seed] => power::run(seed.parse()?),
        _ => Err(check::Failure::new(format!("no scenario {words:?}"))),
    }
}
