//! What the tests share: stores, trees, devices.

#![allow(dead_code, unreachable_pub)]

pub mod acts;
pub mod cage;
pub mod edits;
pub mod forge;
pub mod look;
pub mod stores;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use convoy_backup::{
    BackupMeta, BackupOptions, BackupResult, BackupSummary, Engine, EngineOptions, Extents, Progress,
    RestoreOptions, RestoreSummary, SameFile, Source, Target,
};
use convoy_objectstore::{DirectoryStore, ObjectStore};
use tokio_util::sync::CancellationToken;

/// A store in a directory that goes when the test ends.
pub struct Store {
    pub dir: tempfile::TempDir,
    pub store: Arc<dyn ObjectStore>,
}

impl Store {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(DirectoryStore::open(dir.path()).await.unwrap());
        Self { dir, store }
    }

    /// A store in memory, for tests that make very many: what is synced takes no time there.
    pub async fn quick() -> Self {
        let dir = quick_dir();
        let store = Arc::new(DirectoryStore::open(dir.path()).await.unwrap());
        Self { dir, store }
    }

    /// A copy of a fixture: reading a store takes locks in it.
    pub async fn fixture(name: &str) -> Self {
        let made = Self::new().await;
        let from = fixtures().join(name);
        std::fs::create_dir(made.dir.path().join("s")).unwrap();
        convoy_tree::copy_tree(&from, &made.dir.path().join("s"), &Default::default()).unwrap();
        let dir = made.dir.path().join("s");
        Self { store: Arc::new(DirectoryStore::open(dir).await.unwrap()), dir: made.dir }
    }
}

/// A directory in memory, if there is such a place.
pub fn quick_dir() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub fn engine() -> Engine {
    Engine::new(EngineOptions { lock_wait: Duration::from_secs(20), ..EngineOptions::default() })
}

pub fn meta(volume: &str, backup: &str) -> BackupMeta {
    BackupMeta {
        backup: backup.into(),
        volume: volume.into(),
        driver: "vfs".into(),
        volume_size: 0,
        volume_created: "Mon Nov 23 08:38:07 +0000 2026".into(),
        snapshot: format!("snap-of-{backup}"),
        snapshot_created: "Mon Nov 23 08:38:08 +0000 2026".into(),
        created: String::new(),
        options: Default::default(),
        labels: Default::default(),
    }
}

pub fn tree(path: &Path) -> Source {
    Source::Tree { path: path.to_owned(), same: SameFile::BirthTime }
}

pub fn device(path: &Path) -> Source {
    let size = std::fs::metadata(path).unwrap().len();
    Source::Block { device: path.to_owned(), size, extents: Extents::All }
}

/// Backs up, plainly.
pub async fn backup(
    store: &Arc<dyn ObjectStore>,
    backup: &str,
    source: Source,
    options: &BackupOptions,
) -> BackupResult<BackupSummary> {
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    engine().backup(store.clone(), meta("vol1", backup), source, options, &progress, &cancel).await
}

/// Restores without any option.
pub async fn restore(
    store: &Arc<dyn ObjectStore>,
    volume: &str,
    backup: &str,
    target: Target,
) -> BackupResult<RestoreSummary> {
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    engine()
        .restore(store.clone(), volume, backup, target, &RestoreOptions::default(), &progress, &cancel)
        .await
}

/// Restores a tree into a new directory.
pub async fn restore_tree(store: &Arc<dyn ObjectStore>, volume: &str, backup: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    restore(store, volume, backup, Target::Tree { path: dir.path().to_owned() }).await.unwrap();
    dir
}

/// Restores a device into a new file of that size, which holds something else before.
pub async fn restore_device(store: &Arc<dyn ObjectStore>, volume: &str, backup: &str, size: u64) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![0xa5; usize::try_from(size).unwrap()]).unwrap();
    let target = Target::Block { device: file.path().to_owned(), size, zeroed: false };
    restore(store, volume, backup, target).await.unwrap();
    std::fs::read(file.path()).unwrap()
}

/// Everything about a tree that a backup keeps, in words, sorted.
pub fn describe(root: &Path) -> Vec<String> {
    let mut first = std::collections::HashMap::new();
    convoy_tree::walk(root, convoy_tree::WalkOptions::default())
        .unwrap()
        .map(|found| {
            let convoy_tree::Found::Entry(found) = found.unwrap() else { panic!("vanished") };
            let e = &found.entry;
            let name = first.entry(e.ino).or_insert_with(|| e.path.clone()).clone();
            let content = if e.is_file() {
                let data = std::fs::read(e.path.below(root)).unwrap();
                format!("{} {}", data.len(), blake3::hash(&data).to_hex())
            } else {
                String::new()
            };
            let xattrs: Vec<_> = e.xattrs.iter().collect();
            format!(
                "{} {:?} {:o} {}:{} {:?} first={name} {xattrs:?} {content}",
                e.path, e.kind, e.mode, e.uid, e.gid, e.mtime
            )
        })
        .collect()
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    reader.fill(&mut out);
    out
}

/// Bytes of all objects in a store, by listing its directory.
pub fn stored_bytes(dir: &Path) -> u64 {
    let mut total = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        total += if meta.is_dir() { stored_bytes(&entry.path()) } else { meta.len() };
    }
    total
}
