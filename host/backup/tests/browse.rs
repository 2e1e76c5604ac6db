//! Looking into backups: no more is fetched than is needed, damage stays where it is, and the lock is held.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use common::look::{self, path};
use common::{Store, backup, device, engine, fixtures, noise, quick_dir, restore_device, tree};
use convoy_backup::{
    BackupError, BackupOptions, Browse, KeySource, RestoreOptions, Unencrypted, browse_directory,
};
use convoy_objectstore::{Depth, DirectoryStore, FaultStore, ObjectStore, list_all};
use convoy_tree::RelPath;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

/// A store that notes the ranges read.
async fn counting(dir: &std::path::Path) -> (Arc<dyn ObjectStore>, Arc<Mutex<Vec<String>>>) {
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let noted = ranges.clone();
    let inner = DirectoryStore::open(dir).await.unwrap();
    let store = FaultStore::new(inner, move |call| {
        if call.op == "get_range" {
            noted.lock().push(call.key.to_owned());
        }
        None
    });
    (Arc::new(store), ranges)
}

/// Calls that block, of a test that does not.
fn blocking<T>(call: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(call)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_read_than_is_needed() {
    let (store, source) = (Store::quick().await, tempfile::tempdir().unwrap());
    for n in 0..200 {
        let dir = source.path().join(format!("dir-{n:03}/below"));
        std::fs::create_dir_all(&dir).unwrap();
        for n in 0..100 {
            std::fs::write(dir.join(format!("a-file-with-a-name-{n:05}")), []).unwrap();
        }
    }
    std::fs::write(source.path().join("large"), noise(64 << 20, 7)).unwrap();
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let (counted, ranges) = counting(store.dir.path()).await;
    let browse = look::browse(&counted, "vol1", "b-1").await;
    assert_eq!(ranges.lock().len(), 0, "only the root was read");
    blocking(|| {
        let listed = browse.list(&path("dir-150/below"), None, 1000).unwrap();
        assert_eq!(listed.len(), 100);
        let few = std::mem::take(&mut *ranges.lock()).len();
        let mut all = 0;
        browse
            .walk(&RelPath::root(), &mut |_| {
                all += 1;
                Ok(std::ops::ControlFlow::Continue(convoy_backup::Visit::Continue))
            })
            .unwrap();
        assert_eq!(all, 1 + 200 * 102 + 1);
        // Some 20 segments: the search takes 5 or 6, the directory is in one or two.
        assert!((1..=8).contains(&few), "{few} requests for one directory");
        ranges.lock().clear();
        // Directories are passed over, not read: in the root each has 101 things below it.
        let roots = browse.list(&RelPath::root(), None, 1000).unwrap();
        assert_eq!(roots.len(), 201);
        ranges.lock().clear();
        let open = browse.open(&path("large")).unwrap();
        let opened = ranges.lock().len();
        assert!(opened <= 1, "{opened}");
        ranges.lock().clear();
        let bytes = open.read_at(33 << 20, 4096).unwrap();
        assert!(bytes == noise(64 << 20, 7)[33 << 20..][..4096]);
        assert_eq!(ranges.lock().len(), 1, "one chunk");
        open.read_at((33 << 20) + 1, 4096).unwrap();
        assert_eq!(ranges.lock().len(), 1, "it is there already");
    });
    let moved = Arc::clone(&ranges);
    blocking(|| {
        moved.lock().clear();
        let open = browse.open(&path("large")).unwrap();
        let mut at = 0;
        while at < open.size() {
            at += open.read_at(at, 128 << 10).unwrap().len() as u64;
        }
        // 64 MiB in stretches of 4 MiB, each of which may end with its pack of 6 MiB, and some small ones
        // until it is sure that it goes on. On a busy machine the reader comes upon a stretch that is being
        // fetched ahead, and takes a part of it: twice as many at most.
        let requests = moved.lock().len();
        assert!((16..=64).contains(&requests), "{requests} requests for a file that is read through");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_that_are_read_one_after_the_other_come_together() {
    let (store, source) = (Store::quick().await, quick_dir());
    for n in 0..1000 {
        std::fs::write(source.path().join(format!("file-{n:04}")), noise(3000, n)).unwrap();
    }
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let (counted, ranges) = counting(store.dir.path()).await;
    let browse = look::browse(&counted, "vol1", "b-1").await;
    blocking(|| {
        for n in 0..1000 {
            let open = browse.open(&path(&format!("file-{n:04}"))).unwrap();
            assert!(open.read_at(0, 1 << 20).unwrap() == noise(3000, n));
        }
    });
    let requests = ranges.lock().len();
    assert!(requests < 40, "{requests} requests for 1000 small files");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_want_at_once_is_read_once() {
    let (store, source) = (Store::quick().await, tempfile::tempdir().unwrap());
    std::fs::write(source.path().join("file"), noise(200_000, 3)).unwrap();
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let (counted, ranges) = counting(store.dir.path()).await;
    let browse = look::browse(&counted, "vol1", "b-1").await;
    blocking(|| {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let open = browse.open(&path("file")).unwrap();
                    assert!(open.read_at(0, 1 << 20).unwrap() == noise(200_000, 3));
                });
            }
        });
    });
    assert_eq!(ranges.lock().len(), 2, "one segment and one chunk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_very_many_pieces_is_read() {
    // Each stretch of data is a piece of its own: more than go into one item, and one segment.
    const PIECES: u64 = 30_000;
    let (store, source) = (Store::quick().await, quick_dir());
    let file = std::fs::File::create(source.path().join("sparse")).unwrap();
    for n in 0..PIECES {
        file.write_all_at(&n.to_le_bytes(), n * 8192).unwrap();
    }
    std::fs::write(source.path().join("z"), "behind").unwrap();
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let browse = look::browse(&store.store, "vol1", "b-1").await;
    blocking(|| {
        let open = browse.open(&path("sparse")).unwrap();
        for n in [0, 1, 4095, 4096, 4097, 20_000, PIECES - 1] {
            assert_eq!(&open.read_at(n * 8192, 8).unwrap()[..], &n.to_le_bytes(), "{n}");
        }
        assert_eq!(&*browse.open(&path("z")).unwrap().read_at(0, 9).unwrap(), b"behind");
        assert!(browse.stat(&path("sparse")).unwrap().content.is_some());
        look::agrees_with_itself(&*browse, 1);
        let data = std::fs::read(source.path().join("sparse")).unwrap();
        look::reads(&*open, &data, 5);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_fails_the_file_that_has_it_with_its_name() {
    let (store, source) = (Store::quick().await, tempfile::tempdir().unwrap());
    std::fs::write(source.path().join("good"), noise(300_000, 1)).unwrap();
    let stream = noise(300_000, 2);
    std::fs::write(source.path().join("hurt"), &stream).unwrap();
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    for object in list_all(&*store.store, "", Depth::All).await.unwrap().objects {
        let file = store.dir.path().join(&object.key);
        let mut bytes = std::fs::read(&file).unwrap();
        // What does not compress is stored as it is.
        if let Some(at) = bytes.windows(16).position(|window| window == &stream[1000..1016]) {
            bytes[at] ^= 1;
            std::fs::write(&file, bytes).unwrap();
        }
    }
    let browse = look::browse(&store.store, "vol1", "b-1").await;
    blocking(|| {
        look::reads(&*browse.open(&path("good")).unwrap(), &noise(300_000, 1), 1);
        let error = browse.open(&path("hurt")).unwrap().read_at(1000, 10).unwrap_err();
        assert!(matches!(error, BackupError::Damaged { .. }), "{error}");
        assert!(error.to_string().starts_with("/hurt of backup b-1 of volume vol1 ("), "{error}");
        // A read of its neighbour is not hurt by what would have come along.
        look::reads(&*browse.open(&path("good")).unwrap(), &noise(300_000, 1), 2);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_held_until_the_last_that_was_opened_is_gone() {
    let (store, source) = (Store::quick().await, tempfile::tempdir().unwrap());
    std::fs::write(source.path().join("file"), noise(300_000, 1)).unwrap();
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let browse = look::browse(&store.store, "vol1", "b-1").await;
    let open = blocking(|| browse.open(&path("file")).unwrap());
    drop(browse);
    let deleted = engine().delete(store.store.clone(), "vol1", "b-1").await.unwrap();
    assert!(
        deleted.deferred.as_deref().is_some_and(|by| by.starts_with("reading by process")),
        "{deleted:?}"
    );
    assert_eq!(blocking(|| open.read_at(5, 7)).unwrap().len(), 7);
    // Wherever it is dropped.
    std::thread::spawn(move || drop(open)).join().unwrap();
    let volume = "convoy-objectstore/volumes/vo/l1/vol1/locks/";
    for _ in 0..500 {
        if list_all(&*store.store, volume, Depth::All).await.unwrap().objects.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(list_all(&*store.store, volume, Depth::All).await.unwrap().objects.is_empty());
    let (options, cancel) = (RestoreOptions::default(), CancellationToken::new());
    let gone = engine().browse(store.store.clone(), "vol1", "b-1", &options, &cancel).await;
    assert!(gone.unwrap_err().not_found());
    assert!(list_all(&*store.store, volume, Depth::All).await.unwrap().objects.is_empty(), "it left no lock");
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_backups_are_read_with_their_key_only() {
    let (store, source) = (Store::quick().await, tempfile::tempdir().unwrap());
    std::fs::create_dir(source.path().join("d")).unwrap();
    std::fs::write(source.path().join("d/file"), noise(700_000, 1)).unwrap();
    std::fs::hard_link(source.path().join("d/file"), source.path().join("d/more")).unwrap();
    let key = engine().new_key(store.store.clone(), &KeySource::File(vec![7; 32].into())).await.unwrap();
    let encrypted = BackupOptions { key: Some(key.clone()), ..BackupOptions::default() };
    backup(&store.store, "b-1", tree(source.path()), &encrypted).await.unwrap();
    let cancel = CancellationToken::new();
    let without =
        engine().browse(store.store.clone(), "vol1", "b-1", &RestoreOptions::default(), &cancel).await;
    assert!(matches!(without, Err(BackupError::KeyMissing { .. })), "{without:?}");
    let options = RestoreOptions { key: Some(key), unencrypted: Unencrypted::default(), allow_losses: false };
    let browse = engine().browse(store.store.clone(), "vol1", "b-1", &options, &cancel).await.unwrap();
    blocking(|| {
        let plain = browse_directory(source.path()).unwrap();
        assert_eq!(look::walked(&*browse, &RelPath::root()), look::walked(&*plain, &RelPath::root()));
        look::agrees_with_itself(&*browse, 3);
        look::reads_what_is_in(&*browse, source.path(), 4);
        let (one, two) = (browse.stat(&path("d/file")).unwrap(), browse.stat(&path("d/more")).unwrap());
        assert_eq!((one.content, two.first_name), (two.content, Some(path("d/file"))));
        cancel.cancel();
        assert!(matches!(
            browse.open(&path("d/file")).and_then(|open| open.read_at(0, 1)),
            Ok(_) | Err(BackupError::Cancelled)
        ));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_the_same_data_have_the_same_digest_and_others_do_not() {
    let (store, source) = (Store::quick().await, tempfile::tempdir().unwrap());
    for (name, seed, length) in
        [("one", 1, 600_000), ("two", 1, 600_000), ("other", 2, 600_000), ("short", 1, 599_999)]
    {
        std::fs::write(source.path().join(name), noise(length, seed)).unwrap();
    }
    let content = |browse: &dyn Browse, name: &str| browse.stat(&path(name)).unwrap().content.unwrap();
    backup(&store.store, "b-1", tree(source.path()), &BackupOptions::default()).await.unwrap();
    std::fs::write(source.path().join("other"), noise(600_000, 3)).unwrap();
    backup(&store.store, "b-2", tree(source.path()), &BackupOptions::default()).await.unwrap();
    let (first, second) =
        (look::browse(&store.store, "vol1", "b-1").await, look::browse(&store.store, "vol1", "b-2").await);
    blocking(|| {
        let one = content(&*first, "one");
        assert_eq!(one, content(&*first, "two"));
        assert_eq!(one, content(&*second, "one"));
        assert_ne!(one, content(&*first, "other"));
        assert_ne!(one, content(&*first, "short"));
        assert_ne!(content(&*first, "other"), content(&*second, "other"));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_read_from_anywhere_and_holes_cost_nothing() {
    let store = Store::quick().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut data = vec![0; 96 << 20];
    for at in [0, 5 << 20, 40 << 20, (80 << 20) + 12345] {
        data[at..at + 700_000].copy_from_slice(&noise(700_000, at as u64));
    }
    std::fs::write(file.path(), &data).unwrap();
    backup(&store.store, "b-1", device(file.path()), &BackupOptions::default()).await.unwrap();
    let (counted, ranges) = counting(store.dir.path()).await;
    let image = look::image(&counted, "vol1", "b-1").await;
    blocking(|| {
        assert!(image.read_at(40 << 20, 4096).unwrap() == data[40 << 20..][..4096]);
        assert!((1..=3).contains(&ranges.lock().len()), "one segment, one block: {:?}", ranges.lock());
        let before = ranges.lock().len();
        let hole = image.read_at(20 << 20, 4096).unwrap();
        assert!(hole.iter().all(|byte| *byte == 0) && hole.len() == 4096);
        assert_eq!(ranges.lock().len(), before);
        let next = image.next_data(20 << 20).unwrap().unwrap();
        assert!(next.start <= 40 << 20 && next.start > 39 << 20, "{next:?}");
        look::reads(&*image, &data, 9);
    });
    let wrong = engine()
        .browse(counted.clone(), "vol1", "b-1", &RestoreOptions::default(), &CancellationToken::new())
        .await;
    assert!(matches!(wrong, Err(BackupError::NotBrowsable { .. })), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_0_5_are_read() {
    let store = Store::fixture("devicemapper-store").await;
    for (backup, file) in
        [("backup-67fa5ab2939d488a", "restored1.sha256"), ("backup-71d7e26aee0f4b1b", "restored2.sha256")]
    {
        let image = look::image(&store.store, "pgdata", backup).await;
        let restored = restore_device(&store.store, "pgdata", backup, 64 << 20).await;
        let expected = std::fs::read_to_string(fixtures().join(file)).unwrap();
        assert_eq!(hex::encode(Sha256::digest(&restored)), expected.split(' ').next().unwrap());
        blocking(|| look::reads(&*image, &restored, 4));
    }
}

/// One file of many is never known by a stranger's link, wherever it points.
#[test]
fn a_directory_is_never_left_through_a_link() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
    let browse = browse_directory(dir.path()).unwrap();
    for inside in ["link/secret", "link/secret/x"] {
        let error = browse.open(&path(inside)).unwrap_err();
        assert!(matches!(&error, BackupError::NoPath { nearest, .. } if nearest.is_root()), "{error}");
    }
    assert!(matches!(browse.open(&path("file")), Err(BackupError::NotFile { .. })));
    assert!(matches!(browse.list(&path("link"), None, 9), Err(BackupError::NotDirectory { .. })));
    let long = "n".repeat(5000);
    assert!(matches!(browse.stat(&path(&long)), Err(BackupError::NoPath { .. })));
}
