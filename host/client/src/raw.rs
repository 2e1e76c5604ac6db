//! Answers that are bytes as they are: a file, an archive.

use crate::client::{ERROR_TRAILER, HINT_HEADER, KIND_HEADER, LEFT_OUT_TRAILER, PLAIN_HEADER, decode};
use crate::error::{Error, Result, ServerError};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::Incoming;
use std::path::PathBuf;

/// Bytes being received. Dropping it closes the connection, which ends the work.
#[derive(Debug)]
pub struct RawBody {
    socket: PathBuf,
    call: String,
    body: Incoming,
    left_out: Option<String>,
}

impl RawBody {
    pub(crate) fn new(socket: PathBuf, call: String, body: Incoming) -> Self {
        Self { socket, call, body, left_out: None }
    }

    /// The next bytes; `None` when these were all.
    ///
    /// # Errors
    /// `Broken` when the connection ends before the last byte; the daemon's own error where what was received
    /// is not all of what was asked for.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| Error::Broken {
                socket: self.socket.clone(),
                call: self.call.clone(),
                source: error.into(),
            })?;
            match frame.into_data() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(Some(bytes)),
                Err(frame) => self.end(&frame.into_trailers().unwrap_or_default())?,
            }
        }
        Ok(None)
    }

    /// What the daemon could not put into what it sent; known at the end.
    pub fn left_out(&self) -> Option<&str> {
        self.left_out.as_deref()
    }

    fn end(&mut self, trailers: &HeaderMap) -> Result<()> {
        let said = |name| trailers.get(name).map(|value| decode(value.as_bytes()));
        self.left_out = said(LEFT_OUT_TRAILER);
        let Some(message) = said(ERROR_TRAILER) else { return Ok(()) };
        Err(Error::Server(Box::new(ServerError {
            status: 200,
            kind: said(KIND_HEADER).unwrap_or_default(),
            message,
            plain: said(PLAIN_HEADER),
            hint: said(HINT_HEADER),
            request_id: String::new(),
        })))
    }
}
