//! The conformance kit on the driver, as a process: its data, its copies, and kills in the midst of calls.

use super::check::{Failure, Step};
use super::lab::{Setup, no_leaks};
use convoy_driver_kit::{Options, run};
use std::time::Duration;

/// What the kit does that other scenarios do not: all of it, which the driver passes, takes minutes in a
/// translated machine.
const CASES: &[&str] = &[
    "volume.keep",
    "data",
    "restore.",
    "copy",
    "crash.snapshot",
    "crash.revert",
    "end.goodbye",
    "end.leaks",
];

pub(super) fn run_kit() -> Step {
    let program = std::env::current_exe()?.with_file_name("convoy-driver-devicemapper");
    let options = Options::default().size(32 << 20).kills(2).limit(Duration::from_secs(120));
    let options = CASES.iter().copied().fold(options, Options::case);
    let options =
        Setup::default().options.into_iter().fold(options, |all, (key, value)| all.option(key, value));
    let report = run(program, &options)?;
    println!("{report}");
    if !report.passed() {
        return Err(Failure::new("the driver breaks rules: see the report"));
    }
    no_leaks(&["convoy-pool"])
}
