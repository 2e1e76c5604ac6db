//! Somebody puts into a store what convoy never does, strange names and links: it is told, harms nothing
//! else, and stays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{Store, backup, describe, engine, meta, noise, restore_tree, tree};
use convoy_backup::{BackupOptions, Progress, PruneOptions, PruneSummary, VerifyOptions, VerifySummary};
use convoy_objectstore::ObjectStore;
use tokio_util::sync::CancellationToken;

const VOLUME: &str = "convoy-objectstore/volumes/vo/l1/vol1";

async fn prune(store: &Arc<dyn ObjectStore>, dry_run: bool) -> PruneSummary {
    let options = PruneOptions { dry_run, ..PruneOptions::default() };
    engine().prune(store.clone(), None, &options, &Progress::new(), &CancellationToken::new()).await.unwrap()
}

async fn verify(store: &Arc<dyn ObjectStore>) -> VerifySummary {
    let options = VerifyOptions { read_data: 100, ..VerifyOptions::default() };
    engine()
        .verify(store.clone(), None, None, &options, &Progress::new(), &CancellationToken::new())
        .await
        .unwrap()
}

fn source() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), noise(300_000, 1)).unwrap();
    dir
}

fn write(path: &Path, data: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, data).unwrap();
    // So old that no grace is left.
    let old = SystemTime::now() - Duration::from_secs(10 * 24 * 3600);
    std::fs::File::open(path).unwrap().set_modified(old).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_removes_what_convoy_names_and_nothing_else() {
    let store = Store::new().await;
    let source = source();
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let volume = store.dir.path().join(VOLUME);
    let strange = [
        "BackupFiles/b 1.bak",
        "BackupFiles/sub/b-1.bak",
        "blocks/ab/cd/abcd.blk",
        "blocks/notes.txt",
        "locks/x-0123456789abcdef.lock.old",
        "locks/z-0123456789abcdef.lock",
        "manifests/+00000000000000a.mft",
        "manifests/notes.txt",
        "moves/00000000000000AB-000000cd.idx",
        "moves/somebody.idx",
        "notes.txt",
        "packs/00000000000000AB/000000cd.pack",
        "packs/evil/00000000000000ab/000000cd.pack",
        "packs/00000000000000ab/cd.pack",
        "runs/+0000000000000ab.json",
    ];
    for name in strange {
        write(&volume.join(name), "not convoy's");
    }
    // What is named as convoy names it and not needed is garbage.
    let sum = "ab".repeat(32);
    let garbage = [
        "packs/00000000000000ab/000000cd.pack".to_owned(),
        "manifests/00000000000000ab.mft".to_owned(),
        "BackupFiles/b-9.bak".to_owned(),
        format!("blocks/ab/ab/{sum}.blk"),
    ];
    for name in &garbage {
        write(&volume.join(name), "left over");
    }
    for dry_run in [true, false] {
        let pruned = prune(&store.store, dry_run).await;
        assert_eq!(pruned.objects, garbage.len() as u64);
        let keys: Vec<_> = strange.iter().map(|name| format!("{VOLUME}/{name}")).collect();
        let mut told = pruned.strange.clone();
        told.sort();
        let mut expected = keys.clone();
        expected.sort();
        assert_eq!((told, pruned.strange_count), (expected, keys.len() as u64));
        assert!(garbage.iter().all(|name| volume.join(name).exists() == dry_run));
    }
    // Neither does a delete take any of them with it.
    backup(&store.store, "b-2", tree(source.path()), &BackupOptions::default()).await.unwrap();
    for name in ["b-1", "b-2"] {
        engine().delete(store.store.clone(), "vol1", name).await.unwrap();
    }
    for name in strange {
        assert_eq!(std::fs::read(volume.join(name)).unwrap(), b"not convoy's", "{name}");
    }
    // Of any number of names some are told, and the others counted.
    for n in 0..300 {
        write(&volume.join(format!("packs/{n}")), "");
    }
    let pruned = prune(&store.store, false).await;
    assert_eq!((pruned.strange.len(), pruned.strange_count), (100, 315));
}

/// A record may name any key as the file of 0.5 that goes with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_names_a_strangers_file_does_not_delete_it() {
    for file in [
        format!("{VOLUME}/BackupFiles/../../../../../keys/first.json"),
        "convoy-objectstore/keys/first.json".to_owned(),
        format!("{VOLUME}/volume.cfg"),
        format!("{VOLUME}/backups/backup_b-2.cfg"),
        format!("{VOLUME}/BackupFiles/b-2.bak"),
    ] {
        let store = Store::new().await;
        let config =
            r#"{"Name":"vol1","Driver":"vfs","Size":0,"CreatedTime":"Mon Nov 23 08:38:07 +0000 2026"}"#;
        let at = |key: &str| store.dir.path().join(key);
        let victims = [
            at("convoy-objectstore/keys/first.json"),
            at(&format!("{VOLUME}/BackupFiles/b-2.bak")),
            at(&format!("{VOLUME}/volume.cfg")),
        ];
        for victim in &victims {
            write(victim, config);
        }
        let record = |name: &str, file: &str| {
            let text = format!(
                r#"{{"Name":"{name}","VolumeName":"vol1","SnapshotName":"s","SingleFile":{{"FilePath":"{file}"}}}}"#
            );
            write(&at(&format!("{VOLUME}/backups/backup_{name}.cfg")), &text);
        };
        record("b-1", &file);
        record("b-2", &format!("{VOLUME}/BackupFiles/b-2.bak"));
        engine().delete(store.store.clone(), "vol1", "b-1").await.unwrap();
        assert!(!at(&format!("{VOLUME}/backups/backup_b-1.cfg")).exists());
        assert!(victims.iter().all(|victim| victim.exists()), "{file}");
        assert!(at(&format!("{VOLUME}/backups/backup_b-2.cfg")).exists(), "{file}");
    }
}

/// One volume's wreck stops only itself.
#[tokio::test(flavor = "multi_thread")]
async fn links_in_one_volume_are_told_and_the_others_go_on() {
    for part in ["packs", "backups", "manifests", "locks"] {
        let store = Store::new().await;
        let source = source();
        for volume in ["vol1", "vol2"] {
            let (progress, cancel) = (Progress::new(), CancellationToken::new());
            let options = BackupOptions::default();
            let source = tree(source.path());
            let engine = engine();
            let made =
                engine.backup(store.store.clone(), meta(volume, "b-1"), source, &options, &progress, &cancel);
            made.await.unwrap();
        }
        let outside = tempfile::tempdir().unwrap();
        let place = store.dir.path().join(VOLUME).join(part);
        if part != "locks" {
            std::fs::rename(&place, outside.path().join("there")).unwrap();
        } else {
            std::fs::create_dir(outside.path().join("there")).unwrap();
        }
        std::os::unix::fs::symlink(outside.path().join("there"), &place).unwrap();
        let before = describe(outside.path());

        let listing = engine().list(store.store.clone(), None).await.unwrap();
        let volumes: Vec<_> = listing.backups.iter().map(|backup| backup.volume.as_str()).collect();
        assert!(volumes.contains(&"vol2"), "{part}: {listing:?}");
        assert_eq!(volumes.contains(&"vol1"), part != "backups", "{part}");
        let found = verify(&store.store).await;
        assert!(
            !found.faults.is_empty() && found.faults.iter().all(|fault| fault.volume == "vol1"),
            "{part}: {found:?}"
        );
        assert!(found.faults.iter().any(|fault| fault.what.contains("symbolic link")), "{part}: {found:?}");
        let pruned = prune(&store.store, false).await;
        let told = pruned.skipped.iter().any(|line| line.contains("symbolic link"));
        // A listing of everything passes over a link, below which nothing is then.
        assert!(told || part == "packs", "{part}: {pruned:?}");
        assert_eq!(pruned.objects, 0, "{part}");
        restore_tree(&store.store, "vol2", "b-1").await;
        assert_eq!(describe(outside.path()), before, "{part}");
    }
}
