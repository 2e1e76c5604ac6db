//! Rules that leave something out: it is missing in a restore and counted, and everything else is there,
//! whatever rules the backup before had.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;

use common::{Store, device, engine, restore_tree, tree};
use convoy_backup::{
    BackupError, BackupKind, BackupOptions, BackupResult, BackupSummary, ExcludeRules, Format, KeySource,
};

fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, size) in [
        ("a.txt", 3000),
        ("a.tmp", 4000),
        ("cache/one", 600_000),
        ("cache/deep/two", 10),
        ("data/large.tmp", 900_000),
        ("data/small", 7),
        ("marked/.nobackup", 5),
        ("marked/three", 5000),
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, common::noise(size, size as u64)).unwrap();
    }
    fs::hard_link(dir.path().join("a.tmp"), dir.path().join("linked.txt")).unwrap();
    dir
}

fn rules(patterns: &[&str]) -> ExcludeRules {
    ExcludeRules { patterns: patterns.iter().map(|p| (*p).to_owned()).collect(), ..ExcludeRules::default() }
}

async fn back_up(
    store: &Store,
    name: &str,
    source: &Path,
    exclude: ExcludeRules,
) -> BackupResult<BackupSummary> {
    let options = BackupOptions { exclude, ..BackupOptions::default() };
    common::backup(&store.store, name, tree(source), &options).await
}

/// The files of a tree, and what is in them.
fn contents(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.push((name, fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

async fn names(store: &Store, backup: &str) -> Vec<String> {
    let restored = restore_tree(&store.store, "vol1", backup).await;
    contents(restored.path()).into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn what_is_left_out_is_missing_in_the_restore_and_counted_in_the_record() {
    let (store, source) = (Store::quick().await, files());
    let exclude = ExcludeRules { if_present: vec![".nobackup".to_owned()], ..rules(&["*.tmp", "/cache/"]) };
    let made = back_up(&store, "b-1", source.path(), exclude).await.unwrap();
    assert_eq!(names(&store, "b-1").await, ["a.txt", "data/small", "linked.txt", "marked/.nobackup"]);
    assert_eq!((made.excluded.files, made.excluded.directories), (2, 2));
    assert_eq!(made.stats.files, 4);
    assert_eq!(made.stats.bytes_read, 3000 + 7 + 4000 + 5, "nothing else is read");
    assert_eq!(made.stats.warnings, 0, "to leave out what is to be left out is no warning");
    let info = engine().inspect(store.store.clone(), "vol1", "b-1").await.unwrap();
    assert_eq!(info.excluded, made.excluded);
    let by: Vec<_> = info.excluded.rules.iter().map(|by| (&*by.rule, by.files, by.directories)).collect();
    assert_eq!(by, [("*.tmp", 2, 0), ("/cache/", 0, 1), ("has .nobackup", 0, 1)]);
    let restored = restore_tree(&store.store, "vol1", "b-1").await;
    assert_eq!(fs::read(restored.path().join("linked.txt")).unwrap(), common::noise(4000, 4000));
    assert!(restored.path().join("marked").is_dir() && !restored.path().join("cache").exists());
}

#[tokio::test]
async fn a_backup_after_one_with_other_rules_is_right_both_ways() {
    let (store, source) = (Store::quick().await, files());
    let all = contents(source.path());
    let of = |without: &[&str]| -> Vec<(String, Vec<u8>)> {
        all.iter().filter(|(name, _)| !without.iter().any(|part| name.contains(part))).cloned().collect()
    };
    let steps: [(&str, &[&str], Vec<_>); 5] = [
        ("b-1", &[], of(&[])),
        ("b-2", &["*.tmp", "cache/"], of(&[".tmp", "cache/"])),
        ("b-3", &["cache/"], of(&["cache/"])),
        ("b-4", &["/data/"], of(&["data/"])),
        ("b-5", &[], of(&[])),
    ];
    let mut before = None;
    for (name, patterns, expected) in steps {
        let made = back_up(&store, name, source.path(), rules(patterns)).await.unwrap();
        assert_eq!(made.parent, before);
        before = Some(name.to_owned());
        let restored = restore_tree(&store.store, "vol1", name).await;
        assert_eq!(contents(restored.path()), expected, "{name}");
        assert_eq!(made.excluded.is_empty(), patterns.is_empty());
        let files = expected.len() - hard_linked(&expected);
        assert_eq!(usize::try_from(made.stats.files), Ok(files), "{name}");
    }
    // What an older one has is not stored again, though it was left out meanwhile.
    let last = engine().inspect(store.store.clone(), "vol1", "b-5").await.unwrap();
    assert!(last.stats.unwrap().bytes > 1_500_000);
    for name in ["b-1", "b-2", "b-3"] {
        engine().delete(store.store.clone(), "vol1", name).await.unwrap();
    }
    let restored = restore_tree(&store.store, "vol1", "b-5").await;
    assert_eq!(contents(restored.path()), all);
}

/// Names beyond the first of one file.
fn hard_linked(files: &[(String, Vec<u8>)]) -> usize {
    usize::from(files.iter().filter(|(name, _)| name == "a.tmp" || name == "linked.txt").count() == 2)
}

#[tokio::test]
async fn a_change_of_what_was_left_out_comes_with_the_rule_that_goes() {
    let (store, source) = (Store::quick().await, files());
    back_up(&store, "b-1", source.path(), rules(&[])).await.unwrap();
    back_up(&store, "b-2", source.path(), rules(&["cache"])).await.unwrap();
    fs::write(source.path().join("cache/one"), "changed meanwhile").unwrap();
    back_up(&store, "b-3", source.path(), rules(&[])).await.unwrap();
    let restored = restore_tree(&store.store, "vol1", "b-3").await;
    assert_eq!(contents(restored.path()), contents(source.path()));
}

#[tokio::test]
async fn rules_are_for_files_and_for_the_newer_format() {
    let (store, source) = (Store::quick().await, files());
    let disk = source.path().join("disk");
    fs::write(&disk, vec![7; 4 << 20]).unwrap();
    for kind in [None, Some(BackupKind::Block)] {
        let options = BackupOptions { exclude: rules(&["*.tmp"]), kind, ..BackupOptions::default() };
        let refused = common::backup(&store.store, "b-1", device(&disk), &options).await;
        assert!(matches!(refused, Err(BackupError::RulesForBlocks)), "{refused:?}");
    }
    let options = BackupOptions { exclude: rules(&["x"]), format: Format::V0, ..BackupOptions::default() };
    let refused = common::backup(&store.store, "b-1", tree(source.path()), &options).await;
    assert!(matches!(refused, Err(BackupError::RulesInV0)), "{refused:?}");
    let refused = back_up(&store, "b-1", source.path(), rules(&["[z-a]"])).await;
    assert!(matches!(refused, Err(BackupError::Exclude(_))), "{refused:?}");
    assert!(!engine().has_backup(store.store.clone(), "vol1", "b-1").await.unwrap());
}

#[tokio::test]
async fn the_record_of_an_encrypted_backup_vouches_for_what_was_left_out() {
    let (store, source) = (Store::quick().await, files());
    let secret = KeySource::File(vec![7; 32].into());
    let key = engine().new_key(store.store.clone(), &secret).await.unwrap();
    let options =
        BackupOptions { key: Some(key.clone()), exclude: rules(&["*.tmp"]), ..BackupOptions::default() };
    common::backup(&store.store, "b-1", tree(source.path()), &options).await.unwrap();
    let object = "convoy-objectstore/volumes/vo/l1/vol1/backups/backup_b-1.cfg";
    let text = String::from_utf8(store.store.get(object, 1 << 20).await.unwrap().to_vec()).unwrap();
    let forged = text.replace(r#""Excluded":{"Files":2"#, r#""Excluded":{"Files":0"#);
    assert_ne!(forged, text);
    store.store.put(object, forged.into()).await.unwrap();
    let listed = engine().list_checked(store.store.clone(), None, Some(&key)).await.unwrap();
    assert!(matches!(listed.unreadable[0].2, BackupError::NotAuthentic { .. }));
}
