//! JSON-RPC over the socket of one process: matching answers to calls.
//!
//! A call is written by its caller, without a hand-over, and answered by the one task that reads.

use super::messages::{self, Incoming};
use crate::logs;
use crate::options::ProgressSink;
use convoy_driver_sdk::wire::{Cancel, LogRecord, MAX_FRAME_BYTES, ProgressNote, method};
use convoy_driver_sdk::{DriverError, ErrorKind, Name, Result};
use serde::Serialize;
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot, watch};

type Answer = Result<Vec<u8>>;

/// A process one can talk to.
pub(crate) struct Connection {
    driver: Name,
    writer: OwnedWriteHalf,
    /// Bytes that the socket had no room for.
    backlog: Mutex<VecDeque<u8>>,
    backlogged: Notify,
    pending: Mutex<Option<HashMap<u64, Pending>>>,
    ids: AtomicU64,
    ended: watch::Sender<Option<String>>,
}

/// A call that was not answered yet. It stays here when its caller gave up: the driver is still busy with it.
struct Pending {
    answer: oneshot::Sender<Answer>,
    progress: Option<ProgressSink>,
    _hold: Option<Box<dyn Any + Send>>,
}

impl Connection {
    /// Takes the host's end of the socket.
    pub(crate) fn new(driver: Name, socket: std::os::unix::net::UnixStream) -> io::Result<Arc<Self>> {
        socket.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(socket)?.into_split();
        let connection = Arc::new(Self {
            driver,
            writer,
            backlog: Mutex::default(),
            backlogged: Notify::new(),
            pending: Mutex::new(Some(HashMap::new())),
            ids: AtomicU64::new(1),
            ended: watch::Sender::new(None),
        });
        tokio::spawn(Arc::clone(&connection).read(reader));
        tokio::spawn(Arc::clone(&connection).flush());
        Ok(connection)
    }

    /// Calls that were not answered yet.
    pub(crate) fn calls(&self) -> usize {
        self.pending().as_ref().map_or(0, HashMap::len)
    }

    /// Waits until nothing more can be said, and gives the reason.
    pub(crate) async fn ended(&self) -> String {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// A number for a call, unique in this connection.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request. The answer comes through what is returned, which may be dropped.
    pub(crate) fn call(
        &self,
        id: u64,
        method: &str,
        params: &impl Serialize,
        progress: Option<ProgressSink>,
        hold: Option<Box<dyn Any + Send>>,
    ) -> Result<oneshot::Receiver<Answer>> {
        let frame = messages::request(id, method, params)?;
        let (answer, answered) = oneshot::channel();
        match self.pending().as_mut() {
            Some(pending) => pending.insert(id, Pending { answer, progress, _hold: hold }),
            None => return Err(self.gone()),
        };
        self.send(frame).inspect_err(|_| {
            self.forget(id);
        })?;
        Ok(answered)
    }

    /// Asks for a call to end.
    pub(crate) fn cancel(&self, request_id: &str) {
        self.notify(method::CANCEL, &Cancel { request_id: request_id.to_owned() });
    }

    /// Sends a notification; a peer that is gone does not need it.
    pub(crate) fn notify(&self, method: &'static str, params: &impl Serialize) {
        if let Ok(frame) = messages::notification(method, params) {
            let _ = self.send(frame);
        }
    }

    /// Ends the connection: nothing more is read, and every call that was not answered fails.
    pub(crate) fn end(&self, reason: &str) {
        let mut first = false;
        self.ended.send_if_modified(|ended| {
            first = ended.is_none();
            if first {
                *ended = Some(reason.to_owned());
            }
            first
        });
        // Taken out of the lock before what they hold is dropped.
        let unanswered = self.pending().take();
        for (_, call) in unanswered.into_iter().flatten() {
            let _ = call.answer.send(Err(self.gone()));
        }
    }

    fn pending(&self) -> MutexGuard<'_, Option<HashMap<u64, Pending>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, id: u64) -> Option<Pending> {
        self.pending().as_mut().and_then(|pending| pending.remove(&id))
    }

    fn gone(&self) -> DriverError {
        let reason = self.ended.borrow().clone().unwrap_or_default();
        DriverError::new(
            ErrorKind::Unavailable,
            format!("driver {}: {reason}; it is started again: try again", self.driver),
        )
        .retryable(true)
    }

    fn send(&self, frame: Vec<u8>) -> Result<()> {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = frame.as_slice();
        if backlog.is_empty() {
            while !rest.is_empty() {
                match self.writer.try_write(rest) {
                    Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return Err(self.gone()),
                }
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        if backlog.len() + rest.len() > 2 * MAX_FRAME_BYTES {
            return Err(DriverError::new(
                ErrorKind::Unavailable,
                format!("driver {}: it does not read what it is sent", self.driver),
            ));
        }
        backlog.extend(rest);
        drop(backlog);
        self.backlogged.notify_one();
        Ok(())
    }

    /// Sends the backlog as the socket takes it.
    async fn flush(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.backlogged.notified() => {}
                _ = self.ended() => return,
            }
            while !self.backlog.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                tokio::select! {
                    writable = self.writer.writable() => if writable.is_err() { return },
                    _ = self.ended() => return,
                }
                let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
                match self.writer.try_write(backlog.as_slices().0) {
                    Ok(count) => drop(backlog.drain(..count)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        }
    }

    async fn read(self: Arc<Self>, reader: OwnedReadHalf) {
        let reason = tokio::select! {
            reason = self.read_until_end(reader) => reason,
            _ = self.ended() => return,
        };
        self.end(&reason);
    }

    async fn read_until_end(&self, reader: OwnedReadHalf) -> String {
        let mut reader = BufReader::with_capacity(64 << 10, reader);
        let limit = u64::try_from(MAX_FRAME_BYTES).unwrap_or(u64::MAX);
        let mut line = Vec::new();
        loop {
            line.clear();
            // What one long message needed is not kept for ever.
            line.shrink_to(1 << 20);
            match (&mut reader).take(limit).read_until(b'\n', &mut line).await {
                Ok(0) => return "the process closed its socket".to_owned(),
                Err(error) => return format!("the process cannot be read: {error}"),
                Ok(_) => {}
            }
            if line.pop() != Some(b'\n') {
                return if line.len() + 1 < MAX_FRAME_BYTES {
                    "the process ended in the middle of a message".to_owned()
                } else {
                    format!("the process sent a message of more than {MAX_FRAME_BYTES} bytes")
                };
            }
            if let Err(error) = self.take(&line) {
                return error;
            }
        }
    }

    /// Takes a message; an error ends the connection.
    fn take(&self, line: &[u8]) -> std::result::Result<(), String> {
        match messages::parse(line)? {
            Incoming::Answer { id, answer } => match self.forget(id) {
                // Whoever gave up waiting has dropped the other end.
                Some(call) => drop(call.answer.send(answer)),
                None => tracing::warn!(driver = %self.driver, id, "an answer to no call"),
            },
            Incoming::Refused(error) => {
                tracing::error!(driver = %self.driver, %error, "the driver did not understand a message");
            }
            Incoming::Note { method, params } => match method.as_ref() {
                method::LOG => match serde_json::from_str::<LogRecord>(params) {
                    Ok(record) => logs::emit(&self.driver, &record),
                    Err(error) => tracing::debug!(driver = %self.driver, %error, "a log record that is none"),
                },
                method::PROGRESS => self.progress(params),
                // Of a newer minor version.
                _ => {}
            },
        }
        Ok(())
    }

    fn progress(&self, params: &str) {
        let Ok(note) = serde_json::from_str::<ProgressNote>(params) else { return };
        let Some(id) = id_of(&note.request_id) else { return };
        let sink = self.pending().as_ref().and_then(|pending| pending.get(&id)?.progress.clone());
        if let Some(sink) = sink {
            sink(note.progress);
        }
    }
}

/// The request id on the wire: the caller's, made unique.
pub(crate) fn request_id(given: &str, id: u64) -> String {
    format!("{given}.{id}")
}

fn id_of(request_id: &str) -> Option<u64> {
    request_id.rsplit_once('.')?.1.parse().ok()
}
