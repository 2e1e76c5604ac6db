//! One battery that every store passes.

pub(crate) mod forbid;
pub(crate) mod server;

use std::time::Duration;

use bytes::Bytes;
use convoy_objectstore::{Depth, ObjectStore, PutOutcome, StoreError, list_all};
use futures::StreamExt;

/// Everything the trait promises, on a store that is empty below `dir`.
pub(crate) async fn contract(store: &dyn ObjectStore, dir: &str) {
    let key = |name: &str| format!("{dir}{name}");
    let a = key("a/b/one");

    assert!(store.get(&a, 10).await.unwrap_err().not_found());
    assert!(store.head(&a).await.unwrap_err().not_found());
    assert!(store.get_range(&a, 0..1).await.unwrap_err().not_found());
    assert!(list_all(store, dir, Depth::All).await.unwrap().objects.is_empty());

    store.put(&a, Bytes::from_static(b"hello world")).await.unwrap();
    assert_eq!(store.get(&a, 100).await.unwrap(), "hello world");
    assert_eq!(store.get(&a, 11).await.unwrap(), "hello world");
    assert!(matches!(store.get(&a, 10).await, Err(StoreError::TooLarge { size: 11, limit: 10, .. })));
    assert_eq!(store.get_range(&a, 6..11).await.unwrap(), "world");
    assert_eq!(store.get_range(&a, 3..3).await.unwrap(), "");
    assert!(matches!(store.get_range(&a, 6..12).await, Err(StoreError::Truncated { .. })));
    assert!(matches!(store.get_range(&a, 60..62).await, Err(StoreError::Truncated { .. })));
    assert_eq!(store.head(&a).await.unwrap().size, 11);

    store.put(&a, Bytes::from_static(b"")).await.unwrap();
    assert_eq!(store.get(&a, 0).await.unwrap(), "");
    assert_eq!(store.put_if_absent(&a, Bytes::from_static(b"x")).await.unwrap(), PutOutcome::Exists);
    assert_eq!(store.get(&a, 0).await.unwrap(), "");
    let once = key("once");
    assert_eq!(store.put_if_absent(&once, Bytes::from_static(b"first")).await.unwrap(), PutOutcome::Created);
    assert_eq!(store.put_if_absent(&once, Bytes::from_static(b"second")).await.unwrap(), PutOutcome::Exists);
    assert_eq!(store.get(&once, 10).await.unwrap(), "first");

    listings(store, dir).await;
    streams(store, dir).await;

    for bad in ["", "/a", "a/", "a//b", "../a", "a/./b", "a/..", ".hidden", "a/.b"] {
        assert!(matches!(store.get(bad, 1).await, Err(StoreError::InvalidKey { .. })), "{bad}");
        assert!(store.put(bad, Bytes::new()).await.is_err(), "{bad}");
        assert!(store.delete(&[bad.to_owned()]).await.is_err(), "{bad}");
    }
    let all: Vec<String> = list_all(store, dir, Depth::All)
        .await
        .unwrap()
        .objects
        .into_iter()
        .map(|o| o.key)
        .chain([key("none")])
        .collect();
    store.delete(&all).await.unwrap();
    store.delete(&all).await.unwrap();
    assert!(list_all(store, dir, Depth::All).await.unwrap().objects.is_empty());
    store.sweep(dir, Duration::ZERO).await.unwrap();
}

async fn listings(store: &dyn ObjectStore, dir: &str) {
    let mut expected = vec![format!("{dir}a/b/one"), format!("{dir}once")];
    for name in ["a-b", "a/b!", "a/c", "b/1/x", "b/2", "we/b!/web!/volume.cfg"] {
        let key = format!("{dir}{name}");
        store.put(&key, Bytes::from(name.to_owned())).await.unwrap();
        expected.push(key);
    }
    expected.sort();
    let all = list_all(store, dir, Depth::All).await.unwrap();
    assert_eq!(all.objects.iter().map(|o| o.key.clone()).collect::<Vec<_>>(), expected);
    assert!(all.dirs.is_empty());
    let b = all.objects.iter().find(|o| o.key == format!("{dir}b/2")).unwrap();
    assert_eq!(b.size, 3);

    let top = list_all(store, dir, Depth::One).await.unwrap();
    assert_eq!(top.dirs, ["a/", "b/", "we/"].map(|d| format!("{dir}{d}")));
    assert_eq!(
        top.objects.iter().map(|o| o.key.clone()).collect::<Vec<_>>(),
        ["a-b", "once"].map(|d| format!("{dir}{d}"))
    );
    let b = list_all(store, &format!("{dir}a/"), Depth::All).await.unwrap();
    assert_eq!(b.objects.len(), 3, "a-b is not in a/");
    assert!(list_all(store, &format!("{dir}nothing/"), Depth::One).await.unwrap().objects.is_empty());
}

async fn streams(store: &dyn ObjectStore, dir: &str) {
    let key = format!("{dir}stream");
    // Larger than a part of a multipart upload.
    let part = Bytes::from(vec![7u8; 1 << 20]);
    let parts: Vec<_> = (0..20).map(|_| Ok(part.clone())).collect();
    assert_eq!(store.put_stream(&key, futures::stream::iter(parts).boxed()).await.unwrap(), 20 << 20);
    assert_eq!(store.head(&key).await.unwrap().size, 20 << 20);
    assert_eq!(store.get_range(&key, (20 << 20) - 2..20 << 20).await.unwrap(), &[7u8, 7][..]);

    let empty = format!("{dir}empty-stream");
    assert_eq!(store.put_stream(&empty, futures::stream::empty().boxed()).await.unwrap(), 0);
    assert_eq!(store.head(&empty).await.unwrap().size, 0);

    let broken = format!("{dir}broken-stream");
    let lost = || StoreError::Transient { op: "read", key: "source".into(), detail: "gone".into() };
    let parts = futures::stream::iter([Ok(part.clone()), Err(lost())]);
    assert!(store.put_stream(&broken, parts.boxed()).await.is_err());
    assert!(store.head(&broken).await.unwrap_err().not_found());
}

/// Of many who create one object, one wins, and its bytes stay.
pub(crate) async fn one_winner(store: std::sync::Arc<dyn ObjectStore>, key: &str, clients: usize) {
    let tries = (0..clients).map(|n| {
        let (store, key) = (store.clone(), key.to_owned());
        tokio::spawn(async move { (n, store.put_if_absent(&key, Bytes::from(n.to_string())).await.unwrap()) })
    });
    let outcomes = futures::future::join_all(tries).await;
    let winners: Vec<_> =
        outcomes.into_iter().map(Result::unwrap).filter(|(_, o)| *o == PutOutcome::Created).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(store.get(key, 10).await.unwrap(), winners[0].0.to_string());
}
