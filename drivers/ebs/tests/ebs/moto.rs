//! moto's server, started for a test and gone with it.
//!
//! It is the program that `CONVOY_TEST_MOTO` names; without that it is installed once, into a Python environment below
//! `CONVOY_TEST_CACHE` or `~/.cache/convoy`.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Moto {
    child: Child,
    pub(crate) port: u16,
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Tests that run at the same time wait for one another.
fn program() -> PathBuf {
    if let Some(given) = std::env::var_os("CONVOY_TEST_MOTO") {
        return given.into();
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/convoy");
    let cache = std::env::var_os("CONVOY_TEST_CACHE").map_or_else(home, PathBuf::from);
    std::fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("moto.lock")).unwrap();
    lock.lock().unwrap();
    let program = cache.join("moto/bin/moto_server");
    if !program.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(cache.join("moto")));
        run(Command::new(cache.join("moto/bin/pip")).args(["install", "--quiet", "moto[server]"]));
    }
    program
}

impl Moto {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // The kernel ends it with the test, even if that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program());
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let moto = Self { child, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "moto does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        moto
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
