//! Sizes: enforced by btrfs, told where no file system enforces them, refused where that is wanted. ext4 and
//! XFS enforce them in a machine of their own: `tests/vm`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::protocol::{
    Check, CloneVolume, FinishRestore, PrepareRestore, ResizeVolume, RevertVolume, Severity, SourceKind,
    TargetLocation, Volume,
};
use tempfile::TempDir;

use crate::crash::{Step, survive};
use crate::filesystems::{Mounted, fresh, run_program};
use crate::support::{Bed, Client, PLACE, builtin, name, options, refused};

const MIB: u64 = 1 << 20;

/// A btrfs, with quotas or without. It is unmounted before its file is removed.
fn btrfs(quotas: bool) -> Option<(Mounted, PathBuf, TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let (place, mounted) = fresh(dir.path(), "mkfs.btrfs", &["-q"])?;
    if quotas {
        run_program("btrfs", &["quota", "enable"], &place);
    }
    Some((mounted, place, dir))
}

/// What the driver says of a volume's size: the size, and whether it is enforced.
fn told(volume: &Volume) -> (u64, Option<&str>) {
    (volume.size, volume.info.get("SizeEnforced").map(String::as_str))
}

/// Writes so much into a new file of a volume.
fn fill(volume: &Path, file: &str, mib: u64) -> std::io::Result<()> {
    let mut file = fs::File::create(volume.join(file))?;
    for _ in 0..mib {
        file.write_all(&vec![7; 1 << 20])?;
    }
    file.sync_all()
}

fn full(volume: &Path, mib: u64) {
    let error = fill(volume, "more", mib).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{error}");
    fs::remove_file(volume.join("more")).unwrap();
    sync(volume);
}

/// What was removed counts until it is gone from the disk.
fn sync(place: &Path) {
    rustix::fs::syncfs(fs::File::open(place).unwrap()).unwrap();
}

/// The limits of all subvolumes of the btrfs at `place`.
fn limits(place: &Path) -> Vec<u64> {
    sync(place);
    let shown = run_program("btrfs", &["qgroup", "show", "--raw", "-r"], place);
    let mut limits: Vec<u64> =
        shown.lines().filter_map(|line| line.split_whitespace().nth(3)?.parse().ok()).collect();
    limits.sort_unstable();
    limits
}

fn clone_of(client: &Client, new: &str, size: Option<u64>) -> convoy_driver_sdk::Result<Volume> {
    let (source, snapshot) = (name("vol1"), name("snap"));
    client.call(CloneVolume::new(name(new), source, snapshot).size(size).options(options(&[])))
}

fn resize(client: &Client, volume: &str, size: u64) -> convoy_driver_sdk::Result<Volume> {
    client.call(ResizeVolume::new(name(volume), size))
}

#[test]
fn a_size_is_enforced_on_btrfs_through_all_a_volume_goes_through() {
    let Some((_mounted, place, _dir)) = btrfs(true) else { return };
    let bed = Bed::on(builtin, &place);
    let client = bed.open();
    let volume = |name: &str| bed.volume(name);
    let enforced = |name: &str, mib: u64| {
        assert_eq!(told(&client.get(name).unwrap()), (mib * MIB, Some("true")), "{name}");
    };
    client.create_with("vol1", Some(16 * MIB), &[("mode", "0750")]).unwrap();
    assert_eq!(fs::metadata(volume("vol1")).unwrap().mode() & 0o7777, 0o750);
    enforced("vol1", 16);
    fill(&volume("vol1"), "file", 10).unwrap();
    full(&volume("vol1"), 10);
    // What only a snapshot has does not count.
    client.snapshot("vol1", "snap").unwrap();
    fs::remove_file(volume("vol1").join("file")).unwrap();
    sync(&place);
    fill(&volume("vol1"), "other", 12).unwrap();
    // Copies have a limit of their own, and need room for what they begin with.
    assert_eq!(refused(clone_of(&client, "tight", Some(8 * MIB))).kind, ErrorKind::Exhausted);
    assert!(!volume("tight").exists());
    clone_of(&client, "copy", None).unwrap();
    enforced("copy", 16);
    full(&volume("copy"), 10);
    client.call(RevertVolume::new(name("vol1"), name("snap"))).unwrap();
    enforced("vol1", 16);
    assert_eq!(fs::read(volume("vol1").join("file")).unwrap(), vec![7; 10 << 20]);
    full(&volume("vol1"), 10);
    // Smaller than what is in it: refused, and nothing has changed.
    assert_eq!(refused(resize(&client, "vol1", 8 * MIB)).kind, ErrorKind::Exhausted);
    assert_eq!(refused(resize(&client, "vol1", 4096)).kind, ErrorKind::InvalidArgument);
    enforced("vol1", 16);
    assert_eq!(told(&resize(&client, "vol1", 32 * MIB).unwrap()), (32 * MIB, Some("true")));
    fill(&volume("vol1"), "other", 16).unwrap();
    full(&volume("vol1"), 10);
    // A restore, into which anything may be written until it is a volume.
    for (size, fits) in [(4 * MIB, false), (16 * MIB, true)] {
        let prepared = client
            .call(PrepareRestore::new(name("back"), SourceKind::Tree).size(Some(size)).options(options(&[])));
        let prepared = prepared.unwrap();
        let TargetLocation::Tree { path, .. } = prepared.location else { panic!("not a tree") };
        fill(&path, "file", 6).unwrap();
        let finished = client.call(FinishRestore::new(prepared.handle.clone()));
        assert_eq!(finished.is_ok(), fits, "{finished:?}");
        if !fits {
            let abort = convoy_driver_sdk::protocol::AbortRestore::new(prepared.handle);
            client.call(abort).unwrap();
        }
    }
    enforced("back", 16);
    full(&volume("back"), 12);
    // Kept data keeps its limit.
    client.delete("back", true).unwrap();
    client.create("back").unwrap();
    enforced("back", 16);
    // Without a size there is nothing to enforce.
    client.create("free").unwrap();
    assert_eq!(told(&client.get("free").unwrap()), (0, None));
    assert_eq!(refused(resize(&client, "free", 16 * MIB)).kind, ErrorKind::Unsupported);
    assert_eq!(client.call(Check::new()).unwrap().findings, []);
    // A limit that somebody changed is told, and put back.
    run_program("btrfs", &["qgroup", "limit", "20M"], &volume("copy"));
    assert_eq!(told(&client.get("copy").unwrap()), (0, Some("false")));
    assert!(client.call(Check::new().repair(true)).unwrap().findings[0].repaired);
    enforced("copy", 16);
    assert_eq!(limits(&place), [16 * MIB, 16 * MIB, 32 * MIB]);
    for volume in ["vol1", "copy", "back", "free"] {
        client.delete(volume, false).unwrap();
    }
    client.close();
    assert_eq!(limits(&place), [0_u64; 0]);
    assert_eq!(bed.own_files(), ["lock", "snapshots", "work"]);
}

#[test]
fn a_size_that_nothing_enforces_is_taken_and_told_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some((place, _mounted)) = fresh(dir.path(), "mkfs.ext4", &["-q"]) else { return };
    let bed = Bed::on(builtin, &place);
    let client = bed.open();
    for volume in ["vol1", "vol2"] {
        let made = client.create_with(volume, Some(5 << 30), &[]).unwrap();
        assert_eq!(told(&made), (0, Some("false")));
        assert!(made.info["SizeNotEnforced"].contains("prjquota"), "{made:?}");
    }
    client.create("free").unwrap();
    client.create_with("image", Some(MIB), &[("vm", "true")]).unwrap();
    assert_eq!(told(&client.get("image").unwrap()), (MIB, None));
    let found = client.call(Check::new()).unwrap().findings;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].severity == Severity::Info && found[0].message.contains(" vol1, vol2 are not enforced"));
    assert_eq!(refused(resize(&client, "vol1", 6 << 30)).kind, ErrorKind::Unsupported);
    client.close();
    let mut strict = bed.request();
    strict.options.insert("vfs.strictsize".to_owned(), "maybe".to_owned());
    assert_eq!(refused(bed.open_with(strict.clone()).map(|_| ())).kind, ErrorKind::InvalidArgument);
    strict.options.insert("vfs.strictsize".to_owned(), "true".to_owned());
    let (client, _) = bed.open_with(strict).unwrap();
    let error = refused(client.create_with("vol3", Some(5 << 30), &[]));
    assert!(error.kind == ErrorKind::Unsupported && error.hint.unwrap().contains("prjquota"));
    assert!(!bed.volume("vol3").exists() && client.get("vol3").is_err());
    client.create("vol3").unwrap();
    // What was made before stays of use.
    client.snapshot("vol1", "snap").unwrap();
    client.call(RevertVolume::new(name("vol1"), name("snap"))).unwrap();
    assert_eq!(refused(clone_of(&client, "vol4", None)).kind, ErrorKind::Unsupported);
}

#[test]
fn what_was_made_without_a_limit_gets_one_when_it_goes_back_to_a_snapshot() {
    let Some((_mounted, place, _dir)) = btrfs(false) else { return };
    let bed = Bed::on(builtin, &place);
    let client = bed.open();
    let said = |volume: &str| client.get(volume).unwrap().info.get("SizeNotEnforced").cloned().unwrap();
    client.create_with("vol1", Some(16 * MIB), &[]).unwrap();
    assert!(said("vol1").contains("btrfs quota enable"));
    run_program("btrfs", &["quota", "enable"], &place);
    assert!(said("vol1").contains("made without a limit"));
    // So is what an administrator brought, also by a link to what has a limit of theirs.
    fs::create_dir(bed.volume("brought")).unwrap();
    run_program("btrfs", &["subvolume", "create"], &place.join("theirs"));
    run_program("btrfs", &["qgroup", "limit", "64M"], &place.join("theirs"));
    std::os::unix::fs::symlink(place.join("theirs"), bed.volume("linked")).unwrap();
    for volume in ["brought", "linked"] {
        client.create_with(volume, Some(16 * MIB), &[]).unwrap();
        assert!(said(volume).contains("made without a limit"));
    }
    client.delete("linked", false).unwrap();
    assert_eq!(limits(&place), [64 * MIB]);
    client.snapshot("vol1", "snap").unwrap();
    client.call(RevertVolume::new(name("vol1"), name("snap"))).unwrap();
    assert_eq!(told(&client.get("vol1").unwrap()), (16 * MIB, Some("true")));
}

#[test]
fn killed_at_any_call_every_volume_has_its_own_limit_and_nothing_else_has_one() {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let Some((_mounted, place, _dir)) = btrfs(true) else { return };
    let look = |_: &Bed, client: &Client| {
        let listed = client.list().volumes;
        let mut sizes: Vec<u64> = listed.iter().map(|volume| volume.size).collect();
        assert!(listed.iter().all(|volume| volume.size == 0 || told(volume).1 == Some("true")), "{listed:?}");
        sizes.retain(|size| *size > 0);
        assert_eq!(limits(&place), sizes);
        for volume in listed {
            client.delete(&volume.name, false).unwrap();
        }
        client.close();
        assert_eq!(limits(&place), [0_u64; 0]);
    };
    let sized = [Step::CreateSized, Step::Write(1), Step::Snapshot(0), Step::Write(2)];
    let operations: [(&[Step], Step); 4] = [
        (&[], Step::CreateSized),
        (&sized, Step::Resize(12)),
        (&sized, Step::Revert(0)),
        (&sized, Step::Delete),
    ];
    for (before, step) in operations {
        let mut points = 0;
        for call in ["ioctl", "?rename", "renameat2", "syncfs", "?mkdir", "?rmdir"] {
            for at in 1.. {
                PLACE.set(Some(place.clone()));
                if !survive(before, step, (call, at), &look) {
                    break;
                }
                points += 1;
            }
        }
        assert!(points > 3, "{step:?} was killed at {points} points only");
    }
}
