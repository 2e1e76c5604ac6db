//! The S3 store keeps the trait's promises at real servers made by others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::server::{Server, credentials};
use convoy_objectstore::{
    Depth, ObjectStore, RetryPolicy, RetryStore, S3Options, S3Store, StoreError, list_all,
};

async fn open(server: &Server, bucket: &str, prefix: &str) -> S3Store {
    let options = S3Options { endpoint: Some(server.endpoint()), ..S3Options::default() };
    S3Store::open(bucket, Some("us-east-1"), prefix, &options).await.unwrap()
}

#[tokio::test]
async fn keeps_the_contract_at_moto() {
    credentials();
    let server = Server::moto();
    let store = open(&server, "rec", "some/path/").await;
    common::contract(&store, "").await;
    common::contract(&RetryStore::new(store.clone(), RetryPolicy::default()), "convoy-objectstore/volumes/")
        .await;
    common::one_winner(Arc::new(store), "locks/one", 8).await;

    // More than a page, at the right place in the bucket.
    let store = open(&server, "rec", "many/").await;
    let puts = (0..1200).map(|n| {
        let store = store.clone();
        async move { store.put(&format!("d/{n:04}"), Bytes::from_static(b"x")).await }
    });
    use futures::StreamExt;
    let done: Vec<_> = futures::stream::iter(puts).buffer_unordered(16).collect().await;
    done.into_iter().for_each(|r| r.unwrap());
    assert!(store.list("d/", Depth::One, None).await.unwrap().next.is_some());
    let all = list_all(&store, "d/", Depth::All).await.unwrap().objects;
    assert_eq!(all.len(), 1200);
    assert!(server.request("GET", "/rec?prefix=many/d/0000").contains("<Key>many/d/0000</Key>"));
    let keys: Vec<_> = all.into_iter().map(|o| o.key).collect();
    store.delete(&keys).await.unwrap();
    assert!(list_all(&store, "", Depth::All).await.unwrap().objects.is_empty());
}

#[tokio::test]
async fn errors_at_moto_say_what_to_do() {
    credentials();
    let server = Server::moto();
    let store = open(&server, "nosuchbucket", "").await;
    let error = store.put("a", Bytes::new()).await.unwrap_err();
    assert!(matches!(&error, StoreError::NoBucket { bucket } if bucket == "nosuchbucket"), "{error:?}");
    assert!(error.to_string().starts_with("AWS Error: NoSuchBucket The specified bucket does not exist"));
    assert!(matches!(store.list("", Depth::One, None).await, Err(StoreError::NoBucket { .. })));
    let gone = { open(&Server::moto(), "rec", "").await };
    let error = gone.get("a", 1).await.unwrap_err();
    assert!(error.retryable(), "{error:?}");
    assert!(matches!(open_error(None, None).await, StoreError::Config(text) if text.contains("region")));
    assert!(
        matches!(open_error(Some("ftp://x"), Some("r")).await, StoreError::Config(text) if text.contains("http://"))
    );
}

async fn open_error(endpoint: Option<&str>, region: Option<&str>) -> StoreError {
    let options = S3Options { endpoint: endpoint.map(Into::into), ..S3Options::default() };
    S3Store::open("b", region, "", &options).await.unwrap_err()
}

#[tokio::test]
async fn unfinished_uploads_are_swept() {
    credentials();
    let server = Server::moto();
    let store = open(&server, "rec", "p/").await;
    assert!(server.request("POST", "/rec/p/d/left?uploads").contains("UploadId"));
    assert_eq!(store.sweep("other/", Duration::ZERO).await.unwrap(), 0);
    // At moto every upload began in 2010.
    assert_eq!(store.sweep("d/", Duration::from_secs(3600)).await.unwrap(), 1);
    assert_eq!(store.sweep("d/", Duration::ZERO).await.unwrap(), 0);
}

#[tokio::test]
async fn certificates_that_are_none_are_refused() {
    credentials();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "not a certificate").unwrap();
    let options = S3Options { ca_bundle: Some(file.path().into()), ..S3Options::default() };
    let error = S3Store::open("b", Some("r"), "", &options).await.unwrap_err();
    assert!(error.to_string().contains("no PEM certificate"), "{error}");
}

#[tokio::test]
async fn keeps_the_contract_at_s3s_fs() {
    credentials();
    let server = Server::s3s_fs();
    let store = open(&server, "rec", "some/path/").await;
    common::contract(&store, "").await;
}
