//! Tags, notes and pins: what is said of a backup is kept, whoever is killed; what is pinned is not deleted;
//! and who has no key can take away nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Store, describe, engine, meta, restore_tree, tree};
use convoy_backup::{
    BackupError, BackupOptions, BackupResult, DeleteOptions, Engine, EngineOptions, KeepUntil, KeySource,
    LabelChange, Labels, PinChange, Progress, RestoreOptions, StoreKey, Target, Unencrypted,
};
use convoy_objectstore::{DirectoryStore, Fault, FaultStore, ObjectStore, StoreError};
use tokio_util::sync::CancellationToken;

const RECORDS: &str = "convoy-objectstore/volumes/vo/l1/vol1/backups/";

fn key_of(backup: &str) -> String {
    format!("{RECORDS}backup_{backup}.cfg")
}

fn set(key: &str, value: &str) -> LabelChange {
    LabelChange { set: [(key.to_owned(), value.to_owned())].into(), ..LabelChange::default() }
}

fn pin(pin: PinChange) -> LabelChange {
    LabelChange { pin, ..LabelChange::default() }
}

async fn label(store: &Arc<dyn ObjectStore>, backup: &str, change: &LabelChange) -> BackupResult<Labels> {
    engine().label(store.clone(), "vol1", backup, change, None, Unencrypted::default()).await
}

async fn labels_of(store: &Arc<dyn ObjectStore>, backup: &str) -> Labels {
    engine().inspect(store.clone(), "vol1", backup).await.unwrap().labels
}

async fn record(store: &Arc<dyn ObjectStore>, backup: &str) -> String {
    String::from_utf8(store.get(&key_of(backup), 1 << 20).await.unwrap().to_vec()).unwrap()
}

fn source() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"what is in the volume".repeat(3000)).unwrap();
    dir
}

async fn one_backup() -> (Store, tempfile::TempDir) {
    let (store, source) = (Store::quick().await, source());
    common::backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    (store, source)
}

#[tokio::test]
async fn labels_are_kept_from_the_beginning_and_changed_and_nothing_else_is() {
    let (store, source) = one_backup().await;
    let before = record(&store.store, "b-1").await;
    assert!(!before.contains("Labels"), "a record without labels is as it always was: {before}");

    let change = LabelChange {
        note: Some("before the move\nto the new host".into()),
        pin: PinChange::Pin(KeepUntil::Forever),
        ..set("env", "prod")
    };
    let labels = label(&store.store, "b-1", &change).await.unwrap();
    assert_eq!(labels, labels_of(&store.store, "b-1").await);
    assert_eq!(labels.tags.get("env").map(String::as_str), Some("prod"));
    assert!(labels.pinned(jiff::Timestamp::now()));
    let listed = engine().list(store.store.clone(), None).await.unwrap();
    assert_eq!(listed.backups[0].labels, labels);
    let changed = record(&store.store, "b-1").await;
    let rest = changed.find(r#","Labels":"#).unwrap();
    assert_eq!(changed[..rest], before[..before.len() - 1], "what is not a label stays byte for byte");
    assert_eq!(describe(restore_tree(&store.store, "vol1", "b-1").await.path()), describe(source.path()));

    let undo = LabelChange {
        remove: ["env".to_owned()].into(),
        note: Some(String::new()),
        pin: PinChange::Unpin,
        ..LabelChange::default()
    };
    assert!(label(&store.store, "b-1", &undo).await.unwrap().is_empty());
    assert_eq!(record(&store.store, "b-1").await, before);

    let mut with = meta("vol1", "b-2");
    with.labels = labels.clone();
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    let options = BackupOptions::default();
    let maker = engine();
    let made = maker.backup(store.store.clone(), with, tree(source.path()), &options, &progress, &cancel);
    assert_eq!(made.await.unwrap().parent.as_deref(), Some("b-1"));
    assert_eq!(labels_of(&store.store, "b-2").await, labels);

    let gone = label(&store.store, "b-9", &change).await;
    assert!(gone.as_ref().is_err_and(BackupError::not_found), "{gone:?}");
    let refused = label(&store.store, "b-1", &set("no key", "")).await;
    assert!(matches!(refused, Err(BackupError::Label(_))), "{refused:?}");
}

#[tokio::test]
async fn what_is_pinned_is_not_deleted_before_it_is_unpinned_or_its_time_is_over() {
    let (store, source) = one_backup().await;
    common::backup(&store.store, "b-2", tree(source.path()), &BackupOptions::default()).await.unwrap();
    label(&store.store, "b-1", &pin(PinChange::Pin(KeepUntil::Forever))).await.unwrap();
    let refused = engine().delete(store.store.clone(), "vol1", "b-1").await;
    let Err(error @ BackupError::Pinned { .. }) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains("forever") && error.to_string().contains("unpin"), "{error}");
    // Others go, and a prune leaves what it needs.
    engine().delete(store.store.clone(), "vol1", "b-2").await.unwrap();
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    engine().prune(store.store.clone(), None, &Default::default(), &progress, &cancel).await.unwrap();
    assert_eq!(describe(restore_tree(&store.store, "vol1", "b-1").await.path()), describe(source.path()));

    let soon = jiff::Timestamp::now() + Duration::from_secs(2);
    label(&store.store, "b-1", &pin(PinChange::Pin(KeepUntil::Moment(soon)))).await.unwrap();
    let refused = engine().delete(store.store.clone(), "vol1", "b-1").await;
    assert!(matches!(refused, Err(BackupError::Pinned { .. })), "{refused:?}");
    while jiff::Timestamp::now() <= soon {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    engine().delete(store.store.clone(), "vol1", "b-1").await.unwrap();
    assert_eq!(engine().list(store.store.clone(), None).await.unwrap().backups, []);
}

#[tokio::test]
async fn records_of_0_5_can_be_labelled_and_stay_what_they_were() {
    for (fixture, volume) in [("vfs-store", "web"), ("devicemapper-store", "pgdata")] {
        let store = Store::fixture(fixture).await;
        let listed = engine().list(store.store.clone(), None).await.unwrap();
        let first = listed.backups.iter().find(|found| found.volume == volume).unwrap();
        assert_eq!((first.format, &first.labels), (0, &Labels::default()));
        let (backup, place) = (first.backup.clone(), store.dir.path().join("s"));
        let find = || {
            let name = format!("backup_{backup}.cfg");
            let path = walk(&place).into_iter().find(|path| path.ends_with(&name)).unwrap();
            std::fs::read_to_string(path).unwrap()
        };
        let before = find();
        let change = LabelChange { pin: PinChange::Pin(KeepUntil::Forever), ..set("from", "0.5") };
        let labelling = engine();
        let pinned = labelling.label(store.store.clone(), volume, &backup, &change, None, Default::default());
        assert!(pinned.await.unwrap().pinned(jiff::Timestamp::now()));
        let labels = r#","Labels":{"Tags":{"from":"0.5"},"KeepUntil":"forever"}}"#;
        assert_eq!(find(), before.strip_suffix('}').unwrap().to_owned() + labels);
        let refused = engine().delete(store.store.clone(), volume, &backup).await;
        assert!(matches!(refused, Err(BackupError::Pinned { .. })), "{refused:?}");
        let undo = LabelChange {
            pin: PinChange::Unpin,
            remove: ["from".to_owned()].into(),
            ..LabelChange::default()
        };
        engine().label(store.store.clone(), volume, &backup, &undo, None, Default::default()).await.unwrap();
        assert_eq!(find(), before);
    }
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test]
async fn what_a_newer_convoy_wrote_stays_in_a_record() {
    let (store, _source) = one_backup().await;
    let text = record(&store.store, "b-1").await;
    let future = text.replacen(r#","Stats":"#, r#","Future":{"b": [1,  2],"a":null},"Stats":"#, 1);
    assert_ne!(text, future);
    store.store.put(&key_of("b-1"), Bytes::from(future.clone())).await.unwrap();
    label(&store.store, "b-1", &set("k", "v")).await.unwrap();
    let labelled = record(&store.store, "b-1").await;
    assert_eq!(labelled, future.strip_suffix('}').unwrap().to_owned() + r#","Labels":{"Tags":{"k":"v"}}}"#);
}

/// A store with an encrypted backup, and its key.
async fn encrypted() -> (Store, StoreKey, tempfile::TempDir) {
    let (store, source) = (Store::quick().await, source());
    let secret = KeySource::File(vec![7; 32].into());
    let key = engine().new_key(store.store.clone(), &secret).await.unwrap();
    let options = BackupOptions { key: Some(key.clone()), ..BackupOptions::default() };
    common::backup(&store.store, "b-1", tree(source.path()), &options).await.unwrap();
    (store, key, source)
}

#[tokio::test]
async fn only_who_has_the_key_says_something_of_an_encrypted_backup() {
    let (store, key, source) = encrypted().await;
    let change = LabelChange { pin: PinChange::Pin(KeepUntil::Forever), ..set("env", "prod") };
    let without = label(&store.store, "b-1", &change).await;
    assert!(matches!(without, Err(BackupError::KeyMissing { .. })), "{without:?}");
    let before = record(&store.store, "b-1").await;
    let with = |change: LabelChange| {
        let (store, key) = (store.store.clone(), key.clone());
        async move { engine().label(store, "vol1", "b-1", &change, Some(&key), Unencrypted::default()).await }
    };
    with(change).await.unwrap();
    let pinned = record(&store.store, "b-1").await;

    // The code covers the labels: what is listed with the key is believed.
    let listed = engine().list_checked(store.store.clone(), None, Some(&key)).await.unwrap();
    assert!(listed.backups[0].authentic && listed.backups[0].labels.pinned(jiff::Timestamp::now()));
    let options = RestoreOptions { key: Some(key.clone()), ..RestoreOptions::default() };
    let (dir, progress, cancel) = (tempfile::tempdir().unwrap(), Progress::new(), CancellationToken::new());
    let target = Target::Tree { path: dir.path().into() };
    engine().restore(store.store.clone(), "vol1", "b-1", target, &options, &progress, &cancel).await.unwrap();
    assert_eq!(describe(dir.path()), describe(source.path()));

    // Somebody without the key takes the pin away, or moves its date.
    let delete = || {
        let options = DeleteOptions { key: Some(key.clone()) };
        let store = store.store.clone();
        async move { engine().delete_with(store, "vol1", "b-1", &options).await }
    };
    let labels = r#","Labels":{"Tags":{"env":"prod"},"KeepUntil":"forever"}"#;
    for forged in [
        pinned.replace(labels, ""),
        pinned.replace(labels, r#","Labels":{}"#),
        pinned.replace("forever", "2001-01-01T00:00:00Z"),
        pinned.replace("prod", "test"),
        pinned.replace(r#","Mac":"#, r#","Labels":{},"Mac":"#),
    ] {
        assert_ne!(forged, pinned);
        store.store.put(&key_of("b-1"), Bytes::from(forged)).await.unwrap();
        let listed = engine().list_checked(store.store.clone(), None, Some(&key)).await.unwrap();
        assert_eq!((listed.backups.len(), listed.unreadable.len()), (0, 1));
        let refused = delete().await;
        let refusals = matches!(
            refused,
            Err(BackupError::NotAuthentic { .. } | BackupError::Damaged { .. } | BackupError::Pinned { .. })
        );
        assert!(refusals, "{refused:?}");
        let refused = with(pin(PinChange::Unpin)).await;
        let refusals = matches!(refused, Err(BackupError::NotAuthentic { .. } | BackupError::Damaged { .. }));
        assert!(refusals, "what is forged is not made authentic: {refused:?}");
    }
    store.store.put(&key_of("b-1"), Bytes::from(pinned)).await.unwrap();
    assert!(matches!(delete().await, Err(BackupError::Pinned { .. })));
    with(LabelChange { remove: ["env".to_owned()].into(), ..pin(PinChange::Unpin) }).await.unwrap();
    assert_eq!(record(&store.store, "b-1").await, before, "the code too is that of before");
    delete().await.unwrap();
}

#[tokio::test]
async fn a_fault_at_any_call_leaves_the_labels_of_before_or_after() {
    let (store, source) = one_backup().await;
    label(&store.store, "b-1", &set("round", "before")).await.unwrap();
    let change = LabelChange { pin: PinChange::Pin(KeepUntil::Forever), ..set("round", "after") };
    let after = change.apply(&labels_of(&store.store, "b-1").await).unwrap();
    let mut acknowledged = 0;
    for fault in [Fault::Error, Fault::LostAnswer] {
        for number in 0.. {
            label(&store.store, "b-1", &LabelChange { pin: PinChange::Unpin, ..set("round", "before") })
                .await
                .unwrap();
            let before = labels_of(&store.store, "b-1").await;
            // A lock that could not be given back expires only later.
            let inner = DirectoryStore::open(store.dir.path()).await.unwrap();
            let faulty = FaultStore::new(inner, move |call| (call.number == number).then_some(fault));
            let faulty = Arc::new(faulty);
            let changed = label(&(faulty.clone() as Arc<dyn ObjectStore>), "b-1", &change).await;
            let found = labels_of(&store.store, "b-1").await;
            match changed {
                Ok(_) => {
                    assert_eq!(found, after, "{number}");
                    acknowledged += 1;
                }
                Err(_) => assert!(found == before || found == after, "{number}: {found:?}"),
            }
            let volume = store.dir.path().join("convoy-objectstore/volumes/vo/l1/vol1");
            for locks in ["locks", "labels"] {
                std::fs::remove_dir_all(volume.join(locks)).ok();
            }
            if faulty.calls() <= number {
                break;
            }
        }
    }
    assert!(acknowledged >= 2);
    assert_eq!(describe(restore_tree(&store.store, "vol1", "b-1").await.path()), describe(source.path()));
}

/// The example program, which cargo builds beside the tests.
fn program() -> std::path::PathBuf {
    let exe = std::env::current_exe().unwrap();
    exe.parent().unwrap().parent().unwrap().join("examples/move-tree")
}

#[tokio::test]
async fn killed_at_any_moment_a_record_is_that_of_before_or_after() {
    let store = Store::new().await;
    let source = source();
    common::backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let note = |number: u64| format!("note {number} {}", "long ".repeat(700));
    label(&store.store, "b-1", &LabelChange { note: Some(note(0)), ..Default::default() }).await.unwrap();
    let mut changed = 0;
    for round in 1..=16u64 {
        let before = labels_of(&store.store, "b-1").await.note;
        let mut child = std::process::Command::new(program())
            .arg("label")
            .arg(store.dir.path())
            .args(["vol1", "b-1", &note(round)])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(round * 2));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = labels_of(&store.store, "b-1").await.note;
        assert!(found == before || found == note(round), "round {round}: {found:?}");
        changed += usize::from(found != before);
        // The locks of the killed are known to be of nobody: what comes next need not wait.
        let engine = Engine::new(EngineOptions { lock_wait: Duration::ZERO, ..EngineOptions::default() });
        let store = store.store.clone();
        engine
            .label(store, "vol1", "b-1", &set("k", &round.to_string()), None, Default::default())
            .await
            .unwrap();
    }
    println!("{changed} of 16 changed before they were killed");
    assert_eq!(describe(restore_tree(&store.store, "vol1", "b-1").await.path()), describe(source.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_the_same_time_lose_nothing() {
    let (store, _source) = one_backup().await;
    let changes = (0..6).map(|number| {
        let store = store.store.clone();
        tokio::spawn(async move { label(&store, "b-1", &set(&format!("k{number}"), "v")).await.map(drop) })
    });
    let changes: Vec<_> = changes.collect();
    for change in changes {
        change.await.unwrap().unwrap();
    }
    assert_eq!(labels_of(&store.store, "b-1").await.tags.len(), 6);
}

/// Whoever of the two is first: a pin that was acknowledged is never followed by a deletion, and a backup that
/// was deleted does not come back.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_pin_and_a_deletion_one_wins() {
    let store = Store::quick().await;
    let source = source();
    let (mut pinned, mut deleted) = (0, 0);
    for round in 0..12u64 {
        let name = format!("b-{round}");
        common::backup(&store.store, &name, tree(source.path()), &BackupOptions::default()).await.unwrap();
        let (objects, backup) = (store.store.clone(), name.clone());
        let pinning = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(round % 4)).await;
            label(&objects, &backup, &pin(PinChange::Pin(KeepUntil::Forever))).await
        });
        let deletion = engine().delete(store.store.clone(), "vol1", &name).await;
        let there = engine().has_backup(store.store.clone(), "vol1", &name).await.unwrap();
        match (pinning.await.unwrap(), deletion) {
            (Ok(_), Err(BackupError::Pinned { .. })) => {
                assert!(there);
                pinned += 1;
            }
            (Err(BackupError::Store(StoreError::NotFound { .. })), Ok(_)) => {
                assert!(!engine().has_backup(store.store.clone(), "vol1", &name).await.unwrap());
                deleted += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    println!("{pinned} pinned, {deleted} deleted");
}
