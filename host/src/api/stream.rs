//! Answers of long work: with progress a line at a time for those who ask for it, else in one piece.

use super::answer::{Failure, text};
use crate::app::{App, broken};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use convoy_activity::jobs::{About, Running};
use convoy_client::client::NDJSON;
use convoy_client::types::{Progress, StreamError, StreamLine};
use futures::{FutureExt, stream};
use serde::Serialize;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// How often progress is told at most.
const PACE: Duration = Duration::from_millis(200);

/// How long a connection says nothing at most: a write finds out that the client is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Whether a request asks for progress.
pub(super) fn is_asked(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.split(',').any(|kind| kind.trim().starts_with(NDJSON)))
}

/// Runs work as a job and answers with its result, to a client that asked for progress line by line. That it
/// failed is told.
///
/// The work goes on to its end without the client, unless that one asked for progress: then closing the
/// connection cancels it.
pub(super) async fn respond<F>(
    app: &App,
    lines: bool,
    about: About,
    work: impl FnOnce(Arc<Running>) -> F,
) -> Response
where
    F: Future<Output = Result<String, Failure>> + Send + 'static,
{
    let job = Arc::new(app.jobs().begin(about));
    let (id, progress, cancel) = (job.id().to_owned(), job.watch(), job.cancel());
    let (done, result) = oneshot::channel();
    let (work, told) = (work(Arc::clone(&job)), app.clone());
    drop(
        app.spawn(
            async move {
                let result = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(lost()));
                if let Err(failure) = &result {
                    job.failed();
                    told.tell_failure(job.about(), job.id(), &failure.full_text());
                }
                drop(job);
                // An error says that nobody waits any more.
                let _ = done.send(result);
            }
            .in_current_span(),
        ),
    );
    if lines {
        return in_lines(id, progress, cancel, result);
    }
    match result.await {
        Ok(Ok(answer)) => text(answer),
        Ok(Err(failure)) => failure.into_response(),
        Err(_) => lost().into_response(),
    }
}

fn lost() -> Failure {
    broken().into()
}

/// Tells how a job goes on until its result is there. A client that goes away before cancels it.
fn in_lines(
    id: String,
    mut progress: watch::Receiver<Progress>,
    cancel: CancellationToken,
    mut result: oneshot::Receiver<Result<String, Failure>>,
) -> Response {
    let (lines, body) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        let mut sent = lines.send(line(&StreamLine::Job(id))).await;
        while sent.is_ok() {
            sent = tokio::select! {
                biased;
                result = &mut result => {
                    // How it ended counts too: short work would else have no progress at all, and long work
                    // not its totals.
                    let end = {
                        let end = progress.borrow_and_update();
                        end.has_changed().then(|| line(&StreamLine::Progress(end.clone())))
                    };
                    for bytes in end.into_iter().chain([last(result.unwrap_or_else(|_| Err(lost())))]) {
                        // An error says that the client has gone, which does not matter any more.
                        let _ = lines.send(bytes).await;
                    }
                    return;
                }
                () = lines.closed() => break,
                () = changed(&mut progress) => {
                    let now = progress.borrow_and_update().clone();
                    lines.send(line(&StreamLine::Progress(now))).await
                }
                () = tokio::time::sleep(KEEP_ALIVE) => lines.send(Bytes::from_static(b"\n")).await,
            };
        }
        tracing::info!("the client has gone: cancelling its job");
        cancel.cancel();
    });
    let lines =
        stream::unfold(body, |mut body| async move { Some((Ok::<_, Infallible>(body.recv().await?), body)) });
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON))];
    (kind, Body::from_stream(lines)).into_response()
}

/// Writes the last line of an answer.
fn last(result: Result<String, Failure>) -> Bytes {
    line(&match result {
        Ok(answer) => StreamLine::Result(answer),
        Err(failure) => StreamLine::Error(StreamError {
            status: failure.status.as_u16(),
            kind: failure.kind,
            message: failure.message,
            plain: failure.plain,
            hint: failure.hint,
        }),
    })
}

/// Waits for news, and a little longer for newer ones.
async fn changed(progress: &mut watch::Receiver<Progress>) {
    tokio::time::sleep(PACE).await;
    if progress.changed().await.is_err() {
        // The job has ended; its result follows.
        std::future::pending::<()>().await;
    }
}

/// A value on a line of its own.
pub(super) fn line(value: &impl Serialize) -> Bytes {
    // The lines are enums and structures with text keys: writing them cannot fail.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}
