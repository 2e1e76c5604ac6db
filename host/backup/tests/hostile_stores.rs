//! Stores made by chance, of everything that the format knows, with wrong lengths, counts, orders and
//! circles: whatever is listed, verified, restored, backed up, pruned and deleted there ends, within 256 MiB,
//! without a panic. A child does it, so that its end is seen.
//!
//! Which store follows from a number: `CONVOY_HOSTILE_SEEDS=17..18 cargo nextest run --test hostile_stores`
//! makes that one again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::Command;

use common::cage::{self, Cage};
use common::stores::{Choices, use_it, write};

/// What all of the process may have.
const MEMORY: u64 = 256 << 20;
/// The stores of which a test tries so many.
const SEEDS: &str = "0..24";

#[test]
fn hostile_stores_end_in_bounded_memory() {
    let seeds = std::env::var("CONVOY_HOSTILE_SEEDS").unwrap_or_else(|_| SEEDS.to_owned());
    let (from, to) = seeds.split_once("..").unwrap();
    for seed in from.parse::<u64>().unwrap()..to.parse().unwrap() {
        // Written here: what it takes to make a store is not what it takes to read it.
        let store = tempfile::tempdir().unwrap();
        write(&mut Choices(&common::noise(4096, seed)), store.path());
        let cage = Cage::new(MEMORY);
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .envs(cage.variables())
            .env("CONVOY_HOSTILE_STORE", store.path())
            .output()
            .unwrap();
        let (said, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let why = format!("store {seed}, {}, {}: {said} {error}", cage.describe(), output.status);
        assert!(output.status.success() && said.contains("survived"), "{why}");
        println!("{why}");
    }
}

/// Uses the store it is told of.
#[test]
#[ignore = "the test above starts it, in a cage"]
fn child() {
    cage::enter();
    // A panic on any thread, also one that the engine would tell as an error.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::abort();
    }));
    let store = std::env::var_os("CONVOY_HOSTILE_STORE").unwrap();
    let work = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(use_it(store.as_ref(), work.path()));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    println!("survived");
}
