//! What a snapshot costs, first and when little or nothing has changed.

use std::fs;
use std::path::Path;
use std::time::Instant;

use convoy_tests::error::Context;
use convoy_tests::{Carrier, Convoy, Lab, Result, Setup};

use super::settle;
use super::table::Row;

pub(super) fn run(lab: &Lab) -> Result<Vec<Row>> {
    let convoy = Setup::vfs(lab, Carrier::Library).start()?;
    convoy.ok(&["create", "data"])?;
    let place = convoy.setup().volumes.join("data");
    fill(&place)?;
    let first = snapshot(&convoy, "first")?;
    let mut unchanged = f64::MAX;
    for number in 0..3 {
        unchanged = unchanged.min(snapshot(&convoy, &format!("unchanged{number}"))?);
    }
    for number in 0..40 {
        fs::write(file(&place, number * 100), vec![1; 5000]).during(|| "change a file".to_owned())?;
    }
    let changed = snapshot(&convoy, "changed")?;
    let start = Instant::now();
    convoy.ok(&["delete", "data"])?;
    let deleted = start.elapsed().as_secs_f64();
    Ok(vec![
        Row::new("snapshot of 512 MiB + 4,000 files, first", first, "s"),
        Row::new("the same, unchanged", unchanged, "s").goal(0.3),
        Row::new("the same, 1 % of the files changed", changed, "s"),
        Row::new("delete of the volume with its 5 snapshots", deleted, "s"),
    ])
}

fn snapshot(convoy: &Convoy, name: &str) -> Result<f64> {
    let start = Instant::now();
    convoy.ok(&["snapshot", "create", "data", "--name", name])?;
    Ok(start.elapsed().as_secs_f64())
}

fn file(place: &Path, number: u32) -> std::path::PathBuf {
    place.join(format!("d{}/f{number}", number / 100))
}

/// Two files of 256 MiB and 4,000 of 4 KiB, none of which can be compressed away.
fn fill(place: &Path) -> Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = |count: usize| -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    };
    let what = || "fill the volume".to_owned();
    for number in 0..40 {
        fs::create_dir_all(place.join(format!("d{number}"))).during(what)?;
    }
    for number in 0..4_000 {
        fs::write(file(place, number), bytes(4096)).during(what)?;
    }
    for name in ["big1", "big2"] {
        fs::write(place.join(name), bytes(256 << 20)).during(what)?;
    }
    settle();
    Ok(())
}
