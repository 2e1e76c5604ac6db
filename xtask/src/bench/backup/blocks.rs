//! Block volumes: what a backup costs follows from what is in use, not from the size.

use std::fs;
use std::path::PathBuf;

use convoy_tests::error::Context;
use convoy_tests::{Convoy, Lab, Result, Setup, Storage};

use super::data::Source;
use super::{back_up, destination, memory, timed};
use crate::bench::settle;
use crate::bench::table::Row;

const GIB: u64 = 1 << 30;

const RESTORES: usize = 3;

pub(in crate::bench) fn run(lab: &Lab) -> Result<Vec<Row>> {
    // Sparse, as the volumes in it are.
    let storage = Storage::new(lab, "xfs", 1200 * GIB, "")?;
    let mut setup = Setup::bare(lab);
    let images = format!("loop.path={}", storage.path().display());
    setup.flags = ["--drivers", "process:loop", "--driver-opts", &images, "--driver-opts", "loop.fs=xfs"]
        .map(str::to_owned)
        .to_vec();
    let convoy = setup.start()?;
    let store = destination(lab, "blocks")?;
    let mut rows = Vec::new();
    let mut figures = Vec::new();
    for (name, size, title) in [("small", "2G", "2 GiB"), ("hundred", "100G", "100 GiB")] {
        fill(&convoy, name, size, GIB)?;
        let (seconds, url) = back_up(&convoy, name, &format!("{name}-first"), &store)?;
        figures.push((title, seconds, f64::MAX, url));
    }
    // Some disks slow down while much is written. So in turns, and the best counts.
    for _ in 0..RESTORES {
        for (_, _, best, url) in &mut figures {
            settle();
            let (seconds, _) = timed(&convoy, &["create", "copy", "--backup", url])?;
            *best = best.min(seconds);
            convoy.ok(&["delete", "copy"])?;
        }
    }
    // As much again as the smaller one, and a fifth for a file system that is fifty times as large.
    let goals: Vec<_> = figures.first().map_or_else(Vec::new, |(_, first, restored, _)| {
        vec![None, Some((first * 1.2 + 0.2, restored * 1.2 + 0.2))]
    });
    for ((title, first, restored, _), goal) in figures.into_iter().zip(goals) {
        let with = |row: Row, goal: Option<f64>| match goal {
            Some(goal) => row.goal(goal),
            None => row,
        };
        rows.push(with(
            Row::new(format!("1 GiB in a device of {title}: first backup"), first, "s"),
            goal.map(|(first, _)| first),
        ));
        rows.push(with(
            Row::new(format!("1 GiB in a device of {title}: restore"), restored, "s"),
            goal.map(|(_, restored)| restored),
        ));
    }
    fill(&convoy, "huge", "1T", GIB / 4)?;
    let (seconds, _) = back_up(&convoy, "huge", "huge-first", &store)?;
    rows.push(Row::new("256 MiB in a device of 1 TiB: first backup", seconds, "s"));
    rows.push(memory(&convoy, "peak memory of the daemon with a device of 1 TiB")?);
    Ok(rows)
}

/// Makes a volume with so many random bytes in a file.
fn fill(convoy: &Convoy, name: &str, size: &str, bytes: u64) -> Result<()> {
    convoy.ok(&["create", name, "--size", size])?;
    let place = PathBuf::from(convoy.ok(&["mount", name])?);
    let mut source = Source::new(bytes);
    let path = place.join("file");
    let what = || format!("cannot write {}", path.display());
    let mut file = fs::File::create(&path).during(what)?;
    for _ in 0..bytes >> 20 {
        std::io::Write::write_all(&mut file, &source.bytes(1 << 20, false)).during(what)?;
    }
    // An open file keeps the volume mounted.
    drop(file);
    convoy.ok(&["umount", name]).map(|_| ())
}
