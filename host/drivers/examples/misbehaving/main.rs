//! The misbehaving driver as an executable. `MISBEHAVING_MODE` makes it misbehave before its hello.

#![allow(unsafe_code, reason = "a test does by hand what the product must withstand")]

mod driver;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    match std::env::var("MISBEHAVING_MODE").as_deref() {
        Ok("exit") => {
            eprintln!("cannot find my configuration");
            ExitCode::from(3)
        }
        Ok("silent") => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        Ok("slow") => {
            std::thread::sleep(Duration::from_secs(1));
            convoy_driver_sdk::process::serve::<driver::Misbehaving>()
        }
        Ok("garbage") => answer_hello("hello yourself"),
        Ok("version") => {
            answer_hello(r#"{"jsonrpc":"2.0","id":0,"result":{"protocol":"convoy-driver","version":"2.0"}}"#)
        }
        Ok("stranger") => {
            answer_hello(r#"{"jsonrpc":"2.0","id":0,"result":{"protocol":"nfs","version":"1.0"}}"#)
        }
        Ok("huge") => answer_hello(&"x".repeat(65 << 20)),
        _ => convoy_driver_sdk::process::serve::<driver::Misbehaving>(),
    }
}

/// Reads the hello and answers with this line, whatever it is.
fn answer_hello(line: &str) -> ExitCode {
    // SAFETY: the host gives a socket as descriptor 3.
    let mut socket = unsafe { UnixStream::from_raw_fd(3) };
    let mut hello = String::new();
    let read = socket.try_clone().and_then(|socket| BufReader::new(socket).read_line(&mut hello));
    let written = read.and_then(|_| writeln!(socket, "{line}"));
    // The host ends it.
    while written.is_ok() {
        std::thread::sleep(Duration::from_secs(60));
    }
    ExitCode::FAILURE
}
