//! What a call carries beside its request.

use crate::message::setters;
use crate::{DriverError, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How far a long call has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Progress {
    /// Units done so far.
    pub done: u64,
    /// Units in all, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What is counted: `"bytes"`, `"files"`, `"percent"`.
    pub unit: String,
    /// What is being done, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Set once by whoever waits for a call; read by the call.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Asks the call to stop at its next check.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether that was asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Progress {
    /// So many units are done; `unit` is what is counted.
    pub fn new(done: u64, unit: impl Into<String>) -> Self {
        Self { done, total: None, unit: unit.into(), note: None }
    }

    setters! {
        total: Option<u64>,
        note: Option<String>,
    }
}

type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// The deadline, cancellation, progress sink and id of one call.
///
/// A driver's method may block; one that can take longer than a second calls [`Context::check`] in its loop,
/// undoes or remembers what it began when that fails, and reports [`Context::progress`].
///
/// ```
/// use convoy_driver_sdk::context::{CancelFlag, Progress};
/// use convoy_driver_sdk::{Context, ErrorKind};
///
/// fn copy(files: &[&str], context: &Context) -> convoy_driver_sdk::Result<()> {
///     for (done, _file) in files.iter().enumerate() {
///         context.check()?;
///         context.progress(Progress::new(done as u64, "files").total(Some(files.len() as u64)));
///     }
///     Ok(())
/// }
///
/// let cancel = CancelFlag::default();
/// let context = Context::new("example").with_cancel(cancel.clone());
/// assert!(copy(&["a", "b"], &context).is_ok());
/// cancel.cancel();
/// assert_eq!(copy(&["a", "b"], &context).unwrap_err().kind, ErrorKind::Cancelled);
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Context {
    request_id: String,
    deadline: Option<Instant>,
    cancel: CancelFlag,
    progress: Option<ProgressSink>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("request_id", &self.request_id)
            .field("remaining", &self.remaining())
            .field("cancelled", &self.cancel.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Context {
    /// A context without deadline, named by an id that appears in the logs of both sides.
    pub fn new(request_id: impl Into<String>) -> Self {
        Self { request_id: request_id.into(), ..Self::default() }
    }

    /// Sets the moment after which the caller no longer waits.
    pub fn with_deadline(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Uses a flag that somebody else holds too.
    pub fn with_cancel(mut self, cancel: CancelFlag) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sends the progress of the call to `sink`.
    pub fn with_progress(mut self, sink: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(sink));
        self
    }

    /// The id of the call, for logs.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Time left until the deadline; `None` without one.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The flag, to hand to a helper thread.
    pub fn cancel_flag(&self) -> &CancelFlag {
        &self.cancel
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// `Cancelled` once the caller cancelled, `DeadlineExceeded` once the deadline passed.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(DriverError::cancelled("the call was cancelled"));
        }
        match self.remaining() {
            Some(Duration::ZERO) => {
                Err(DriverError::deadline_exceeded("the deadline of the call has passed"))
            }
            _ => Ok(()),
        }
    }

    /// Reports progress; costs nothing when nobody listens.
    pub fn progress(&self, progress: Progress) {
        if let Some(sink) = &self.progress {
            sink(progress);
        }
    }
}
