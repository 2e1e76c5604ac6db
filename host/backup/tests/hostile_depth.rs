//! Trees that are deeper than any path a program can pass to the kernel.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::{Store, backup, restore, tree};
use convoy_backup::{BackupOptions, Target};
use convoy_tree::{Found, WalkOptions, remove_tree, walk};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

/// Directories inside each other; in each eighth a file with two names.
fn chain(root: &Path, levels: usize, name: &str) {
    std::fs::create_dir(root).unwrap();
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(CWD, root, flags, Mode::empty()).unwrap();
    for level in 0..levels {
        if level % 8 == 0 {
            let create = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&at, "a", create, Mode::RUSR).unwrap();
            rustix::io::write(&file, level.to_string().as_bytes()).unwrap();
            rustix::fs::linkat(&at, "a", &at, "z", AtFlags::empty()).unwrap();
        }
        rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, name, flags, Mode::empty()).unwrap();
    }
}

/// What a backup keeps of a tree.
fn entries(root: &Path) -> Vec<impl PartialEq> {
    let found = walk(root, WalkOptions::default()).unwrap().map(|found| match found.unwrap() {
        Found::Entry(found) => {
            let data = found.open().ok().map(|(file, _)| std::io::read_to_string(file).unwrap());
            let entry = found.entry;
            (entry.path, entry.kind, entry.mode, entry.mtime, entry.nlink, data)
        }
        Found::Vanished(path) => panic!("{path} vanished"),
        Found::Refused { path, error } => panic!("{path}: {error}"),
    });
    found.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_thousand_directories_are_backed_up_and_restored() {
    let store = Store::new().await;
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    chain(&from, 4000, "d");
    std::fs::create_dir(&to).unwrap();
    for name in ["one", "two"] {
        backup(&store.store, name, tree(&from), &BackupOptions::default()).await.unwrap();
    }
    restore(&store.store, "vol1", "two", Target::Tree { path: to.clone() }).await.unwrap();
    assert!(entries(&from) == entries(&to));
    // `TempDir` cannot: it goes by paths.
    remove_tree(&from).unwrap();
    remove_tree(&to).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_a_manifest_cannot_hold_is_told_in_few_words() {
    let store = Store::new().await;
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    chain(&from, 200, &"d".repeat(255));
    let error = backup(&store.store, "one", tree(&from), &BackupOptions::default()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.len() < 1000 && text.contains("a path of more than 32768 bytes"), "{text}");
    let v0 = BackupOptions { format: convoy_backup::Format::V0, ..BackupOptions::default() };
    let error = backup(&store.store, "two", tree(&from), &v0).await.unwrap_err();
    assert!(error.to_string().contains("a path of more than 32768 bytes"), "{error}");
    remove_tree(&from).unwrap();
}
