//! A hostile S3 server cannot spend memory, nor time without end: one of our own answers each request with
//! what somebody thought of.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/server.rs"]
mod server;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use convoy_objectstore::{Depth, ObjectStore, S3Options, S3Store, StoreError, list_all};
use server::credentials;

/// Answers every request. It is told which one it is, and the line it begins with.
type Answer = dyn Fn(u64, &str, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

struct Hostile {
    endpoint: String,
    requests: Arc<AtomicU64>,
    /// Bytes that were sent before the client had enough.
    sent: Arc<AtomicU64>,
}

/// Counts what it writes.
fn send(stream: &mut TcpStream, sent: &AtomicU64, part: &[u8]) -> std::io::Result<()> {
    stream.write_all(part)?;
    sent.fetch_add(part.len() as u64, Ordering::Relaxed);
    Ok(())
}

impl Hostile {
    fn new(
        answer: impl Fn(u64, &str, &mut TcpStream, &AtomicU64) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/", listener.local_addr().unwrap());
        let (requests, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counted, bytes) = (requests.clone(), sent.clone());
        let answer: Arc<Answer> = Arc::new(move |number, line, stream| answer(number, line, stream, &bytes));
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), answer, requests) = (stream, answer.clone(), counted.clone()) else {
                    return;
                };
                std::thread::spawn(move || {
                    let mut asked = Vec::new();
                    let mut byte = [0];
                    while !asked.ends_with(b"\r\n\r\n") {
                        match stream.read(&mut byte) {
                            Ok(1) => asked.push(byte[0]),
                            _ => return,
                        }
                    }
                    let line = String::from_utf8_lossy(&asked).lines().next().unwrap_or_default().to_owned();
                    // It fails when the client has had enough.
                    let _ = answer(requests.fetch_add(1, Ordering::Relaxed), &line, &mut stream);
                });
            }
        });
        Self { endpoint, requests, sent }
    }

    async fn store(&self) -> S3Store {
        let options = S3Options { endpoint: Some(self.endpoint.clone()), ..S3Options::default() };
        S3Store::open("rec", Some("us-east-1"), "", &options).await.unwrap()
    }

    /// Bytes that the client let come: what it read, and what sockets hold.
    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Writes a body that never ends, or ends after 200 MiB.
fn endless(stream: &mut TcpStream, sent: &AtomicU64, head: &str, part: &[u8]) -> std::io::Result<()> {
    send(stream, sent, head.as_bytes())?;
    let chunked = head.contains("chunked");
    let part = part.repeat((64 << 10) / part.len());
    while sent.load(Ordering::Relaxed) < 200 << 20 {
        if chunked {
            send(stream, sent, format!("{:x}\r\n", part.len()).as_bytes())?;
        }
        send(stream, sent, &part)?;
        if chunked {
            send(stream, sent, b"\r\n")?;
        }
    }
    Ok(())
}

/// What sockets hold on both sides, and attempts that are repeated.
const BOUND: u64 = 60 << 20;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn an_object_without_a_length_and_without_an_end() {
    credentials();
    for head in [CHUNKED, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"] {
        let server = Hostile::new(move |_, _, stream, sent| endless(stream, sent, head, b"x"));
        let error = server.store().await.get("a", 1 << 20).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        assert!(server.sent() < BOUND, "{} bytes", server.sent());
    }
}

#[tokio::test]
async fn a_range_that_goes_on_and_on() {
    credentials();
    let head = "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes \
        0-99/1000\r\nConnection: close\r\n\r\n";
    let server = Hostile::new(move |_, _, stream, sent| endless(stream, sent, head, b"x"));
    let error = server.store().await.get_range("a", 0..100).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    assert!(server.sent() < BOUND, "{} bytes", server.sent());
}

#[tokio::test]
async fn an_object_without_a_length_that_ends_is_read() {
    credentials();
    let server = Hostile::new(|_, _, stream, sent| {
        send(stream, sent, CHUNKED.as_bytes())?;
        send(stream, sent, b"5\r\nhello\r\n0\r\n\r\n")
    });
    assert_eq!(server.store().await.get("a", 5).await.unwrap(), "hello");
    assert!(server.store().await.get("a", 4).await.is_err());
}

#[tokio::test]
async fn errors_and_listings_without_an_end() {
    credentials();
    let bad = "HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let server = Hostile::new(move |_, _, stream, sent| endless(stream, sent, bad, b"<a>"));
    let error = server.store().await.get("a", 1 << 20).await.unwrap_err();
    assert!(error.to_string().len() < 2000, "{error}");
    assert!(server.sent() < BOUND, "{} bytes", server.sent());
    let entry = b"<Contents><Key>a</Key><Size>1</Size></Contents>";
    let server = Hostile::new(move |_, _, stream, sent| endless(stream, sent, CHUNKED, entry));
    assert!(server.store().await.list("", Depth::All, None).await.is_err());
    assert!(server.sent() < BOUND, "{} bytes", server.sent());
}

#[tokio::test]
async fn what_a_server_says_is_not_repeated_at_length() {
    credentials();
    let text = format!("<Error><Code>{0}</Code><Message>{0}</Message></Error>", "x".repeat(100_000));
    let server = Hostile::new(move |_, _, stream, sent| {
        let head = format!("HTTP/1.1 400 Bad\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
        send(stream, sent, head.as_bytes())?;
        send(stream, sent, text.as_bytes())
    });
    let error = server.store().await.head("a").await.unwrap_err().to_string();
    assert!(error.len() < 1000, "{} bytes", error.len());
    let error = server.store().await.get("a", 100).await.unwrap_err().to_string();
    assert!(error.len() < 1000, "{} bytes", error.len());
}

/// Pages of a listing, each with the token of the next.
fn pages(token: impl Fn(u64) -> String + Send + Sync + 'static, entry: &'static str) -> Hostile {
    Hostile::new(move |number, _, stream, sent| {
        let body = format!(
            "<ListBucketResult><IsTruncated>true</IsTruncated>{entry}<NextContinuationToken>{}</NextContinuationToken></ListBucketResult>",
            token(number)
        );
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        send(stream, sent, head.as_bytes())?;
        send(stream, sent, body.as_bytes())
    })
}

#[tokio::test]
async fn listings_that_go_in_a_circle_or_nowhere() {
    credentials();
    let entry = "<Contents><Key>a</Key><Size>1</Size></Contents>";
    // The same token, three in turn, and without an entry.
    let attacks: [(Hostile, u64); 3] = [
        (pages(|_| "again".to_owned(), entry), 3),
        (pages(|number| format!("token{}", number % 3), entry), 12),
        (pages(|number| format!("token{number}"), ""), 220),
    ];
    for (server, most) in attacks {
        let error = list_all(&server.store().await, "", Depth::All).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        let requests = server.requests.load(Ordering::Relaxed);
        assert!(requests <= most, "{requests} requests");
    }
}

#[tokio::test]
async fn a_redirection_is_not_followed() {
    credentials();
    let other = Hostile::new(|_, _, stream, sent| {
        send(stream, sent, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    });
    let to = other.endpoint.clone();
    let server = Hostile::new(move |_, _, stream, sent| {
        let answer = format!(
            "HTTP/1.1 307 Moved\r\nLocation: {to}rec/a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        send(stream, sent, answer.as_bytes())
    });
    assert!(server.store().await.get("a", 100).await.is_err());
    assert_eq!(other.requests.load(Ordering::Relaxed), 0);
}
