//! `cargo xtask bench`: what convoy takes, beside what convoy 0.5 took and what it is meant to take.

mod backup;
mod browse;
mod calls;
mod carriers;
mod many;
mod snapshots;
mod table;
mod usage;

use std::fs;

use convoy_tests::error::Context;
use convoy_tests::{Error, Lab, Result, leaks, programs};

use crate::cargo;
use table::Row;

/// One measurement: what it is called on the command line, and what does it.
struct Bench {
    name: &'static str,
    run: fn(&Lab) -> Result<Vec<Row>>,
}

// Those that move much data come last: the disk has work left after them, which is not to be measured with
// what comes next.
const BENCHES: [Bench; 9] = [
    Bench { name: "calls", run: calls::run },
    Bench { name: "carriers", run: carriers::run },
    Bench { name: "many", run: many::run },
    Bench { name: "snapshots", run: snapshots::run },
    Bench { name: "browse", run: browse::run },
    Bench { name: "backup", run: backup::run },
    Bench { name: "backup-blocks", run: backup::blocks::run },
    Bench { name: "backup-many-files", run: backup::many_files },
    Bench { name: "browse-many-files", run: browse::many_files },
];

pub(crate) fn names() -> [&'static str; BENCHES.len()] {
    BENCHES.map(|bench| bench.name)
}

/// Runs the measurements with the given names, or all, on a release build.
pub(crate) fn run(names: &[String]) -> Result<()> {
    // Programs built elsewhere can be measured, too: an older release, say.
    if std::env::var_os(programs::DIRECTORY).is_none() {
        programs::choose(cargo::build_programs(
            &["convoy", "convoy-driver-vfs", "convoy-driver-loop"],
            true,
        )?);
    }
    leaks::sweep()?;
    let mut rows = Vec::new();
    for bench in
        BENCHES.iter().filter(|bench| names.is_empty() || names.iter().any(|name| name == bench.name))
    {
        eprintln!("measuring {}", bench.name);
        Lab::run_on_disk(|lab| {
            rows.extend((bench.run)(lab)?);
            Ok(())
        })?;
    }
    println!("\n{}", table::text(&rows));
    let file = cargo::target().join("bench.json");
    fs::write(&file, table::json(&rows)).during(|| format!("cannot write {}", file.display()))?;
    println!("written to {}", file.display());
    let missed = rows.iter().filter(|row| row.missed()).count();
    if missed == 0 { Ok(()) } else { Err(Error::Unexpected(format!("{missed} goals are missed"))) }
}

/// The disk has its rest before anything is measured.
fn settle() {
    let _ = std::process::Command::new("sync").status();
}
