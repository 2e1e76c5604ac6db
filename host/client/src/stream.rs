//! Answers that come a line at a time: progress and events.

use crate::error::{Error, Result};
use crate::types::StreamLine;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// A line longer than this is no progress and no event: the longest is a verbose answer of one volume.
const MAX_LINE_BYTES: usize = 64 << 20;

/// An answer being received. Dropping it closes the connection, which cancels the work.
#[derive(Debug)]
pub struct Stream {
    socket: PathBuf,
    call: String,
    source: Source,
    /// Received and not yet handed out; holds at most one incomplete line at its end.
    pending: BytesMut,
}

#[derive(Debug)]
enum Source {
    Lines(Incoming),
    /// The daemon answered in one piece.
    Whole(Option<String>),
}

impl Stream {
    pub(crate) fn new(socket: PathBuf, call: String, body: Incoming) -> Self {
        Self { socket, call, source: Source::Lines(body), pending: BytesMut::new() }
    }

    pub(crate) fn finished(socket: PathBuf, call: String, answer: String) -> Self {
        Self { socket, call, source: Source::Whole(Some(answer)), pending: BytesMut::new() }
    }

    /// The next line of work in progress; `None` after the result.
    ///
    /// # Errors
    /// The daemon's own error once the work failed, `Broken` when the connection ends before the result,
    /// `Answer` for a line that is no [`StreamLine`].
    pub async fn next(&mut self) -> Result<Option<StreamLine>> {
        if let Source::Whole(answer) = &mut self.source {
            return Ok(answer.take().map(StreamLine::Result));
        }
        match self.next_value().await? {
            Some(StreamLine::Error(error)) => Err(error.into()),
            Some(StreamLine::Result(answer)) => {
                self.source = Source::Whole(None);
                Ok(Some(StreamLine::Result(answer)))
            }
            Some(line) => Ok(Some(line)),
            None => Err(self.broken("it was closed".into())),
        }
    }

    /// Waits for the result and hands every other line to `watch`.
    pub async fn result(mut self, mut watch: impl FnMut(StreamLine)) -> Result<String> {
        loop {
            match self.next().await? {
                Some(StreamLine::Result(answer)) => return Ok(answer),
                Some(line) => watch(line),
                None => return Err(self.broken("it was closed".into())),
            }
        }
    }

    /// The next line of any kind, such as an event; `None` at the end.
    ///
    /// # Errors
    /// `Broken` when the connection breaks within a line, `Answer` for a line that is no `T`.
    pub async fn next_value<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let Some(line) = self.next_line().await? else { return Ok(None) };
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|source| Error::Answer { call: self.call.clone(), source })
    }

    /// The next line that is not blank (blank ones only keep the connection alive), as it is.
    ///
    /// # Errors
    /// `Broken` when the connection breaks within a line.
    pub async fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let mut line = self.pending.split_to(end + 1);
                line.truncate(end);
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line.into()));
                }
                continue;
            }
            match self.receive().await? {
                Some(bytes) => self.pending.extend_from_slice(&bytes),
                None if self.pending.trim_ascii().is_empty() => return Ok(None),
                None => return Ok(Some(self.pending.split().into())),
            }
            if self.pending.len() > MAX_LINE_BYTES {
                return Err(self.broken(format!("a line is longer than {MAX_LINE_BYTES} bytes").into()));
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>> {
        let Source::Lines(body) = &mut self.source else { return Ok(None) };
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Err(error) => return Err(self.broken(error.into())),
            }
        }
        Ok(None)
    }

    fn broken(&self, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
        Error::Broken { socket: self.socket.clone(), call: self.call.clone(), source }
    }
}
