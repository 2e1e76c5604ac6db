//! Encrypted backups: come back with the key and with no other, tell nothing without it, and keys can be
//! changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Store, describe, device, engine, restore, tree};
use convoy_backup::{
    BackupError, BackupOptions, Format, KeySource, Progress, PruneOptions, RestoreOptions, StoreKey, Target,
    VerifyOptions, add_key, list_keys, remove_key,
};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use convoy_objectstore::{
    ByteStream, Depth, ObjectInfo, ObjectStore, Page, PutOutcome, StoreError, list_all,
};
use tokio_util::sync::CancellationToken;

fn pass(text: &str) -> KeySource {
    KeySource::Passphrase(text.to_owned().into())
}

fn file(byte: u8) -> KeySource {
    KeySource::File(vec![byte; 32].into())
}

async fn with_key(store: &Store, backup: &str, key: &StoreKey) -> Result<tempfile::TempDir, BackupError> {
    let dir = tempfile::tempdir().unwrap();
    let (target, options) = (
        Target::Tree { path: dir.path().into() },
        RestoreOptions { key: Some(key.clone()), ..RestoreOptions::default() },
    );
    engine()
        .restore(
            store.store.clone(),
            "vol1",
            backup,
            target,
            &options,
            &Progress::new(),
            &CancellationToken::new(),
        )
        .await?;
    Ok(dir)
}

#[tokio::test]
async fn the_key_and_no_other_opens_it_and_nothing_is_told_without() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("secret-name"), "very secret content ".repeat(3000)).unwrap();
    let key = engine().new_key(store.store.clone(), &pass("correct horse")).await.unwrap();
    let options = BackupOptions { key: Some(key.clone()), ..BackupOptions::default() };
    let first = common::backup(&store.store, "b-1", tree(source.path()), &options).await.unwrap();
    let second = common::backup(&store.store, "b-2", tree(source.path()), &options).await.unwrap();
    assert_eq!((second.parent.as_deref(), second.stats.bytes_read), (Some("b-1"), 0));
    assert!(first.stats.bytes_added > second.stats.bytes_added);
    assert_eq!(describe(with_key(&store, "b-2", &key).await.unwrap().path()), describe(source.path()));

    let plain_hash = blake3::hash("very secret content ".repeat(3000).as_bytes());
    for object in list_all(&*store.store, "", Depth::All).await.unwrap().objects {
        let bytes = store.store.get(&object.key, 1 << 30).await.unwrap();
        for told in [&b"secret-name"[..], b"very secret", b"correct horse", plain_hash.as_bytes()] {
            assert!(!bytes.windows(told.len()).any(|w| w == told), "{}", object.key);
        }
    }
    let none = restore(
        &store.store,
        "vol1",
        "b-1",
        Target::Tree { path: tempfile::tempdir().unwrap().path().into() },
    )
    .await;
    assert!(matches!(none, Err(BackupError::KeyMissing { .. })), "{none:?}");
    assert!(matches!(
        engine().unlock(store.store.clone(), &pass("wrong horse")).await,
        Err(BackupError::KeyWrong)
    ));
    assert!(matches!(engine().new_key(store.store.clone(), &file(1)).await, Err(BackupError::KeyWrong)));
    let other = Store::new().await;
    let strange = engine().new_key(other.store.clone(), &file(1)).await.unwrap();
    assert!(matches!(with_key(&store, "b-1", &strange).await, Err(BackupError::KeyWrong)));

    let info = engine().inspect(store.store.clone(), "vol1", "b-1").await.unwrap();
    assert!(info.encrypted);
    let verify = |key| {
        let options = VerifyOptions { read_data: 100, key, ..VerifyOptions::default() };
        let store = store.store.clone();
        async move {
            engine()
                .verify(store, None, None, &options, &Progress::new(), &CancellationToken::new())
                .await
                .unwrap()
        }
    };
    assert_eq!(verify(Some(key.clone())).await.faults, []);
    assert_eq!(verify(None).await.faults.len(), 2, "without the key nothing can be said to be right");
    // Deleting needs no key.
    let deleted = engine().delete(store.store.clone(), "vol1", "b-1").await.unwrap();
    assert_eq!(deleted.deferred, None);
    let pruned = engine()
        .prune(
            store.store.clone(),
            None,
            &PruneOptions::default(),
            &Progress::new(),
            &CancellationToken::new(),
        )
        .await
        .unwrap();
    assert_eq!(pruned.objects, 0);
    assert_eq!(describe(with_key(&store, "b-2", &key).await.unwrap().path()), describe(source.path()));
}

#[tokio::test]
async fn keys_are_changed_without_touching_backups() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("f"), "x").unwrap();
    let key = engine().new_key(store.store.clone(), &file(1)).await.unwrap();
    let options = BackupOptions { key: Some(key), ..BackupOptions::default() };
    common::backup(&store.store, "b-1", tree(source.path()), &options).await.unwrap();
    let name = add_key(&*store.store, &file(1), &file(2)).await.unwrap();
    assert!(matches!(add_key(&*store.store, &file(9), &file(3)).await, Err(BackupError::KeyWrong)));
    assert_eq!(list_keys(&*store.store).await.unwrap().len(), 2);
    assert!(
        matches!(remove_key(store.store.clone(), &name, &file(2)).await, Err(BackupError::KeyWrong)),
        "nobody locks himself out"
    );
    remove_key(store.store.clone(), "first", &file(2)).await.unwrap();
    assert!(matches!(engine().unlock(store.store.clone(), &file(1)).await, Err(BackupError::KeyWrong)));
    let key = engine().unlock(store.store.clone(), &file(2)).await.unwrap();
    with_key(&store, "b-1", &key).await.unwrap();
}

/// A server that knows no conditions: what is put if absent is put in any case, and the answer is always that
/// it was absent. Writes of keys take their time, so that those who race meet.
#[derive(Debug)]
struct Careless(Arc<dyn ObjectStore>);

#[async_trait::async_trait]
impl ObjectStore for Careless {
    async fn put(&self, key: &str, data: Bytes) -> Result<(), StoreError> {
        self.0.put(key, data).await
    }
    async fn put_if_absent(&self, key: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        if key.ends_with("first.json") {
            tokio::time::sleep(Duration::from_millis(rand::random_range(20..200))).await;
        }
        self.0.put(key, data).await.map(|()| PutOutcome::Created)
    }
    async fn put_stream(&self, key: &str, data: ByteStream) -> Result<u64, StoreError> {
        self.0.put_stream(key, data).await
    }
    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.0.get(key, limit).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.0.get_range(key, range).await
    }
    async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        self.0.head(key).await
    }
    async fn list(&self, dir: &str, depth: Depth, page: Option<&str>) -> Result<Page, StoreError> {
        self.0.list(dir, depth, page).await
    }
    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.0.delete(keys).await
    }
    async fn sweep(&self, dir: &str, older_than: Duration) -> Result<u64, StoreError> {
        self.0.sweep(dir, older_than).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hosts_that_begin_together_have_one_key_also_where_the_server_ignores_conditions() {
    for careless in [true, false] {
        let plain = Store::quick().await;
        let store: Arc<dyn ObjectStore> =
            if careless { Arc::new(Careless(plain.store.clone())) } else { plain.store.clone() };
        let hosts: Vec<_> = (0..6)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { engine().new_key(store, &file(1)).await })
            })
            .collect();
        let mut ids = std::collections::BTreeSet::new();
        for host in hosts {
            ids.insert(host.await.unwrap().unwrap().id().to_owned());
        }
        ids.insert(engine().unlock(store.clone(), &file(1)).await.unwrap().id().to_owned());
        assert_eq!(ids.len(), 1, "careless: {careless}: {ids:?}");
        assert_eq!(list_keys(&*store).await.unwrap(), ["first"]);
        let left = list_all(&*store, "", Depth::All).await.unwrap().objects;
        assert_eq!(left.len(), 1, "locks are left: {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_who_remove_each_others_key_lock_nobody_out() {
    let kept = Store::quick().await;
    let store = kept.store.clone();
    engine().new_key(store.clone(), &file(1)).await.unwrap();
    let second = add_key(&*store, &file(1), &file(2)).await.unwrap();
    let (one, two) = (store.clone(), store.clone());
    let (one, two) = tokio::join!(
        tokio::spawn(async move { remove_key(one, "first", &file(2)).await }),
        tokio::spawn(async move { remove_key(two, &second, &file(1)).await }),
    );
    let outcomes = [one.unwrap(), two.unwrap()];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert_eq!(list_keys(&*store).await.unwrap().len(), 1);
}

#[tokio::test]
async fn keys_that_are_none_are_refused() {
    let store = Store::new().await;
    for bad in [pass(""), KeySource::File(vec![1; 31].into())] {
        let error = engine().new_key(store.store.clone(), &bad).await.unwrap_err();
        assert!(matches!(error, BackupError::KeyUnusable(_)), "{error}");
    }
    assert!(!format!("{:?}", pass("hush")).contains("hush"));
    let key = engine().new_key(store.store.clone(), &file(1)).await.unwrap();
    let source = tempfile::NamedTempFile::new().unwrap();
    let options = BackupOptions { key: Some(key), format: Format::V0, ..BackupOptions::default() };
    assert!(common::backup(&store.store, "b-1", device(source.path()), &options).await.is_err());
}
