//! Lines over the socket of one process, and the notes among them.

use super::messages;
use crate::context::ProgressSink;
use crate::logs;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::wire::{LogRecord, MAX_FRAME_BYTES, ProgressNote, method};
use jsonrpsee_core::client::{ReceivedMessage, TransportReceiverT, TransportSenderT};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// Memory that is kept for the next line, in bytes.
const KEPT: usize = 64 << 10;

/// What is known of the socket's end, and who listens to progress.
pub(crate) struct Line {
    pub(super) driver: Name,
    /// Why nothing more comes over the socket.
    silent: watch::Sender<Option<String>>,
    /// Why the process is given up: what calls in flight are told.
    verdict: watch::Sender<Option<String>>,
    /// Whether the client reads no more: what it has not handed on by now, it never does.
    ended: watch::Sender<bool>,
    pub(super) listeners: Mutex<HashMap<u64, ProgressSink>>,
    /// Requests that were sent and not answered, by the id of JSON-RPC.
    unanswered: Mutex<HashSet<u64>>,
    /// Whether a process that ends is started again.
    pub(super) restarts: bool,
}

impl Line {
    pub(crate) fn new(driver: Name, restarts: bool) -> Self {
        Self {
            driver,
            silent: watch::Sender::new(None),
            verdict: watch::Sender::new(None),
            ended: watch::Sender::new(false),
            listeners: Mutex::default(),
            unanswered: Mutex::default(),
            restarts,
        }
    }

    /// Waits until nothing more comes.
    pub(super) async fn silent(&self) -> String {
        settled(&self.silent).await
    }

    /// Says that nothing more comes, if nobody said so before.
    pub(super) fn fall_silent(&self, reason: &str) {
        settle(&self.silent, reason);
    }

    /// Why the process was given up, once it was.
    pub(super) async fn verdict(&self) -> String {
        settled(&self.verdict).await
    }

    /// Waits until the client reads no more.
    pub(super) async fn ended(&self) {
        // An error would say that the sender is gone, which is here.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    pub(crate) fn give_up(&self, reason: &str) {
        settle(&self.verdict, reason);
        self.fall_silent(reason);
    }
}

async fn settled(state: &watch::Sender<Option<String>>) -> String {
    match state.subscribe().wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        Err(_) => String::new(),
    }
}

fn settle(state: &watch::Sender<Option<String>>, reason: &str) {
    state.send_if_modified(|settled| {
        let first = settled.is_none();
        if first {
            *settled = Some(reason.to_owned());
        }
        first
    });
}

pub(super) struct Sender {
    pub(super) socket: OwnedWriteHalf,
    pub(super) line: Arc<Line>,
}

impl TransportSenderT for Sender {
    type Error = io::Error;

    async fn send(&mut self, mut message: String) -> io::Result<()> {
        // Before it can be answered.
        self.line.unanswered.lock().extend(messages::id_of(&message));
        message.push('\n');
        self.socket.write_all(message.as_bytes()).await
    }
}

/// Hands responses on and takes the notes itself: they must neither wait in a queue nor fill one.
pub(crate) struct Receiver {
    reader: BufReader<OwnedReadHalf>,
    line: Arc<Line>,
}

impl Receiver {
    pub(crate) fn new(socket: OwnedReadHalf, line: Arc<Line>) -> Self {
        Self { reader: BufReader::with_capacity(KEPT, socket), line }
    }

    /// The next line, or why there is none.
    async fn next(&mut self) -> Result<Vec<u8>, String> {
        let limit = u64::try_from(MAX_FRAME_BYTES).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        match (&mut self.reader).take(limit).read_until(b'\n', &mut bytes).await {
            Ok(0) => return Err("the process closed its socket".to_owned()),
            Err(error) => return Err(format!("the process cannot be read: {error}")),
            Ok(_) => {}
        }
        match bytes.pop() {
            Some(b'\n') => Ok(bytes),
            _ if bytes.len() + 1 < MAX_FRAME_BYTES => {
                Err("the process ended in the middle of a message".to_owned())
            }
            _ => Err(format!("the process sent a message of more than {MAX_FRAME_BYTES} bytes")),
        }
    }

    /// The next response, or why there is none.
    pub(crate) async fn next_response(&mut self) -> Result<(u64, Vec<u8>), String> {
        loop {
            let bytes = self.next().await?;
            match messages::kind_of(&self.line.driver, &bytes)? {
                messages::Kind::Response(id) => return Ok((id, bytes)),
                messages::Kind::Refused(error) => {
                    tracing::error!(driver = %self.line.driver, %error, "the driver did not understand a message");
                }
                messages::Kind::Note { method, params } => self.take(&method, params),
            }
        }
    }

    fn take(&self, method: &str, params: &str) {
        let driver = &self.line.driver;
        match method {
            method::LOG => match serde_json::from_str::<LogRecord>(params) {
                Ok(record) => logs::emit(driver, &record),
                Err(error) => tracing::debug!(%driver, %error, "a log record that is none"),
            },
            method::PROGRESS => {
                let Ok(note) = serde_json::from_str::<ProgressNote>(params) else { return };
                let Some(call) = call_of(&note.request_id) else { return };
                let listener = self.line.listeners.lock().get(&call).cloned();
                if let Some(listener) = listener {
                    listener(note.progress);
                }
            }
            // Of a newer minor version.
            _ => {}
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.line.ended.send_replace(true);
    }
}

impl TransportReceiverT for Receiver {
    type Error = io::Error;

    async fn receive(&mut self) -> io::Result<ReceivedMessage> {
        let response = self.next_response().await.and_then(|(id, bytes)| {
            // The client would take it for its own defect, and say nothing of the driver's.
            let asked = self.line.unanswered.lock().remove(&id);
            asked.then_some(bytes).ok_or_else(|| {
                format!(
                    "the process broke the protocol (R47): it answered request {id}, which was answered \
                     already or never made"
                )
            })
        });
        match response {
            Ok(bytes) => Ok(ReceivedMessage::Bytes(bytes)),
            Err(reason) => {
                self.line.fall_silent(&reason);
                // Whoever watches the process finds out more; until then calls in flight stay in flight.
                Err(io::Error::other(self.line.verdict().await))
            }
        }
    }
}

/// The request id on the wire: the caller's, made unique.
pub(super) fn request_id(given: &str, call: u64) -> String {
    format!("{given}.{call}")
}

fn call_of(request_id: &str) -> Option<u64> {
    request_id.rsplit_once('.')?.1.parse().ok()
}
