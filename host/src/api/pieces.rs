//! Answers that are made while they are sent: lines, or bytes as they are. A client that goes away ends the
//! work; one that reads slowly slows it down.

use super::answer::{Answer, Failure};
use super::stream;
use crate::app::{App, broken};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use convoy_activity::jobs::{About, Running};
use convoy_activity::metrics::kind_name;
use convoy_client::client::{
    ERROR_TRAILER, HINT_HEADER, KIND_HEADER, LEFT_OUT_TRAILER, NDJSON, PLAIN_HEADER, encode_header,
};
use convoy_client::types::{BrowseLine, Progress, StreamError};
use convoy_driver_sdk::ErrorKind;
use futures::{FutureExt, StreamExt};
use http_body_util::StreamBody;
use hyper::body::Frame;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;
use tracing::Instrument;

/// Pieces that wait to be sent.
const WAITING: usize = 64;

/// Bytes of a piece of raw data.
const PIECE: usize = 64 << 10;

/// Lines are sent together up to so many bytes.
const TOGETHER: usize = 64 << 10;

/// How long a connection says nothing at most: a write finds out that the client is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The longest text of a trailer, in bytes.
const LONGEST: usize = 2048;

/// What an answer consists of, and how it tells that it is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// JSON values, a line each; the last is the error.
    Lines,
    /// Raw bytes, and trailers that tell the error.
    Raw,
    /// Raw bytes for who takes no trailers: the connection breaks before their end.
    Bare,
}

impl Form {
    /// Raw bytes, as whoever asks takes them.
    pub(super) fn raw(request: &Request) -> Self {
        let te = request.headers().get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
        let takes =
            te.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("trailers"));
        if takes { Self::Raw } else { Self::Bare }
    }
}

/// Takes the pieces of an answer, on a thread that may wait.
pub(super) struct Pieces {
    sender: mpsc::Sender<Bytes>,
    pending: Vec<u8>,
    /// Bytes that were sent, and how many of them the job was told of.
    sent: u64,
    told: u64,
    report: Box<dyn Fn(Progress) + Send + Sync>,
}

impl Pieces {
    /// Sends a piece, once there is room for it.
    ///
    /// # Errors
    /// `BrokenPipe` if nobody wants it any more.
    pub(super) fn send(&mut self, piece: Bytes) -> io::Result<()> {
        self.sent += piece.len() as u64;
        self.sender.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        if self.sent - self.told >= PIECE as u64 {
            self.told = self.sent;
            let phase = "sending".to_owned();
            (self.report)(Progress { phase, bytes_done: self.sent, ..Progress::default() });
        }
        Ok(())
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE.saturating_sub(self.pending.len()).max(1);
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.pending.extend_from_slice(taken);
        if self.pending.len() >= PIECE {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::replace(&mut self.pending, Vec::with_capacity(PIECE));
        self.send(pending.into())
    }
}

/// How the work ended; if well, with what was left out.
type Ended = Result<Option<String>, Failure>;

/// Runs work as a job and sends what it makes. What fails before the first piece is answered with an error as
/// other calls are.
pub(super) async fn respond<F>(
    app: &App,
    about: About,
    form: Form,
    work: impl FnOnce(Arc<Running>, Pieces) -> F,
) -> Answer
where
    F: Future<Output = Ended> + Send + 'static,
{
    let job = Arc::new(app.jobs().begin(about));
    // Whoever asked goes away by dropping this, or the body that has it.
    let gone = job.cancel().drop_guard();
    let (sender, mut pieces) = mpsc::channel(WAITING);
    let (done, ended) = oneshot::channel();
    let report = Box::new(job.reporter());
    let work = work(Arc::clone(&job), Pieces { sender, pending: Vec::new(), sent: 0, told: 0, report });
    let told = app.clone();
    drop(
        app.spawn(
            async move {
                let result = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(lost()));
                if let Err(failure) = &result {
                    job.failed();
                    // That a path is not there, or that somebody has seen enough, is nothing to watch for.
                    if failure.kind == kind_name(ErrorKind::DataLoss) {
                        told.tell_failure(job.about(), job.id(), &failure.full_text());
                    }
                }
                drop(job);
                // An error says that nobody waits any more.
                let _ = done.send(result);
            }
            .in_current_span(),
        ),
    );
    let patience = tokio::time::sleep(KEEP_ALIVE);
    let first = tokio::select! {
        first = pieces.recv() => first,
        // Raw bytes have nothing that says that they will come.
        () = patience, if form == Form::Lines => Some(Bytes::from_static(b"\n")),
    };
    let Some(first) = first else {
        // There is nothing more than how it ended.
        return match ended.await.unwrap_or_else(|_| Err(lost())) {
            Ok(left_out) => Ok(head(form, futures::stream::iter(last(form, Ok(left_out))))),
            Err(failure) => Err(failure),
        };
    };
    let rest = Rest { form, pieces, ended: Some(ended), last: Vec::new().into_iter(), gone };
    let rest = futures::stream::unfold(rest, |mut rest| async move { Some((rest.next().await?, rest)) });
    let first = futures::stream::iter([Ok(Frame::data(first))]);
    Ok(head(form, first.chain(rest)))
}

fn lost() -> Failure {
    broken().into()
}

fn head(form: Form, frames: impl futures::Stream<Item = Sent> + Send + 'static) -> Response {
    let body = Body::new(StreamBody::new(frames));
    let kind = match form {
        Form::Lines => NDJSON,
        Form::Raw | Form::Bare => "application/octet-stream",
    };
    let mut response = ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response();
    if form == Form::Raw {
        let names = [ERROR_TRAILER, KIND_HEADER, PLAIN_HEADER, HINT_HEADER, LEFT_OUT_TRAILER].join(", ");
        if let Ok(names) = HeaderValue::from_str(&names) {
            response.headers_mut().insert(header::TRAILER, names);
        }
    }
    response
}

type Sent = Result<Frame<Bytes>, io::Error>;

/// What follows the first piece.
struct Rest {
    form: Form,
    pieces: mpsc::Receiver<Bytes>,
    ended: Option<oneshot::Receiver<Ended>>,
    last: std::vec::IntoIter<Sent>,
    #[allow(dead_code, reason = "dropping it cancels the work")]
    gone: DropGuard,
}

impl Rest {
    async fn next(&mut self) -> Option<Sent> {
        if self.ended.is_some() {
            let lines = self.form == Form::Lines;
            tokio::select! {
                biased;
                piece = self.pieces.recv() => if let Some(piece) = piece {
                    return Some(Ok(Frame::data(if lines { self.together(piece) } else { piece })));
                },
                () = tokio::time::sleep(KEEP_ALIVE), if lines => {
                    return Some(Ok(Frame::data(Bytes::from_static(b"\n"))));
                }
            }
            // Until it is known how it ended this is not forgotten: whoever polls may let go and come back.
            let result = match &mut self.ended {
                Some(ended) => ended.await.unwrap_or_else(|_| Err(lost())),
                None => return None,
            };
            self.ended = None;
            self.last = last(self.form, result).into_iter();
        }
        self.last.next()
    }

    /// A line with those that wait behind it.
    fn together(&mut self, first: Bytes) -> Bytes {
        let mut all = BytesMut::new();
        let mut next = Ok(first);
        while let Ok(line) = next {
            all.extend_from_slice(&line);
            if all.len() >= TOGETHER {
                break;
            }
            next = self.pieces.try_recv();
        }
        all.freeze()
    }
}

/// What tells how it ended.
fn last(form: Form, result: Ended) -> Vec<Sent> {
    match (form, result) {
        (Form::Lines | Form::Bare, Ok(_)) | (Form::Raw, Ok(None)) => Vec::new(),
        (Form::Raw, Ok(Some(left_out))) => {
            vec![Ok(Frame::trailers(trailers([(LEFT_OUT_TRAILER, Some(left_out))])))]
        }
        (Form::Lines, Err(failure)) => {
            let error = StreamError {
                status: failure.status.as_u16(),
                kind: failure.kind,
                message: failure.message,
                plain: failure.plain,
                hint: failure.hint,
            };
            vec![Ok(Frame::data(stream::line(&BrowseLine::<()>::Error(error))))]
        }
        (Form::Raw, Err(failure)) => {
            let Failure { kind, message, plain, hint, .. } = failure;
            let said = [
                (ERROR_TRAILER, Some(message)),
                (KIND_HEADER, Some(kind)),
                (PLAIN_HEADER, plain),
                (HINT_HEADER, hint),
            ];
            vec![Ok(Frame::trailers(trailers(said)))]
        }
        (Form::Bare, Err(failure)) => vec![Err(io::Error::other(failure.message))],
    }
}

fn trailers<const N: usize>(said: [(&'static str, Option<String>); N]) -> HeaderMap {
    let said = said.into_iter().filter_map(|(name, text)| {
        let text = text?;
        let shown = text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(&text);
        Some((HeaderName::from_static(name), HeaderValue::from_str(&encode_header(shown)).ok()?))
    });
    said.collect()
}
