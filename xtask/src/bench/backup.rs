//! Backups and restores through the daemon, and restic beside it: the same data, the same disk, one run.
//!
//! What convoy 0.5 took was recorded elsewhere, on a quiet machine with two cores: it cannot be run here. It made its
//! archive at the snapshot, so its snapshot and backup count together, and so do ours.

pub(super) mod blocks;
mod data;
mod restic;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use convoy_tests::error::Context;
use convoy_tests::run::readable;
use convoy_tests::{Carrier, Convoy, Error, Lab, Result, Setup, tree};
use serde_json::json;

use super::calls::micros;
use super::settle;
use super::table::Row;
use data::Data;
use restic::Restic;

/// The most memory the daemon may ever have had, in MiB.
const MEMORY: f64 = 256.0;

/// What 0.5 took for a kind of data: seconds of snapshot and backup, first and later, and of a restore. Where a range was recorded this is
/// its lower end.
struct Recorded {
    first: f64,
    second: f64,
    restore: f64,
}

/// The kinds of data, and what 0.5 took for them.
const KINDS: [(Data, Recorded); 2] = [
    (Data::Large, Recorded { first: 28.3, second: 28.3, restore: 5.6 }),
    (Data::Small, Recorded { first: 12.6, second: 12.6, restore: 3.0 }),
];

pub(super) fn run(lab: &Lab) -> Result<Vec<Row>> {
    let convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
    let mut rows = Vec::new();
    for (data, recorded) in &KINDS {
        rows.extend(compare(lab, &convoy, *data, recorded)?);
    }
    rows.extend(mounts_meanwhile(lab, &convoy)?);
    rows.push(memory(&convoy, "peak memory of the daemon after all this")?);
    Ok(rows)
}

/// The memory of a daemon that backs up and restores very many files.
pub(super) fn many_files(lab: &Lab) -> Result<Vec<Row>> {
    let convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
    convoy.ok(&["create", "data"])?;
    let volume = convoy.setup().volumes.join("data");
    data::million(&volume)?;
    let mut rows = Vec::new();
    let store = destination(lab, "million")?;
    let (seconds, url) = back_up(&convoy, "data", "first", &store)?;
    rows.push(Row::new("1,000,000 files: snapshot and backup", seconds, "s"));
    rows.push(memory(&convoy, "1,000,000 files: peak memory, first backup")?);
    let (seconds, _) = back_up(&convoy, "data", "second", &store)?;
    rows.push(Row::new("1,000,000 files, unchanged: snapshot and backup", seconds, "s"));
    rows.push(Row::new(
        "1,000,000 files: restore",
        timed(&convoy, &["create", "copy", "--backup", &url])?.0,
        "s",
    ));
    rows.push(memory(&convoy, "1,000,000 files: peak memory after a restore")?);
    Ok(rows)
}

/// Both programs with one kind of data, one after the other, step by step.
fn compare(lab: &Lab, convoy: &Convoy, data: Data, recorded: &Recorded) -> Result<Vec<Row>> {
    let name = data.name();
    let what = data.what();
    convoy.ok(&["create", name])?;
    let volume = convoy.setup().volumes.join(name);
    data.fill(&volume)?;
    let store = destination(lab, name)?;
    let restic = Restic::new(lab, name)?;

    let (first, _) = back_up(convoy, name, "first", &store)?;
    let beside = restic.back_up(&volume)?;
    let mut rows = vec![
        Row::new(format!("{what}: first snapshot and backup"), first, "s")
            .goal(beside.min(recorded.first / 5.0))
            .before(recorded.first),
        Row::new("  restic", beside, "s"),
    ];

    let changed = mebibytes(data.change(&volume)?);
    let (before, restic_before) = (size(&store)?, restic.size()?);
    let (second, url) = back_up(convoy, name, "second", &store)?;
    let beside = restic.back_up(&volume)?;
    rows.push(
        Row::new(format!("{what}: the same after 1 % changed"), second, "s")
            .goal(beside.min(recorded.second / 20.0))
            .before(recorded.second),
    );
    rows.push(Row::new("  restic", beside, "s"));
    rows.push(
        Row::new(
            format!("{what}: added for {changed:.1} MiB changed"),
            mebibytes(size(&store)? - before),
            "MiB",
        )
        .goal(changed * 2.0),
    );
    rows.push(Row::new("  restic", mebibytes(restic.size()? - restic_before), "MiB"));

    let copy = format!("{name}-copy");
    let (restored, _) = timed(convoy, &["create", &copy, "--backup", &url])?;
    let beside = restic.restore(&lab.path(&format!("{name}-restic")))?;
    same(&volume, &convoy.setup().volumes.join(&copy))?;
    rows.push(
        Row::new(format!("{what}: restore"), restored, "s")
            .goal(beside.min(recorded.restore / 2.0))
            .before(recorded.restore),
    );
    rows.push(Row::new("  restic", beside, "s"));
    Ok(rows)
}

/// How long another volume's mounts take while a backup runs.
fn mounts_meanwhile(lab: &Lab, convoy: &Convoy) -> Result<Vec<Row>> {
    convoy.ok(&["create", "other"])?;
    let store = destination(lab, "meanwhile")?;
    let snapshot = format!("{}-second", Data::Large.name());
    let words = ["backup", "create", &snapshot, "--dest", &store];
    let mut client = convoy.connect()?;
    let mut running = convoy.setup().client(&words)?.spawn().during(|| "start a backup".to_owned())?;
    let (mut mounts, mut unmounts) = (Vec::new(), Vec::new());
    let body = json!({"Name": "other", "ID": "a"});
    let ended = loop {
        for (call, times) in [("Mount", &mut mounts), ("Unmount", &mut unmounts)] {
            let start = Instant::now();
            client.docker(call, &body)?;
            times.push(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(2));
        if let Some(status) = running.try_wait().during(|| "wait for a backup".to_owned())? {
            break status;
        }
    };
    if !ended.success() || mounts.len() < 100 {
        return Err(Error::Unexpected(format!("a backup beside {} mounts: {ended}", mounts.len())));
    }
    let row = |what: &str, times| {
        Row::new(format!("{what} while a backup runs, p99"), micros(times, 0.99) / 1e3, "ms")
    };
    Ok(vec![row("mount", mounts).goal(20.0), row("unmount", unmounts).goal(20.0)])
}

/// Takes a snapshot and backs it up. Gives the seconds of both together, and the URL.
fn back_up(convoy: &Convoy, volume: &str, snapshot: &str, store: &str) -> Result<(f64, String)> {
    settle();
    // The names of snapshots are the daemon's, not a volume's.
    let snapshot = format!("{volume}-{snapshot}");
    let (frozen, _) = timed(convoy, &["snapshot", "create", volume, "--name", &snapshot])?;
    let (stored, url) = timed(convoy, &["backup", "create", &snapshot, "--dest", store])?;
    Ok((frozen + stored, url.replace("\\u0026", "&")))
}

fn timed(convoy: &Convoy, words: &[&str]) -> Result<(f64, String)> {
    time(&mut convoy.setup().client(words)?)
}

/// Runs a command, however long it takes. Gives the seconds and what it printed.
fn time(command: &mut Command) -> Result<(f64, String)> {
    let line = readable(command);
    let start = Instant::now();
    let done = command.output().during(|| format!("cannot start {line}"))?;
    let seconds = start.elapsed().as_secs_f64();
    if !done.status.success() {
        return Err(Error::Unexpected(format!("{line}: {}", String::from_utf8_lossy(&done.stderr))));
    }
    Ok((seconds, String::from_utf8_lossy(&done.stdout).trim().to_owned()))
}

/// A new directory as a destination.
fn destination(lab: &Lab, name: &str) -> Result<String> {
    Ok(format!("vfs://{}/", lab.make(&format!("{name}-store"))?.display()))
}

fn size(destination: &str) -> Result<u64> {
    tree::allocated(Path::new(destination.trim_start_matches("vfs://")))
}

// Sizes here are far below 2^52.
#[expect(clippy::cast_precision_loss)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A figure about wrong bytes would be worth nothing.
fn same(one: &Path, other: &Path) -> Result<()> {
    if tree::describe(one)? == tree::describe(other)? {
        return Ok(());
    }
    Err(Error::Unexpected(format!("{} and {} differ", one.display(), other.display())))
}

fn memory(convoy: &Convoy, what: &str) -> Result<Row> {
    Ok(Row::new(what, mebibytes(convoy.peak_kib()? << 10), "MiB").goal(MEMORY))
}
