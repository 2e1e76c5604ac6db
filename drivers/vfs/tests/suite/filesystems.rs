//! On other file systems than the one under `/tmp`: those that share blocks between files (xfs, btrfs), and
//! ext4.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Bed, builtin};

pub(crate) struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success() || std::thread::panicking());
    }
}

/// A fresh file system in a file; none where its tools are not installed.
pub(crate) fn fresh(dir: &Path, mkfs: &str, args: &[&str]) -> Option<(PathBuf, Mounted)> {
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

pub(crate) fn run_program(program: &str, args: &[&str], path: &Path) -> String {
    let out = Command::new(program).args(args).arg(path).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The project of something, and those of its flags that are kept.
fn flags(path: &Path) -> String {
    let listed = run_program("lsattr", &["-d", "-p"], path);
    let mut parts = listed.split_whitespace();
    let project = parts.next().unwrap().to_owned();
    let letters: String = parts.next().unwrap().chars().filter(|c| "iadP".contains(*c)).collect();
    format!("{project} {letters}")
}

#[test]
fn a_quick_change_is_in_the_snapshot_whatever_clock_the_volume_has() {
    let dir = tempfile::tempdir().unwrap();
    let Some((place, _mounted)) = fresh(dir.path(), "mkfs.ext4", &["-q", "-I", "128"]) else { return };
    let bed = Bed::new(builtin);
    let client = bed.open();
    fs::create_dir(place.join("db")).unwrap();
    std::os::unix::fs::symlink(place.join("db"), bed.volume("db")).unwrap();
    client.create("db").unwrap();
    fs::write(bed.volume("db").join("f"), "old").unwrap();
    client.snapshot("db", "one").unwrap();
    fs::write(bed.volume("db").join("f"), "new").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    client.snapshot("db", "two").unwrap();
    for (snapshot, content) in [("one", "old"), ("two", "new")] {
        let (opened, path) = client.open_snapshot("db", snapshot).unwrap();
        assert_eq!(fs::read_to_string(path.join("f")).unwrap(), content);
        client.close_snapshot(opened);
    }
}

/// What needs a rename into `vfs.path`: clone, revert, restore, and a delete, which goes the other way.
fn everything_is_renamed(bed: &Bed, project: &str) {
    use crate::support::{name, options};
    use convoy_driver_sdk::protocol::{CloneVolume, FinishRestore, RevertVolume};
    let client = bed.open();
    client.create("vol1").unwrap();
    let file = |volume: &str| bed.volume(volume).join("file");
    fs::write(file("vol1"), "then").unwrap();
    run_program("chattr", &["+i"], &file("vol1"));
    client.snapshot("vol1", "snap").unwrap();
    run_program("chattr", &["-i"], &file("vol1"));
    fs::write(file("vol1"), "now").unwrap();
    client.snapshot("vol1", "later").unwrap();
    let revert = || client.call(RevertVolume::new(name("vol1"), name("snap")));
    revert().unwrap();
    let clone = CloneVolume::new(name("copy"), name("vol1"), name("snap")).options(options(&[]));
    client.call(clone).unwrap();
    for volume in ["vol1", "copy"] {
        assert_eq!(fs::read_to_string(file(volume)).unwrap(), "then");
        assert_eq!(flags(&bed.volume(volume)), format!("{project} P"), "{volume}");
        assert_eq!(flags(&file(volume)), format!("{project} i"), "{volume}");
        run_program("chattr", &["-i"], &file(volume));
    }
    let (prepared, path) = client.prepare("back", &[]).unwrap();
    fs::write(path.join("file"), "x").unwrap();
    client.call(FinishRestore::new(prepared.handle)).unwrap();
    assert_eq!(flags(&file("back")), format!("{project} "));
    client.create_with("image", Some(1 << 20), &[("vm", "true")]).unwrap();
    // A project of its own stays, also where the volumes' directory has another.
    run_program("chattr", &["-p", "9"], &bed.volume("vol1"));
    run_program("chattr", &["-p", "9"], &file("vol1"));
    revert().unwrap();
    assert_eq!((&*flags(&bed.volume("vol1")), &*flags(&file("vol1"))), ("9 P", "9 i"));
    run_program("chattr", &["-i"], &file("vol1"));
    client.drop_snapshot("vol1", "later").unwrap();
    for volume in ["vol1", "copy", "back", "image"] {
        client.delete(volume, false).unwrap();
    }
    client.close();
    assert_eq!(bed.own_files(), ["lock", "snapshots", "work"]);
}

#[test]
fn a_project_on_the_volumes_directory_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let Some((place, _mounted)) = fresh(dir.path(), "mkfs.xfs", &["-q"]) else { return };
    // From the beginning, so that everything below has it; and of late, so that what was there before has
    // none.
    let early = Bed::on(builtin, &place);
    // Root's alone, or the driver would shelter it with a mount that stays.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(early.volumes()).unwrap();
    run_program("chattr", &["-p", "5", "+P"], &early.volumes());
    everything_is_renamed(&early, "5");
    let late = Bed::on(builtin, &place);
    late.open().close();
    run_program("chattr", &["-p", "6", "+P"], &late.volumes());
    everything_is_renamed(&late, "6");
}
