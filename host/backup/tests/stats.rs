//! What a store has is counted: as it is, with what is damaged named, and in bounded memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Store, engine, noise, tree};
use convoy_backup::{
    BackupError, BackupOptions, BackupResult, Engine, EngineOptions, FaultKind, KeySource, Progress,
    PruneOptions, StatsOptions, StatsSummary, VolumeStats,
};
use convoy_objectstore::ObjectStore;
use tokio_util::sync::CancellationToken;

const VOLUME: &str = "convoy-objectstore/volumes/vo/l1/vol1";

async fn stats(store: &Arc<dyn ObjectStore>, options: &StatsOptions) -> StatsSummary {
    stats_of(&engine(), store, None, options).await.unwrap()
}

async fn stats_of(
    engine: &Engine,
    store: &Arc<dyn ObjectStore>,
    volume: Option<&str>,
    options: &StatsOptions,
) -> BackupResult<StatsSummary> {
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    engine.stats(store.clone(), volume, options, &progress, &cancel).await
}

/// The only volume of a store in which all is well.
async fn one(store: &Arc<dyn ObjectStore>) -> VolumeStats {
    let summary = stats(store, &StatsOptions::default()).await;
    assert!(summary.faults.is_empty() && summary.skipped.is_empty(), "{summary:?}");
    assert_eq!(summary.volumes.len(), 1);
    summary.volumes[0].clone()
}

/// Ten files of 1 MiB that do not compress, one of them twice, and a file that does.
fn source() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..10 {
        std::fs::write(dir.path().join(format!("noise-{n}")), noise(1 << 20, n)).unwrap();
    }
    std::fs::write(dir.path().join("twin"), noise(1 << 20, 0)).unwrap();
    std::fs::write(dir.path().join("plain"), vec![b'x'; 4 << 20]).unwrap();
    dir
}

const LOGICAL: u64 = 15 << 20;

fn packs(store: &Store) -> Vec<PathBuf> {
    let dir = store.dir.path().join(VOLUME).join("packs");
    let runs = std::fs::read_dir(dir).unwrap().map(|run| run.unwrap().path());
    let mut packs: Vec<PathBuf> =
        runs.flat_map(|run| std::fs::read_dir(run).unwrap().map(|pack| pack.unwrap().path())).collect();
    packs.sort();
    packs
}

/// Bytes that a prune which rewrites nothing would remove.
async fn prunable(store: &Arc<dyn ObjectStore>) -> u64 {
    let options = PruneOptions { dry_run: true, repack_below: 0, ..PruneOptions::default() };
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    engine().prune(store.clone(), None, &options, &progress, &cancel).await.unwrap().bytes
}

fn flip(path: &Path, at: impl FnOnce(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn what_is_counted_is_what_is_there() {
    let (store, source) = (Store::quick().await, source());
    assert_eq!(stats(&store.store, &StatsOptions::default()).await, StatsSummary::default());
    common::backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let first = one(&store.store).await;
    assert_eq!((first.backups, first.files, first.encrypted, first.unmeasured), (1, 12, 0, 0));
    assert_eq!((first.logical_bytes, first.chunked_bytes), (LOGICAL, LOGICAL));
    assert_eq!(first.stored_bytes, common::stored_bytes(&store.dir.path().join(VOLUME)));
    assert_eq!(first.packs, packs(&store).len() as u64);
    assert_eq!(first.unneeded_bytes, Some(0));
    let chunks = first.chunks.unwrap();
    assert!(chunks.exact && chunks.distinct == chunks.stored && chunks.distinct >= 11, "{chunks:?}");
    // Equal data is stored once.
    assert!(chunks.bytes > 10 << 20 && chunks.bytes < LOGICAL, "{chunks:?}");
    assert!(chunks.stored_bytes < chunks.bytes && chunks.stored_bytes < first.stored_bytes, "{chunks:?}");

    // The same once more costs next to nothing.
    common::backup(&store.store, "b-2", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let both = one(&store.store).await;
    assert_eq!((both.backups, both.files, both.logical_bytes), (2, 24, 2 * LOGICAL));
    assert!(both.stored_bytes < first.stored_bytes + (64 << 10), "{both:?}");
    assert_eq!(both.stored_bytes, common::stored_bytes(&store.dir.path().join(VOLUME)));
    assert_eq!((both.unneeded_bytes, prunable(&store.store).await), (Some(0), 0));

    // A pack of nobody: its chunks are stored twice, and are no others.
    let pack = packs(&store).remove(0);
    let stray = store.dir.path().join(VOLUME).join("packs/00000000000000ab/00000000.pack");
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    std::fs::copy(&pack, &stray).unwrap();
    let with_stray = one(&store.store).await;
    let size = std::fs::metadata(&stray).unwrap().len();
    assert_eq!((with_stray.unneeded_bytes, prunable(&store.store).await), (Some(size), size));
    let more = with_stray.chunks.unwrap();
    assert_eq!(more.distinct, both.chunks.unwrap().distinct);
    assert!(more.stored > more.distinct);

    // What is not convoy's is not counted.
    std::fs::write(store.dir.path().join(VOLUME).join("packs/notes.txt"), "mine").unwrap();
    assert_eq!(one(&store.store).await, with_stray);
}

#[tokio::test]
async fn encrypted_chunks_are_counted_with_the_key_alone() {
    let (store, source) = (Store::quick().await, source());
    let key = KeySource::File(vec![7; 32].into());
    let key = engine().new_key(store.store.clone(), &key).await.unwrap();
    let options = BackupOptions { key: Some(key.clone()), ..BackupOptions::default() };
    common::backup(&store.store, "b-1", tree(source.path()), &options).await.unwrap();
    let without = stats(&store.store, &StatsOptions::default()).await;
    assert!(without.faults.is_empty() && without.sealed == 1, "{without:?}");
    let volume = &without.volumes[0];
    assert_eq!((volume.chunks, volume.unneeded_bytes, volume.encrypted), (None, Some(0), 1));
    assert_eq!(volume.logical_bytes, LOGICAL);
    let with = stats(&store.store, &StatsOptions { key: Some(key.clone()) }).await;
    assert!(with.faults.is_empty() && with.sealed == 0, "{with:?}");
    assert!(with.volumes[0].chunks.unwrap().distinct >= 11);

    // A record that somebody without the key has changed is named, and not counted.
    let record = store.dir.path().join(VOLUME).join("backups/backup_b-1.cfg");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace("\"Files\":12", "\"Files\":99")).unwrap();
    let forged = stats(&store.store, &StatsOptions { key: Some(key) }).await;
    assert_eq!((forged.fault_count, forged.faults[0].kind), (1, FaultKind::NotAuthentic));
    assert_eq!((forged.volumes[0].backups, forged.volumes[0].unneeded_bytes), (0, None));
}

#[tokio::test]
async fn what_is_damaged_is_named_and_the_rest_is_counted() {
    let (store, source) = (Store::quick().await, source());
    for backup in ["b-1", "b-2", "b-3"] {
        std::fs::write(source.path().join("changing"), backup).unwrap();
        common::backup(&store.store, backup, tree(source.path()), &BackupOptions::default()).await.unwrap();
    }
    let well = one(&store.store).await;
    let all = packs(&store);
    // An index whose checksum does not fit, and an end that is none.
    flip(&all[0], |len| len - 60);
    std::fs::write(&all[1], "short").unwrap();
    let dir = store.dir.path().join(VOLUME);
    std::fs::write(dir.join("backups/backup_b-2.cfg"), "{").unwrap();
    let found = stats(&store.store, &StatsOptions::default()).await;
    let volume = &found.volumes[0];
    assert_eq!((volume.backups, volume.logical_bytes), (2, well.logical_bytes - LOGICAL - 3));
    assert_eq!((volume.packs, volume.unneeded_bytes), (well.packs, None), "{found:?}");
    assert!(volume.chunks.unwrap().stored < well.chunks.unwrap().stored);
    assert_eq!(found.fault_count, 3, "{found:?}");
    let told: Vec<_> = found.faults.iter().map(|fault| (fault.backup.as_str(), fault.kind)).collect();
    assert!(told.contains(&("b-2", FaultKind::Damaged)), "{told:?}");
    assert_eq!(told.iter().filter(|(backup, _)| backup.is_empty()).count(), 2);
    assert!(found.faults.iter().all(|fault| fault.volume == "vol1" && !fault.what.is_empty()));

    // A manifest that is gone: its backup is counted, and what it needs is not known.
    std::fs::remove_file(dir.join("backups/backup_b-2.cfg")).unwrap();
    for manifest in std::fs::read_dir(dir.join("manifests")).unwrap() {
        std::fs::remove_file(manifest.unwrap().path()).unwrap();
    }
    let found = stats(&store.store, &StatsOptions::default()).await;
    assert_eq!((found.volumes[0].backups, found.volumes[0].unneeded_bytes), (2, None));
    assert!(found.faults.iter().any(|fault| fault.what.contains("cannot be restored")), "{found:?}");
}

#[tokio::test]
async fn what_0_5_has_made_is_counted_as_far_as_its_records_tell() {
    let blocks = Store::fixture("devicemapper-store").await;
    let found = stats(&blocks.store, &StatsOptions::default()).await;
    assert!(found.faults.is_empty() && !found.volumes.is_empty(), "{found:?}");
    for volume in &found.volumes {
        assert!(volume.backups > 0 && volume.unmeasured == 0 && volume.stored_bytes > 0, "{volume:?}");
        assert!(volume.logical_bytes > 0 && volume.logical_bytes % (2 << 20) == 0, "{volume:?}");
        assert_eq!((volume.chunked_bytes, volume.packs), (0, 0));
    }
    let archives = Store::fixture("vfs-store").await;
    let found = stats(&archives.store, &StatsOptions::default()).await;
    for volume in &found.volumes {
        assert!(volume.unmeasured == volume.backups && volume.logical_bytes == 0, "{volume:?}");
    }
    // An archive belongs to one backup: that added all of it.
    let listed = engine().list(archives.store.clone(), None).await.unwrap().backups;
    let sizes = engine().archive_sizes(&*archives.store, &listed).await.unwrap();
    assert_eq!(sizes.len(), listed.len());
    assert!(sizes.values().all(|size| *size > 0) && listed.iter().all(|backup| backup.bytes.is_none()));
    let listed = engine().list(blocks.store.clone(), None).await.unwrap().backups;
    assert!(listed.iter().all(|backup| backup.bytes.is_some_and(|bytes| bytes > 0)), "{listed:?}");
    assert!(engine().archive_sizes(&*blocks.store, &listed).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_volume_that_is_not_there_is_an_error_and_a_cancelled_count_ends() {
    let (store, source) = (Store::quick().await, source());
    common::backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let missing = stats_of(&engine(), &store.store, Some("vol2"), &StatsOptions::default()).await;
    assert!(missing.unwrap_err().not_found());
    let cancel = CancellationToken::new();
    cancel.cancel();
    let (options, progress) = (StatsOptions::default(), Progress::new());
    let ended = engine().stats(store.store.clone(), None, &options, &progress, &cancel).await;
    assert!(matches!(ended, Err(BackupError::Cancelled)), "{ended:?}");
}

/// Of each backup as little is kept as its key: ten thousand fit into a small share of the least memory.
#[tokio::test]
async fn many_backups_take_little_memory() {
    const MANY: u64 = 10_000;
    let (store, source) = (Store::quick().await, tempfile::tempdir().unwrap());
    std::fs::write(source.path().join("file"), "content").unwrap();
    common::backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let dir = store.dir.path().join(VOLUME).join("backups");
    let record = std::fs::read_to_string(dir.join("backup_b-1.cfg")).unwrap();
    for n in 1..MANY {
        let name = format!("b-copy-{n}");
        let copy = record.replace("\"Name\":\"b-1\"", &format!("\"Name\":\"{name}\""));
        std::fs::write(dir.join(format!("backup_{name}.cfg")), copy).unwrap();
    }
    let small = Engine::new(EngineOptions { memory: 1, ..EngineOptions::default() });
    let found = stats_of(&small, &store.store, None, &StatsOptions::default()).await.unwrap();
    assert_eq!((found.fault_count, found.volumes[0].backups), (0, MANY), "{found:?}");
    assert_eq!((found.volumes[0].files, found.volumes[0].logical_bytes), (MANY, 7 * MANY));
    assert_eq!(found.volumes[0].unneeded_bytes, Some(0));
}
