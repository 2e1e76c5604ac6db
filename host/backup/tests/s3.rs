//! The engine at S3 servers made by others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../objectstore/tests/common/server.rs"]
mod server;

use std::sync::Arc;

use common::{backup, describe, device, engine, noise, restore_device, restore_tree, tree};
use convoy_backup::{BackupOptions, Format, Progress, PruneOptions, VerifyOptions};
use convoy_objectstore::{ObjectStore, RetryPolicy, RetryStore, S3Options, S3Store};
use server::{Server, credentials};
use tokio_util::sync::CancellationToken;

/// Everything once: two backups of a tree and of a device, in both formats, verify, delete, prune.
async fn everything(server: &Server) {
    let options = S3Options { endpoint: Some(server.endpoint()), ..S3Options::default() };
    let s3 = S3Store::open("rec", Some("us-east-1"), "some/path/", &options).await.unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(RetryStore::new(s3, RetryPolicy::default()));
    let source = tempfile::tempdir().unwrap();
    for n in 0..50 {
        std::fs::write(source.path().join(format!("small{n}")), noise(3000, n)).unwrap();
    }
    std::fs::write(source.path().join("large"), noise(20 << 20, 77)).unwrap();
    let v0 = BackupOptions { format: Format::V0, ..BackupOptions::default() };
    backup(&store, "b-tree1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    std::fs::write(source.path().join("small3"), "changed").unwrap();
    let second = backup(&store, "b-tree2", tree(source.path()), &BackupOptions::default()).await.unwrap();
    assert!(second.stats.bytes_read == 7 && second.stats.bytes_added < 30_000, "{:?}", second.stats);
    backup(&store, "b-tree0", tree(source.path()), &v0).await.unwrap();
    assert_eq!(describe(restore_tree(&store, "vol1", "b-tree2").await.path()), describe(source.path()));
    assert_eq!(
        std::fs::read(restore_tree(&store, "vol1", "b-tree0").await.path().join("large")).unwrap(),
        noise(20 << 20, 77)
    );

    let file = tempfile::NamedTempFile::new().unwrap();
    let mut data = vec![0; 8 << 20];
    data[3 << 20..5 << 20].copy_from_slice(&noise(2 << 20, 5));
    std::fs::write(file.path(), &data).unwrap();
    backup(&store, "b-dev1", device(file.path()), &BackupOptions::default()).await.unwrap();
    backup(&store, "b-dev0", device(file.path()), &v0).await.unwrap();
    for name in ["b-dev1", "b-dev0"] {
        assert!(restore_device(&store, "vol1", name, 8 << 20).await == data);
    }
    let listed = engine().list(store.clone(), None).await.unwrap();
    assert_eq!((listed.backups.len(), listed.unreadable.len()), (5, 0));
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    let all = VerifyOptions { read_data: 100, ..VerifyOptions::default() };
    assert_eq!(
        engine().verify(store.clone(), None, None, &all, &progress, &cancel).await.unwrap().faults,
        []
    );
    for name in ["b-tree1", "b-tree0", "b-dev0"] {
        assert_eq!(engine().delete(store.clone(), "vol1", name).await.unwrap().deferred, None);
    }
    assert_eq!(
        engine()
            .prune(store.clone(), None, &PruneOptions::default(), &progress, &cancel)
            .await
            .unwrap()
            .objects,
        0
    );
    assert_eq!(
        engine().verify(store.clone(), None, None, &all, &progress, &cancel).await.unwrap().faults,
        []
    );
    assert_eq!(describe(restore_tree(&store, "vol1", "b-tree2").await.path()), describe(source.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_at_moto() {
    credentials();
    everything(&Server::moto()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_at_s3s_fs() {
    credentials();
    everything(&Server::s3s_fs()).await;
}
