//! Any tree and any device come back as they were, and later backups copy only what changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Store, backup, describe, device, meta, noise, restore_device, restore_tree, tree};
use convoy_backup::{BackupKind, BackupOptions, Extents, Progress, Source, SourceExtent};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_tree_comes_back_with_everything() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    for dir in ["empty", "a/b/c", "ro"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::write(root.join("a/small"), "hello").unwrap();
    std::fs::write(root.join("a/none"), "").unwrap();
    std::fs::write(root.join("a/b/large"), noise(5 << 20, 1)).unwrap();
    std::fs::write(root.join("a/b/zeros"), vec![0; 3 << 20]).unwrap();
    std::fs::write(root.join("ro/file"), "x").unwrap();
    std::fs::hard_link(root.join("a/b/large"), root.join("a/b/again")).unwrap();
    std::os::unix::fs::symlink("/nowhere", root.join("link")).unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 100 << 20).unwrap();
    let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"bad\xffutf\nname");
    std::fs::write(root.join(odd), "odd").unwrap();
    std::os::unix::fs::chown(root.join("a/small"), Some(12345), Some(54321)).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0)
        .unwrap();
    rustix::fs::setxattr(root.join("a/small"), "trusted.k", b"\0v", rustix::fs::XattrFlags::empty()).unwrap();
    std::fs::set_permissions(root.join("ro"), std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
    let before = describe(root);

    let first = backup(&store.store, "b-1", tree(root), &BackupOptions::default()).await.unwrap();
    assert_eq!((first.kind, first.parent.as_deref()), (BackupKind::Tree, None));
    assert_eq!(first.stats.files, 7);
    let back = restore_tree(&store.store, "vol1", "b-1").await;
    assert_eq!(describe(back.path()), before);
    use std::os::unix::fs::MetadataExt;
    assert!(std::fs::metadata(back.path().join("sparse")).unwrap().blocks() < 100, "holes are kept");

    let second = backup(&store.store, "b-2", tree(root), &BackupOptions::default()).await.unwrap();
    assert_eq!(
        (second.parent.as_deref(), second.stats.bytes_read),
        (Some("b-1"), 0),
        "unchanged files are not read"
    );
    assert!(second.stats.bytes_added < 2000, "{:?}", second.stats);
    assert_eq!(describe(restore_tree(&store.store, "vol1", "b-2").await.path()), before);
}

#[tokio::test]
async fn a_change_in_a_large_file_costs_about_the_change() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    let mut data = noise(40 << 20, 2);
    std::fs::write(source.path().join("f"), &data).unwrap();
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    // A megabyte is replaced and some bytes are put in before: what follows is found again at its new place.
    data.splice(10 << 20..11 << 20, noise((1 << 20) + 777, 3));
    std::fs::write(source.path().join("f"), &data).unwrap();
    let second = backup(&store.store, "b-2", tree(source.path()), &BackupOptions::default()).await.unwrap();
    assert!(second.stats.bytes_added < 2 << 20, "{:?}", second.stats);
    let back = restore_tree(&store.store, "vol1", "b-2").await;
    assert!(std::fs::read(back.path().join("f")).unwrap() == data);
}

fn extents(list: &[(u64, u64, bool)]) -> futures::stream::BoxStream<'static, Result<SourceExtent, String>> {
    let list: Vec<_> = list
        .iter()
        .map(|&(offset, length, discarded)| Ok(SourceExtent { offset, length, discarded }))
        .collect();
    futures::stream::iter(list).boxed()
}

#[tokio::test]
async fn a_device_is_read_where_it_is_in_use_and_then_where_it_changed() {
    let store = Store::new().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let size = 64u64 << 20;
    let mut data = vec![0u8; 64 << 20];
    data[5 << 20..9 << 20].copy_from_slice(&noise(4 << 20, 1));
    data[(64 << 20) - 100..].fill(9);
    std::fs::write(file.path(), &data).unwrap();
    let source = |extents| Source::Block { device: file.path().into(), size, extents };
    let used = [(5 << 20, 4 << 20, false), ((64 << 20) - 100, 100, false)];
    let first =
        backup(&store.store, "b-1", source(Extents::InUse(extents(&used))), &BackupOptions::default())
            .await
            .unwrap();
    assert_eq!(first.kind, BackupKind::Block);
    assert!(first.stats.bytes_read <= (4 << 20) + 2 * (256 << 10), "{:?}", first.stats);
    assert!(restore_device(&store.store, "vol1", "b-1", size).await == data);

    // 2 MiB are discarded, a few bytes change elsewhere.
    data[6 << 20..8 << 20].fill(0);
    data[30 << 20] = 1;
    std::fs::write(file.path(), &data).unwrap();
    let options = BackupOptions::default();
    let ready = common::engine().prepare(store.store.clone(), "vol1", &options).await.unwrap();
    assert_eq!(ready.parent().unwrap().snapshot, "snap-of-b-1");
    let changed = extents(&[(6 << 20, 2 << 20, true), (30 << 20, 1, false)]);
    let source2 = source(Extents::Changed { base: "snap-of-b-1".into(), extents: changed });
    let second =
        ready.run(meta("vol1", "b-2"), source2, &Progress::new(), &CancellationToken::new()).await.unwrap();
    assert!(second.stats.bytes_added < 10_000, "{:?}", second.stats);
    assert!(restore_device(&store.store, "vol1", "b-2", size).await == data);

    let wrong = source(Extents::Changed { base: "another".into(), extents: extents(&[]) });
    assert!(backup(&store.store, "b-3", wrong, &options).await.is_err());
    let all = backup(&store.store, "b-4", device(file.path()), &options).await.unwrap();
    assert!(all.stats.bytes_added < 3000, "{:?}", all.stats);
    assert!(restore_device(&store.store, "vol1", "b-4", size).await == data);
}

#[tokio::test]
async fn what_changed_just_before_the_snapshot_is_read_again() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("f"), "one").unwrap();
    let run = |name: &'static str, age: i64| {
        let moment =
            convoy_backup::timestamp::parse(&convoy_backup::timestamp::now()).unwrap().as_second() - age;
        let snapshot_created =
            convoy_backup::timestamp::format(jiff::Timestamp::from_second(moment).unwrap());
        let made = convoy_backup::BackupMeta { snapshot_created, ..meta("vol1", name) };
        let source =
            Source::Tree { path: source.path().to_owned(), same: convoy_backup::SameFile::ChangeTime };
        let store = store.store.clone();
        async move {
            let (progress, cancel, options) =
                (Progress::new(), CancellationToken::new(), BackupOptions::default());
            common::engine()
                .backup(store, made, source, &options, &progress, &cancel)
                .await
                .unwrap()
                .stats
                .bytes_read
        }
    };
    assert_eq!(run("b-1", 0).await, 3);
    assert_eq!(run("b-2", -5).await, 3, "it changed in the second of the first snapshot");
    assert_eq!(run("b-3", -5).await, 0);
}

#[tokio::test]
async fn a_store_that_can_only_be_read_can_be_restored_from() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("f"), "one").unwrap();
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let reading = convoy_objectstore::FaultStore::new(store.store.clone(), |call| {
        call.op.starts_with("put").then_some(convoy_objectstore::Fault::Deny)
    });
    let reading: std::sync::Arc<dyn convoy_objectstore::ObjectStore> = std::sync::Arc::new(reading);
    assert_eq!(describe(restore_tree(&reading, "vol1", "b-1").await.path()), describe(source.path()));
    assert!(backup(&reading, "b-2", tree(source.path()), &BackupOptions::default()).await.is_err());
}
