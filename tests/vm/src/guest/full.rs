//! A pool that is full, grows, or loses its metadata device.

use super::bytes;
use super::check::{Failure, Step};
use super::lab::{BLOCK, Lab, MIB, Setup, expect, sh};
use crate::{ensure, ensure_eq};
use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::filesystem::FsKind;
use convoy_tests::patience;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of the file that must survive everything.
const KEPT: usize = 10 << 20;

/// Bytes that a pool of 192 MiB, which has some in use, cannot take.
const WAITING: usize = 192 << 20;

/// A loop device on a file in memory that can grow.
fn growing(file: &str, mib: u64) -> Step<String> {
    sh(&format!("truncate -s {mib}M {file}; losetup --find --show {file}"))
}

fn grow(device: &str, file: &str, mib: u64) -> Step {
    sh(&format!("truncate -s {mib}M {file}; losetup -c {device}"))?;
    Ok(())
}

/// Writes until so many percent of the pool are in use: what the file system itself takes is its own affair.
fn fill_to(lab: &Lab, file: &Path, percent: u64) -> Step {
    let mut file = std::fs::File::create(file)?;
    while lab.figure("PoolDataPercent")? < percent {
        file.write_all(&bytes::noise(percent, 1 << 20))?;
        file.sync_all()?;
    }
    Ok(())
}

/// Writes until no block is left; answers how many MiB went in.
fn fill(path: &Path) -> Step<u64> {
    let mut file = std::fs::File::create(path)?;
    for mib in 0.. {
        let written = file.write_all(&bytes::noise(mib, 1 << 20)).and_then(|()| file.sync_data());
        if written.is_err() {
            return Ok(mib);
        }
        ensure!(mib < 1000, "the pool never filled");
    }
    Ok(0)
}

pub(super) fn run() -> Step {
    let (data, metadata) = (growing("/run/data", 96)?, growing("/run/metadata", 4)?);
    let setup = Setup::on(&data, &metadata)
        .with("dm.nospace", "error")
        .with("dm.warnpercent", "60")
        .with("dm.limitpercent", "80");
    let lab = setup.open()?;
    lab.create("v1", 256 * MIB, FsKind::Ext4)?;
    let mountpoint = lab.mount("v1")?;
    bytes::write(&mountpoint.join("kept"), 1, KEPT)?;
    ensure!(lab.probe()?.message.is_none(), "a warning too early");

    // Above the first threshold a warning, above the second nothing new.
    fill_to(&lab, &mountpoint.join("more"), 60)?;
    let probed = lab.probe()?;
    ensure!(probed.healthy && probed.message.is_some_and(|text| text.contains("getting full")), "no warning");
    lab.snapshot("v1", "s1")?;
    fill_to(&lab, &mountpoint.join("much"), 80)?;
    let error = expect(lab.create("v2", 64 * MIB, FsKind::Ext4), ErrorKind::Exhausted)?;
    ensure!(error.hint.is_some() && !error.retryable, "{error:?}");
    expect(lab.snapshot("v1", "s2"), ErrorKind::Exhausted)?;
    ensure!(!lab.probe()?.healthy, "a full pool is called healthy");

    // Full: writes fail, what was written stays readable, and it is said what to do.
    let written = fill(&mountpoint.join("fill"))?;
    println!("{written} MiB until full");
    let error = expect(lab.create("v2", 64 * MIB, FsKind::Ext4), ErrorKind::Exhausted)?;
    println!("{error}; {}", error.hint.as_deref().unwrap_or_default());
    ensure_eq!(lab.info()?.get("PoolState").map(String::as_str), Some("out-of-data-space"));
    ensure!(lab.info()?.contains_key("PoolWarning"), "info does not warn");
    bytes::verify(&mountpoint.join("kept"), 1, KEPT)?;

    // Its devices grow, and the pool with them, while it is in use.
    let (size, room) = (lab.figure("ThinpoolSize")?, lab.figure("PoolMetadataTotal")?);
    grow(&data, "/run/data", 192)?;
    grow(&metadata, "/run/metadata", 8)?;
    let probed = lab.probe()?;
    ensure!(probed.healthy, "{probed:?}");
    ensure_eq!(lab.figure("ThinpoolSize")?, size + 96 * MIB);
    ensure!(lab.figure("PoolMetadataTotal")? > room, "the metadata device did not grow");
    ensure_eq!(lab.info()?.get("PoolState").map(String::as_str), Some("good"));
    repair(&lab)?;
    let mountpoint = lab.mount("v1")?;
    bytes::verify(&mountpoint.join("kept"), 1, KEPT)?;
    bytes::write(&mountpoint.join("after"), 4, 4 << 20)?;
    // Given back down to the file below, which gets holes: it stores what the pool uses, before and after.
    // How much that is changes all the time, since a young ext4 writes its inode tables in the background.
    let used = || lab.figure("PoolDataUsed");
    let stored = || Step::Ok(sh("du -k /run/data | cut -f1")?.parse::<u64>()? * 1024);
    let same = |when| {
        patience::wait(when, Duration::from_secs(60), || Ok(stored()? == used()?)).map_err(
            |failure: Failure| failure.with(&stored().map(|bytes| format!("{bytes} bytes are stored"))),
        )
    };
    same("a file that stores what the pool uses")?;
    let before = used()?;
    sh(&format!("rm {}/fill {0}/much; sync; fstrim {0}", mountpoint.display()))?;
    let after = used()?;
    ensure!(after + BLOCK < before, "{before} bytes were in use, and after a trim still {after}");
    // What is passed down arrives after the trim has returned.
    same("a trim to be passed down")?;
    let used = used()?;
    sh(&format!("rm {}/more; sync; fstrim {0}", mountpoint.display()))?;
    lab.delete_snapshot("v1", "s1")?;
    let left = lab.figure("PoolDataUsed")?;
    ensure!(left + 16 * MIB < used, "{used} bytes were in use, and after deleting a snapshot still {left}");
    drop(lab);
    waiting(&setup, &data)
}

/// The errors a file system met are its own: check it, as the message says.
fn repair(lab: &Lab) -> Step {
    lab.unmount("v1")?;
    sh("e2fsck -fy /dev/mapper/v1 >/dev/null || [ $? -lt 4 ]")?;
    Ok(())
}

/// With `queue`, a write waits for the pool to be extended and then succeeds.
fn waiting(setup: &Setup, data: &str) -> Step {
    let lab = setup.clone().with("dm.nospace", "queue").with("dm.limitpercent", "100").open()?;
    ensure!(
        !sh("dmsetup table convoy-pool")?.contains("error_if_no_space"),
        "the option did not reach the pool"
    );
    let target = lab.root.join("mounts/v1/waits");
    let writer = std::thread::spawn(move || bytes::write(&target, 5, WAITING));
    let joined = |writer: std::thread::JoinHandle<Step>| {
        writer.join().unwrap_or_else(|_| Err(Failure::new("the writer panicked")))
    };
    // A pool is also called full for the moment until blocks that were freed are committed, and goes on by
    // itself.
    let full = Instant::now() + Duration::from_secs(60);
    let mut seen = 0;
    while seen < 5 {
        if writer.is_finished() {
            let figure = |name| lab.figure(name).unwrap_or_default();
            let (used, size) = (figure("PoolDataUsed"), figure("ThinpoolSize"));
            let ended = joined(writer);
            return Err(Failure::new(format!(
                "the writer did not wait: {ended:?}; {used} bytes of {size} are in use"
            )));
        }
        ensure!(Instant::now() < full, "the pool never filled");
        let is_full = lab.info()?.get("PoolState").map(String::as_str) == Some("out-of-data-space");
        seen = if is_full { seen + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(100));
    }
    grow(data, "/run/data", 288)?;
    ensure!(lab.probe()?.healthy, "it did not grow");
    joined(writer)?;
    bytes::verify(&lab.root.join("mounts/v1/waits"), 5, WAITING)?;
    lab.leave()
}

/// The metadata device fails, and comes back.
pub(super) fn failing_metadata() -> Step {
    let sectors = sh("blockdev --getsz /dev/vdb")?;
    let table = |target: &str| {
        format!(
            "dmsetup suspend metadata; dmsetup load metadata --table '0 {sectors} {target}'; dmsetup resume metadata"
        )
    };
    sh(&format!("modprobe dm-flakey; dmsetup create metadata --table '0 {sectors} linear /dev/vdb 0'"))?;
    let setup = Setup::on("/dev/vda", "/dev/mapper/metadata");
    let lab = setup.open()?;
    lab.create("v1", 64 * MIB, FsKind::Ext4)?;
    let mountpoint = lab.mount("v1")?;
    bytes::write(&mountpoint.join("file"), 1, 3 << 20)?;
    lab.snapshot("v1", "s1")?;
    sh(&table("flakey /dev/vdb 0 0 60 1 error_writes"))?;
    // It may take one operation for the kernel to notice; that one must not be acknowledged.
    let error = expect(lab.create("v2", 64 * MIB, FsKind::Ext4), ErrorKind::Unavailable)?;
    println!("{error}; {}", error.hint.clone().unwrap_or_default());
    ensure!(error.hint.is_some_and(|hint| hint.contains("thin_check")), "it is not said what to do");
    expect(lab.snapshot("v1", "s2"), ErrorKind::Unavailable)?;
    let probed = lab.probe()?;
    ensure!(!probed.healthy && probed.message.is_some(), "{probed:?}");
    println!("{}", lab.info()?.get("PoolState").cloned().unwrap_or_default());
    bytes::verify(&mountpoint.join("file"), 1, 3 << 20)?;
    ensure_eq!(lab.list()?.len(), 1);

    // The device is back. As the message says: unmount, end the devices, start again.
    sh(&table("linear /dev/vdb 0"))?;
    let unmounted = lab.unmount("v1");
    println!("unmount: {unmounted:?}");
    drop(lab);
    sh(&format!(
        "umount {} 2>/dev/null; dmsetup remove v1; dmsetup remove convoy-pool",
        mountpoint.display()
    ))?;
    let lab = setup.open()?;
    println!("{:?}", lab.opened);
    ensure_eq!(lab.info()?.get("PoolState").map(String::as_str), Some("good"));
    ensure_eq!(lab.get("v1")?.snapshots.len(), 1);
    let mountpoint = lab.mount("v1")?;
    bytes::verify(&mountpoint.join("file"), 1, 3 << 20)?;
    lab.create("v2", 64 * MIB, FsKind::Ext4)?;
    for volume in lab.list()? {
        lab.unmount(&volume.name)?;
        lab.delete(&volume.name)?;
    }
    ensure_eq!(lab.figure("PoolDataUsed")?, 0);
    super::lab::no_leaks(&["convoy-pool", "metadata"])?;
    sh("dmsetup remove convoy-pool; dmsetup remove metadata")?;
    Ok(())
}
