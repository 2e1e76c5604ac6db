//! Preparing disks and loop files, and making pools of them.

use super::check::Step;
use super::lab::{MIB, Setup, expect, sh};
use crate::{ensure, ensure_eq};
use convoy_driver_devicemapper::prepare::{DEVICES, PoolDevices, disk, loop_files};
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::{Context, DriverError, ErrorKind};
use std::path::Path;

pub(super) fn run() -> Step {
    let context = Context::default();
    let sum = || sh("md5sum /dev/vda");
    let blank = sum()?;
    let plan = disk(Path::new("/dev/vda"), DEVICES, false, &context)?;
    println!("{plan}");
    // As a user writes it, beside the program.
    let convoy = super::daemon::convoy()?;
    let said = sh(&format!("{} devicemapper prepare /dev/vda", convoy.display()))?;
    ensure_eq!(said, plan.to_string());
    ensure_eq!((plan.done, sum()?), (false, blank));
    let made = disk(Path::new("/dev/vda"), DEVICES, true, &context)?;
    println!("{made}");
    ensure!(made.done && made.data_size > 400 * MIB, "{made:?}");
    let partitioned = sum()?;
    let refused = |device: &str| disk(Path::new(device), DEVICES, true, &context).map_err(DriverError::from);
    expect(refused("/dev/vda"), ErrorKind::AlreadyExists)?;
    expect(refused("/dev/vda1"), ErrorKind::InvalidArgument)?;
    ensure_eq!(sum()?, partitioned);
    pool(&made)?;
    sh("mkfs.ext4 -q /dev/vdb")?;
    expect(refused("/dev/vdb"), ErrorKind::AlreadyExists)?;
    sh("mount /dev/vdb /mnt")?;
    expect(refused("/dev/vdb"), ErrorKind::InUse)?;
    sh("umount /mnt")?;

    let refusal = sh(&format!("{} devicemapper prepare /dev/vdb --write-to-disk", convoy.display()));
    ensure!(
        refusal.is_err_and(|error| error.to_string().contains("ext4")),
        "a disk with a file system is taken"
    );

    let trial = loop_files(Path::new("/run/trial"), 256 * MIB, &context)?;
    println!("{trial}");
    ensure_eq!(loop_files(Path::new("/run/trial"), 256 * MIB, &context)?, trial);
    expect(
        loop_files(Path::new("/run/trial"), 128 * MIB, &context).map_err(DriverError::from),
        ErrorKind::AlreadyExists,
    )?;
    pool(&trial)
}

/// A pool on them works.
fn pool(prepared: &PoolDevices) -> Step {
    let setup = Setup::on(&prepared.data.display().to_string(), &prepared.metadata.display().to_string());
    let lab = setup.at(format!("/run/convoy/{}", prepared.size)).open()?;
    ensure!(lab.opened.warnings.is_empty(), "{:?}", lab.opened);
    lab.create("v1", 64 * MIB, FsKind::Ext4)?;
    lab.mount("v1")?;
    lab.leave()?;
    sh("dmsetup remove convoy-pool")?;
    Ok(())
}
