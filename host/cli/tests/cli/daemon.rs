//! A daemon that answers what it is told to, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) call: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

/// An answer to one request: what to write, given the request and the connection.
pub(crate) type Answer = Box<dyn FnOnce(&Asked, &mut UnixStream) -> std::io::Result<()> + Send>;

/// Listens until dropped; every connection takes the next answer.
pub(crate) struct Daemon {
    directory: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Daemon {
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let answers: Arc<Mutex<std::collections::VecDeque<Answer>>> =
            Arc::new(Mutex::new(answers.into_iter().collect()));
        let remember = asked.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (answers, remember) = (answers.clone(), remember.clone());
                std::thread::spawn(move || {
                    let mut connection = connection.unwrap();
                    let request = read(&connection);
                    remember.lock().unwrap().push(request.clone());
                    let answer =
                        answers.lock().unwrap().pop_front().unwrap_or_else(|| refuse(400, "unexpected\n"));
                    // The client may have gone: that is what some tests are about.
                    let _ = answer(&request, &mut connection);
                });
            }
        });
        Self { directory, asked }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(connection: &UnixStream) -> Asked {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length =
        lines.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let call = lines.remove(0).trim_end_matches(" HTTP/1.1").to_owned();
    Asked { call, headers: lines, body: String::from_utf8(body).unwrap() }
}

/// Answers with status 200.
pub(crate) fn answer(body: &str) -> Answer {
    respond("200 OK", &[], body)
}

/// Answers with an error status.
pub(crate) fn refuse(status: u16, body: &str) -> Answer {
    respond(&format!("{status} Bad"), &[], body)
}

/// Any status and headers.
pub(crate) fn respond(status: &str, headers: &[&str], body: &str) -> Answer {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    Box::new(move |_, connection| connection.write_all(text.as_bytes()))
}

/// The lines of work in progress, then whatever `after` does; the end of the connection is the end of the
/// answer.
pub(crate) fn stream(
    lines: &[&str],
    after: impl FnOnce(&mut UnixStream) -> std::io::Result<()> + Send + 'static,
) -> Answer {
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Box::new(move |_, connection| {
        write!(
            connection,
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n{lines}"
        )?;
        after(connection)
    })
}

/// A socket that nobody listens at, and the directory that holds it.
pub(crate) fn nobody() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    (directory, socket)
}

/// A socket left behind by a daemon that is no more.
pub(crate) fn stale(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
}
