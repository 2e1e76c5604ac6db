//! A disk that lies: from one moment on it drops what is written to it, which is what a power cut leaves,
//! many times in one life of the machine. And a disk that fails.

use super::bytes;
use super::check::{Failure, Step};
use super::crash;
use super::lab::{BLOCK, Lab, MIB, Setup, expect, sh};
use super::power;
use crate::{ensure, ensure_eq};
use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::filesystem::FsKind;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The state directory's part of the disk, at its end.
const STATE: &str = "/run/state";

/// Blocks that the kernel takes and loses when it cannot write to them: those of two file systems being made.
const LOST_TO_FAULTS: u64 = 64;

/// Gives a device another table, at one moment.
fn table(device: &str, target: &str) -> String {
    format!("dmsetup suspend {device}; dmsetup load {device} --table '{target}'; dmsetup resume {device}")
}

/// Cuts the power of data, metadata and state at once, `rounds` times.
pub(super) fn cuts(rounds: u64) -> Step {
    let sectors: u64 = sh("blockdev --getsz /dev/vda")?.parse()?;
    let (metadata, state) = (16 * MIB / 512, 64 * MIB / 512);
    let data = sectors - metadata - state;
    let whole = format!("0 {sectors} linear /dev/vda 0");
    sh(&format!(
        "modprobe dm-flakey; dmsetup create disk --table '{whole}'
         dmsetup create data --table '0 {data} linear /dev/mapper/disk 0'
         dmsetup create metadata --table '0 {metadata} linear /dev/mapper/disk {data}'
         dmsetup create state --table '0 {state} linear /dev/mapper/disk {}'
         mkfs.ext4 -q /dev/mapper/state; mkdir -p {STATE}",
        data + metadata
    ))?;
    let root = Path::new(STATE).join("devicemapper");
    let setup = Setup::on("/dev/mapper/data", "/dev/mapper/metadata").at(&root);
    let (mut log, mut acknowledged) = (None::<String>, 0);
    for round in 0..rounds {
        sh(&format!("mount /dev/mapper/state {STATE}"))?;
        if let Some(text) = &log {
            let (_lab, count) = crash::verify_among(&setup, text, &["data", "disk", "metadata", "state"])
                .map_err(|failure| Failure::new(format!("round {round}: {failure}\n{text}")))?;
            acknowledged += count;
        }
        let text = storm_until_cut(&root, round, sectors)?;
        // The machine is gone: nothing that is still written reaches the disk.
        sh(&format!(
            "for m in $(cut -d' ' -f5 /proc/self/mountinfo | grep ^{STATE}/ | sort -r); do umount $m; done
             for d in $(dmsetup ls | cut -f1 | grep -v -e '^disk$' -e '^data$' -e metadata -e state -e convoy-pool); do
                dmsetup remove --retry $d
             done
             dmsetup remove convoy-pool; umount {STATE}; {}; echo 3 > /proc/sys/vm/drop_caches",
            table("disk", &whole)
        ))?;
        log = Some(text);
    }
    sh(&format!("mount /dev/mapper/state {STATE}"))?;
    let text = log.unwrap_or_default();
    let (lab, count) = crash::verify_among(&setup, &text, &["data", "disk", "metadata", "state"])?;
    println!("{rounds} power cuts, {} acknowledged operations", acknowledged + count);
    lab.leave_but_for(rounds * power::LOST, &["convoy-pool", "data", "disk", "metadata", "state"])?;
    sh(&format!("umount {STATE}"))?;
    Ok(())
}

/// Lets a storm run for a while, and answers what it had acknowledged when the disk began to lie.
fn storm_until_cut(root: &Path, round: u64, sectors: u64) -> Step<String> {
    let log = Path::new("/run/log");
    let mut storm = Command::new(std::env::current_exe()?)
        .args(["storm", &root.display().to_string(), &(1000 + round).to_string()])
        .env(crash::DEVICES_VARIABLE, "/dev/mapper/data /dev/mapper/metadata")
        .stdout(File::create(log)?)
        .stdin(Stdio::null())
        .spawn()?;
    let mut random = StdRng::seed_from_u64(round);
    let some = random.random_range(2..12);
    let begun = Instant::now();
    while crash::done(&std::fs::read_to_string(log)?) < Some(some) {
        ensure!(storm.try_wait()?.is_none(), "the storm ended: {}", std::fs::read_to_string(log)?);
        ensure!(begun.elapsed() < Duration::from_secs(100), "no storm: {}", std::fs::read_to_string(log)?);
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
    // Held up, so that nothing is acknowledged between the moment that is written down and the first lie.
    sh("dmsetup suspend disk")?;
    let text = std::fs::read_to_string(log)?;
    sh(&format!(
        "dmsetup load disk --table '0 {sectors} flakey /dev/vda 0 0 1000 1 drop_writes'; dmsetup resume disk"
    ))?;
    storm.kill()?;
    storm.wait()?;
    Ok(text)
}

/// The data device fails: with everything, and with writes only.
pub(super) fn failing_data() -> Step {
    let sectors = sh("blockdev --getsz /dev/vda")?;
    let good = format!("0 {sectors} linear /dev/vda 0");
    // What the scenario before had there is no longer needed.
    sh(&format!(
        "dd if=/dev/zero of=/dev/vda bs=1M count=4 status=none; dmsetup create data --table '{good}'"
    ))?;
    let setup = Setup::on("/dev/mapper/data", "/dev/vdc").at("/run/convoy/failing-data");
    let lab = setup.open()?;
    lab.create("v1", 64 * MIB, FsKind::Ext4)?;
    let mountpoint = lab.mount("v1")?;
    bytes::write(&mountpoint.join("file"), 1, 3 << 20)?;
    lab.snapshot("v1", "s1")?;
    lab.unmount("v1")?;
    let used = lab.figure("PoolDataUsed")?;
    sh(&table("data", &format!("0 {sectors} error")))?;
    let error = expect(lab.create("v2", 64 * MIB, FsKind::Ext4), ErrorKind::Internal)?;
    println!("{error}");
    ensure!(error.message.contains("Input/output error"), "it is not said what failed: {error}");
    reading_fails(&lab)?;
    // What is metadata alone goes on.
    ensure_eq!(lab.list()?.len(), 1);
    lab.snapshot("v1", "s2")?;
    lab.delete_snapshot("v1", "s2")?;
    sh(&table("data", &good))?;
    // Nothing of the failed create is left but blocks that the kernel had taken for it and never gave to it.
    ensure_eq!(lab.figure("PoolDataUsed")?, used + lab.lost_blocks()? * BLOCK);
    let whole = |lab: &Lab| -> Step {
        let mountpoint = lab.mount("v1")?;
        bytes::verify(&mountpoint.join("file"), 1, 3 << 20)?;
        Ok(lab.unmount("v1")?)
    };
    whole(&lab)?;

    // A device that takes no writes cannot be flushed either: the kernel writes no metadata of data that is
    // not durable, and takes no more changes. What is there can be read.
    sh(&table("data", &format!("0 {sectors} flakey /dev/vda 0 0 1000 1 error_writes")))?;
    let error = expect(lab.create("v2", 64 * MIB, FsKind::Ext4), ErrorKind::Unavailable)?;
    println!("{error}; {}", error.hint.clone().unwrap_or_default());
    ensure!(error.hint.is_some_and(|hint| hint.contains("thin_check")), "it is not said what to do");
    ensure!(!lab.probe()?.healthy, "the pool is called healthy");
    bytes::image(Path::new("/dev/mapper/v1"))?;
    // It is back. As the message says: end the devices, start again.
    sh(&table("data", &good))?;
    drop(lab);
    sh("for d in $(dmsetup ls | cut -f1 | grep -v -e '^data$' -e '^convoy-pool$'); do dmsetup remove $d; done
        dmsetup remove convoy-pool")?;
    let lab = setup.open()?;
    println!("{:?}", lab.opened);
    ensure_eq!(lab.info()?.get("PoolState").map(String::as_str), Some("good"));
    ensure_eq!(lab.list()?.len(), 1);
    whole(&lab)?;
    lab.leave_but_for(LOST_TO_FAULTS, &["convoy-pool", "data"])
}

/// A backup of what cannot be read fails; it does not read something else.
fn reading_fails(lab: &Lab) -> Step {
    let source = lab.open_snapshot("v1", "s1", None)?;
    sh("echo 3 > /proc/sys/vm/drop_caches")?;
    let read = bytes::image(&source.device);
    ensure!(read.is_err(), "what cannot be read was read");
    lab.call(convoy_driver_sdk::protocol::CloseSnapshot::new(source.handle))?;
    Ok(())
}
