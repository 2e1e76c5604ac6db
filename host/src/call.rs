//! What a call to a driver carries beside its request.

use convoy_driver_sdk::context::Progress;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

type Report = Arc<dyn Fn(Progress) + Send + Sync>;

/// The id of the request that led to a call, how long it may take, who can cancel it and who hears of its progress.
#[derive(Clone, Default)]
pub struct RequestContext {
    request_id: String,
    deadline: Option<Instant>,
    cancel: CancellationToken,
    report: Option<Report>,
}

impl std::fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("request_id", &self.request_id)
            .field("deadline", &self.deadline)
            .field("cancelled", &self.cancel.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl RequestContext {
    /// A call that takes as long as it takes, in the name of a request.
    pub fn new(request_id: impl Into<String>) -> Self {
        Self { request_id: request_id.into(), ..Self::default() }
    }

    /// Lets somebody cancel it.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Tells somebody of its progress.
    #[must_use]
    pub fn with_report(mut self, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.report = Some(Arc::new(report));
        self
    }

    /// The same call with less time, if it has more.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        let limit = Instant::now() + limit;
        let deadline = self.deadline.map_or(limit, |deadline| deadline.min(limit));
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// Names the request in logs.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The moment after which nobody waits any more.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whose cancelling ends the call.
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Who hears of its progress.
    pub fn report(&self) -> Option<Report> {
        self.report.clone()
    }
}
