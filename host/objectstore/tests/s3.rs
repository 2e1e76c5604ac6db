//! The S3 store keeps the trait's promises at real servers made by others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_smithy_types::base64;
use bytes::Bytes;
use common::server::{Server, credentials};
use md5::{Digest, Md5};

use convoy_objectstore::{
    Depth, ObjectStore, PutOutcome, RetryPolicy, RetryStore, S3Options, S3Store, StoreError, list_all,
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

/// Stands before a server and answers some requests itself: with `503 Slow Down`, or not at all; of others it
/// loses the answer. All of this is what busy servers do.
fn grudging(behind: u16) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let refused = Arc::new(AtomicU32::new(0));
    let count = refused.clone();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (Ok(client), count) = (client, count.clone()) else { return };
            // The servers here take one request to a connection.
            std::thread::spawn(move || serve(client, behind, number, &count));
        }
    });
    (port, refused)
}

/// A request as it came, head and body; nothing if the client went away.
fn whole_request(client: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut request = Vec::new();
    let mut part = [0; 64 << 10];
    let whole = |request: &[u8]| {
        let end = request.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        Some(end + length.unwrap_or(0))
    };
    while whole(&request).is_none_or(|size: usize| request.len() < size) {
        let read = client.read(&mut part)?;
        if read == 0 {
            return Ok(None);
        }
        request.extend_from_slice(&part[..read]);
    }
    Ok(Some(request))
}

fn serve(mut client: TcpStream, behind: u16, number: usize, refused: &AtomicU32) -> std::io::Result<()> {
    let Some(request) = whole_request(&mut client)? else { return Ok(()) };
    match number % 5 {
        1 | 2 => {
            refused.fetch_add(1, Ordering::SeqCst);
            let body =
                "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
            write!(
                client,
                "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: \
                 {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
        }
        4 => {
            refused.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
        3 => {
            let mut server = TcpStream::connect(("127.0.0.1", behind))?;
            server.write_all(&request)?;
            std::io::copy(&mut server, &mut std::io::sink()).map(|_| ())
        }
        _ => {
            let mut server = TcpStream::connect(("127.0.0.1", behind))?;
            server.write_all(&request)?;
            std::io::copy(&mut server, &mut client).map(|_| ())
        }
    }
}

#[tokio::test]
async fn a_server_that_asks_for_patience_gets_it() {
    credentials();
    let server = Server::moto();
    let (port, refused) = grudging(server.port());
    let options = S3Options { endpoint: Some(format!("http://127.0.0.1:{port}/")), ..S3Options::default() };
    let store = S3Store::open("rec", Some("us-east-1"), "busy/", &options).await.unwrap();
    let policy = RetryPolicy { first_wait: Duration::from_millis(20), ..RetryPolicy::default() };
    let store = RetryStore::new(store, policy);
    let data = Bytes::from(vec![7; 300_000]);
    for n in 0..3 {
        let key = format!("d/{n}");
        store.put(&key, data.clone()).await.unwrap();
        assert_eq!(store.get(&key, 1 << 20).await.unwrap(), data);
        assert_eq!(store.get_range(&key, 10..20).await.unwrap(), data.slice(10..20));
        assert_eq!(store.head(&key).await.unwrap().size, 300_000);
        assert_eq!(
            store.put_if_absent(&key, Bytes::from_static(b"other")).await.unwrap(),
            PutOutcome::Exists
        );
        // Also when it was made by an attempt whose answer never came.
        assert_eq!(store.put_if_absent(&format!("new{n}"), data.clone()).await.unwrap(), PutOutcome::Created);
    }
    let keys: Vec<_> =
        list_all(&store, "d/", Depth::All).await.unwrap().objects.into_iter().map(|o| o.key).collect();
    assert_eq!(keys.len(), 3);
    store.delete(&keys).await.unwrap();
    assert!(list_all(&store, "d/", Depth::All).await.unwrap().objects.is_empty());
    assert!(refused.load(Ordering::SeqCst) > 10);
}

/// Stands before a server as one does whose buckets have Object Lock, and whose API is below a path: it takes
/// no object without a checksum that every server knows. Counts what it took.
fn locked(behind: u16) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = Arc::new(AtomicU32::new(0));
    let count = taken.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), count) = (client, count.clone()) else { return };
            std::thread::spawn(move || take_with_checksum(client, behind, &count));
        }
    });
    (port, taken)
}

const BELOW: &str = "/storage/v1/s3";

fn take_with_checksum(mut client: TcpStream, behind: u16, taken: &AtomicU32) -> std::io::Result<()> {
    let Some(request) = whole_request(&mut client)? else { return Ok(()) };
    let end = request.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let (head, body) = (String::from_utf8_lossy(&request[..end]).into_owned(), &request[end..]);
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let mut refuse = |code: &str| {
        let body = format!("<Error><Code>{code}</Code><Message>refused by the test</Message></Error>");
        let length = body.len();
        write!(
            client,
            "HTTP/1.1 400 Bad Request\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    if !head.split(' ').nth(1).is_some_and(|path| path.starts_with(&format!("{BELOW}/rec"))) {
        return refuse("NoSuchKey");
    }
    if head.starts_with("PUT ") {
        match header("content-md5") {
            None => return refuse("InvalidRequest"),
            Some(sum) if sum != base64::encode(Md5::digest(body)) => return refuse("BadDigest"),
            Some(_) => taken.fetch_add(1, Ordering::SeqCst),
        };
    }
    let mut server = TcpStream::connect(("127.0.0.1", behind))?;
    server.write_all(head.replacen(BELOW, "", 1).as_bytes())?;
    server.write_all(body)?;
    std::io::copy(&mut server, &mut client).map(|_| ())
}

#[tokio::test]
async fn object_lock_and_endpoints_below_a_path_are_served() {
    // RFC 1864's kind of checksum, of a text whose MD5 is known.
    assert_eq!(base64::encode(Md5::digest(b"hello world")), "XrY7u+Ae7tCTyyK7j1rNww==");
    credentials();
    let server = Server::moto();
    let (port, taken) = locked(server.port());
    for slash in ["", "/"] {
        let endpoint = Some(format!("http://127.0.0.1:{port}{BELOW}{slash}"));
        let options = S3Options { endpoint, ..S3Options::default() };
        let store = S3Store::open("rec", Some("us-east-1"), "some/path/", &options).await.unwrap();
        let before = taken.load(Ordering::SeqCst);
        // Objects, such as are made once, and parts of large ones.
        common::contract(&store, "").await;
        assert!(taken.load(Ordering::SeqCst) > before + 10);
    }
}
