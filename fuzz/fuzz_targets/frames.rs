//! Lines of JSON-RPC, from both ends: as a host gets them from a driver's process, and as a driver gets them
//! from a host. What a driver answers is a message each time.
#![no_main]

use convoy_driver_sdk::dispatch::{Dispatch, Dispatcher};
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Result};
use convoy_driver_vfs::VfsDriver;
use libfuzzer_sys::fuzz_target;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};
use tokio::runtime::{Builder, Runtime};

const HELLO: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"hello","params":{"protocol":"convoy-driver","version":"1.0","features":["cancel","progress","log","goodbye"],"software":"fuzz","log_level":"error"}}"#;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_io().build().expect("a runtime"));

/// A driver that is never opened: opening makes directories wherever the request says.
struct Closed(Dispatcher<VfsDriver>);

impl Dispatch for Closed {
    fn dispatch(&self, method: &str, request: &[u8], context: &Context) -> Result<Vec<u8>> {
        if method == "driver.open" {
            return Err(DriverError::new(ErrorKind::Unavailable, "not here"));
        }
        self.0.dispatch(method, request, context)
    }
}

fn serve(lines: &[u8]) {
    let (mut host, driver) = UnixStream::pair().expect("a pair of sockets");
    let serving = std::thread::spawn(move || {
        convoy_driver_sdk::process::serve_on(driver, Arc::new(Closed(Dispatcher::new())))
    });
    // It fails when the driver has had enough.
    let _ = host.write_all(lines);
    let _ = host.shutdown(Shutdown::Write);
    // Why it ended is its own business; that it does without a panic is not.
    let _ = serving.join().expect("no panic");
    // What it said until then: its log keeps the socket open for as long as the process is there.
    let (mut said, mut part) = (Vec::new(), [0; 8192]);
    host.set_nonblocking(true).expect("a socket");
    while let Ok(length @ 1..) = host.read(&mut part) {
        said.extend_from_slice(&part[..length]);
    }
    let whole = said.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    for line in said[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: serde_json::Value = serde_json::from_slice(line).expect("a message of JSON");
        assert_eq!(message["jsonrpc"], "2.0");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, rest)) = bytes.split_first() else { return };
    match which % 3 {
        0 => drop(RUNTIME.block_on(convoy_drivers::fuzz::lines(rest)).expect("a pair of sockets")),
        1 => serve(rest),
        _ => serve(&[HELLO, b"\n", rest].concat()),
    }
});
