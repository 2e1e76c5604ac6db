//! Sources and targets that are not like the others: coarse clocks, limits of their own, flags and projects.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Store, backup, engine, restore, restore_tree};
use convoy_backup::{
    BackupError, BackupOptions, Progress, RestoreOptions, RestoreSummary, SameFile, Source, Target,
};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};
use tokio_util::sync::CancellationToken;

/// A fresh file system of its own, as long as this lives.
struct Disk {
    place: PathBuf,
    _dir: tempfile::TempDir,
}

impl Disk {
    /// None where the tools for it are not installed.
    fn new(mkfs: &str, args: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (image, place) = (dir.path().join("image"), dir.path().join("mounted"));
        File::create(&image).unwrap().set_len(320 << 20).unwrap();
        match Command::new(mkfs).args(args).arg(&image).output() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                println!("skipped: {mkfs} is not installed");
                return None;
            }
            made => assert!(made.unwrap().status.success()),
        }
        fs::create_dir(&place).unwrap();
        assert!(
            Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&place).status().unwrap().success()
        );
        Some(Self { place, _dir: dir })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    // As a copy has it: the time of the original, which the file system does not tell apart from that of the
    // change before.
    let time = Timespec { tv_sec: 1_700_000_000, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_within_a_second_of_a_coarse_clock_are_backed_up_as_they_are() {
    let Some(disk) = Disk::new("mkfs.ext4", &["-q", "-I", "128"]) else { return };
    for same in [SameFile::BirthTime, SameFile::ChangeTime] {
        let store = Store::new().await;
        let root = disk.place.join("tree");
        for round in 0..4 {
            // The file of the snapshot before is gone, and its inode is given to the next one.
            let _ = fs::remove_dir_all(&root);
            fs::create_dir(&root).unwrap();
            let content = format!("content {round}");
            write(&root.join("f"), &content);
            let source = Source::Tree { path: root.clone(), same };
            let mut meta = common::meta("vol1", &format!("b-{round}"));
            meta.snapshot_created = convoy_backup::timestamp::now();
            let (progress, cancel) = (Progress::new(), CancellationToken::new());
            let options = BackupOptions::default();
            let engine = engine();
            let made = engine.backup(store.store.clone(), meta, source, &options, &progress, &cancel);
            made.await.unwrap();
            let back = restore_tree(&store.store, "vol1", &format!("b-{round}")).await;
            assert_eq!(fs::read_to_string(back.path().join("f")).unwrap(), content, "{same:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_source_does_not_tell_is_counted_and_everything_else_is_backed_up() {
    let Some(disk) = Disk::new("mkfs.xfs", &["-q"]) else { return };
    let root = disk.place.join("tree");
    fs::create_dir(&root).unwrap();
    for name in ["odd", "plain", "mounted"] {
        fs::write(root.join(name), name).unwrap();
    }
    for number in 0..400 {
        let name = format!("user.{number:0>200}");
        rustix::fs::lsetxattr(root.join("odd"), name, b"x", XattrFlags::empty()).unwrap();
    }
    let bind = Command::new("mount").arg("--bind").args([root.join("plain"), root.join("mounted")]).status();
    assert!(bind.unwrap().success());
    let store = Store::new().await;
    let source = Source::Tree { path: root.clone(), same: SameFile::BirthTime };
    let made = backup(&store.store, "b-1", source, &BackupOptions::default()).await;
    assert!(Command::new("umount").arg(root.join("mounted")).status().unwrap().success());
    let made = made.unwrap();
    assert_eq!(
        made.warnings,
        [
            "mounted: what is mounted there is not part of the copy",
            "odd: it has more extended attributes than the kernel lists (64 KiB of names)"
        ]
    );
    let info = engine().inspect(store.store.clone(), "vol1", "b-1").await.unwrap();
    assert_eq!(info.stats.unwrap().warnings, 2);
    let back = restore_tree(&store.store, "vol1", "b-1").await;
    for (name, content) in [("odd", "odd"), ("plain", "plain"), ("mounted", "")] {
        assert_eq!(fs::read_to_string(back.path().join(name)).unwrap(), content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_with_losses_is_undone_at_its_end_unless_they_are_allowed() {
    let Some(large) = Disk::new("mkfs.xfs", &["-q"]) else { return };
    let Some(small) = Disk::new("mkfs.ext4", &["-q"]) else { return };
    let root = large.place.join("tree");
    fs::create_dir(&root).unwrap();
    for name in ["heavy", "plain"] {
        fs::write(root.join(name), name).unwrap();
    }
    rustix::fs::lsetxattr(root.join("heavy"), "user.heavy", &[7; 20_000], XattrFlags::empty()).unwrap();
    let store = Store::new().await;
    let source = Source::Tree { path: root, same: SameFile::BirthTime };
    backup(&store.store, "b-1", source, &BackupOptions::default()).await.unwrap();

    let path = small.place.join("back");
    fs::create_dir(&path).unwrap();
    let target = || Target::Tree { path: path.clone() };
    let refused = restore(&store.store, "vol1", "b-1", target()).await.unwrap_err();
    let BackupError::Losses { losses, .. } = &refused else { panic!("{refused}") };
    assert_eq!(losses.count, 1);
    assert!(refused.to_string().contains("heavy: its attribute user.heavy cannot be set: "), "{refused}");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);

    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    let options = RestoreOptions { allow_losses: true, ..RestoreOptions::default() };
    let kept =
        engine().restore(store.store.clone(), "vol1", "b-1", target(), &options, &progress, &cancel).await;
    let RestoreSummary { files, losses, .. } = kept.unwrap();
    assert_eq!((files, losses.count, losses.texts.len()), (2, 1, 1));
    for name in ["heavy", "plain"] {
        assert_eq!(fs::read_to_string(path.join(name)).unwrap(), name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_and_projects_come_back_from_a_backup() {
    let Some(disk) = Disk::new("mkfs.xfs", &["-q"]) else { return };
    let root = disk.place.join("tree");
    fs::create_dir_all(root.join("dir")).unwrap();
    let names = ["fixed", "dir/log", "dir"];
    for name in &names[..2] {
        fs::write(root.join(name), name).unwrap();
    }
    let chattr = |args: &[&str], path: &Path| {
        assert!(Command::new("chattr").args(args).arg(path).status().unwrap().success());
    };
    chattr(&["-p", "42", "+i"], &root.join("fixed"));
    chattr(&["-p", "43", "+ad"], &root.join("dir/log"));
    chattr(&["-p", "42", "+iP"], &root.join("dir"));
    let listed = |root: &Path| {
        names.map(|name| {
            let out = Command::new("lsattr").args(["-d", "-p"]).arg(root.join(name)).output().unwrap();
            let text = String::from_utf8(out.stdout).unwrap();
            let mut parts = text.split_whitespace();
            let project = parts.next().unwrap().to_owned();
            let flags: String = parts.next().unwrap().chars().filter(|c| "iadP".contains(*c)).collect();
            format!("{project} {flags}")
        })
    };
    let before = listed(&root);
    assert_eq!(before, ["42 i", "43 ad", "42 iP"]);
    let store = Store::new().await;
    for (name, same) in [("b-1", SameFile::ChangeTime), ("b-2", SameFile::ChangeTime)] {
        let source = Source::Tree { path: root.clone(), same };
        backup(&store.store, name, source, &BackupOptions::default()).await.unwrap();
        let back = disk.place.join(name);
        fs::create_dir(&back).unwrap();
        let restored =
            restore(&store.store, "vol1", name, Target::Tree { path: back.clone() }).await.unwrap();
        assert_eq!((restored.warnings, restored.losses.count), (Vec::new(), 0));
        assert_eq!(listed(&back), before);
    }
}
