//! Answers of long work: with progress a line at a time for those who ask for it, else in one piece.

use super::App;
use super::answer::{Failure, text};
use crate::jobs::{About, Running};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use convoy_client::client::NDJSON;
use convoy_client::types::{Progress, StreamError, StreamLine};
use futures::{FutureExt, stream};
use serde::Serialize;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
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
    let job = Arc::new(app.jobs.begin(about));
    let (id, progress, cancel) = (job.id().to_owned(), job.watch(), job.cancel());
    let (done, result) = oneshot::channel();
    let (work, told) = (work(Arc::clone(&job)), app.clone());
    app.tasks.spawn(
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
    super::broken().into()
}

/// Cancels the job when the connection is closed before the result was written.
struct Watched {
    cancel: Option<CancellationToken>,
    progress: watch::Receiver<Progress>,
    result: oneshot::Receiver<Result<String, Failure>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(cancel) = self.cancel.take() {
            tracing::info!("the client has gone: cancelling its job");
            cancel.cancel();
        }
    }
}

enum Next {
    Job(String),
    Line,
    Last(Bytes),
    End,
}

fn in_lines(
    id: String,
    progress: watch::Receiver<Progress>,
    cancel: CancellationToken,
    result: oneshot::Receiver<Result<String, Failure>>,
) -> Response {
    let watched = Watched { cancel: Some(cancel), progress, result };
    let lines = stream::unfold((Next::Job(id), watched), |(next, mut watched)| async move {
        match next {
            Next::Job(id) => Some((line(&StreamLine::Job(id)), (Next::Line, watched))),
            Next::Line => {
                let (bytes, next) = watched.next().await;
                Some((bytes, (next, watched)))
            }
            Next::Last(bytes) => Some((bytes, (Next::End, watched))),
            Next::End => None,
        }
    });
    let lines = futures::StreamExt::map(lines, Ok::<_, Infallible>);
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON))];
    (kind, Body::from_stream(lines)).into_response()
}

impl Watched {
    async fn next(&mut self) -> (Bytes, Next) {
        tokio::select! {
            biased;
            result = &mut self.result => {
                self.cancel = None;
                let last = match result.unwrap_or_else(|_| Err(lost())) {
                    Ok(answer) => StreamLine::Result(answer),
                    Err(failure) => StreamLine::Error(StreamError {
                        status: failure.status.as_u16(),
                        kind: failure.kind,
                        message: failure.message,
                        plain: failure.plain,
                        hint: failure.hint,
                    }),
                };
                // How it ended counts too: short work would else have no progress at all, and long work not
                // its totals.
                let progress = self.progress.borrow_and_update();
                if progress.has_changed() {
                    return (line(&StreamLine::Progress(progress.clone())), Next::Last(line(&last)));
                }
                (line(&last), Next::End)
            }
            () = changed(&mut self.progress) => {
                let progress = self.progress.borrow_and_update().clone();
                (line(&StreamLine::Progress(progress)), Next::Line)
            }
            () = tokio::time::sleep(KEEP_ALIVE) => (Bytes::from_static(b"\n"), Next::Line),
        }
    }
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
