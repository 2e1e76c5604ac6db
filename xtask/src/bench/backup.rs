//! Backups and restores through the daemon, and beside it restic and what convoy 0.5 did: the same data, the
//! same disk, one run.
//!
//! 0.5 made its archive at the snapshot, so its snapshot and backup count together, and so do ours.

pub(super) mod blocks;
pub(super) mod data;
mod old;
pub(super) mod restic;

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
use old::Old;
use restic::Restic;

/// The most memory the daemon may ever have had, in MiB.
pub(super) const MEMORY: f64 = 256.0;

pub(super) fn run(lab: &Lab) -> Result<Vec<Row>> {
    let convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
    let mut rows = Vec::new();
    for data in [Data::Large, Data::Small] {
        rows.extend(compare(lab, &convoy, data)?);
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

/// All three with one kind of data, one after the other, step by step.
fn compare(lab: &Lab, convoy: &Convoy, data: Data) -> Result<Vec<Row>> {
    let name = data.name();
    let what = data.what();
    convoy.ok(&["create", name])?;
    let volume = convoy.setup().volumes.join(name);
    data.fill(&volume)?;
    let store = destination(lab, name)?;
    let (restic, old) = (Restic::new(lab, name)?, Old::new(lab, name)?);
    let mut rows = Vec::new();
    // Ours is to be as fast as restic, and so many times as fast as 0.5.
    let mut row = |what: String, seconds: f64, beside: f64, before: f64, times: f64| {
        rows.push(Row::new(what, seconds, "s").goal(beside.min(before / times)).before(before));
        rows.push(Row::new("  restic", beside, "s"));
    };

    let (seconds, _) = back_up(convoy, name, "first", &store)?;
    let (beside, before) = (restic.back_up(&volume)?, old.back_up(&volume)?);
    row(format!("{what}: first snapshot and backup"), seconds, beside, before, 5.0);

    let changed = mebibytes(data.change(&volume)?);
    let (size_before, restic_before) = (size(&store)?, restic.size()?);
    let (seconds, url) = back_up(convoy, name, "second", &store)?;
    let (beside, before) = (restic.back_up(&volume)?, old.back_up(&volume)?);
    row(format!("{what}: the same after 1 % changed"), seconds, beside, before, 20.0);
    let added = Row::new(
        format!("{what}: added for {changed:.1} MiB changed"),
        mebibytes(size(&store)? - size_before),
        "MiB",
    )
    .goal(changed * 2.0);
    let restic_added = Row::new("  restic", mebibytes(restic.size()? - restic_before), "MiB");

    let copy = format!("{name}-copy");
    settle();
    let (seconds, _) = timed(convoy, &["create", &copy, "--backup", &url])?;
    let beside = restic.restore(&lab.path(&format!("{name}-restic")))?;
    let before = old.restore(&lab.path(&format!("{name}-restored")))?;
    row(format!("{what}: restore"), seconds, beside, before, 2.0);
    rows.extend([added, restic_added]);
    same(&volume, &convoy.setup().volumes.join(&copy))?;
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
pub(super) fn back_up(convoy: &Convoy, volume: &str, snapshot: &str, store: &str) -> Result<(f64, String)> {
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

pub(super) fn destination(lab: &Lab, name: &str) -> Result<String> {
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
