//! A process of the driver that the kit speaks to itself, byte by byte: what a host's carrier would hide.

use crate::check::{Outcome, fail};
use crate::rules::{self, Rule};
use convoy_driver_sdk::DriverError;
use convoy_driver_sdk::protocol::Request;
use convoy_driver_sdk::wire::{CallContext, FD_VARIABLE};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const HELLO: &str = r#"{"protocol":"convoy-driver","version":"1.3","features":["cancel","progress","log","goodbye"],"software":"convoy-driver-kit","log_level":"trace"}"#;
/// How long a driver may take to end after it was told to.
pub(crate) const END: Duration = Duration::from_secs(10);

/// A process and the host's end of its socket.
pub(crate) struct Raw {
    child: Child,
    socket: Option<UnixStream>,
    reader: BufReader<UnixStream>,
    output: File,
    next: u64,
    /// Everything the driver sent, as it came.
    pub(crate) received: String,
}

impl Raw {
    /// Starts the program. Its output goes to a file of the kit.
    pub(crate) fn start(program: &Path, work: &Path) -> std::io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let output = tempfile::tempfile_in(work)?;
        let number = theirs.as_raw_fd();
        // The program finds its socket by the variable, so the number is not important; it has to be
        // inherited.
        rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())?;
        let child = Command::new(program)
            .env(FD_VARIABLE, number.to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .spawn();
        drop(theirs);
        let reader = BufReader::new(socket.try_clone()?);
        Ok(Self { child: child?, socket: Some(socket), reader, output, next: 1, received: String::new() })
    }

    pub(crate) fn greeted(program: &Path, work: &Path) -> Outcome<Self> {
        let mut raw = crate::check::io(rules::HELLO, "start the driver", Self::start(program, work))?;
        raw.send_raw(&format!(r#"{{"jsonrpc":"2.0","id":0,"method":"hello","params":{HELLO}}}"#))?;
        raw.answer(0, rules::HELLO, Instant::now() + Duration::from_secs(10))?
            .map_or_else(|error| fail(rules::HELLO, format!("hello: {}", error.message)), |_| Ok(()))?;
        Ok(raw)
    }

    /// Sends a line to the driver, as it is.
    pub(crate) fn send_raw(&mut self, line: &str) -> Outcome {
        let Some(socket) = &mut self.socket else { return fail(rules::HANGUP, "the socket is closed") };
        crate::check::io(rules::HELLO, "write to the driver's socket", writeln!(socket, "{line}"))
    }

    /// Sends a request with members that no version has, and gives its id.
    pub(crate) fn send<R: Request>(&mut self, request: &R, context: &CallContext) -> Outcome<u64> {
        let mut params = json!({ "request": request, "context": context, "of_a_newer_minor": [1, 2] });
        if let Some(request) = params["request"].as_object_mut() {
            request.insert("of_a_newer_minor".to_owned(), json!({ "a": true }));
        }
        self.send_value(R::METHOD, &params)
    }

    pub(crate) fn send_value(&mut self, method: &str, params: &Value) -> Outcome<u64> {
        let id = self.next;
        self.next += 1;
        self.send_raw(
            &json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string(),
        )?;
        Ok(id)
    }

    /// Makes a call that must end within so long.
    pub(crate) fn call<R: Request>(
        &mut self,
        request: &R,
        limit: Duration,
    ) -> Outcome<Result<Value, DriverError>> {
        let context = CallContext::new(format!("kit.{}", self.next));
        let id = self.send(request, &context)?;
        self.answer(id, rules::TIME, Instant::now() + limit)
    }

    /// Waits for the answer to a request; logs and progress that come before it are kept.
    pub(crate) fn answer(
        &mut self,
        id: u64,
        rule: Rule,
        until: Instant,
    ) -> Outcome<Result<Value, DriverError>> {
        loop {
            let Some(message) = self.message(rule, until)? else {
                return fail(
                    rule,
                    format!("expected the answer to request {id}, found the end of the connection"),
                );
            };
            if message["id"] != id {
                continue;
            }
            if let Some(result) = message.get("result") {
                return Ok(Ok(result.clone()));
            }
            let error = &message["error"];
            // The codes that JSON-RPC 2.0 keeps for itself, of which the protocol's is one.
            let code = error["code"].as_i64().is_some_and(|code| (-32768..=-32000).contains(&code));
            return match serde_json::from_value::<DriverError>(error["data"].clone()) {
                Ok(read) if code => Ok(Err(read)),
                _ => fail(
                    rules::ERRORS,
                    format!(
                        "expected an error of code -32000 with its kind, message and retryable in `data`, \
                         found {error}"
                    ),
                ),
            };
        }
    }

    /// The next message; `None` at the end of the connection.
    pub(crate) fn message(&mut self, rule: Rule, until: Instant) -> Outcome<Option<Value>> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut line = String::new();
        let read = self
            .reader
            .get_ref()
            .set_read_timeout(Some(left))
            .and_then(|()| self.reader.read_line(&mut line));
        match read {
            Ok(0) => Ok(None),
            Ok(_) => {
                self.received.push_str(&line);
                match serde_json::from_str::<Value>(&line) {
                    Ok(message) if message["jsonrpc"] == "2.0" => Ok(Some(message)),
                    _ => fail(rule, format!("expected a JSON-RPC 2.0 message, found {:?}", line.trim_end())),
                }
            }
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                fail(rule, "expected an answer by now, found nothing")
            }
            Err(_) => Ok(None),
        }
    }

    /// Closes the socket, as a host that died does.
    pub(crate) fn hang_up(&mut self) {
        if let Some(socket) = self.socket.take() {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Kills the process as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for the end of the process; `None` if it does not end.
    pub(crate) fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
                _ => return None,
            }
        }
    }

    /// What it wrote on standard output and error so far.
    pub(crate) fn written(&mut self) -> String {
        use std::io::Seek as _;
        let mut bytes = Vec::new();
        let _ = self.output.rewind().and_then(|()| self.output.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.hang_up();
        if self.ended(Duration::from_secs(2)).is_none() {
            self.kill();
        }
    }
}
