//! Backups of thin volumes by the daemon: what is read, what is stored, what comes back.

use super::bytes;
use super::check::{Failure, Step};
use super::daemon::{Daemon, sum};
use super::lab::{MIB, sh};
use crate::{ensure, ensure_eq};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a block of this pool: the engine's own for a device of this size, so that figures are exact.
const BLOCK: u64 = 256 << 10;
/// Where the tests write, with no regard to the file system that was there.
const FREE: u64 = 20 * MIB;
/// Blocks of content.
const BLOCKS: u64 = 100;
const STORE: &str = "vfs:///run/store";
/// A store written by convoy 0.5.2: two backups of a volume of 64 MiB, and the sums of what 0.5.2 restored of
/// them.
const OLD_STORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../host/backup/tests/fixtures");
const OLD_BACKUPS: [(&str, &str); 2] =
    [("backup-67fa5ab2939d488a", "restored1.sha256"), ("backup-71d7e26aee0f4b1b", "restored2.sha256")];

/// What a backup cost, from the daemon's log.
#[derive(Debug, Clone, Copy)]
struct Cost {
    read: u64,
    added: u64,
}

fn backup(daemon: &Daemon, snapshot: &str, flags: &[&str]) -> Step<(String, Cost)> {
    let url = daemon.run(&[&["backup", "create", snapshot, "--dest", STORE], flags].concat())?;
    let log = daemon.log()?;
    let line = log.lines().rev().find(|line| line.contains("backed up") && line.contains(snapshot));
    let line = line.ok_or_else(|| Failure::new(format!("the log does not tell of the backup: {log}")))?;
    let figure = |key: &str| -> Step<u64> {
        let rest = line.split(key).nth(1).ok_or_else(|| Failure::new(format!("no {key} in {line}")))?;
        Ok(rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse()?)
    };
    Ok((url, Cost { read: figure("read=")?, added: figure("added=")? }))
}

/// Writes content at blocks of a device.
fn put(volume: &str, blocks: std::ops::Range<u64>, seed: u64) -> Step {
    let device = File::options().write(true).open(format!("/dev/mapper/{volume}"))?;
    for block in blocks {
        let content = bytes::noise(seed + block, usize::try_from(BLOCK)?);
        device.write_all_at(&content, FREE + block * BLOCK)?;
    }
    device.sync_all()?;
    Ok(())
}

/// Bytes that a thin device maps.
fn mapped(id: &str) -> Step<u64> {
    let text = sh("dmsetup message convoy-pool 0 reserve_metadata_snap
        thin_ls -m --no-headers -o DEV,MAPPED_BLOCKS /dev/vdb
        dmsetup message convoy-pool 0 release_metadata_snap")?;
    let words: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let found = words.iter().find(|words| words.first() == Some(&id)).and_then(|words| words.get(1));
    let blocks = found.ok_or_else(|| Failure::new(format!("the pool has no device {id}: {text}")))?;
    Ok(blocks.parse::<u64>()? * BLOCK)
}

fn id(daemon: &Daemon, words: &[&str]) -> Step<String> {
    let shown: serde_json::Value = serde_json::from_str(&daemon.run(words)?)?;
    Ok(shown["DriverInfo"]["DevID"].as_str().unwrap_or_default().to_owned())
}

/// A snapshot, its sum, and how much it maps.
fn snapshot(daemon: &Daemon, name: &str) -> Step<(String, u64)> {
    daemon.run(&["snapshot", "create", "b1", "--name", name])?;
    let id = id(daemon, &["snapshot", "inspect", name])?;
    // Nobody writes to the volume meanwhile.
    Ok((sum("/dev/mapper/b1")?, mapped(&id)?))
}

fn restored(daemon: &Daemon, url: &str, volume: &str) -> Step<String> {
    daemon.run(&["create", volume, "--backup", url])?;
    sum(format!("/dev/mapper/{volume}"))
}

/// The pool has blocks of [`BLOCK`] bytes.
pub(super) fn run(daemon: &Daemon) -> Step {
    daemon.run(&["create", "b1", "--size", "48M"])?;
    let mountpoint = daemon.run(&["mount", "b1"])?;
    bytes::write(&Path::new(&mountpoint).join("file"), 1, 3 << 20)?;
    daemon.run(&["umount", "b1"])?;
    put("b1", 0..BLOCKS, 1000)?;

    // Full: what is mapped, and nothing else of the 48 MiB.
    let (first_sum, in_use) = snapshot(daemon, "full")?;
    let (first, cost) = backup(daemon, "full", &[])?;
    println!("full: {in_use} bytes mapped, {cost:?}");
    ensure_eq!(cost.read, in_use);
    // One percent changed: that is read and stored, and nothing else.
    put("b1", 7..8, 2000)?;
    let (second_sum, _) = snapshot(daemon, "changed")?;
    let (second, cost) = backup(daemon, "changed", &[])?;
    println!("one block of {BLOCKS} changed: {cost:?}");
    ensure_eq!(cost.read, BLOCK);
    ensure!((BLOCK / 2..BLOCK + (64 << 10)).contains(&cost.added), "{cost:?} for {BLOCK} bytes");
    // Ten blocks discarded: they are gone from the backup. At most the zeros in their place are looked at.
    sh(&format!("blkdiscard --offset {} --length {} /dev/mapper/b1", FREE + 20 * BLOCK, 10 * BLOCK))?;
    let (third_sum, now) = snapshot(daemon, "discarded")?;
    ensure_eq!(now, in_use - 10 * BLOCK);
    let (third, cost) = backup(daemon, "discarded", &[])?;
    println!("ten blocks discarded: {cost:?}");
    ensure!(cost.read <= 10 * BLOCK && cost.added < 64 << 10, "{cost:?} for nothing new");

    for (url, volume, expected) in
        [(&first, "r1", &first_sum), (&second, "r2", &second_sum), (&third, "r3", &third_sum)]
    {
        ensure_eq!(&restored(daemon, url, volume)?, expected);
    }
    // A restore writes only what is there.
    let written = mapped(&id(daemon, &["inspect", "r3"])?)?;
    ensure!(written <= now, "{written} bytes were written for {now}");
    daemon.run(&["backup", "verify", STORE, "--read-data"])?;
    old_format(daemon, &third_sum)?;
    for volume in ["b1", "r1", "r2", "r3"] {
        daemon.run(&["delete", volume])?;
    }
    Ok(())
}

/// As 0.5 wrote it, and what 0.5 wrote.
fn old_format(daemon: &Daemon, third_sum: &str) -> Step {
    let dest = "vfs:///run/old";
    let create = |snapshot| daemon.run(&["backup", "create", snapshot, "--dest", dest, "--format", "v0"]);
    create("changed")?;
    let third = create("discarded")?;
    // Blocks of 2 MiB, compressed, each under the beginning of its own SHA-512.
    let blocks = sh("for f in $(find /run/old -name '*.blk'); do
            zcat $f > /run/block; [ $(stat -c %s /run/block) = 2097152 ] || echo size $f
            case $(sha512sum < /run/block) in $(basename $f .blk)*) ;; *) echo name $f;; esac
        done; find /run/old -name '*.blk' | wc -l")?;
    ensure!(blocks.parse::<u64>().is_ok_and(|count| count > 10), "{blocks}");
    ensure_eq!(restored(daemon, &third, "o3")?, third_sum);
    daemon.run(&["delete", "o3"])?;
    let old = Path::new(OLD_STORE).canonicalize()?;
    for (backup, sums) in OLD_BACKUPS {
        let said = std::fs::read_to_string(old.join(sums))?;
        let store = old.join("devicemapper-store");
        let url = format!("vfs://{}?backup={backup}&volume=pgdata", store.display());
        let found = restored(daemon, &url, "from-0.5")?;
        ensure_eq!(Some(found.as_str()), said.split(' ').next());
        let mountpoint = daemon.run(&["mount", "from-0.5"])?;
        ensure!(std::fs::read_dir(mountpoint)?.count() > 0, "nothing is in it");
        daemon.run(&["umount", "from-0.5"])?;
        daemon.run(&["delete", "from-0.5"])?;
    }
    Ok(())
}
