//! Copies of trees: everything is kept, and what did not change is linked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::assert_same;
use convoy_tree::{CopyOptions, CopyReport, Previous, copy_tree};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use tempfile::TempDir;

fn times(path: &Path, sec: i64, nsec: i64) {
    let spec = Timespec { tv_sec: sec, tv_nsec: nsec };
    let times = Timestamps { last_access: spec, last_modification: spec };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// An ACL as the kernel keeps it: version 2, owner rw, user 1234 r, group r, mask r, others none.
fn acl() -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in
        [(1u16, 6u16, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(perm.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

/// One of everything.
fn zoo(root: &Path) {
    fs::create_dir(root).unwrap();
    fs::write(root.join("plain"), b"contents").unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    fs::set_permissions(root.join("plain"), Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(root.join("plain"), Some(1001), Some(1002)).unwrap();
    times(&root.join("plain"), 1_600_000_000, 123_456_789);
    fs::write(root.join("setuid"), b"x").unwrap();
    std::os::unix::fs::chown(root.join("setuid"), Some(33), Some(33)).unwrap();
    fs::set_permissions(root.join("setuid"), Permissions::from_mode(0o6755)).unwrap();
    times(&root.join("empty"), -86_400, 1);
    let odd = root.join(OsStr::from_bytes(b"odd \xff\n%\\\"name"));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("-rf"), b"not an option").unwrap();
    fs::write(odd.join(OsStr::from_bytes(&[b'x'; 255])), b"long").unwrap();
    fs::hard_link(root.join("plain"), odd.join("linked")).unwrap();
    symlink("../../../etc/passwd", root.join("link")).unwrap();
    fs::hard_link(root.join("link"), root.join("link2")).unwrap();
    std::os::unix::fs::lchown(root.join("link"), Some(5), Some(6)).unwrap();
    times(&root.join("link"), 1_500_000_000, 5);
    xattr(&root.join("link"), "trusted.on-a-link", b"yes");
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(32 << 20).unwrap();
    sparse.write_all_at(b"data", 16 << 20).unwrap();
    let hole = File::create(root.join("hole")).unwrap();
    hole.set_len((1 << 20) + 1).unwrap();
    for (name, kind, device) in [
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("loop", FileType::BlockDevice, rustix::fs::makedev(7, 300)),
        ("fifo", FileType::Fifo, 0),
    ] {
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o620), device).unwrap();
        times(&root.join(name), 1_400_000_000, 7);
        xattr(&root.join(name), "trusted.special", b"s");
    }
    drop(UnixListener::bind(root.join("socket")).unwrap());
    xattr(&root.join("plain"), "user.colour", b"blue\0green");
    xattr(&root.join("plain"), "trusted.big", &[7; 3000]);
    xattr(
        &root.join("plain"),
        "security.capability",
        &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    xattr(&root.join("empty"), "system.posix_acl_access", &acl());
    let sticky = root.join("sticky");
    fs::create_dir(&sticky).unwrap();
    xattr(&sticky, "system.posix_acl_default", &acl());
    fs::create_dir(sticky.join("below")).unwrap();
    fs::write(sticky.join("below/file"), b"inherits").unwrap();
    fs::set_permissions(&sticky, Permissions::from_mode(0o1500)).unwrap();
    times(&sticky, 1_300_000_000, 999_999_999);
    fs::set_permissions(root, Permissions::from_mode(0o751)).unwrap();
    times(root, 1_200_000_000, 42);
}

struct Bed {
    dir: TempDir,
}

impl Bed {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn live(&self) -> PathBuf {
        self.dir.path().join("live")
    }

    fn tree(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn snapshot(&self, name: &str, previous: Option<&str>) -> CopyReport {
        let tree = self.tree(name);
        fs::create_dir(&tree).unwrap();
        let index = |name: &str| self.dir.path().join(format!("{name}.index"));
        copy_tree(
            &self.live(),
            &tree,
            &CopyOptions {
                previous: previous.map(|p| Previous { tree: self.tree(p), index: index(p) }),
                index: Some(index(name)),
                ..CopyOptions::default()
            },
        )
        .unwrap()
    }

    fn settle(&self) {
        std::thread::sleep(Duration::from_millis(150));
    }

    fn ino(&self, path: &str) -> u64 {
        fs::symlink_metadata(self.dir.path().join(path)).unwrap().ino()
    }
}

#[test]
fn everything_is_kept() {
    let bed = Bed::new();
    zoo(&bed.live());
    let before = common::see(&bed.live());
    let report = bed.snapshot("copy", None);
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_same(&bed.live(), &bed.tree("copy"));
    assert_eq!(before, common::see(&bed.live()), "the original was not touched");
    assert_eq!(usize::try_from(report.entries).unwrap(), before.len());
}

#[test]
fn an_inherited_acl_is_not_mixed_in() {
    let bed = Bed::new();
    zoo(&bed.live());
    xattr(bed.dir.path(), "system.posix_acl_default", &acl());
    bed.snapshot("copy", None);
    assert_same(&bed.live(), &bed.tree("copy"));
}

#[test]
fn the_unchanged_is_linked_and_the_changed_copied() {
    let bed = Bed::new();
    zoo(&bed.live());
    let live = bed.live();
    bed.settle();
    bed.snapshot("one", None);
    let again = bed.snapshot("two", Some("one"));
    assert_eq!((again.copied, again.reflinked, again.bytes), (0, 0, 0));
    assert_eq!(bed.ino("one/plain"), bed.ino("two/plain"));
    assert_same(&live, &bed.tree("two"));

    // In place, same size, times set back: only ctime tells.
    let file = File::options().write(true).open(live.join("plain")).unwrap();
    file.write_all_at(b"CONTENTS", 0).unwrap();
    times(&live.join("plain"), 1_600_000_000, 123_456_789);
    // Only metadata.
    fs::set_permissions(live.join("setuid"), Permissions::from_mode(0o755)).unwrap();
    // Replaced by another of the same look.
    fs::rename(live.join("empty"), live.join("was-empty")).unwrap();
    fs::remove_file(live.join("hole")).unwrap();
    bed.settle();
    let third = bed.snapshot("three", Some("two"));
    assert_eq!(third.copied + third.reflinked, 3, "plain, setuid, was-empty");
    assert_same(&live, &bed.tree("three"));
    assert_eq!(fs::read(bed.tree("two").join("plain")).unwrap(), b"contents");
    assert_eq!(fs::metadata(bed.tree("two").join("setuid")).unwrap().mode() & 0o7777, 0o6755);
    assert_ne!(bed.ino("two/plain"), bed.ino("three/plain"));
}

#[test]
fn a_change_within_one_tick_of_the_clock_is_noticed() {
    let bed = Bed::new();
    fs::create_dir(bed.live()).unwrap();
    let path = bed.live().join("f");
    for round in 0..40u8 {
        fs::write(&path, [round; 16]).unwrap();
        times(&path, 1_600_000_000, 0);
        let name = format!("s{round}");
        let previous = round.checked_sub(1).map(|p| format!("s{p}"));
        bed.snapshot(&name, previous.as_deref());
        assert_eq!(fs::read(bed.tree(&name).join("f")).unwrap(), [round; 16]);
    }
}

#[test]
fn hard_links_that_part_do_not_share_a_copy() {
    let bed = Bed::new();
    fs::create_dir(bed.live()).unwrap();
    let live = bed.live();
    for name in ["a", "c"] {
        fs::write(live.join(name), b"same").unwrap();
    }
    fs::hard_link(live.join("a"), live.join("b")).unwrap();
    bed.settle();
    bed.snapshot("one", None);
    assert_eq!(bed.ino("one/a"), bed.ino("one/b"));
    fs::remove_file(live.join("b")).unwrap();
    fs::write(live.join("b"), b"same").unwrap();
    fs::hard_link(live.join("c"), live.join("d")).unwrap();
    bed.settle();
    bed.snapshot("two", Some("one"));
    assert_same(&live, &bed.tree("two"));
    assert_ne!(bed.ino("two/a"), bed.ino("two/b"));
    assert_eq!(bed.ino("two/c"), bed.ino("two/d"));
    let three = bed.snapshot("three", Some("two"));
    assert_eq!(three.copied + three.reflinked, 0);
    assert_same(&live, &bed.tree("three"));
}

#[test]
fn a_damaged_earlier_copy_is_not_linked_to() {
    let bed = Bed::new();
    zoo(&bed.live());
    bed.settle();
    bed.snapshot("one", None);
    fs::write(bed.tree("one").join("plain"), b"vandal").unwrap();
    fs::remove_file(bed.tree("one").join("sparse")).unwrap();
    bed.snapshot("two", Some("one"));
    assert_same(&bed.live(), &bed.tree("two"));
    // A damaged index only costs copies.
    let index = bed.dir.path().join("two.index");
    let mut text = fs::read(&index).unwrap();
    text.truncate(text.len() / 2);
    text.extend(b"\n{garbage\n\xff\n");
    fs::write(&index, text).unwrap();
    bed.snapshot("three", Some("two"));
    assert_same(&bed.live(), &bed.tree("three"));
}

#[test]
fn a_tree_that_is_written_to_can_be_copied() {
    let bed = Bed::new();
    fs::create_dir(bed.live()).unwrap();
    let live = bed.live();
    for i in 0..200 {
        fs::create_dir_all(live.join(format!("d{}", i % 10))).unwrap();
        fs::write(live.join(format!("d{}/f{i}", i % 10)), vec![b'x'; 10_000]).unwrap();
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = File::options().append(true).create(true).open(live.join("log")).unwrap();
            for i in 0u64.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                log.write_all(b"line of a log\n").unwrap();
                let d = i % 10;
                fs::write(live.join(format!("d{d}/new{}", i % 50)), b"new").unwrap();
                let _ = fs::remove_file(live.join(format!("d{d}/new{}", (i + 25) % 50)));
                let _ = fs::rename(live.join(format!("d{d}")), live.join(format!("moved{d}")));
                let _ = fs::rename(live.join(format!("moved{d}")), live.join(format!("d{d}")));
            }
        });
        for round in 0..10 {
            let previous = (round > 0).then(|| format!("s{}", round - 1));
            bed.snapshot(&format!("s{round}"), previous.as_deref());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    bed.snapshot("last", Some("s9"));
    assert_same(&live, &bed.tree("last"));
}

#[test]
fn a_stop_is_obeyed() {
    struct Stop;
    impl convoy_tree::Observer for Stop {
        fn advanced(&self, _: u64, _: u64) {}
        fn stop(&self) -> bool {
            true
        }
    }
    let bed = Bed::new();
    zoo(&bed.live());
    fs::create_dir(bed.tree("copy")).unwrap();
    let options = CopyOptions { observer: Some(&Stop), ..CopyOptions::default() };
    let error = copy_tree(&bed.live(), &bed.tree("copy"), &options).unwrap_err();
    assert!(matches!(error, convoy_tree::TreeError::Cancelled), "{error}");
}

#[derive(Clone, Debug)]
enum Made {
    Dir(u8),
    File(u8, Vec<u8>, u16),
    Sparse(u8, u32),
    Link(u8, u8),
    Symlink(u8, Vec<u8>),
    Fifo(u8),
    Remove(u8),
}

fn made() -> impl Strategy<Value = Made> {
    prop_oneof![
        any::<u8>().prop_map(Made::Dir),
        (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..300), 0u16..0o10000)
            .prop_map(|(n, c, m)| Made::File(n, c, m)),
        (any::<u8>(), 0u32..300_000).prop_map(|(n, s)| Made::Sparse(n, s)),
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Made::Link(a, b)),
        (any::<u8>(), proptest::collection::vec(1u8.., 1..60)).prop_map(|(n, t)| Made::Symlink(n, t)),
        any::<u8>().prop_map(Made::Fifo),
        any::<u8>().prop_map(Made::Remove),
    ]
}

/// A few names in a few directories, so that they meet.
fn place(root: &Path, n: u8) -> PathBuf {
    let mut path = root.to_owned();
    for level in 0..(n >> 6) {
        path.push(format!("dir{}", (n >> 4 & 3) ^ level));
    }
    let _ = fs::create_dir_all(&path);
    path.join(OsStr::from_bytes(&[b'n', n & 15 | 0x80]))
}

fn apply(root: &Path, made: &Made) {
    // Things in the way are part of the game: what cannot be made is not made.
    match made {
        Made::Dir(n) => drop(fs::create_dir(place(root, *n))),
        Made::File(n, content, mode) => {
            let path = place(root, *n);
            if fs::symlink_metadata(&path).is_ok_and(|m| !m.is_file()) {
                return;
            }
            if fs::write(&path, content).is_ok() {
                fs::set_permissions(&path, Permissions::from_mode(u32::from(*mode))).unwrap();
                times(&path, 1_000_000_000 + i64::from(*n), i64::from(*mode));
            }
        }
        Made::Sparse(n, size) => {
            let path = place(root, *n);
            if fs::symlink_metadata(&path).is_ok_and(|m| !m.is_file()) {
                return;
            }
            let file = File::create(path).unwrap();
            file.set_len(u64::from(*size)).unwrap();
            file.write_all_at(b"tail", u64::from(*size / 2)).unwrap();
        }
        Made::Link(a, b) => drop(fs::hard_link(place(root, *a), place(root, *b))),
        Made::Symlink(n, target) => drop(symlink(OsStr::from_bytes(target), place(root, *n))),
        Made::Fifo(n) => {
            let _ = rustix::fs::mknodat(CWD, place(root, *n), FileType::Fifo, Mode::RUSR, 0);
        }
        Made::Remove(n) => drop(fs::remove_file(place(root, *n))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn any_tree_in_any_steps_is_copied_whole(steps in proptest::collection::vec(proptest::collection::vec(made(), 0..30), 1..4)) {
        let bed = Bed::new();
        fs::create_dir(bed.live()).unwrap();
        let mut previous: Option<String> = None;
        for (number, step) in steps.iter().enumerate() {
            step.iter().for_each(|made| apply(&bed.live(), made));
            let name = format!("s{number}");
            bed.snapshot(&name, previous.as_deref());
            assert_same(&bed.live(), &bed.tree(&name));
            previous = Some(name);
        }
    }
}
