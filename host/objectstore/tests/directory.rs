//! The directory store keeps the trait's promises, and 0.5's modes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::forbid::{Forbidden, forbid};
use convoy_objectstore::{
    Bandwidth, Depth, DirectoryStore, Fault, FaultStore, LimitedStore, ObjectStore, PutOutcome, RetryPolicy,
    RetryStore, StoreError, list_all,
};

fn quick() -> RetryPolicy {
    RetryPolicy {
        attempts: 4,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(5),
        attempt_timeout: Duration::from_millis(200),
    }
}

async fn store() -> (tempfile::TempDir, DirectoryStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(dir.path()).await.unwrap();
    (dir, store)
}

#[tokio::test]
async fn keeps_the_contract() {
    let (dir, store) = store().await;
    common::contract(&store, "").await;
    common::contract(&store, "convoy-objectstore/volumes/").await;
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "empty directories and partial files are gone"
    );
    common::one_winner(Arc::new(store), "locks/one", 32).await;
}

#[tokio::test]
async fn keeps_the_contract_behind_decorators() {
    let (_dir, store) = store().await;
    let road = Arc::new(Bandwidth::new(Some(1 << 30), Some(1 << 30)));
    let store = LimitedStore::new(RetryStore::new(store, RetryPolicy::default()), road);
    common::contract(&store, "x/").await;
}

#[tokio::test]
async fn a_store_must_be_a_directory() {
    let error = DirectoryStore::open("/nosuchdir").await.unwrap_err();
    assert_eq!(error.to_string(), "VFS path /nosuchdir doesn't exist or is not a directory");
    assert!(DirectoryStore::open("/dev/null").await.is_err());
}

#[tokio::test]
async fn modes_are_those_of_0_5() {
    let (dir, store) = store().await;
    store.put("d/f", Bytes::from_static(b"x")).await.unwrap();
    let mode = |p: &str| std::fs::metadata(dir.path().join(p)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("d"), mode("d/f")), (0o700, 0o644));
}

#[tokio::test]
async fn hidden_files_are_swept_when_old() {
    let (dir, store) = store().await;
    store.put("d/f", Bytes::from_static(b"x")).await.unwrap();
    let left = dir.path().join("d/.convoy-partial-0123456789abcdef");
    std::fs::write(&left, "half").unwrap();
    std::fs::write(dir.path().join("d/.somebody-elses"), "kept").unwrap();
    assert_eq!(list_all(&store, "", Depth::All).await.unwrap().objects.len(), 1);
    assert_eq!(store.sweep("d/", Duration::from_secs(3600)).await.unwrap(), 0);
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(7200);
    std::fs::File::options().write(true).open(&left).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(store.sweep("", Duration::from_secs(3600)).await.unwrap(), 1);
    assert!(!left.exists());
    assert!(dir.path().join("d/.somebody-elses").exists());
}

#[tokio::test]
async fn long_listings_come_in_pages() {
    let (dir, store) = store().await;
    std::fs::create_dir(dir.path().join("d")).unwrap();
    for n in 0..10_050 {
        std::fs::write(dir.path().join(format!("d/{n:05}")), "").unwrap();
    }
    let page = store.list("d/", Depth::One, None).await.unwrap();
    assert!(page.next.is_some());
    assert_eq!(list_all(&store, "d/", Depth::One).await.unwrap().objects.len(), 10_050);
    assert_eq!(list_all(&store, "", Depth::All).await.unwrap().objects.len(), 10_050);
}

#[tokio::test]
async fn put_and_delete_of_one_directory_do_not_disturb_each_other() {
    let (_dir, store) = store().await;
    let tasks = (0..8).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..50 {
                let key = format!("shared/deep/{n}-{round}");
                store.put(&key, Bytes::from_static(b"x")).await.unwrap();
                store.delete(&[key]).await.unwrap();
            }
        })
    });
    for done in futures::future::join_all(tasks).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn retries_what_may_succeed_and_nothing_else() {
    let (_dir, inner) = store().await;
    // Every call fails twice: an error, then no answer.
    let flaky = FaultStore::new(inner.clone(), |call| match call.number % 3 {
        0 => Some(Fault::Error),
        1 => Some(Fault::Hang),
        _ => None,
    });
    let store = RetryStore::new(flaky.clone(), quick());
    store.put("a", Bytes::from_static(b"1")).await.unwrap();
    assert_eq!(store.get("a", 1).await.unwrap(), "1");
    assert_eq!(flaky.calls(), 6);

    let refusing = FaultStore::new(inner.clone(), |_| Some(Fault::Refuse));
    assert!(matches!(
        RetryStore::new(refusing.clone(), quick()).get("a", 1).await,
        Err(StoreError::Refused { .. })
    ));
    assert_eq!(refusing.calls(), 1);

    let dead = FaultStore::new(inner, |_| Some(Fault::Error));
    assert!(RetryStore::new(dead.clone(), quick()).get("a", 1).await.unwrap_err().retryable());
    assert_eq!(dead.calls(), 4);
}

#[tokio::test]
async fn a_lost_answer_of_a_creation_is_found_again() {
    let (_dir, inner) = store().await;
    let flaky = FaultStore::new(inner, |call| (call.number == 0).then_some(Fault::LostAnswer));
    let store = RetryStore::new(flaky, quick());
    assert_eq!(store.put_if_absent("lock", Bytes::from_static(b"mine")).await.unwrap(), PutOutcome::Created);
    assert_eq!(store.put_if_absent("lock", Bytes::from_static(b"yours")).await.unwrap(), PutOutcome::Exists);
}

#[tokio::test]
async fn a_limit_is_kept() {
    let (_dir, inner) = store().await;
    let road = Arc::new(Bandwidth::new(Some(1 << 20), None));
    let store = LimitedStore::new(inner.clone(), road.clone());
    // Two stores on one road share it.
    let other = LimitedStore::new(inner, road);
    let start = std::time::Instant::now();
    for n in 0..4 {
        let store = if n % 2 == 0 { &store } else { &other };
        store.put(&format!("{n}"), Bytes::from(vec![0; 100 << 10])).await.unwrap();
    }
    // The first passes at once, each other waits for those before it.
    assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
}

/// The renewal of a lock must not wait behind minutes of data.
#[tokio::test]
async fn what_is_small_overtakes() {
    let (_dir, inner) = store().await;
    let store = Arc::new(LimitedStore::new(inner, Arc::new(Bandwidth::new(Some(100 << 10), None))));
    let waiting: Vec<_> = (0..3)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.put(&format!("{n}"), Bytes::from(vec![0; 1 << 20])).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let start = std::time::Instant::now();
    store.put("beat", Bytes::from_static(b"alive")).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    waiting.into_iter().for_each(|task| task.abort());
}

/// What file systems in user space say: some have no hard links, some neither these nor a rename that
/// replaces nothing.
async fn without(calls: &[Forbidden]) {
    forbid(calls);
    let (dir, store) = store().await;
    common::contract(&store, "").await;
    common::one_winner(Arc::new(store.clone()), "locks/one", 32).await;
    let left = std::fs::read_dir(dir.path().join("locks")).unwrap().count();
    assert_eq!(left, 1, "no unfinished write is left");
}

const LINKS: [i32; 3] = [libc::EPERM, libc::ENOSYS, libc::EINVAL];

#[tokio::test]
async fn a_file_system_without_hard_links_will_do() {
    for error in LINKS {
        without(&[Forbidden { call: libc::SYS_linkat, error, argument: None }]).await;
    }
}

#[tokio::test]
async fn a_file_system_with_neither_hard_links_nor_careful_renames_will_do() {
    let links = Forbidden { call: libc::SYS_linkat, error: libc::ENOSYS, argument: None };
    for error in LINKS {
        // Only with flags: the plain rename is there.
        without(&[links, Forbidden { call: libc::SYS_renameat2, error, argument: Some(4) }]).await;
    }
}
