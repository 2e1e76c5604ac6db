//! A reboot: what was mounted is mounted again, what was written is there.

use super::bytes;
use super::check::Step;
use super::lab::{Lab, MIB, Setup, name, sh};
use crate::{ensure, ensure_eq};
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::MountVolume;
use std::path::{Path, PathBuf};

/// The disk with the state directory, and where it is mounted.
const STATE: &str = "/run/state";

fn setup() -> Setup {
    Setup::default().at(format!("{STATE}/devicemapper"))
}

/// The disk with the state directory, made at the first boot.
pub(super) fn state_disk() -> Step {
    sh(&format!(
        "blkid -p /dev/vdc >/dev/null || mkfs.ext4 -q /dev/vdc; mkdir -p {STATE}; mount /dev/vdc {STATE}"
    ))?;
    Ok(())
}

pub(super) fn before() -> Step {
    state_disk()?;
    let elsewhere = PathBuf::from(STATE).join("elsewhere");
    std::fs::create_dir_all(&elsewhere)?;
    let lab = setup().open()?;
    for (volume, kind, size) in
        [("own-place", FsKind::Ext4, 64), ("other-place", FsKind::Xfs, 320), ("unmounted", FsKind::Ext4, 64)]
    {
        lab.create(volume, size * MIB, kind)?;
    }
    let own = lab.mount("own-place")?;
    lab.call(MountVolume::new(name("other-place")).mountpoint(Some(elsewhere.clone())))?;
    let unmounted = lab.mount("unmounted")?;
    bytes::write(&own.join("file"), 1, 3 << 20)?;
    bytes::write(&elsewhere.join("file"), 2, 3 << 20)?;
    bytes::write(&unmounted.join("file"), 3, 3 << 20)?;
    lab.unmount("unmounted")?;
    lab.snapshot("own-place", "before")?;

    // The driver alone starts anew: a volume that somebody unmounted by hand stays so.
    let by_hand = lab.mount("unmounted")?;
    sh(&format!("umount {}", by_hand.display()))?;
    drop(lab);
    let lab = setup().open()?;
    ensure!(lab.opened.recovered.is_empty() && lab.opened.warnings.is_empty(), "{:?}", lab.opened);
    check(&lab, &elsewhere)
}

fn check(lab: &Lab, elsewhere: &Path) -> Step {
    let own = lab.root.join("mounts/own-place");
    ensure_eq!(lab.get("own-place")?.mountpoint, Some(own.clone()));
    ensure_eq!(lab.get("other-place")?.mountpoint, Some(elsewhere.to_owned()));
    ensure_eq!(lab.get("unmounted")?.mountpoint, None);
    bytes::verify(&own.join("file"), 1, 3 << 20)?;
    bytes::verify(&elsewhere.join("file"), 2, 3 << 20)
}

pub(super) fn after() -> Step {
    state_disk()?;
    let lab = setup().open()?;
    println!("{:?}", lab.opened);
    ensure_eq!(lab.opened.recovered.len(), 2);
    ensure!(lab.opened.warnings.is_empty(), "{:?}", lab.opened);
    check(&lab, &PathBuf::from(STATE).join("elsewhere"))?;
    let unmounted = lab.mount("unmounted")?;
    bytes::verify(&unmounted.join("file"), 3, 3 << 20)?;
    ensure_eq!(lab.get("own-place")?.snapshots.len(), 1);
    lab.leave()
}
