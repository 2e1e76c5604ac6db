//! Volumes mounted in another mount namespace, and not in this one: `--mnt-ns`.

use super::check::Step;
use super::daemon::Daemon;
use super::everyday::size;
use super::lab::{MIB, Setup, expect, no_leaks, sh};
use crate::{ensure, ensure_eq};
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::ResizeVolume;
use convoy_driver_sdk::{ErrorKind, Name};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) fn run() -> Step {
    let mut inside = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sleep", "600"])
        .spawn()?;
    let namespace = PathBuf::from(format!("/proc/{}/ns/mnt", inside.id()));
    let own = std::fs::read_link("/proc/self/ns/mnt")?;
    while std::fs::read_link(&namespace)? == own {
        std::thread::sleep(Duration::from_millis(5));
    }
    let result = there(&namespace).and_then(|()| behind_the_daemon(&namespace));
    inside.kill()?;
    inside.wait()?;
    result
}

fn there(namespace: &Path) -> Step {
    let lab = Setup { namespace: Some(namespace.to_owned()), ..Setup::default() }.open()?;
    for kind in [FsKind::Ext4, FsKind::Xfs] {
        let volume = format!("in-{kind}");
        lab.create(&volume, size(kind), kind)?;
        let mountpoint = lab.mount(&volume)?;
        ensure_eq!(lab.get(&volume)?.mountpoint, Some(mountpoint.clone()));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(!mounts.contains(&volume), "it is mounted here");
        let enter = format!("nsenter --mount={} ", namespace.display());
        sh(&format!("{enter} sh -c 'echo hello > {}/file'", mountpoint.display()))?;
        lab.snapshot(&volume, "s1")?;
        let room = || -> Step<u64> {
            let figures = sh(&format!("{enter} stat -fc '%b %S' {}", mountpoint.display()))?;
            Ok(figures.split(' ').map(str::parse::<u64>).product::<Result<_, _>>()?)
        };
        let before = room()?;
        lab.call(ResizeVolume::new(Name::parse(&volume)?, size(kind) + 64 * MIB))?;
        let after = room()?;
        ensure!(after > before + 40 * MIB, "it grew there from {before} to {after} only");
        expect(lab.delete(&volume), ErrorKind::InUse)?;
    }
    sh("sync")?;
    lab.leave()
}

/// The same by the command line, over a crash of the daemon.
fn behind_the_daemon(namespace: &Path) -> Step {
    sh("dmsetup remove convoy-pool; dd if=/dev/zero of=/dev/vdb bs=64k count=1 conv=fsync 2>/dev/null")?;
    let (options, at) =
        ([("dm.datadev", "/dev/vda"), ("dm.metadatadev", "/dev/vdb")], namespace.display().to_string());
    let start = || Daemon::start("/run/elsewhere", &options, &["--mnt-ns", &at]);
    let enter = |script: &str| sh(&format!("nsenter --mount={at} sh -c '{script}'"));
    let mut daemon = start()?;
    daemon.run(&["create", "v1", "--size", "64M"])?;
    let mountpoint = daemon.run(&["mount", "v1"])?;
    let here =
        || -> Step<bool> { Ok(std::fs::read_to_string("/proc/self/mountinfo")?.contains(&mountpoint)) };
    ensure!(!here()?, "{mountpoint} is mounted here");
    enter(&format!("echo hello > {mountpoint}/file"))?;
    daemon.kill()?;
    let daemon = start()?;
    ensure_eq!(enter(&format!("cat {mountpoint}/file"))?, "hello");
    let told: serde_json::Value = serde_json::from_str(&daemon.run(&["inspect", "v1"])?)?;
    ensure_eq!(told["MountPoint"], mountpoint.as_str());
    ensure!(daemon.fails(&["delete", "v1"])?.contains("v1"), "a mounted volume is deleted");
    daemon.run(&["umount", "v1"])?;
    ensure_eq!(enter(&format!("grep -c {mountpoint} /proc/self/mountinfo || true"))?, "0");
    daemon.run(&["mount", "v1", "--mountpoint", "/mnt"])?;
    ensure_eq!(enter("cat /mnt/file")?, "hello");
    ensure!(!Path::new("/mnt/file").exists(), "it is mounted here");
    daemon.run(&["umount", "v1"])?;
    daemon.run(&["delete", "v1"])?;
    daemon.stop()?;
    no_leaks(&["convoy-pool"])
}
