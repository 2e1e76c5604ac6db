//! Walking and removing trees that are deep, hostile, or have something mounted in them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use convoy_tree::{CopyOptions, Found, TreeError, WalkOptions, copy_tree, remove_tree, walk};
use rustix::fs::{CWD, Mode, OFlags};
use tempfile::TempDir;

fn paths(root: &Path) -> Vec<String> {
    walk(root, WalkOptions::default())
        .unwrap()
        .map(|found| match found.unwrap() {
            Found::Entry(found) => found.entry.path.to_string(),
            Found::Vanished(path) => panic!("{path} vanished"),
            Found::Refused { path, error } => panic!("{path}: {error}"),
        })
        .collect()
}

#[test]
fn order_is_fixed() {
    let dir = TempDir::new().unwrap();
    for path in ["b", "a", "a.b", "a/z", "a/y/x"] {
        fs::create_dir_all(dir.path().join(path)).unwrap();
    }
    fs::write(dir.path().join("a/y/w"), b"").unwrap();
    assert_eq!(paths(dir.path()), [".", "a", "a/y", "a/y/w", "a/y/x", "a/z", "a.b", "b"]);
}

/// A chain of directories whose path is many times longer than any path the kernel takes at once.
fn deep(root: &Path, levels: usize) {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY;
    let mut at = rustix::fs::openat(CWD, root, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&at, "a-longish-name", Mode::RWXU).unwrap();
        // Something to come back to at every level on the way up.
        rustix::fs::mkdirat(&at, "z", Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "a-longish-name", flags, Mode::empty()).unwrap();
    }
}

#[test]
fn depth_has_no_limit() {
    let dir = TempDir::new().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    deep(&from, 1500);
    let report = copy_tree(&from, &to, &CopyOptions::default()).unwrap();
    assert_eq!((report.entries, report.vanished), (3001, 0));
    let found = paths(&to);
    assert_eq!(found, paths(&from));
    assert!(found.iter().any(|p| p.len() > 20_000));
    remove_tree(&from).unwrap();
    remove_tree(&to).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn links_are_removed_and_not_followed() {
    let dir = TempDir::new().unwrap();
    let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), b"x").unwrap();
    symlink(&outside, tree.join("sub/out")).unwrap();
    symlink("..", tree.join("sub/up")).unwrap();
    assert_eq!(paths(&tree), [".", "sub", "sub/out", "sub/up"]);
    remove_tree(&tree).unwrap();
    assert!(!tree.exists());
    assert!(outside.join("precious").exists());
    symlink(&outside, &tree).unwrap();
    remove_tree(&tree).unwrap();
    assert!(fs::symlink_metadata(&tree).is_err());
    assert!(outside.join("precious").exists());
    remove_tree(&tree).unwrap();
}

/// Somebody who is root in the volume swaps a directory for a link to the outside, over and over.
fn while_swapping(tree: &Path, outside: &Path, work: impl FnOnce()) {
    let (real, hidden, link) = (tree.join("sub"), tree.join("hidden"), tree.join("link"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::create_dir_all(real.join("in"));
                let _ = symlink(outside, &link);
                let _ = fs::rename(&real, &hidden);
                let _ = fs::rename(&link, &real);
                let _ = fs::remove_file(&real);
                let _ = fs::rename(&hidden, &real);
            }
        });
        work();
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_swapped_directory_leads_nowhere() {
    let dir = TempDir::new().unwrap();
    let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
    fs::create_dir_all(outside.join("in")).unwrap();
    fs::write(outside.join("in/precious"), b"x").unwrap();
    fs::write(outside.join("precious"), b"x").unwrap();
    fs::create_dir_all(tree.join("sub/in")).unwrap();
    while_swapping(&tree, &outside, || {
        for round in 0..300 {
            for found in walk(&tree, WalkOptions::default()).unwrap().flatten() {
                if let Found::Entry(found) = found {
                    assert!(!found.entry.path.as_bytes().ends_with(b"precious"), "{}", found.entry.path);
                }
            }
            let copy = dir.path().join(format!("copy{round}"));
            fs::create_dir(&copy).unwrap();
            copy_tree(&tree, &copy, &CopyOptions::default()).unwrap();
            assert!(paths(&copy).iter().all(|p| !p.contains("precious")));
            remove_tree(&copy).unwrap();
            // It keeps making things: that it cannot be removed for good is fine.
            let _ = remove_tree(&tree);
            let _ = fs::create_dir(&tree);
        }
    });
    assert!(outside.join("precious").exists() && outside.join("in/precious").exists());
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn other_mounts_are_not_entered() {
    let dir = TempDir::new().unwrap();
    let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
    fs::create_dir_all(tree.join("mounted")).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("precious"), b"x").unwrap();
    // The same file system: only the mount tells the difference.
    rustix::mount::mount_bind(&other, tree.join("mounted")).unwrap();
    let _mounted = Mounted(tree.join("mounted"));
    assert_eq!(paths(&tree), [".", "mounted"]);
    let across = WalkOptions { cross_mounts: true, ..WalkOptions::default() };
    assert_eq!(walk(&tree, across).unwrap().count(), 3);
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    let report = copy_tree(&tree, &copy, &CopyOptions::default()).unwrap();
    assert_eq!(report.warnings, ["mounted: what is mounted there is not part of the copy"]);
    assert!(matches!(remove_tree(&tree), Err(TreeError::MountPoint { .. })));
    assert!(matches!(remove_tree(&tree.join("mounted")), Err(TreeError::MountPoint { .. })));
    assert!(other.join("precious").exists());
}

/// What a walk is told to leave out it neither enters nor lists, and one thing in it can be looked at.
#[test]
fn a_directory_that_is_left_out_is_not_entered_and_a_child_of_it_can_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["one/deep/file", "one/marker", "two/file"] {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    std::os::unix::fs::symlink("two", dir.path().join("three")).unwrap();
    let names = |leave_out: &str| {
        let (mut names, mut walk) = (Vec::new(), walk(dir.path(), WalkOptions::default()).unwrap());
        while let Some(found) = walk.next() {
            let Found::Entry(found) = found.unwrap() else { panic!("the tree changes") };
            if found.entry.path.as_bytes() == leave_out.as_bytes() {
                walk.skip_children();
            }
            names.push(String::from_utf8_lossy(found.entry.path.as_bytes()).into_owned());
        }
        names
    };
    assert_eq!(names("one"), ["", "one", "three", "two", "two/file"]);
    assert_eq!(
        names("two/file"),
        ["", "one", "one/deep", "one/deep/file", "one/marker", "three", "two", "two/file"]
    );
    assert_eq!(names(""), [""]);

    for found in walk(dir.path(), WalkOptions::default()).unwrap() {
        let Found::Entry(found) = found.unwrap() else { panic!("the tree changes") };
        let child = |name: &[u8]| found.child(name).unwrap().map(|child| child.entry.path.shown());
        match found.entry.path.as_bytes() {
            b"" => assert!(child(b"one").is_some() && child(b"four").is_none()),
            b"one" => {
                let marker = found.child(b"marker").unwrap().unwrap();
                assert!(marker.entry.is_file() && marker.open().is_ok() && !marker.mount_point);
                assert!(child(b"deep").is_some() && found.child(b"..").is_err());
            }
            // Not through a link, and not in what is no directory.
            b"three" | b"one/marker" => assert_eq!(child(b"file"), None),
            _ => {}
        }
    }
}
