//! Waiting for the answer of a call, through whichever carrier.

use convoy_driver_sdk::{DriverError, Name, Result};
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A driver that notices its deadline itself says more than the host can: its answer may come a little late.
const GRACE: Duration = Duration::from_millis(200);

/// Waits for an answer until the deadline. `tell` is called when the driver should stop: at a cancellation
/// (the answer is still waited for), at the deadline, and when nobody waits any more because this future is
/// dropped.
pub(crate) async fn wait<T>(
    driver: &Name,
    method: &str,
    deadline: Option<Instant>,
    cancel: CancellationToken,
    answer: impl Future<Output = T>,
    tell: impl Fn(),
) -> Result<T> {
    let mut answer = pin!(answer);
    let mut unanswered = Unanswered { tell, told: false };
    let given_up = async {
        match deadline.and_then(|deadline| deadline.checked_add(GRACE)) {
            Some(end) => tokio::time::sleep_until(end.into()).await,
            None => std::future::pending().await,
        }
    };
    let mut given_up = pin!(given_up);
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => {
                unanswered.told = true;
                return Ok(answer);
            }
            () = cancel.cancelled(), if !unanswered.told => unanswered.tell(),
            () = &mut given_up => {
                return Err(DriverError::deadline_exceeded(format!("driver {driver}: {method} did not end before its deadline"),
                )
                .hint("what it was doing may still be finished: look before trying again"));
            }
        }
    }
}

struct Unanswered<F: Fn()> {
    tell: F,
    told: bool,
}

impl<F: Fn()> Unanswered<F> {
    fn tell(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            (self.tell)();
        }
    }
}

impl<F: Fn()> Drop for Unanswered<F> {
    fn drop(&mut self) {
        self.tell();
    }
}
