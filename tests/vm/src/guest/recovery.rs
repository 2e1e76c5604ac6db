//! What a crash can leave, made by hand, one of each; and what must not be touched.

use super::bytes;
use super::check::Step;
use super::lab::{MIB, Setup, expect, sh};
use crate::{ensure, ensure_eq};
use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::{Health, Severity};
use serde_json::{Value, json};
use std::path::Path;

/// The ids in the pool, as thin_ls tells them.
fn ids() -> Step<String> {
    sh("dmsetup message convoy-pool 0 reserve_metadata_snap
        thin_ls -m --no-headers -o DEV /dev/vdb | tr -s ' \\n' ' '
        dmsetup message convoy-pool 0 release_metadata_snap")
}

pub(super) fn run() -> Step {
    cut_off()?;
    damaged_record()?;
    checked()?;
    wrong_devices()
}

fn config(root: &Path, change: impl FnOnce(&mut Value)) -> Step {
    let path = root.join("devicemapper.cfg");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    change(&mut config);
    std::fs::write(path, serde_json::to_vec(&config)?)?;
    Ok(())
}

fn cut_off() -> Step {
    let setup = Setup::default();
    let lab = setup.open()?;
    let root = lab.root.clone();
    lab.create("v1", 64 * MIB, FsKind::Ext4)?;
    lab.create("v2", 64 * MIB, FsKind::Ext4)?;
    let mountpoint = lab.mount("v1")?;
    bytes::write(&mountpoint.join("file"), 1, 3 << 20)?;
    lab.snapshot("v1", "s1")?;
    drop(lab);

    let thin = |name: &str, id: u32| {
        format!("dmsetup create {name} --table '0 131072 thin /dev/mapper/convoy-pool {id}'\n")
    };
    let message = |text: &str| format!("dmsetup message convoy-pool 0 '{text}'\n");
    sh(&[
        // Killed between suspending v1 and letting it go on.
        "dmsetup suspend v1\n".to_owned(),
        // A create that was cut off before its record was written, one that never reached the kernel, and one
        // whose device never got a table.
        message("create_thin 10"),
        thin("vx", 10),
        "dmsetup create half --uuid CONVOY-13-convoy-pool --notable\n".to_owned(),
        // A device that no record names and nobody announced.
        message("create_thin 12"),
        // A backup that was cut off: its device, and its metadata snapshot.
        thin("convoy-pool+read+3", 3),
        message("reserve_metadata_snap"),
        // A record whose device is gone.
        "dmsetup remove v2\n".to_owned(),
        message("delete 2"),
    ]
    .concat())?;
    std::fs::write(root.join(".convoy-1-1.tmp"), "half a record")?;
    config(&root, |config| {
        config["Pending"] = json!([
            { "DevID": 10, "What": "create volume vx" },
            { "DevID": 11, "What": "create volume vy" },
            { "DevID": 1, "What": "create volume v1" },
        ]);
    })?;

    let lab = setup.open()?;
    for line in lab.opened.recovered.iter().chain(&lab.opened.warnings) {
        println!("{line}");
    }
    let told = |word: &str| {
        let lines = lab.opened.recovered.iter().chain(&lab.opened.warnings);
        lines.filter(|line| line.contains(word)).count()
    };
    for (word, times) in [
        ("v1 was suspended", 1),
        ("vx", 2),
        ("vy", 1),
        ("half", 1),
        ("+read+3", 1),
        ("device 12", 1),
        ("volume v2", 1),
    ] {
        ensure!(told(word) == times, "{word} is told {} times, not {times}", told(word));
    }
    ensure_eq!(ids()?, "1 3 12");
    ensure_eq!(sh("dmsetup ls | cut -f1 | sort | tr '\\n' ' '")?, "convoy-pool v1");
    ensure!(!root.join(".convoy-1-1.tmp").exists(), "half a record is left");
    bytes::write(&mountpoint.join("goes-on"), 2, 1 << 20)?;
    bytes::verify(&mountpoint.join("file"), 1, 3 << 20)?;
    let damaged = lab.get("v2")?;
    ensure!(matches!(damaged.health, Health::Damaged(_)), "{damaged:?}");
    expect(lab.mount("v2"), ErrorKind::DataLoss)?;
    lab.delete("v2")?;
    // The unknown device is left alone, and so is its id.
    config(&root, |config| config["LastDevID"] = json!(11))?;
    drop(lab);
    let lab = setup.open()?;
    let volume = lab.create("v3", 64 * MIB, FsKind::Ext4)?;
    ensure_eq!(volume.info.get("DevID").map(String::as_str), Some("13"));
    ensure_eq!(ids()?, "1 3 12 13");
    ensure_eq!(lab.info()?.get("UnknownDevices").map(String::as_str), Some("12"));
    sh(&message("delete 12"))?;
    lab.leave()
}

/// A record that cannot be read hides no other, and nothing it may name is deleted.
fn damaged_record() -> Step {
    let setup = Setup::default();
    let lab = setup.open()?;
    let root = lab.root.clone();
    let lost = lab.create("lost", 64 * MIB, FsKind::Ext4)?;
    lab.create("good", 64 * MIB, FsKind::Ext4)?;
    drop(lab);
    let path = root.join("devicemapper_volume_lost.json");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, "")?;
    let id: u32 = lost.info.get("DevID").map(|id| id.parse()).transpose()?.unwrap_or_default();
    config(&root, |config| config["Pending"] = json!([{ "DevID": id, "What": "delete volume lost" }]))?;
    let lab = setup.open()?;
    ensure_eq!(lab.list()?.len(), 2);
    expect(lab.get("lost"), ErrorKind::DataLoss)?;
    expect(lab.create("lost", 64 * MIB, FsKind::Ext4), ErrorKind::AlreadyExists)?;
    lab.mount("good")?;
    ensure!(
        ids()?.split(' ').any(|found| found == id.to_string()),
        "what a damaged record named was deleted"
    );
    // Mended without a restart.
    std::fs::write(&path, text)?;
    ensure_eq!(lab.get("lost")?.health, Health::Good);
    ensure!(lab.probe()?.healthy, "the pool is not well");
    lab.mount("lost")?;
    lab.leave()
}

/// What a check finds, and what it repairs.
fn checked() -> Step {
    let setup = Setup::default();
    let lab = setup.open()?;
    lab.create("v1", 64 * MIB, FsKind::Ext4)?;
    lab.snapshot("v1", "s1")?;
    lab.snapshot("v1", "s2")?;
    let well = lab.check(true)?;
    ensure!(well.iter().all(|finding| finding.severity == Severity::Info), "{well:?}");
    let lost = lab.get("v1")?.snapshots.into_iter().find(|snapshot| snapshot.name.as_str() == "s2");
    let lost = lost.and_then(|snapshot| snapshot.info.get("DevID").cloned()).unwrap_or_default();
    sh(&format!(
        "for m in 'create_thin 500' 'delete {lost}' reserve_metadata_snap; do dmsetup message convoy-pool 0 \"$m\"; done
         mv /usr/sbin/thin_repair /usr/sbin/thin_repair.away"
    ))?;
    let found = lab.check(true)?;
    sh("mv /usr/sbin/thin_repair.away /usr/sbin/thin_repair")?;
    for finding in &found {
        println!("{:?} {}: {} ({:?})", finding.severity, finding.subject, finding.message, finding.hint);
    }
    let told = |severity: Severity, subject: &str, message: &str| {
        found.iter().any(|finding| {
            let what = finding.subject == subject && finding.message.contains(message);
            what && finding.severity == severity && finding.hint.is_some()
        })
    };
    ensure!(told(Severity::Error, "tool thin_repair", "not installed"), "the tool is not missed");
    ensure!(told(Severity::Warning, "pool convoy-pool", "device 500"), "the unknown device is not told");
    ensure!(told(Severity::Error, "volume v1", "snapshot s2"), "the lost snapshot is not told");
    ensure!(told(Severity::Warning, "pool convoy-pool", "metadata snapshot"), "nor the metadata snapshot");
    ensure!(
        found.iter().any(|finding| finding.repaired && finding.message.contains("metadata snapshot")),
        "the metadata snapshot was not let go"
    );
    // What is left is what only a person can decide.
    sh("dmsetup message convoy-pool 0 'delete 500'")?;
    lab.delete_snapshot("v1", "s2")?;
    let well = lab.check(false)?;
    ensure!(well.iter().all(|finding| finding.severity == Severity::Info), "{well:?}");
    // The pool is ended under the driver.
    sh("dmsetup remove v1; dmsetup remove convoy-pool")?;
    let found = lab.check(false)?;
    let offline = found.iter().find(|finding| finding.message.contains("does not run"));
    ensure!(offline.is_some_and(|finding| finding.message.contains("metadata whole")), "{found:?}");
    drop(lab);
    setup.open()?.leave()
}

/// Devices that are not this pool's are refused, and not a byte of them changes.
fn wrong_devices() -> Step {
    let good = Setup::default();
    let lab = good.open()?;
    lab.create("v1", 64 * MIB, FsKind::Ext4)?;
    drop(lab);
    let sums = || sh("md5sum /dev/vda /dev/vdb /dev/vdc | cut -c1-32 | tr '\\n' ' '");

    let changed = Setup { override_saved: false, ..good.clone().with("dm.fs", "xfs") };
    expect(changed.open(), ErrorKind::InvalidArgument)?;
    // The pool runs, on other devices.
    let other = Setup::on("/dev/vda", "/dev/vdc");
    expect(other.open(), ErrorKind::AlreadyExists)?;
    expect(good.clone().with("dm.thinpoolblocksize", "128").open(), ErrorKind::InvalidArgument)?;
    expect(good.clone().with("dm.datadev", "/dev/vdx").open(), ErrorKind::Unavailable)?;
    expect(good.clone().with("dm.nonsense", "1").open(), ErrorKind::InvalidArgument)?;
    sh("dmsetup remove v1; dmsetup remove convoy-pool; sync")?;
    // Records, but a blank metadata device.
    let error = expect(other.open(), ErrorKind::DataLoss)?;
    println!("{error}; {}", error.hint.as_deref().unwrap_or_default());
    // No records; a data device with something on it, a metadata device with something on it, and both
    // exchanged.
    let fresh = "/run/convoy/fresh";
    let blank = sh("truncate -s 16M /run/blank; losetup --find --show /run/blank")?;
    sh("mkfs.ext4 -q /dev/vdc; sync")?;
    let before = sums()?;
    expect(Setup::on("/dev/vdc", &blank).at(fresh).open(), ErrorKind::AlreadyExists)?;
    expect(Setup::on(&blank, "/dev/vdc").at(fresh).open(), ErrorKind::AlreadyExists)?;
    expect(Setup::on("/dev/vda", "/dev/vda").at(fresh).open(), ErrorKind::InvalidArgument)?;
    let blocks = Setup::default().with("dm.thinpoolblocksize", "128").at(fresh);
    expect(blocks.open(), ErrorKind::InvalidArgument)?;
    ensure_eq!(sums()?, before);
    ensure_eq!(sh("dmsetup ls | grep -c convoy || true")?, "0");

    // Metadata that thin_check does not like is not used.
    sh(
        "dd if=/dev/vdb of=/run/metadata bs=1M status=none; dd if=/dev/urandom of=/dev/vdb bs=4096 seek=1 count=1000 conv=notrunc status=none; sync",
    )?;
    let damaged = sums()?;
    let error = expect(good.open(), ErrorKind::DataLoss)?;
    ensure!(error.hint.as_deref().unwrap_or_default().contains("thin_repair"), "{error:?}");
    ensure_eq!(sums()?, damaged);
    sh("dd if=/run/metadata of=/dev/vdb bs=1M conv=notrunc status=none; sync")?;
    let lab = good.open()?;
    lab.mount("v1")?;
    lab.leave()
}
