//! What a call of a driver costs through each carrier, without the daemon around it.
//!
//! The carrier of a library is what lies between caller and driver on one thread. The daemon hands each such
//! call to a thread that may block, so that it can give up one that hangs: what the two switches of threads
//! take is measured beside it, and is the kernel's.

use std::process::Command;

use convoy_tests::run::capture;
use convoy_tests::{Error, Lab, Result};
use serde_json::Value;

use super::table::Row;
use crate::cargo;

/// A figure of `host/drivers/examples/latency.rs`: its name and member there, what it is, its unit, the most
/// it may be.
type Figure = (&'static str, &'static str, &'static str, &'static str, Option<f64>);

const FIGURES: [Figure; 17] = [
    ("builtin_call", "p50_us", "a call of a builtin driver on the caller's thread, p50", "us", None),
    ("library_call", "p50_us", "a call of a library on the caller's thread, p50", "us", Some(5.0)),
    (
        "builtin_async_call",
        "p50_us",
        "a call of a builtin driver, handed to a thread that may block, p50",
        "us",
        None,
    ),
    (
        "library_async_call",
        "p50_us",
        "a call of a library, handed to a thread that may block, p50",
        "us",
        None,
    ),
    (
        "library_async_call",
        "p99_us",
        "a call of a library, handed to a thread that may block, p99",
        "us",
        None,
    ),
    ("process_async_call", "p50_us", "a call of a process, p50", "us", Some(80.0)),
    ("process_async_call", "p99_us", "a call of a process, p99", "us", None),
    ("library_1_at_once", "us_per_call", "a library, 1 caller: a call every", "us", None),
    ("library_2_at_once", "us_per_call", "a library, 2 callers: a call every", "us", None),
    ("library_32_at_once", "us_per_call", "a library, 32 callers: a call every", "us", None),
    ("library_32_at_once", "idle_percent", "a library, 32 callers: idle", "%", Some(20.0)),
    ("process_1_at_once", "us_per_call", "a process, 1 caller: a call every", "us", None),
    ("process_2_at_once", "us_per_call", "a process, 2 callers: a call every", "us", None),
    ("process_32_at_once", "us_per_call", "a process, 32 callers: a call every", "us", None),
    ("process_32_at_once", "idle_percent", "a process, 32 callers: idle", "%", Some(20.0)),
    ("library_list_10000", "p50_us", "a listing of 10,000 volumes, library, p50", "us", Some(50_000.0)),
    ("process_list_10000", "p50_us", "a listing of 10,000 volumes, process, p50", "us", Some(50_000.0)),
];

pub(super) fn run(_: &Lab) -> Result<Vec<Row>> {
    cargo::run(&["build", "--release", "--package", "convoy-drivers", "--examples"])?;
    let told = capture(&mut Command::new(cargo::target().join("release/examples/latency")))?.ok()?;
    let lines: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let find = |name: &str, member: &str| {
        let line = lines.iter().find(|line| line["name"] == name);
        line.and_then(|line| line[member].as_f64())
    };
    FIGURES
        .iter()
        .map(|(name, member, what, unit, goal)| {
            let figure = find(name, member)
                .ok_or_else(|| Error::Unexpected(format!("{name} was not measured: {told}")))?;
            let row = Row::new(*what, figure, unit);
            Ok(goal.map_or(row.clone(), |goal| row.goal(goal)))
        })
        .collect()
}
