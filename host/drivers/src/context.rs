//! What goes with a call of a driver beside its request.

use convoy_driver_sdk::context::Progress;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub(crate) type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// The id, deadline, cancellation and progress of one call, and what to hold on to while it lasts.
#[derive(Clone, Default)]
#[must_use]
pub struct RequestContext {
    pub(crate) request_id: String,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: Option<ProgressSink>,
    pub(crate) hold: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext")
            .field("request_id", &self.request_id)
            .field("deadline", &self.deadline)
            .field("cancelled", &self.cancel.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl RequestContext {
    /// Creates a context without deadline for the request of this id, which the logs of both sides name.
    pub fn new(request_id: impl Into<String>) -> Self {
        Self { request_id: request_id.into(), ..Self::default() }
    }

    /// Gives the same context a deadline `limit` from now, unless it has an earlier one.
    pub fn within(&self, limit: Duration) -> Self {
        let limit = Instant::now().checked_add(limit);
        let deadline = [self.deadline, limit].into_iter().flatten().min();
        Self { deadline, ..self.clone() }
    }

    /// Sets the moment at which the caller stops waiting.
    pub fn with_deadline(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Cancels the call with this token: the driver is told, and the call returns with its answer.
    pub fn with_cancel(self, cancel: CancellationToken) -> Self {
        Self { cancel, ..self }
    }

    /// Sends what the driver reports of its progress to `sink`.
    pub fn with_progress(self, sink: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self { progress: Some(Arc::new(sink)), ..self }
    }

    /// Keeps `held` until the driver has really finished with the call, even if the caller no longer waits:
    /// the lock of the volume, so that a stuck call keeps its volume locked. It is let go before the caller
    /// has the answer: a caller that still needs it keeps a clone of it.
    pub fn holding(self, held: impl Any + Send + Sync) -> Self {
        Self { hold: Some(Arc::new(held)), ..self }
    }

    /// Names the request in logs.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Gives the moment after which nobody waits any more; `None`: somebody always does.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Gives the token that cancels the call.
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Reports progress to whoever listens.
    pub fn progress(&self, progress: Progress) {
        if let Some(sink) = &self.progress {
            sink(progress);
        }
    }
}
