//! A driver that does not answer: it is asked once, and waited for by everybody.
//!
//! A call that hangs in the kernel (an NFS server that is gone) keeps its thread, whoever gave up waiting for
//! it. What is asked again and again, whether a driver opens and how its storage is, is therefore one
//! question at a time: the next who wants to know waits for the answer to the last one. That it comes is also
//! how the end of the trouble is noticed.

use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use parking_lot::Mutex;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// What to do about storage that hangs.
const HANGS: &str = "look at its storage (the server, the network, the disk, the kernel's log): \
                     it goes on by itself as soon as that answers, without a restart of the daemon";

/// A question that may be under way.
#[derive(Debug)]
pub(super) struct PendingCall<T> {
    running: tokio::sync::Mutex<Option<JoinHandle<Result<T, DriverError>>>>,
    /// Since when it is, once somebody gave up waiting for the answer, and how long that one had waited.
    unanswered: Mutex<Option<(Instant, Duration)>>,
}

impl<T> Default for PendingCall<T> {
    fn default() -> Self {
        Self { running: tokio::sync::Mutex::default(), unanswered: Mutex::default() }
    }
}

impl<T: Send + 'static> PendingCall<T> {
    /// Waits so long for the answer to the question that is under way, or else to this one.
    ///
    /// # Errors
    /// The driver's; [`hangs`] when there is no answer yet.
    pub(super) async fn ask(
        &self,
        driver: &Name,
        patience: Duration,
        question: impl Future<Output = Result<T, DriverError>> + Send + 'static,
    ) -> Result<T, DriverError> {
        let began = Instant::now();
        let mut slot = self.running.lock().await;
        let running = slot.get_or_insert_with(|| tokio::spawn(question));
        let answer = tokio::time::timeout(patience, running).await;
        let mut unanswered = self.unanswered.lock();
        match answer {
            Ok(answer) => {
                *slot = None;
                *unanswered = None;
                answer.map_err(|error| DriverError::new(ErrorKind::Internal, error.to_string())).flatten()
            }
            Err(_) => Err(hangs(driver, unanswered.get_or_insert((began, patience)).0.elapsed())),
        }
    }

    /// Whether somebody gave up waiting for the answer, which has not come yet.
    pub(super) fn is_unanswered(&self) -> bool {
        self.unanswered.lock().is_some()
    }

    /// For how long there has been neither the answer nor, since `heard`, any other sign of life. A driver
    /// that answers anything, or tells of progress, is busy: on a machine that is short of time its answer is
    /// one of many.
    pub(super) fn silence(&self, heard: Instant) -> Option<Duration> {
        let (since, patience) = (*self.unanswered.lock())?;
        Some(since.max(heard).elapsed()).filter(|silence| *silence >= patience)
    }
}

/// What callers are told of a driver that has not answered for so long.
pub(super) fn hangs(driver: &Name, silence: Duration) -> DriverError {
    let text = format!("driver {driver} has not answered for {} s", silence.as_secs());
    DriverError::new(ErrorKind::DeadlineExceeded, text).hint(HANGS)
}

/// Adds to the error of a call that a driver which answers nothing did not answer either.
pub(super) fn explained(error: DriverError, driver: &Name, silence: Duration) -> DriverError {
    if error.kind != ErrorKind::DeadlineExceeded {
        return error;
    }
    let DriverError { message, hint, .. } = hangs(driver, silence);
    let further = error.hint.map(|hint| format!(". {hint}")).unwrap_or_default();
    let text = format!("{}: {message}", error.message);
    DriverError::new(ErrorKind::DeadlineExceeded, text).hint(hint.unwrap_or_default() + &further)
}
