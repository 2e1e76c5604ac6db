//! File systems that differ: coarse clocks, limits of their own, flags and projects.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use convoy_tree::{CopyOptions, CopyReport, Found, Previous, WalkOptions, copy_tree, walk};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use tempfile::TempDir;

/// A fresh file system of its own, as long as this lives.
struct Disk {
    place: PathBuf,
    _dir: TempDir,
}

impl Disk {
    /// None where the tools for it are not installed.
    fn new(mkfs: &str, args: &[&str]) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let (image, place) = (dir.path().join("image"), dir.path().join("mounted"));
        File::create(&image).unwrap().set_len(320 << 20).unwrap();
        match Command::new(mkfs).args(args).arg(&image).output() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                println!("skipped: {mkfs} is not installed");
                return None;
            }
            made => {
                let made = made.unwrap();
                assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            }
        }
        fs::create_dir(&place).unwrap();
        let kind = mkfs.trim_start_matches("mkfs.");
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&place).output().unwrap();
        if !mounted.status.success() && !fs::read_to_string("/proc/filesystems").unwrap().contains(kind) {
            println!("skipped: this kernel knows no {kind}");
            return None;
        }
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        Some(Self { place, _dir: dir })
    }

    fn tree(&self, name: &str) -> PathBuf {
        let tree = self.place.join(name);
        fs::create_dir(&tree).unwrap();
        tree
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.place, rustix::mount::UnmountFlags::DETACH);
    }
}

fn run(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn snapshot(live: &Path, dir: &Path, name: &str, previous: Option<&str>) -> CopyReport {
    let tree = dir.join(name);
    fs::create_dir(&tree).unwrap();
    let index = |name: &str| dir.join(format!("{name}.index"));
    let options = CopyOptions {
        previous: previous.map(|p| Previous { tree: dir.join(p), index: index(p) }),
        index: Some(index(name)),
        aside: Some(0),
        ..CopyOptions::default()
    };
    copy_tree(live, &tree, &options).unwrap()
}

/// What `chattr` has set, without what says how the file system keeps it.
fn flags(path: &Path) -> String {
    let listed = run(Command::new("lsattr").args(["-d", "-p"]).arg(path));
    let mut parts = listed.split_whitespace();
    let project = parts.next().unwrap().to_owned();
    let letters: String = parts.next().unwrap().chars().filter(|c| "iadP".contains(*c)).collect();
    format!("{project} {letters}")
}

fn a_quick_change_is_copied(mkfs: &str, args: &[&str]) {
    let Some(disk) = Disk::new(mkfs, args) else { return };
    let dir = TempDir::new().unwrap();
    let live = disk.tree("live");
    fs::write(live.join("a"), "old").unwrap();
    snapshot(&live, dir.path(), "one", None);
    // At the latest now what is written is on the disk, and what the kernel remembered beyond that is gone.
    fs::write(live.join("a"), "new").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    snapshot(&live, dir.path(), "two", Some("one"));
    assert_eq!(fs::read_to_string(dir.path().join("two/a")).unwrap(), "new");
    // What has not changed for long is linked, on such a file system as well.
    let third = snapshot(&live, dir.path(), "three", Some("two"));
    assert_eq!((third.unchanged, third.copied), (1, 0));
}

#[test]
fn a_change_within_the_second_that_ext4_with_small_inodes_tells_apart_is_copied() {
    a_quick_change_is_copied("mkfs.ext4", &["-q", "-I", "128"]);
}

#[test]
fn a_change_within_the_two_seconds_that_fat_tells_apart_is_copied() {
    a_quick_change_is_copied("mkfs.vfat", &[]);
}

#[test]
fn an_index_that_took_the_wrong_clock_is_not_trusted_with_whole_seconds() {
    let Some(disk) = Disk::new("mkfs.ext4", &["-q", "-I", "128"]) else { return };
    let dir = TempDir::new().unwrap();
    let live = disk.tree("live");
    fs::write(live.join("a"), "same").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    snapshot(&live, dir.path(), "one", None);
    let index = dir.path().join("one.index");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace(r#""convoy_tree_index":2"#, r#""convoy_tree_index":1"#)).unwrap();
    assert_eq!(snapshot(&live, dir.path(), "two", Some("one")).copied, 1);
}

#[test]
fn a_file_mounted_over_another_is_told_and_not_copied() {
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        }
    }
    let dir = TempDir::new().unwrap();
    let live = dir.path().join("live");
    fs::create_dir(&live).unwrap();
    for name in ["below", "null", "plain"] {
        fs::write(live.join(name), name).unwrap();
    }
    fs::write(dir.path().join("secret"), "of somebody else").unwrap();
    let _mounts =
        [(dir.path().join("secret"), "below"), (PathBuf::from("/dev/null"), "null")].map(|(from, to)| {
            rustix::mount::mount_bind(from, live.join(to)).unwrap();
            Mounted(live.join(to))
        });
    let report = snapshot(&live, dir.path(), "copy", None);
    let told = |name| format!("{name}: what is mounted there is not part of the copy");
    assert_eq!(report.warnings, [told("below"), told("null")]);
    for (name, content) in [("below", ""), ("null", ""), ("plain", "plain")] {
        assert_eq!(fs::read_to_string(dir.path().join("copy").join(name)).unwrap(), content);
    }
}

fn unread(tree: &Path) -> Vec<(String, Vec<String>)> {
    walk(tree, WalkOptions::default())
        .unwrap()
        .filter_map(|found| match found.unwrap() {
            Found::Entry(found) if !found.entry.unread.is_empty() => {
                Some((found.entry.path.to_string(), found.entry.unread))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn more_attributes_than_the_kernel_lists_are_told_and_everything_else_is_copied() {
    let Some(disk) = Disk::new("mkfs.xfs", &["-q"]) else { return };
    let live = disk.tree("live");
    fs::write(live.join("odd"), "content").unwrap();
    fs::write(live.join("plain"), "content").unwrap();
    let acl: [u8; 36] = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 210, 4, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
        16, 0, 4, 0, 255, 255, 255, 255,
    ];
    let acl: Vec<u8> = acl.into_iter().chain([32, 0, 0, 0, 255, 255, 255, 255]).collect();
    rustix::fs::lsetxattr(live.join("odd"), "system.posix_acl_access", &acl, XattrFlags::empty()).unwrap();
    for number in 0..400 {
        let name = format!("user.{number:0>200}");
        rustix::fs::lsetxattr(live.join("odd"), name, b"x", XattrFlags::empty()).unwrap();
    }
    // What a snapshot lacks it says itself, to whoever reads it, and however often its files were linked to.
    std::thread::sleep(Duration::from_millis(300));
    let told = "it has more extended attributes than the kernel lists (64 KiB of names)";
    for (name, previous) in [("one", None), ("two", Some("one"))] {
        let report = snapshot(&live, &disk.place, name, previous);
        assert_eq!(report.warnings.is_empty(), previous.is_some(), "{:?}", report.warnings);
        let copy = disk.place.join(name);
        assert_eq!(unread(&copy), [("odd".to_owned(), vec![told.to_owned()])]);
        assert_eq!(fs::read_to_string(copy.join("odd")).unwrap(), "content");
        let mut kept = [0; 100];
        let len = rustix::fs::lgetxattr(copy.join("odd"), "system.posix_acl_access", &mut kept[..]).unwrap();
        assert_eq!(kept[..len], acl);
    }
}

#[test]
fn what_the_target_refuses_is_a_loss_and_everything_else_is_copied() {
    let Some(large) = Disk::new("mkfs.xfs", &["-q"]) else { return };
    let Some(small) = Disk::new("mkfs.ext4", &["-q"]) else { return };
    let live = large.tree("live");
    fs::write(live.join("heavy"), "content").unwrap();
    rustix::fs::lsetxattr(live.join("heavy"), "user.heavy", &[7; 20_000], XattrFlags::empty()).unwrap();
    rustix::fs::lsetxattr(live.join("heavy"), "user.light", b"kept", XattrFlags::empty()).unwrap();
    fs::write(live.join("zz"), "content").unwrap();
    let copy = small.tree("copy");
    let report = copy_tree(&live, &copy, &CopyOptions::default()).unwrap();
    assert_eq!(report.losses.count, 1, "{report:?}");
    assert!(
        report.losses.texts[0].starts_with("heavy: its attribute user.heavy cannot be set: "),
        "{report:?}"
    );
    for name in ["heavy", "zz"] {
        assert_eq!(fs::read_to_string(copy.join(name)).unwrap(), "content");
    }
    let mut value = [0; 10];
    assert_eq!(rustix::fs::lgetxattr(copy.join("heavy"), "user.light", &mut value[..]).unwrap(), 4);

    // The other way round: XFS has no room for such a device number.
    let live = small.tree("live");
    let device = rustix::fs::makedev(7, 1_048_575);
    rustix::fs::mknodat(CWD, live.join("device"), FileType::CharacterDevice, Mode::RUSR, device).unwrap();
    fs::hard_link(live.join("device"), live.join("link")).unwrap();
    fs::write(live.join("zz"), "content").unwrap();
    let copy = large.tree("copy");
    let report = copy_tree(&live, &copy, &CopyOptions::default()).unwrap();
    assert_eq!(report.losses.count, 2, "{report:?}");
    assert!(report.losses.texts[0].starts_with("device: cannot be made: "), "{report:?}");
    assert!(report.losses.texts[1].starts_with("link: cannot be made, since device, "), "{report:?}");
    assert_eq!(fs::read_to_string(copy.join("zz")).unwrap(), "content");
}

fn flags_come_back(mkfs: &str, project: Option<&str>) {
    let Some(disk) = Disk::new(mkfs, &["-q"]) else { return };
    let live = disk.tree("live");
    fs::create_dir(live.join("dir")).unwrap();
    for name in ["fixed", "dir/log", "dir/linked"] {
        fs::write(live.join(name), name).unwrap();
    }
    fs::hard_link(live.join("dir/linked"), live.join("second")).unwrap();
    let all = [("+i", "fixed"), ("+a", "dir/log"), ("+id", "second"), ("+P", "dir"), ("+i", "dir")];
    for (flag, name) in all.into_iter().filter(|(flag, _)| project.is_some() || *flag != "+P") {
        let project = project.map(|number| ["-p", number]);
        run(Command::new("chattr").args(project.into_iter().flatten()).arg(flag).arg(live.join(name)));
    }
    let names = ["fixed", "dir", "dir/log", "dir/linked", "second"];
    let before = names.map(|name| flags(&live.join(name)));
    let (number, inherits) = (project.unwrap_or("0"), if project.is_some() { "P" } else { "" });
    assert_eq!(
        before,
        ["i", &format!("i{inherits}"), "a", "id", "id"].map(|flag| format!("{number} {flag}"))
    );

    std::thread::sleep(Duration::from_millis(300));
    snapshot(&live, &disk.place, "one", None);
    let second = snapshot(&live, &disk.place, "two", Some("one"));
    assert_eq!((second.warnings, second.copied), (Vec::new(), 0));
    let frozen = disk.place.join("two");
    assert_eq!(names.map(|name| flags(&frozen.join(name))), ["0 "; 5]);

    let back = disk.tree("back");
    if project.is_some() {
        // Into a place with a project that everything made there belongs to.
        run(Command::new("chattr").args(["-p", "7", "+P"]).arg(&back));
    }
    let report = copy_tree(&frozen, &back, &CopyOptions::default()).unwrap();
    assert_eq!((report.warnings, report.losses.count), (Vec::new(), 0));
    assert_eq!(names.map(|name| flags(&back.join(name))), before);
    assert_eq!(flags(&back), if project.is_some() { "7 P" } else { "0 " });
    assert_eq!(fs::metadata(back.join("second")).unwrap().nlink(), 2);
    run(Command::new("chattr").args(["-R", "-i", "-a"]).args([&back, &live]));
}

#[test]
fn flags_are_kept_aside_in_a_snapshot_and_given_back() {
    flags_come_back("mkfs.ext4", None);
}

#[test]
fn projects_are_kept_aside_in_a_snapshot_and_given_back() {
    flags_come_back("mkfs.xfs", Some("42"));
}
