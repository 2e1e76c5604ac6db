//! On other file systems than the one under `/tmp`: those that share blocks between files (xfs, btrfs), and ext4.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Bed, builtin};

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success() || std::thread::panicking());
    }
}

/// A fresh file system in a file; none where its tools are not installed.
fn fresh(dir: &Path, mkfs: &str, args: &[&str]) -> Option<(PathBuf, Mounted)> {
    let (image, place) = (dir.join("image"), dir.join("mounted"));
    fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
    match Command::new(mkfs).args(args).arg(&image).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: {mkfs} is not installed");
            return None;
        }
        other => {
            let out = other.unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
    }
    fs::create_dir(&place).unwrap();
    let mount = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&place).output().unwrap();
    assert!(mount.status.success(), "{}", String::from_utf8_lossy(&mount.stderr));
    Some((place.clone(), Mounted(place)))
}

fn used(place: &Path) -> u64 {
    rustix::fs::syncfs(fs::File::open(place).unwrap()).unwrap();
    let space = rustix::fs::statvfs(place).unwrap();
    (space.f_blocks - space.f_bfree) * space.f_frsize
}

fn run(mkfs: &str, args: &[&str], shares_blocks: bool) {
    let dir = tempfile::tempdir().unwrap();
    let Some((place, _mounted)) = fresh(dir.path(), mkfs, args) else { return };
    for test in [
        crate::volumes::a_volume_lives_and_dies,
        crate::volumes::kept_data_comes_back,
        crate::snapshots::a_snapshot_is_frozen_and_whole,
        crate::restore::a_restore_becomes_a_volume,
    ] {
        crate::support::PLACE.set(Some(place.clone()));
        test(builtin);
    }
    let bed = Bed::on(builtin, &place);
    let client = bed.open();
    client.create("vol1").unwrap();
    fs::write(bed.volume("vol1").join("file"), vec![7; 64 << 20]).unwrap();
    let before = used(&place);
    client.snapshot("vol1", "snap").unwrap();
    let grown = used(&place) - before;
    assert_eq!(grown < 16 << 20, shares_blocks, "a snapshot of 64 MiB took {grown} bytes");
}

#[test]
fn ext4() {
    run("mkfs.ext4", &["-q"], false);
}

#[test]
fn xfs() {
    run("mkfs.xfs", &["-q", "-m", "reflink=1"], true);
}

#[test]
fn btrfs() {
    run("mkfs.btrfs", &["-q"], true);
}
