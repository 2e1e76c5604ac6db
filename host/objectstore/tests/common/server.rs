//! S3 servers made by others, started for a test and gone with it.
//!
//! Where they come from, [`peers`] knows.

#![allow(unsafe_code, reason = "a test does by hand what the product must withstand")]
#![allow(dead_code, unreachable_pub)]

use convoy_tests::peers;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server with an empty bucket named `rec`.
pub struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// A moto server.
    pub fn moto() -> Self {
        let port = free_port();
        let mut command = peers::bound(peers::moto().unwrap());
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let server = Self::start(command, port, tempfile::tempdir().unwrap());
        let answer = server.request("PUT", "/rec");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        server
    }

    /// A moto server that speaks TLS alone. It has no bucket.
    pub fn moto_with_tls(certificate: &Path, key: &Path) -> Self {
        let port = free_port();
        let mut command = peers::bound(peers::moto().unwrap());
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        command.arg("--ssl-cert").arg(certificate).arg("--ssl-key").arg(key);
        Self::start(command, port, tempfile::tempdir().unwrap())
    }

    /// An s3s-fs server.
    pub fn s3s_fs() -> Self {
        let port = free_port();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("rec")).unwrap();
        let mut command = peers::bound(peers::s3s_fs().unwrap());
        command.args([
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--access-key",
            "key",
            "--secret-key",
            "secret",
        ]);
        command.arg(dir.path());
        Self::start(command, port, dir)
    }

    fn start(mut command: Command, port: u16, dir: tempfile::TempDir) -> Self {
        let child = command.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self { child: child.unwrap_or_else(|e| panic!("{command:?}: {e}")), port, _dir: dir };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// Gives the URL of the server.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Gives the port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        self._dir.path()
    }

    /// A plain request; gives the whole answer.
    pub fn request(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// Credentials for every server here. Tests run one to a process or set the same, so this is safe to repeat.
pub fn credentials() {
    // SAFETY: called before any thread reads the environment: first thing in a test, with a runtime of one
    // thread.
    unsafe {
        std::env::set_var("AWS_ACCESS_KEY_ID", "key");
        std::env::set_var("AWS_SECRET_ACCESS_KEY", "secret");
        std::env::remove_var("AWS_REGION");
        std::env::remove_var("AWS_DEFAULT_REGION");
        std::env::set_var("AWS_EC2_METADATA_DISABLED", "true");
        std::env::set_var("NO_PROXY", "127.0.0.1");
    }
}
