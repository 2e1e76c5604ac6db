//! `prune` comes to an end: what it has made small it does not make small again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Store, backup, describe, engine, noise, tree};
use convoy_backup::{
    BackupOptions, KeySource, Progress, PruneOptions, PruneSummary, RestoreOptions, StoreKey, Target,
};
use convoy_objectstore::{Depth, list_all};
use tokio_util::sync::CancellationToken;

async fn prune(store: &Store, key: Option<&StoreKey>, dry_run: bool) -> PruneSummary {
    let options = PruneOptions { dry_run, key: key.cloned(), ..PruneOptions::default() };
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    engine().prune(store.store.clone(), None, &options, &progress, &cancel).await.unwrap()
}

async fn keys(store: &Store) -> Vec<String> {
    list_all(&*store.store, "", Depth::All).await.unwrap().objects.into_iter().map(|o| o.key).collect()
}

/// The index of a pack takes more room than chunks that are small: by its size alone such a pack looks as if
/// next to nothing of it was in use, however often it is written anew.
#[tokio::test]
async fn small_packs_are_left_as_they_are() {
    for (sealed, files) in [(false, 0), (true, 0), (false, 1), (true, 1), (false, 40), (true, 300)] {
        let store = Store::new().await;
        let key = match sealed {
            true => Some(
                engine().new_key(store.store.clone(), &KeySource::File(vec![7; 32].into())).await.unwrap(),
            ),
            false => None,
        };
        let source = tempfile::tempdir().unwrap();
        for n in 0..files {
            let length = 1 + usize::try_from(n).unwrap() % 60;
            std::fs::write(source.path().join(format!("f{n}")), noise(length, n)).unwrap();
        }
        let options = BackupOptions { key: key.clone(), ..BackupOptions::default() };
        backup(&store.store, "b-1", tree(source.path()), &options).await.unwrap();
        let made = keys(&store).await;
        let would = prune(&store, key.as_ref(), true).await;
        assert_eq!((would.objects, would.repacked, would.repacked_bytes), (0, 0, 0), "{files} {sealed}");
        for _ in 0..2 {
            let pruned = prune(&store, key.as_ref(), false).await;
            assert_eq!((pruned.objects, pruned.repacked), (0, 0), "{files} {sealed}");
            assert_eq!(keys(&store).await, made);
        }
    }
}

/// What is worth it is done, and once.
#[tokio::test]
async fn a_pack_is_made_small_once() {
    let store = Store::new().await;
    let key = engine().new_key(store.store.clone(), &KeySource::File(vec![7; 32].into())).await.unwrap();
    let options = BackupOptions { key: Some(key.clone()), ..BackupOptions::default() };
    let source = tempfile::tempdir().unwrap();
    for n in 0..40 {
        std::fs::write(source.path().join(format!("f{n}")), noise(20_000, n)).unwrap();
    }
    backup(&store.store, "b-1", tree(source.path()), &options).await.unwrap();
    for n in 0..36 {
        std::fs::remove_file(source.path().join(format!("f{n}"))).unwrap();
    }
    backup(&store.store, "b-2", tree(source.path()), &options).await.unwrap();
    engine().delete(store.store.clone(), "vol1", "b-1").await.unwrap();
    let before = common::stored_bytes(store.dir.path());
    let first = prune(&store, Some(&key), false).await;
    assert_eq!(first.repacked, 1);
    assert!(common::stored_bytes(store.dir.path()) < before / 2);
    let left = keys(&store).await;
    let again = prune(&store, Some(&key), false).await;
    assert_eq!((again.objects, again.repacked, keys(&store).await), (0, 0, left));
    let target = tempfile::tempdir().unwrap();
    let options = RestoreOptions { key: Some(key), ..RestoreOptions::default() };
    let to = Target::Tree { path: target.path().into() };
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    engine().restore(store.store.clone(), "vol1", "b-2", to, &options, &progress, &cancel).await.unwrap();
    assert_eq!(describe(target.path()), describe(source.path()));
}
