//! What goes with a call.

use convoy_driver_sdk::context::Progress;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub(crate) type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// The id, deadline, cancellation and progress of one call, and what to hold on to while it lasts.
#[derive(Default)]
pub struct CallOptions {
    pub(crate) request_id: String,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: Option<ProgressSink>,
    pub(crate) hold: Option<Box<dyn Any + Send>>,
}

impl fmt::Debug for CallOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallOptions")
            .field("request_id", &self.request_id)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl CallOptions {
    /// A call without deadline, named in the logs of both sides.
    pub fn new(request_id: impl Into<String>) -> Self {
        Self { request_id: request_id.into(), ..Self::default() }
    }

    /// The moment at which the caller stops waiting.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The time after which the caller stops waiting.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        let deadline = Instant::now().checked_add(timeout);
        Self { deadline, ..self }
    }

    /// Cancels the call: the driver is told, and the call returns with its answer.
    #[must_use]
    pub fn cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Where to send progress.
    #[must_use]
    pub fn progress(mut self, sink: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(sink));
        self
    }

    /// Keeps something until the driver has really finished with the call, even if the caller no longer
    /// waits: the lock of the volume, so that a stuck call keeps its volume locked. It is let go before the
    /// caller has the answer: a caller that still needs it keeps a clone of an `Arc` of it.
    #[must_use]
    pub fn hold(mut self, held: impl Any + Send) -> Self {
        self.hold = Some(Box::new(held));
        self
    }
}

/// When a process that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// The pause before the first restart; doubled for each that follows soon.
    pub first_pause: Duration,
    /// The longest pause before a start.
    pub longest_pause: Duration,
    /// A process that ran this long was well: the counting begins anew.
    pub well_after: Duration,
    /// After so many ends in a row the driver is given up.
    pub give_up_after: u32,
}

impl RestartPolicy {
    /// A process that ends is not started again.
    pub const NEVER: Self = Self {
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
        well_after: Duration::MAX,
        give_up_after: 1,
    };
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            well_after: Duration::from_secs(60),
            give_up_after: 8,
        }
    }
}
