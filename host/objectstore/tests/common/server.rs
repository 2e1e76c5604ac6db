//! S3 servers made by others, started for a test and gone with it.
//!
//! `moto` is the one given by `CONVOY_TEST_MOTO`; if that is not set it is installed once, into a Python environment under `CONVOY_TEST_CACHE` or
//! `~/.cache/convoy`. `s3s-fs` likewise: `CONVOY_TEST_S3S_FS`, or `cargo install` into that cache.

#![allow(dead_code, unreachable_pub)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
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

fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/convoy");
    std::env::var_os("CONVOY_TEST_CACHE").map_or_else(home, PathBuf::from)
}

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Where moto is, installing it if need be. Tests that run at the same time wait for one another.
fn moto() -> PathBuf {
    if let Some(given) = std::env::var_os("CONVOY_TEST_MOTO") {
        return given.into();
    }
    std::fs::create_dir_all(cache()).unwrap();
    let lock = File::create(cache().join("moto.lock")).unwrap();
    lock.lock().unwrap();
    let venv = cache().join("moto");
    let program = venv.join("bin/moto_server");
    if !program.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "moto[server]"]));
    }
    program
}

/// Where s3s-fs is, building it if need be.
fn s3s_fs() -> PathBuf {
    if let Some(given) = std::env::var_os("CONVOY_TEST_S3S_FS") {
        return given.into();
    }
    std::fs::create_dir_all(cache()).unwrap();
    let lock = File::create(cache().join("s3s-fs.lock")).unwrap();
    lock.lock().unwrap();
    let program = cache().join("tools/bin/s3s-fs");
    if !program.exists() {
        let mut install = Command::new("cargo");
        install.args([
            "install",
            "s3s-fs",
            "--version",
            "0.14.1",
            "--locked",
            "--features",
            "binary",
            "--root",
        ]);
        // Cargo holds the lock of the target directory that the tests are run from.
        run(install.arg(cache().join("tools")).env("CARGO_TARGET_DIR", cache().join("tools-target")));
    }
    program
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// A moto server.
    pub fn moto() -> Self {
        let port = free_port();
        let mut command = Command::new(moto());
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let server = Self::start(command, port, tempfile::tempdir().unwrap());
        let answer = server.request("PUT", "/rec");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        server
    }

    /// An s3s-fs server.
    pub fn s3s_fs() -> Self {
        let port = free_port();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("rec")).unwrap();
        let mut command = Command::new(s3s_fs());
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

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
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
    // SAFETY: called before any thread reads the environment: first thing in a test, with a runtime of one thread.
    unsafe {
        std::env::set_var("AWS_ACCESS_KEY_ID", "key");
        std::env::set_var("AWS_SECRET_ACCESS_KEY", "secret");
        std::env::remove_var("AWS_REGION");
        std::env::remove_var("AWS_DEFAULT_REGION");
        std::env::set_var("AWS_EC2_METADATA_DISABLED", "true");
        std::env::set_var("NO_PROXY", "127.0.0.1");
    }
}
