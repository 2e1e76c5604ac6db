//! A raw HTTP client on a unix socket, with the connection kept open: what Docker does, and what costs least.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Context, Error, Result};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The header line that a Docker engine sends with its calls.
pub const DOCKER: &str = "Accept: application/vnd.docker.plugins.v1.2+json";

/// The answer to a call of Docker's volume plugin API.
///
/// # Errors
/// When it says that the call failed.
pub fn checked(call: &str, answer: &Answer) -> Result<Value> {
    let value = answer.json()?;
    match value.get("Err").and_then(Value::as_str) {
        Some(error) if !error.is_empty() => Err(Error::Unexpected(format!("{call}: {error}"))),
        _ => Ok(value),
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header lines, as they came.
    pub headers: Vec<String>,
    /// The body of the answer.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// [`Error::Unexpected`] when it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body)
            .map_err(|error| Error::Unexpected(format!("not JSON ({error}): {:?}", self.body)))
    }

    /// The body of an answer with status 200.
    ///
    /// # Errors
    /// [`Error::Unexpected`] for another status.
    pub fn ok(self) -> Result<String> {
        if self.status == 200 {
            return Ok(self.body);
        }
        Err(Error::Unexpected(format!("status {}: {}", self.status, self.body)))
    }
}

/// One connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to a socket.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).during(|| format!("cannot connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(LIMIT)).during(|| "cannot set a time limit".to_owned())?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, with extra header lines, and reads the answer.
    ///
    /// # Errors
    /// When the connection breaks or what comes back is not HTTP.
    pub fn ask_with(&mut self, method: &str, path: &str, headers: &[&str], body: &str) -> Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: plugin.moby.localhost\r\n");
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .during(|| format!("cannot send {method} {path}"))?;
        self.answer().map_err(|error| Error::Unexpected(format!("{method} {path}: {error}")))
    }

    /// Asks and reads the answer.
    ///
    /// # Errors
    /// When the connection breaks or what comes back is not HTTP.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        self.ask_with(method, path, &[], body)
    }

    /// Calls Docker's volume plugin API as the engine does; an `Err` in the answer is an error here.
    ///
    /// # Errors
    /// When the call fails.
    pub fn docker(&mut self, call: &str, body: &Value) -> Result<Value> {
        let answer = self.ask_with("POST", &format!("/VolumeDriver.{call}"), &[DOCKER], &body.to_string())?;
        checked(&format!("{call} {body}"), &answer)
    }

    fn answer(&mut self) -> Result<Answer> {
        let status_line = self.line()?;
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| Error::Unexpected(format!("not HTTP: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            headers.push(line);
        }
        let field = |name: &str| {
            headers.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let bytes = match (field("content-length"), field("transfer-encoding")) {
            (Some(length), _) => {
                let length = length
                    .parse()
                    .map_err(|_| Error::Unexpected(format!("a strange Content-Length: {length}")))?;
                self.exactly(length)?
            }
            (None, Some(_)) => self.chunks()?,
            (None, None) => Vec::new(),
        };
        Ok(Answer { status, headers, body: String::from_utf8_lossy(&bytes).into_owned() })
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(line.trim(), 16)
                .map_err(|_| Error::Unexpected(format!("a strange chunk: {line:?}")))?;
            body.extend(self.exactly(length)?);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).during(|| "cannot read the answer".to_owned())?;
        if read == 0 {
            return Err(Error::Unexpected("the connection was closed".to_owned()));
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).during(|| "cannot read the answer".to_owned())?;
        Ok(bytes)
    }
}
