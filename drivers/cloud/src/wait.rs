//! Waiting for what takes its time, with back-off instead of a fixed sleep.

use convoy_driver_sdk::{Context, DriverError, Result};
use std::time::{Duration, Instant};

/// How often a sleeping call is asked whether to go on.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// Growing pauses: the first, the factor in percent, the longest.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    next: Duration,
    percent: u32,
    longest: Duration,
}

impl Backoff {
    /// For what usually takes a second or a few: 0.1 s, half as long again each time, at most 3 s.
    pub fn brief() -> Self {
        Self { next: Duration::from_millis(100), percent: 150, longest: Duration::from_secs(3) }
    }

    /// For what may take minutes: 0.2 s, half as long again each time, at most 15 s.
    pub fn lengthy() -> Self {
        Self { next: Duration::from_millis(200), percent: 150, longest: Duration::from_secs(15) }
    }

    /// The next pause. A tenth is taken off at random, so that many waiters do not ask at once.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * self.percent / 100).min(self.longest);
        pause - pause / 2560 * u32::from(uuid::Uuid::new_v4().as_bytes()[0])
    }
}

/// Sleeps, but never longer than the call.
pub fn sleep(pause: Duration, context: &Context) -> Result<()> {
    let end = Instant::now() + pause;
    loop {
        context.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(CHECK_EVERY).min(context.remaining().unwrap_or(CHECK_EVERY)));
    }
}

/// Asks until there is an answer.
///
/// # Errors
/// What the question comes back with; `DeadlineExceeded`, naming what was waited for, after `limit` or at the
/// call's deadline; `Cancelled`.
pub fn until<T>(
    what: impl std::fmt::Display,
    mut backoff: Backoff,
    limit: Duration,
    context: &Context,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if begin.elapsed() >= limit {
            return Err(DriverError::deadline_exceeded(format!(
                "waited {} s for {what}, in vain",
                limit.as_secs()
            )));
        }
        sleep(backoff.pause(), context).map_err(|mut error| {
            error.message = format!("{} while waiting for {what}", error.message);
            error
        })?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_driver_sdk::ErrorKind;

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut backoff = Backoff::brief();
        let pauses: Vec<_> = (0..20).map(|_| backoff.pause()).collect();
        assert!(pauses[0] >= Duration::from_millis(90) && pauses[0] <= Duration::from_millis(100));
        assert!(pauses[4] > pauses[0] * 3);
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(3)));
        assert!(pauses[19] >= Duration::from_millis(2700));
    }

    #[test]
    fn waiting_ends_with_the_limit_the_deadline_or_the_answer() {
        let context = Context::new("1");
        let error = until::<()>("Godot", Backoff::brief(), Duration::from_millis(150), &context, || Ok(None));
        let error = error.unwrap_err();
        assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
        assert!(error.message.contains("Godot"), "{error}");

        let hurried = context.clone().with_deadline(Some(Instant::now() + Duration::from_millis(30)));
        let error = until::<()>("Godot", Backoff::brief(), Duration::from_secs(60), &hurried, || Ok(None));
        assert!(error.unwrap_err().message.contains("deadline"));

        let mut asked = 0;
        let answer = until("three", Backoff::brief(), Duration::from_secs(60), &context, || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(answer, Ok(3));
    }
}
