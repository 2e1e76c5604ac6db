//! From a file to a driver that can be called: start, hello, describe.

use super::connection::{Answer, Connection};
use super::output::{LastLines, follow};
use super::spawn;
use crate::answer;
use crate::context::RequestContext;
use crate::error::LoadError;
use crate::logs;
use convoy_driver_sdk::protocol::{Describe, Description, Request};
use convoy_driver_sdk::wire::{Hello, method};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Child;

/// How long a program may take to say hello, and to describe itself.
const HELLO: Duration = Duration::from_secs(10);
/// How long the last lines of a program that ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A process that said hello.
pub(super) struct RunningProcess {
    pub(super) child: Child,
    pub(super) connection: Arc<Connection>,
    pub(super) last: LastLines,
}

impl RunningProcess {
    /// If the program ended by itself, just now: how.
    pub(super) async fn how_it_ended(&mut self) -> Option<String> {
        let status = tokio::time::timeout(LAST_WORDS, self.child.wait()).await.ok()?.ok()?;
        Some(format!("the driver process ended ({status})"))
    }
}

pub(super) async fn launch(
    path: &Path,
    expected: Option<&Name>,
    restarts: bool,
) -> std::result::Result<(RunningProcess, Description), LoadError> {
    let provisional = expected.cloned().unwrap_or_else(|| Name::from_static("unnamed"));
    let cannot_start = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => LoadError::NotExecutable { path: path.to_owned() },
        // The file itself was there a moment ago.
        std::io::ErrorKind::NotFound if path.is_file() => LoadError::NoInterpreter { path: path.to_owned() },
        _ => LoadError::Start { action: "start", path: path.to_owned(), reason: error.to_string() },
    };
    let mut started = spawn::start(path, &provisional).await.map_err(cannot_start)?;
    let last = LastLines::default();
    let mut readers = Vec::new();
    if let Some(pipe) = started.child.stdout.take() {
        readers.push(tokio::spawn(follow(provisional.clone(), "stdout", pipe, last.clone())));
    }
    if let Some(pipe) = started.child.stderr.take() {
        readers.push(tokio::spawn(follow(provisional.clone(), "stderr", pipe, last.clone())));
    }
    let connection = Connection::new(provisional, started.socket, restarts).map_err(cannot_start)?;
    let mut running = RunningProcess { child: started.child, connection, last };
    match introduce(&running.connection, path, expected).await {
        Ok(description) => Ok((running, description)),
        Err(mut error) => {
            let reason = running.how_it_ended().await;
            let _ = running.child.kill().await;
            running.connection.give_up("it was ended");
            for reader in readers {
                let _ = tokio::time::timeout(LAST_WORDS, reader).await;
            }
            if let LoadError::Hello { reason: told, output, .. } = &mut error {
                *output = running.last.get();
                if let Some(reason) = reason {
                    *told = format!("{reason} before its hello");
                }
            }
            Err(error)
        }
    }
}

async fn introduce(
    connection: &Arc<Connection>,
    path: &Path,
    expected: Option<&Name>,
) -> std::result::Result<Description, LoadError> {
    let mut own = Hello::new(concat!("convoy ", env!("CARGO_PKG_VERSION")));
    own.log_level = Some(logs::level());
    let unreadable = |error: serde_json::Error| {
        DriverError::internal(format!("its answer to hello cannot be read: {error}"))
    };
    let theirs: Hello = ask(connection, method::HELLO, connection.request(method::HELLO, &own))
        .await
        .and_then(|json| serde_json::from_slice(&json).map_err(unreadable))
        .map_err(|error| match error.kind {
            ErrorKind::Unsupported => LoadError::Protocol { path: path.to_owned(), reason: error.message },
            _ => LoadError::Hello { path: path.to_owned(), reason: error.message, output: Vec::new() },
        })?;
    theirs
        .check()
        .map_err(|error| LoadError::Protocol { path: path.to_owned(), reason: error.to_string() })?;

    let cannot_describe = |error| LoadError::Describe { what: path.display().to_string(), error };
    let call = RequestContext::new("describe");
    let call = connection.call(Describe::METHOD, Describe::default(), call).map_err(cannot_describe)?;
    let json = ask(connection, Describe::METHOD, call).await.map_err(cannot_describe)?;
    let description = answer::read(&Describe::new(), &json)
        .map_err(|broken| cannot_describe(broken.error(&connection.driver(), Describe::METHOD)))?;
    check_name(path, expected, &description)?;
    Ok(description)
}

/// A driver answers to the name of its file, where dashes and underscores are the same.
pub(crate) fn check_name(
    path: &Path,
    expected: Option<&Name>,
    description: &Description,
) -> std::result::Result<(), LoadError> {
    let found = &description.name;
    match expected {
        Some(expected) if expected.replace('_', "-") != found.replace('_', "-") => {
            Err(LoadError::WrongName {
                path: path.to_owned(),
                expected: expected.to_string(),
                found: found.to_string(),
            })
        }
        _ => Ok(()),
    }
}

/// Waits for an answer, but not for ever, and not for that of a process that says nothing more.
async fn ask(connection: &Connection, method: &str, answer: impl Future<Output = Answer>) -> Answer {
    tokio::select! {
        answer = answer => answer,
        reason = connection.silent() => Err(DriverError::unavailable(reason)),
        () = tokio::time::sleep(HELLO) => {
            let text = format!("no answer to {method} within {} s", HELLO.as_secs());
            Err(DriverError::deadline_exceeded(text))
        }
    }
}
