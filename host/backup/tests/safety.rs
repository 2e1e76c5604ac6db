//! Whatever the store, the machine or other hosts do: no backup is lost, no wrong byte is restored, nothing
//! unknown stays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Store, backup, describe, engine, meta, noise, restore, restore_tree, tree};
use convoy_backup::{
    BackupError, BackupOptions, Engine, EngineOptions, Progress, PruneOptions, PruneSummary, Target,
    VerifyOptions, VerifySummary,
};
use convoy_objectstore::{Depth, Fault, FaultStore, ObjectStore, list_all};
use tokio_util::sync::CancellationToken;

fn write_tree(root: &Path, seed: u64) {
    std::fs::create_dir_all(root.join("d")).unwrap();
    for n in 0..6 {
        std::fs::write(root.join(format!("d/small{n}")), noise(2000, seed * 100 + n)).unwrap();
    }
    std::fs::write(root.join("large"), noise(500_000, seed)).unwrap();
    std::fs::write(root.join("same"), noise(300_000, 0)).unwrap();
}

/// A directory in memory where there is one: restores sync, very often.
fn quick_dir() -> std::io::Result<tempfile::TempDir> {
    if Path::new("/dev/shm").is_dir() { tempfile::tempdir_in("/dev/shm") } else { tempfile::tempdir() }
}

async fn prune(store: &Arc<dyn ObjectStore>) -> PruneSummary {
    engine()
        .prune(
            store.clone(),
            Some("vol1"),
            &PruneOptions::default(),
            &Progress::new(),
            &CancellationToken::new(),
        )
        .await
        .unwrap()
}

async fn verify(store: &Arc<dyn ObjectStore>) -> VerifySummary {
    let options = VerifyOptions { read_data: 100, ..VerifyOptions::default() };
    engine()
        .verify(store.clone(), Some("vol1"), None, &options, &Progress::new(), &CancellationToken::new())
        .await
        .unwrap()
}

async fn keys(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    list_all(&**store, "", Depth::All).await.unwrap().objects.into_iter().map(|o| o.key).collect()
}

/// After prune there is nothing but what the backups that are listed need.
async fn nothing_unknown(store: &Arc<dyn ObjectStore>) {
    prune(store).await;
    assert_eq!(prune(store).await.objects, 0);
    let found = verify(store).await;
    assert_eq!((found.faults, found.garbage), (Vec::new(), 0));
    let odd: Vec<_> =
        keys(store).await.into_iter().filter(|k| k.contains("/runs/") || k.contains("/locks/")).collect();
    assert!(odd.is_empty(), "{odd:?}");
}

#[tokio::test]
async fn a_fault_at_any_call_of_a_backup_harms_nothing() {
    let before = quick_dir().unwrap();
    write_tree(before.path(), 1);
    let after = quick_dir().unwrap();
    write_tree(after.path(), 2);
    for fault in [Fault::Error, Fault::LostAnswer] {
        for call in 0.. {
            let store = Store::quick().await;
            backup(&store.store, "b-old", tree(before.path()), &BackupOptions::default()).await.unwrap();
            let faulty: Arc<dyn ObjectStore> =
                Arc::new(FaultStore::new(store.store.clone(), move |c| (c.number == call).then_some(fault)));
            let made = backup(&faulty, "b-new", tree(after.path()), &BackupOptions::default()).await;
            // What a lock leaves behind when its own release fails expires; here it is known to be of a live
            // process.
            let locks: Vec<_> =
                keys(&store.store).await.into_iter().filter(|k| k.contains("/locks/")).collect();
            store.store.delete(&locks).await.unwrap();

            assert_eq!(
                describe(restore_tree(&store.store, "vol1", "b-old").await.path()),
                describe(before.path()),
                "call {call}"
            );
            let listed = engine().list(store.store.clone(), Some("vol1")).await.unwrap();
            let there = listed.backups.iter().any(|b| b.backup == "b-new");
            assert!(there || made.is_err(), "{fault:?} at call {call}: success without a backup");
            if there {
                assert_eq!(
                    describe(restore_tree(&store.store, "vol1", "b-new").await.path()),
                    describe(after.path())
                );
            } else {
                // The next attempt uses what this one has stored.
                let again = backup(&store.store, "b-new", tree(after.path()), &BackupOptions::default())
                    .await
                    .unwrap();
                assert_eq!(
                    describe(restore_tree(&store.store, "vol1", "b-new").await.path()),
                    describe(after.path())
                );
                assert!(again.stats.bytes_added <= 550_000);
            }
            nothing_unknown(&store.store).await;
            if made.is_ok() && call > 5 {
                break;
            }
            assert!(call < 100);
        }
    }
}

#[tokio::test]
async fn a_store_that_lies_is_found_out() {
    let source = quick_dir().unwrap();
    write_tree(source.path(), 1);
    for fault in [Fault::Truncate, Fault::Corrupt] {
        for what in [".pack", ".mft"] {
            let store = Store::quick().await;
            let lying: Arc<dyn ObjectStore> = Arc::new(FaultStore::new(store.store.clone(), move |c| {
                (c.op == "put" && c.key.ends_with(what)).then_some(fault)
            }));
            backup(&lying, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
            assert!(!verify(&store.store).await.faults.is_empty(), "{fault:?} of {what}");
            let dir = quick_dir().unwrap();
            let error = restore(&store.store, "vol1", "b-1", Target::Tree { path: dir.path().into() })
                .await
                .unwrap_err();
            assert!(matches!(error, BackupError::Damaged { .. }), "{error:?}");
            assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        }
    }
}

#[tokio::test]
async fn a_fault_at_any_call_of_a_restore_never_gives_a_wrong_byte() {
    let store = Store::quick().await;
    let source = quick_dir().unwrap();
    write_tree(source.path(), 1);
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let expected = describe(source.path());
    for fault in
        [Fault::Error, Fault::Refuse, Fault::Truncate, Fault::Corrupt, Fault::Slow(Duration::from_millis(20))]
    {
        for call in 0..30 {
            let faulty: Arc<dyn ObjectStore> =
                Arc::new(FaultStore::new(store.store.clone(), move |c| (c.number == call).then_some(fault)));
            let dir = quick_dir().unwrap();
            match restore(&faulty, "vol1", "b-1", Target::Tree { path: dir.path().into() }).await {
                Ok(_) => assert_eq!(describe(dir.path()), expected, "{fault:?} at call {call}"),
                Err(_) => assert_eq!(
                    dir.path().read_dir().unwrap().count(),
                    0,
                    "{fault:?} at call {call} leaves something"
                ),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_and_dropping_take_effect_at_once() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    write_tree(source.path(), 1);
    let hanging: Arc<dyn ObjectStore> =
        Arc::new(FaultStore::new(store.store.clone(), |c| c.key.ends_with(".pack").then_some(Fault::Hang)));
    let cancel = CancellationToken::new();
    let (progress, engine) = (Progress::new(), engine());
    let options = BackupOptions::default();
    let running = engine.backup(
        hanging.clone(),
        meta("vol1", "b-1"),
        tree(source.path()),
        &options,
        &progress,
        &cancel,
    );
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
        Instant::now()
    };
    let (result, stopped) = tokio::join!(running, stop);
    assert!(matches!(result, Err(BackupError::Cancelled)), "{result:?}");
    // The store would hang forever.
    assert!(stopped.elapsed() < Duration::from_secs(30), "{:?}", stopped.elapsed());

    let cancel = CancellationToken::new();
    let running =
        engine.backup(hanging, meta("vol1", "b-2"), tree(source.path()), &options, &progress, &cancel);
    assert!(tokio::time::timeout(Duration::from_millis(300), running).await.is_err());
    tokio::time::sleep(Duration::from_millis(300)).await;
    backup(&store.store, "b-3", tree(source.path()), &options).await.unwrap();
    nothing_unknown(&store.store).await;
    let listed = engine.list(store.store.clone(), Some("vol1")).await.unwrap();
    assert_eq!(listed.backups.iter().map(|b| b.backup.as_str()).collect::<Vec<_>>(), ["b-3"]);
}

/// The example program, which cargo builds beside the tests.
fn program() -> std::path::PathBuf {
    let exe = std::env::current_exe().unwrap();
    exe.parent().unwrap().parent().unwrap().join("examples/move-tree")
}

#[tokio::test]
async fn killed_at_any_moment_nothing_is_lost_and_nothing_unknown_stays() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    write_tree(source.path(), 0);
    backup(&store.store, "b-first", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let first = describe(source.path());
    let mut kept = Vec::new();
    for round in 0..12u64 {
        write_tree(source.path(), round + 1);
        let name = format!("b-{round}");
        let mut command = std::process::Command::new(program());
        command
            .arg("backup")
            .arg(store.dir.path())
            .args(["vol1", &name])
            .arg(source.path())
            .stdout(std::process::Stdio::null());
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(4 + round * 9));
        child.kill().unwrap();
        child.wait().unwrap();
        let listed = engine().list(store.store.clone(), Some("vol1")).await.unwrap();
        assert!(listed.unreadable.is_empty(), "{:?}", listed.unreadable);
        if listed.backups.iter().any(|b| b.backup == name) {
            kept.push((name, describe(source.path())));
        }
        assert_eq!(verify(&store.store).await.faults, []);
    }
    assert_eq!(describe(restore_tree(&store.store, "vol1", "b-first").await.path()), first);
    let next = backup(&store.store, "b-last", tree(source.path()), &BackupOptions::default()).await.unwrap();
    assert!(next.stats.bytes_added < 1 << 20);
    // The locks of the killed are known to be of nobody: prune need not wait for them to expire.
    let started = Instant::now();
    nothing_unknown(&store.store).await;
    assert!(started.elapsed() < Duration::from_secs(5));
    let partial = walk_files(store.dir.path()).into_iter().filter(|f| f.contains(".convoy-partial")).count();
    let swept = store.store.sweep("", Duration::ZERO).await.unwrap();
    assert_eq!(swept, partial as u64);
    for (name, expected) in kept {
        assert_eq!(describe(restore_tree(&store.store, "vol1", &name).await.path()), expected);
    }
}

fn walk_files(dir: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files.extend(walk_files(&entry.path()));
        } else {
            files.push(entry.path().display().to_string());
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_and_a_deleter_on_one_store() {
    let store = Store::new().await;
    // Until the deleter has seen enough, however fast this machine is.
    let enough = CancellationToken::new();
    let writer = |who: u64| {
        let (store, enough) = (store.store.clone(), enough.clone());
        tokio::spawn(async move {
            let source = tempfile::tempdir().unwrap();
            let mut made = Vec::new();
            let mut round = 0;
            while !enough.is_cancelled() || round < 3 {
                // The states repeat: chunks come, go and come again.
                write_tree(source.path(), (round + who) % 4);
                let name = format!("b-{who}-{round}");
                backup(&store, &name, tree(source.path()), &BackupOptions::default()).await.unwrap();
                made.push((name, describe(source.path())));
                round += 1;
            }
            made
        })
    };
    let (one, two) = (writer(1), writer(2));
    let deleter = {
        let (store, end) = (store.store.clone(), enough.drop_guard());
        tokio::spawn(async move {
            let (mut deleted, mut reclaimed) = (Vec::new(), 0);
            for round in 0.. {
                // Impatient at first; on a slow machine the store is seldom free.
                let lock_wait = Duration::from_millis(300) * (1 + round / 8);
                let impatient = Engine::new(EngineOptions { lock_wait, ..EngineOptions::default() });
                let listed = impatient.list(store.clone(), None).await.unwrap();
                if let Some(some) = listed.backups.get(rand::random_range(0..listed.backups.len().max(1))) {
                    let done = impatient.delete(store.clone(), "vol1", &some.backup).await.unwrap();
                    reclaimed += usize::from(done.deferred.is_none());
                    deleted.push(some.backup.clone());
                }
                match impatient
                    .prune(
                        store.clone(),
                        Some("vol1"),
                        &PruneOptions::default(),
                        &Progress::new(),
                        &CancellationToken::new(),
                    )
                    .await
                {
                    Ok(_) => reclaimed += 1,
                    Err(BackupError::Busy { .. }) => {}
                    Err(e) => panic!("{e:?}"),
                }
                if (round >= 20 && !deleted.is_empty() && reclaimed > 0) || round >= 200 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            drop(end);
            (deleted, reclaimed)
        })
    };
    let made: Vec<_> = one.await.unwrap().into_iter().chain(two.await.unwrap()).collect();
    let (deleted, reclaimed) = deleter.await.unwrap();
    assert!(
        made.len() > 4 && !deleted.is_empty() && reclaimed > 0,
        "{} made, {} deleted, {reclaimed}",
        made.len(),
        deleted.len()
    );
    assert_eq!(verify(&store.store).await.faults, []);
    for (name, expected) in made.iter().filter(|(name, _)| !deleted.contains(name)) {
        assert_eq!(&describe(restore_tree(&store.store, "vol1", name).await.path()), expected, "{name}");
    }
    nothing_unknown(&store.store).await;
}

#[tokio::test]
async fn a_backup_whose_lock_was_broken_takes_itself_back() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    write_tree(source.path(), 1);
    let ready = engine().prepare(store.store.clone(), "vol1", &BackupOptions::default()).await.unwrap();
    let locks: Vec<_> = keys(&store.store).await.into_iter().filter(|k| k.contains("/locks/")).collect();
    assert_eq!(locks.len(), 1);
    store.store.delete(&locks).await.unwrap();
    let result = ready
        .run(meta("vol1", "b-1"), tree(source.path()), &Progress::new(), &CancellationToken::new())
        .await;
    assert!(matches!(result, Err(BackupError::LockLost { .. })), "{result:?}");
    assert!(engine().list(store.store.clone(), Some("vol1")).await.unwrap().backups.is_empty());
}

#[tokio::test]
async fn locks_exclude_expire_and_are_renewed() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    write_tree(source.path(), 1);
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let quick = |ttl| {
        Engine::new(EngineOptions {
            lock_wait: Duration::from_millis(100),
            lock_ttl: ttl,
            ..EngineOptions::default()
        })
    };
    let engine = quick(Duration::from_secs(2));
    let held = engine.prepare(store.store.clone(), "vol1", &BackupOptions::default()).await.unwrap();
    let run = |engine: Engine| {
        let store = store.store.clone();
        async move {
            engine
                .prune(
                    store,
                    Some("vol1"),
                    &PruneOptions::default(),
                    &Progress::new(),
                    &CancellationToken::new(),
                )
                .await
        }
    };
    // Held, and renewed for longer than it would live.
    for _ in 0..3 {
        let error = run(engine.clone()).await.unwrap_err();
        assert!(error.to_string().contains("backup by process"), "{error}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // A second backup may share it; a delete goes on without the data.
    backup(&store.store, "b-2", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let deleted = engine.delete(store.store.clone(), "vol1", "b-1").await.unwrap();
    assert!(deleted.deferred.unwrap().contains("backup by process"));
    drop(held);
    tokio::time::sleep(Duration::from_millis(200)).await;
    run(engine.clone()).await.unwrap();
    // A lock of somebody who is gone, on another machine, expires.
    let text = r#"{"Host":"elsewhere","Pid":1,"Life":"other ns 7","Started":"","Purpose":"backup"}"#;
    store
        .store
        .put("convoy-objectstore/volumes/vo/l1/vol1/locks/s-0123456789abcdef.lock", text.into())
        .await
        .unwrap();
    assert!(matches!(run(engine.clone()).await, Err(BackupError::Busy { .. })));
    tokio::time::sleep(Duration::from_millis(2200)).await;
    run(engine).await.unwrap();
    assert!(!keys(&store.store).await.iter().any(|k| k.contains("/locks/")));
}

#[tokio::test]
async fn a_recheck_heals_what_was_damaged() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    write_tree(source.path(), 1);
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    // A bit in the middle of the data, or the data is gone.
    for gone in [false, true] {
        let pack = keys(&store.store).await.into_iter().find(|k| k.ends_with("00000000.pack")).unwrap();
        let mut bytes = store.store.get(&pack, 1 << 30).await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        if gone {
            store.store.delete(&[pack]).await.unwrap();
        } else {
            store.store.put(&pack, bytes.into()).await.unwrap();
        }
        assert!(!verify(&store.store).await.faults.is_empty());
        // An ordinary backup reads no unchanged files, so it does not help.
        let name = format!("b-plain-{gone}");
        backup(&store.store, &name, tree(source.path()), &BackupOptions::default()).await.unwrap();
        assert!(!verify(&store.store).await.faults.is_empty());
        let options = BackupOptions { recheck: true, ..BackupOptions::default() };
        let healed =
            backup(&store.store, &format!("b-healed-{gone}"), tree(source.path()), &options).await.unwrap();
        if !gone {
            assert!(
                healed.stats.bytes_added < 600_000,
                "only what was damaged is stored again: {:?}",
                healed.stats
            );
        }
        assert_eq!(verify(&store.store).await.faults, [], "older backups are whole again");
        for backup in ["b-1", name.as_str()] {
            assert_eq!(
                describe(restore_tree(&store.store, "vol1", backup).await.path()),
                describe(source.path())
            );
        }
    }
    nothing_unknown(&store.store).await;
    assert_eq!(describe(restore_tree(&store.store, "vol1", "b-1").await.path()), describe(source.path()));
}

#[tokio::test]
async fn what_is_deleted_gives_its_space_back() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    for n in 0..10 {
        std::fs::write(source.path().join(format!("f{n}")), noise(300_000, n)).unwrap();
    }
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    for n in 0..9 {
        std::fs::write(source.path().join(format!("f{n}")), noise(1000, 50 + n)).unwrap();
    }
    backup(&store.store, "b-2", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let expected = describe(source.path());
    engine().delete(store.store.clone(), "vol1", "b-1").await.unwrap();
    assert!(common::stored_bytes(store.dir.path()) > 3_000_000, "one chunk in ten holds the pack");
    let dry = PruneOptions { dry_run: true, ..PruneOptions::default() };
    let would = engine()
        .prune(store.store.clone(), None, &dry, &Progress::new(), &CancellationToken::new())
        .await
        .unwrap();
    let pruned = prune(&store.store).await;
    assert_eq!((would.repacked, pruned.repacked), (1, 1));
    assert!(common::stored_bytes(store.dir.path()) < 400_000);
    assert_eq!(verify(&store.store).await.faults, []);
    assert_eq!(describe(restore_tree(&store.store, "vol1", "b-2").await.path()), expected);
    // The next backup takes over the new places, and once nobody needs the moves they go.
    let third = backup(&store.store, "b-3", tree(source.path()), &BackupOptions::default()).await.unwrap();
    assert_eq!(third.stats.bytes_read, 0);
    engine().delete(store.store.clone(), "vol1", "b-2").await.unwrap();
    nothing_unknown(&store.store).await;
    assert!(!keys(&store.store).await.iter().any(|k| k.contains("/moves/")));
    assert_eq!(describe(restore_tree(&store.store, "vol1", "b-3").await.path()), expected);
    engine().delete(store.store.clone(), "vol1", "b-3").await.unwrap();
    nothing_unknown(&store.store).await;
    assert_eq!(keys(&store.store).await, ["convoy-objectstore/volumes/vo/l1/vol1/volume.cfg"]);
}

#[tokio::test]
async fn a_rewriting_that_was_interrupted_is_completed() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    for n in 0..10 {
        std::fs::write(source.path().join(format!("f{n}")), noise(300_000, n)).unwrap();
    }
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    for n in 0..9 {
        std::fs::write(source.path().join(format!("f{n}")), noise(1000, 50 + n)).unwrap();
    }
    backup(&store.store, "b-2", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let expected = describe(source.path());
    engine().delete(store.store.clone(), "vol1", "b-1").await.unwrap();
    // Everything is moved, and then the old pack cannot be removed.
    let stubborn: Arc<dyn ObjectStore> = Arc::new(FaultStore::new(store.store.clone(), |call| {
        (call.op == "delete" && call.key.ends_with("00000000.pack")).then_some(Fault::Refuse)
    }));
    let (options, progress, cancel) = (PruneOptions::default(), Progress::new(), CancellationToken::new());
    engine().prune(stubborn, None, &options, &progress, &cancel).await.unwrap_err();
    assert!(keys(&store.store).await.iter().any(|k| k.contains("/moves/")));
    assert!(common::stored_bytes(store.dir.path()) > 3_000_000);
    prune(&store.store).await;
    assert!(common::stored_bytes(store.dir.path()) < 400_000, "the old pack is gone");
    assert_eq!(verify(&store.store).await.faults, []);
    assert_eq!(describe(restore_tree(&store.store, "vol1", "b-2").await.path()), expected);
}

/// Two backups that know nothing of each other store the same chunk twice: each has to be read.
#[tokio::test]
async fn damage_in_a_second_copy_is_found() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("f"), noise(300_000, 1)).unwrap();
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let first = keys(&store.store).await;
    let alone = BackupOptions { incremental: false, ..BackupOptions::default() };
    backup(&store.store, "b-2", tree(source.path()), &alone).await.unwrap();
    let second = keys(&store.store)
        .await
        .into_iter()
        .find(|key| key.ends_with("00000000.pack") && !first.contains(key));
    let second = second.expect("a pack of its own");
    let mut bytes = store.store.get(&second, 1 << 30).await.unwrap().to_vec();
    bytes[1000] ^= 1;
    store.store.put(&second, bytes.into()).await.unwrap();
    let faults = verify(&store.store).await.faults;
    assert_eq!(faults.iter().map(|fault| fault.backup.as_str()).collect::<Vec<_>>(), ["b-2"], "{faults:?}");
}
