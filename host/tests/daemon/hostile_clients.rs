//! Clients that mean harm, or are only slow: nobody else is to notice them.
//!
//! Where a time limit is meant, the listener has a short one here and the test waits for what it does, not
//! for how long that takes.

use crate::harness::Daemon;
use axum::body::Body;
use axum::routing::{get, post};
use convoy::listen::{self, Limits, Listener};
use futures::StreamExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneSyncService;

/// What has to happen at all happens in this time, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Limits that are over soon.
const SHORT: Limits = Limits {
    connections: 16,
    header: Duration::from_millis(300),
    body: Duration::from_millis(300),
    write: Duration::from_millis(300),
};

/// A listener of convoy's with a service of the test's.
struct Server {
    dir: tempfile::TempDir,
    handled: Arc<AtomicUsize>,
    abandoned: Arc<AtomicUsize>,
    stopping: CancellationToken,
    _runtime: tokio::runtime::Runtime,
}

/// Counts the answers that were dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Server {
    fn start(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (handled, abandoned) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let stopping = CancellationToken::new();
        let (count, dropped) = (Arc::clone(&handled), Arc::clone(&abandoned));
        let router: axum::Router = axum::Router::new()
            .route(
                "/",
                get(move || {
                    count.fetch_add(1, Ordering::SeqCst);
                    async { "x".repeat(1000) }
                }),
            )
            .route("/body", post(|body: bytes::Bytes| async move { body.len().to_string() }))
            .route(
                "/lines",
                get(|| async {
                    let lines = futures::stream::iter(0..10).then(|number| async move {
                        tokio::time::sleep(Duration::from_millis(150)).await;
                        Ok::<_, Infallible>(format!("line {number}\n"))
                    });
                    Body::from_stream(lines)
                }),
            )
            .route(
                "/endless",
                get(move || {
                    let counted = Counted(Arc::clone(&dropped));
                    async {
                        Body::from_stream(futures::stream::repeat_with(move || {
                            let _kept = &counted;
                            Ok::<_, Infallible>("x".repeat(10_000))
                        }))
                    }
                }),
            );
        let listener = {
            let _inside = runtime.enter();
            Listener::Unix(tokio::net::UnixListener::bind(dir.path().join("s")).unwrap())
        };
        let service = BoxCloneSyncService::new(router);
        runtime.spawn(listen::answer(listener, "test", limits, service, stopping.clone()));
        Self { dir, handled, abandoned, stopping, _runtime: runtime }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn connect(&self) -> UnixStream {
        connect(&self.socket())
    }

    /// An answer to a client that does nothing wrong.
    fn answers(&self) {
        let mut stream = self.connect();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

fn connect(socket: &std::path::Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What comes until the other side hangs up.
fn rest(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("it does not hang up: {error}"),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_header_that_comes_drop_by_drop_is_not_waited_for() {
    let server = Server::start(SHORT);
    let mut stream = server.connect();
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let began = Instant::now();
    // Each line is in time, all of them together are not.
    while stream.write_all(b"X-A: b\r\n").is_ok() {
        assert!(began.elapsed() < PATIENCE, "it listens for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Nor is one that sends nothing, from the beginning or after an answer.
    let mut silent = server.connect();
    assert_eq!(rest(&mut silent), "");
    let mut idle = server.connect();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(rest(&mut idle).starts_with("HTTP/1.1 200"));
    server.answers();
}

#[test]
fn a_body_that_comes_drop_by_drop_is_answered_without() {
    let daemon_limit = Limits { body: Duration::from_millis(300), ..SHORT };
    let server = Server::start(daemon_limit);
    let mut stream = server.connect();
    stream.write_all(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n").unwrap();
    let began = Instant::now();
    while stream.write_all(b"x").is_ok() {
        assert!(began.elapsed() < PATIENCE, "it reads for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.answers();
}

#[test]
fn long_answers_and_long_work_are_not_cut() {
    let server = Server::start(SHORT);
    let mut stream = server.connect();
    stream.write_all(b"GET /lines HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let answer = rest(&mut stream);
    assert!(answer.contains("line 0") && answer.contains("line 9"), "{answer}");
}

#[test]
fn who_does_not_read_is_dropped() {
    let server = Server::start(SHORT);
    let mut stream = server.connect();
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let began = Instant::now();
    while server.abandoned.load(Ordering::SeqCst) == 0 {
        assert!(began.elapsed() < PATIENCE, "it writes to nobody for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Who reads is not.
    let mut reads = server.connect();
    reads.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    while total < 50 << 20 {
        let read = reads.read(&mut buffer).unwrap();
        assert!(read > 0, "cut after {total} bytes");
        total += read;
    }
}

#[test]
fn requests_without_end_whose_answers_nobody_reads_are_not_answered_for_ever() {
    let server = Server::start(SHORT);
    let mut stream = server.connect();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let began = Instant::now();
    while stream.write_all(&request).is_ok() {
        assert!(began.elapsed() < PATIENCE, "it is not dropped");
    }
    // What fits the buffers of the kernel, and not what was asked for.
    let handled = server.handled.load(Ordering::SeqCst);
    assert!(handled < 5000, "{handled} answers for nobody");
    server.answers();
}

#[test]
fn headers_have_a_size() {
    let server = Server::start(SHORT);
    for header in [format!("X-Long: {}\r\n", "x".repeat(64 << 10)), "X-Many: y\r\n".repeat(5000)] {
        let mut stream = server.connect();
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{header}\r\n");
        // It may hang up before it has heard everything.
        let _ = stream.write_all(request.as_bytes());
        assert!(rest(&mut stream).starts_with("HTTP/1.1 431"), "{}", header.len());
    }
    assert_eq!(server.handled.load(Ordering::SeqCst), 0);
    server.answers();
}

#[test]
fn thousands_who_say_nothing_keep_nobody_waiting() {
    let docker = tempfile::tempdir().unwrap();
    let docker = docker.path().join("docker.sock");
    let daemon = Daemon::with(&["--docker-socket", docker.to_str().unwrap()]);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let many = limit.maximum.map_or(5000, |most| most.saturating_sub(200).min(5000));
    let mut crowd = Vec::new();
    for number in 0..many {
        crowd.push(connect(&docker));
        if number % 500 == 0 {
            assert_eq!(daemon.call("GET", "/info", "").status, 200);
        }
    }
    // Its places are few, so the daemon holds no more than these.
    let held = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    assert!(held < Limits::API.connections * 2 + 200, "{held} files are open");
    assert_eq!(daemon.call("GET", "/info", "").status, 200);
    // Docker itself comes through at its own socket, although the others are root's, too.
    let mut stream = connect(&docker);
    stream.write_all(b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert!(rest(&mut stream).contains("VolumeDriver"));
    drop(crowd);
    assert_eq!(daemon.call("GET", "/healthz", "").status, 200);
}

#[test]
fn a_daemon_hears_no_endless_header_and_keeps_a_stream_open() {
    let daemon = Daemon::start();
    let mut follower = connect(&daemon.socket());
    follower.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut stream = connect(&daemon.socket());
    let long = format!("GET /info HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let _ = stream.write_all(long.as_bytes());
    assert!(rest(&mut stream).starts_with("HTTP/1.1 431"));
    assert_eq!(daemon.docker("Create", r#"{"Name":"vol1"}"#), "{}");
    let mut told = String::new();
    let mut buffer = [0; 4096];
    while !told.contains("volume.create") {
        let read = follower.read(&mut buffer).unwrap();
        assert!(read > 0, "the stream ended: {told}");
        told.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}
