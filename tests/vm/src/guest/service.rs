//! The driver as users have it: behind the daemon, by the command line.

use super::backups;
use super::bytes;
use super::check::{Failure, Step};
use super::daemon::{Daemon, sum};
use super::lab::{MIB, capacity, no_leaks, sh};
use super::trees;
use crate::{ensure, ensure_eq};
use convoy_tests::patience;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const DIR: &str = "/run/service";
/// Half of the disk at first, as a device that can grow.
const DATA: &str = "dmsetup create data --table '0 1048576 linear /dev/vda 0'";
const GROW: &str =
    "dmsetup suspend data; dmsetup load data --table '0 1572864 linear /dev/vda 0'; dmsetup resume data";

pub(super) fn run() -> Step {
    sh(DATA)?;
    // A destination is a directory that is there: a misspelt one is refused.
    sh("mkdir /run/store /run/old /run/reverted")?;
    let options = [
        ("dm.datadev", "/dev/mapper/data"),
        ("dm.metadatadev", "/dev/vdb"),
        ("dm.thinpoolblocksize", "512"),
        ("dm.defaultvolumesize", "64M"),
    ];
    let mut daemon = Daemon::start(DIR, &options, &["--drivers", "vfs"])?;
    ensure!(daemon.info("ThinTools")?.contains('.'), "info does not tell of the tools");
    // A name that another device has.
    let said = daemon.fails(&["create", "data"])?;
    ensure!(said.contains("is taken by a device") && said.contains("linear"), "{said}");
    timed("backups", || backups::run(&daemon))?;
    for kind in ["ext4", "xfs", "btrfs"] {
        timed(&format!("clones on {kind}"), || clones(&daemon, kind))?;
    }
    for kind in ["ext4", "xfs", "btrfs"] {
        timed(&format!("files on {kind}"), || trees::run(&daemon, kind))?;
    }
    timed("after a revert", || backup_after_revert(&daemon))?;
    daemon.run(&["create", "kept", "--size", "160M"])?;
    let mountpoint = daemon.run(&["mount", "kept"])?;
    bytes::write(&Path::new(&mountpoint).join("file"), 1, 12 << 20)?;
    // In the midst of a backup of files, too.
    let mut cut_off = trees::begin_slowly(&daemon)?;
    daemon.kill()?;
    cut_off.wait()?;
    bytes::verify(&Path::new(&mountpoint).join("file"), 1, 12 << 20)?;
    // What was saved is known; a threshold is not a property of the pool. Of the metadata a tenth is in use.
    let daemon = Daemon::start(DIR, &[("dm.warnpercent", "15")], &["--drivers", "vfs"])?;
    trees::nothing_is_left(&daemon)?;
    daemon.run(&["snapshot", "delete", "cut-off"])?;
    timed("health", || health(&daemon))?;
    bytes::verify(&Path::new(&mountpoint).join("file"), 1, 12 << 20)?;
    daemon.run(&["umount", "kept"])?;
    daemon.run(&["delete", "kept"])?;
    ensure_eq!(daemon.info("PoolDataUsed")?, "0");
    daemon.stop()?;
    no_leaks(&["convoy-pool", "data"])
}

fn timed(what: &str, step: impl FnOnce() -> Step) -> Step {
    let started = Instant::now();
    step()?;
    println!("{what}: {:.1} s", started.elapsed().as_secs_f32());
    Ok(())
}

/// Clones beside their volume, and the volume as it was.
fn clones(daemon: &Daemon, kind: &str) -> Step {
    let (size, larger) = match kind {
        "ext4" => (64, "96M"),
        "xfs" => (320, "384M"),
        _ => (256, "320M"),
    };
    daemon.run(&["create", "c1", "--size", &format!("{size}M"), "--opt", &format!("fs={kind}")])?;
    let mountpoint = daemon.run(&["mount", "c1"])?;
    let at = |file: &str| Path::new(&mountpoint).join(file);
    bytes::write(&at("before"), 1, 2 << 20)?;
    std::fs::write(at("unsynced"), bytes::noise(5, 1 << 20))?;
    daemon.run(&["snapshot", "create", "c1", "--name", "s1"])?;
    bytes::write(&at("after"), 2, 2 << 20)?;
    std::fs::remove_file(at("before"))?;
    sh("sync")?;

    // While the volume is in use; a larger one has room.
    daemon.run(&["snapshot", "clone", "s1", "c2"])?;
    daemon.run(&["snapshot", "clone", "s1", "c3", "--size", larger])?;
    let same = daemon.run(&["mount", "c2"])?;
    let larger = daemon.run(&["mount", "c3", "--mountpoint", "/mnt"])?;
    ensure_eq!(larger, "/mnt");
    for clone in [&same, &larger] {
        bytes::verify(&Path::new(clone).join("before"), 1, 2 << 20)?;
        bytes::verify(&Path::new(clone).join("unsynced"), 5, 1 << 20)?;
        ensure!(!Path::new(clone).join("after").exists(), "a clone has what came after the snapshot");
    }
    let (small, large) = (capacity(Path::new(&same))?, capacity(Path::new(&larger))?);
    ensure!(large > small + 20 * MIB, "the file system of the larger clone did not grow: {small}, {large}");
    // Neither sees what is written to the other.
    bytes::write(&Path::new(&same).join("before"), 3, 2 << 20)?;
    bytes::verify(&Path::new(&larger).join("before"), 1, 2 << 20)?;
    bytes::verify(&at("after"), 2, 2 << 20)?;
    let said = daemon.fails(&["snapshot", "clone", "s1", "c2"])?;
    ensure!(said.contains("c2"), "{said}");
    let said = daemon.fails(&["snapshot", "revert", "s1"])?;
    ensure!(said.contains("mounted"), "a mounted volume is reverted: {said}");

    daemon.run(&["umount", "c1"])?;
    daemon.run(&["snapshot", "revert", "s1"])?;
    daemon.run(&["mount", "c1"])?;
    bytes::verify(&at("before"), 1, 2 << 20)?;
    ensure!(!at("after").exists(), "a reverted volume has what came after the snapshot");
    // The snapshot is as it was, for another time; what is written now goes to the volume alone.
    bytes::write(&at("before"), 4, 1 << 20)?;
    daemon.run(&["umount", "c1"])?;
    daemon.run(&["snapshot", "revert", "s1"])?;
    daemon.run(&["mount", "c1"])?;
    bytes::verify(&at("before"), 1, 2 << 20)?;
    for volume in ["c1", "c2", "c3"] {
        daemon.run(&["umount", volume])?;
        daemon.run(&["delete", volume])?;
    }
    ensure_eq!(daemon.info("PoolDataUsed")?, "0");
    Ok(())
}

/// An incremental backup across a revert restores what is there then.
fn backup_after_revert(daemon: &Daemon) -> Step {
    let write = |seed: u64| {
        let mountpoint = daemon.run(&["mount", "v1"])?;
        bytes::write(&Path::new(&mountpoint).join("file"), seed, 2 << 20)?;
        daemon.run(&["umount", "v1"])
    };
    let backup = |snapshot: &str| {
        daemon.run(&["snapshot", "create", "v1", "--name", snapshot])?;
        daemon.run(&["backup", "create", snapshot, "--dest", "vfs:///run/reverted"])
    };
    daemon.run(&["create", "v1"])?;
    write(1)?;
    backup("s1")?;
    write(2)?;
    backup("s2")?;
    daemon.run(&["snapshot", "revert", "s1"])?;
    write(3)?;
    let url = backup("s3")?;
    let expected = sum("/dev/mapper/v1")?;
    daemon.run(&["create", "v2", "--backup", &url])?;
    ensure_eq!(sum("/dev/mapper/v2")?, expected);
    let mountpoint = daemon.run(&["mount", "v2"])?;
    bytes::verify(&Path::new(&mountpoint).join("file"), 3, 2 << 20)?;
    daemon.run(&["umount", "v2"])?;
    daemon.run(&["delete", "v1", "v2"])?;
    Ok(())
}

/// A threshold is told in the log, in `info` and as an event; a device that grew is taken over by itself.
fn health(daemon: &Daemon) -> Step {
    let mut listener = daemon.command(&["events"])?.stdout(Stdio::piped()).spawn()?;
    let stdout = listener.stdout.take().ok_or_else(|| Failure::new("no events"))?;
    let (sender, events) = channel();
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.map(|line| sender.send(line)).take_while(Result::is_ok).count()
    });
    // It listens when it tells of something. Not of the pool: that would come near the threshold, and what is
    // told before somebody listens is not told again.
    while events.recv_timeout(Duration::from_secs(2)).is_err() {
        daemon.run(&["create", "heard", "--driver", "vfs"])?;
        daemon.run(&["delete", "heard"])?;
    }
    let used = daemon.info("PoolDataUsed")?;
    ensure_eq!(daemon.info("PoolWarning")?, "");
    let more = daemon.driver_root().join("mounts/kept/more");
    sh(&format!("dd if=/dev/zero of={} bs=1M count=80 conv=fsync status=none", more.display()))?;
    let deadline = Instant::now() + Duration::from_secs(60);
    let event = loop {
        ensure!(
            Instant::now() < deadline,
            "no event of the driver came ({used} bytes were used before): {}",
            daemon.log()?
        );
        match events.recv_timeout(Duration::from_secs(1)) {
            Ok(line) if line.contains("driver.") => break line,
            _ => {}
        }
    };
    listener.kill()?;
    listener.wait()?;
    let _ = reader.join();
    println!("{event}");
    ensure!(event.contains("driver.warning") && event.contains("getting full"), "{event}");
    ensure!(daemon.info("PoolWarning")?.contains("getting full"), "info does not warn");
    ensure!(daemon.log()?.contains("getting full"), "the log does not warn");

    let size: u64 = daemon.info("ThinpoolSize")?.parse()?;
    sh(GROW)?;
    let grown = || Step::Ok(daemon.info("ThinpoolSize")?.parse::<u64>()? == size + 256 * MIB);
    patience::wait("a pool that grows by itself", Duration::from_secs(60), grown)
}
