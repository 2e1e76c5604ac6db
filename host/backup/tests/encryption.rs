//! Encrypted backups: come back with the key and with no other, tell nothing without it, and keys can be changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Store, describe, device, engine, restore, tree};
use convoy_backup::{
    BackupError, BackupOptions, Format, KeySource, Progress, PruneOptions, RestoreOptions, StoreKey, Target,
    VerifyOptions, add_key, list_keys, remove_key,
};
use convoy_objectstore::{Depth, list_all};
use tokio_util::sync::CancellationToken;

fn pass(text: &str) -> KeySource {
    KeySource::Passphrase(text.to_owned().into())
}

fn file(byte: u8) -> KeySource {
    KeySource::File(vec![byte; 32].into())
}

async fn with_key(store: &Store, backup: &str, key: &StoreKey) -> Result<tempfile::TempDir, BackupError> {
    let dir = tempfile::tempdir().unwrap();
    let (target, options) =
        (Target::Tree { path: dir.path().into() }, RestoreOptions { key: Some(key.clone()) });
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
        let options = VerifyOptions { read_data: 100, key };
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
        matches!(remove_key(&*store.store, &name, &file(2)).await, Err(BackupError::KeyWrong)),
        "nobody locks himself out"
    );
    remove_key(&*store.store, "first", &file(2)).await.unwrap();
    assert!(matches!(engine().unlock(store.store.clone(), &file(1)).await, Err(BackupError::KeyWrong)));
    let key = engine().unlock(store.store.clone(), &file(2)).await.unwrap();
    with_key(&store, "b-1", &key).await.unwrap();
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
