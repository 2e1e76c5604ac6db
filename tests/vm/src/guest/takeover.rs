//! The state directory and the pool of convoy 0.5.2, taken over.

use super::bytes;
use super::check::Step;
use super::lab::{MIB, Setup, no_leaks, sh};
use crate::{ensure, ensure_eq};
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::CloseSnapshot;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Where it was when these were written.
const ROOT: &str = "/var/lib/rancher/convoy/devicemapper";

macro_rules! fixture {
    ($path:literal) => {
        include_str!(concat!("../../../../drivers/devicemapper/tests/fixtures/v0.5.2/", $path))
    };
}

/// Written by convoy 0.5.2.
const FILES: [(&str, &str); 4] = [
    ("devicemapper.cfg", fixture!("root/devicemapper.cfg")),
    ("devicemapper_volume_pgdata.json", fixture!("root/devicemapper_volume_pgdata.json")),
    ("devicemapper_volume_r1.json", fixture!("root/devicemapper_volume_r1.json")),
    ("devicemapper_volume_r2.json", fixture!("root/devicemapper_volume_r2.json")),
];

pub(super) fn run() -> Step {
    std::fs::create_dir_all(ROOT)?;
    for (file, text) in FILES {
        std::fs::write(Path::new(ROOT).join(file), text)?;
    }
    // The pool as 0.5 made it, with the ids of those records: volumes 1, 4 and 5, snapshots 2 and 3 of 1.
    sh("dmsetup create convoy-pool --table '0 1048576 thin-pool /dev/vdb /dev/vda 4096 32768 1 skip_block_zeroing'
        for id in 1 4 5; do dmsetup message convoy-pool 0 \"create_thin $id\"; done
        thin() { dmsetup create $1 --table \"0 131072 thin /dev/mapper/convoy-pool $2\"; }
        thin pgdata 1; thin r1 4; thin r2 5
        for v in pgdata r1 r2; do mkfs.ext4 -q /dev/mapper/$v; done
        mkdir -p /mnt/old; mount /dev/mapper/pgdata /mnt/old")?;
    bytes::write(Path::new("/mnt/old/monday"), 1, 3 << 20)?;
    let snapshot = |id: u8| {
        sh(&format!(
            "dmsetup suspend pgdata; dmsetup message convoy-pool 0 'create_snap {id} 1'; dmsetup resume pgdata"
        ))
    };
    snapshot(2)?;
    bytes::write(Path::new("/mnt/old/tuesday"), 2, 3 << 20)?;
    sh("rm /mnt/old/monday; sync; fstrim /mnt/old")?;
    snapshot(3)?;
    // What 0.5 left when it was killed while it read a snapshot.
    sh("umount /mnt/old; dmsetup create monday --table '0 131072 thin /dev/mapper/convoy-pool 2'")?;

    // 0.5's `daemon` needed no options after the first start.
    let setup = Setup { options: BTreeMap::new(), ..Setup::default() }.at(ROOT);
    let lab = setup.open()?;
    println!("{:?}", lab.opened);
    ensure!(lab.opened.warnings.is_empty(), "{:?}", lab.opened);
    ensure!(!Path::new("/dev/mapper/monday").exists(), "what 0.5 left is still there");
    let table = sh("dmsetup table convoy-pool")?;
    ensure!(!table.contains("skip_block_zeroing"), "blocks still show what was in them before: {table}");

    let said: Value = serde_json::from_str(fixture!("info.json"))?;
    let info = lab.info()?;
    for (key, value) in said["devicemapper"].as_object().into_iter().flatten() {
        ensure!(
            info.get(key).map(String::as_str) == value.as_str(),
            "{key} is {:?}, not {value}",
            info.get(key)
        );
    }
    let list: Value = serde_json::from_str(fixture!("list.json"))?;
    let volumes = lab.list()?;
    ensure_eq!(volumes.len(), list.as_object().map_or(0, serde_json::Map::len));
    for volume in &volumes {
        let info = &list[volume.name.as_str()]["DriverInfo"];
        for (key, value) in &volume.info {
            ensure_eq!(info[key].as_str(), Some(value.as_str()));
        }
        ensure_eq!(info["Size"].as_str(), Some(volume.size.to_string().as_str()));
    }

    let mountpoint = lab.mount("pgdata")?;
    ensure_eq!(mountpoint, Path::new(ROOT).join("mounts/pgdata"));
    bytes::verify(&mountpoint.join("tuesday"), 2, 3 << 20)?;
    let monday = lab.open_snapshot("pgdata", "monday", None)?;
    let before = bytes::check_extents(&monday, None)?;
    let tuesday = lab.open_snapshot("pgdata", "tuesday", Some("monday"))?;
    bytes::check_extents(&tuesday, Some(&before))?;
    ensure!(!tuesday.discarded.is_empty(), "what was trimmed is not told");
    for handle in [monday.handle, tuesday.handle] {
        lab.call(CloseSnapshot::new(handle))?;
    }
    // Ids go on where 0.5 stopped.
    let next = lab.create("next", 64 * MIB, FsKind::Ext4)?;
    ensure_eq!(next.info.get("DevID").map(String::as_str), Some("6"));
    lab.unmount("pgdata")?;

    // The machine comes up again: nothing of it is there.
    drop(lab);
    sh("dmsetup remove pgdata r1 r2 next; dmsetup remove convoy-pool")?;
    no_leaks(&[])?;
    let lab = setup.open()?;
    ensure!(lab.opened.warnings.is_empty(), "{:?}", lab.opened);
    let mountpoint = lab.mount("pgdata")?;
    bytes::verify(&mountpoint.join("tuesday"), 2, 3 << 20)?;
    lab.leave()
}
