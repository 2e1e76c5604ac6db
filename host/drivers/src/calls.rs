//! Calls that a driver has not answered yet: how many it is given at once, since when, and when it was last
//! heard of.

use crate::context::RequestContext;
use crate::status::CallUnderWay;
use convoy_driver_sdk::protocol::{Info, Probe, Request};
use convoy_driver_sdk::{DriverError, Name, Result};
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many calls a driver is given at once; more wait here. A driver that hangs keeps so many threads at
/// most.
const MAX_CALLS: usize = 62;
/// How many questions about the driver itself it is given beside them, so that they need not wait for its
/// work.
const MAX_QUESTIONS: usize = 2;
/// After how long a call without an answer is told in the log; then after twice as long, and so on.
const LONG: Duration = Duration::from_secs(30);

pub(crate) struct Calls {
    slots: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    next: u64,
    open: BTreeMap<u64, Entry>,
    heard: Instant,
}

struct Entry {
    method: &'static str,
    request_id: String,
    volume: Option<Name>,
    since: Instant,
    waiting: bool,
}

/// A call that is not answered yet; dropped when the driver is done with it.
pub(crate) struct Ticket {
    calls: Arc<Calls>,
    id: u64,
    slot: Option<OwnedSemaphorePermit>,
}

#[derive(Deserialize)]
struct About {
    #[serde(default)]
    volume: Option<Name>,
    #[serde(default)]
    name: Option<Name>,
}

impl Calls {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(MAX_CALLS)),
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            state: Mutex::new(State { next: 1, open: BTreeMap::new(), heard: Instant::now() }),
        })
    }

    /// How many calls are not answered, those that nobody waits for any more among them.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().open.len()
    }

    /// Every call that is not answered, the oldest first.
    pub(crate) fn list(&self) -> Vec<CallUnderWay> {
        let under_way = |entry: &Entry| CallUnderWay {
            method: entry.method.to_owned(),
            request_id: entry.request_id.clone(),
            volume: entry.volume.clone(),
            age_ms: u64::try_from(entry.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            waiting: entry.waiting,
        };
        self.state.lock().open.values().map(under_way).collect()
    }

    /// The driver gave a sign of life: an answer, or progress.
    fn hear(&self) {
        self.state.lock().heard = Instant::now();
    }

    /// When the driver last gave a sign of life; when it was loaded, if it has not given one yet.
    pub(crate) fn heard(&self) -> Instant {
        self.state.lock().heard
    }

    /// Takes a call in. The ticket has no place among the calls that are carried out yet.
    pub(crate) fn begin(self: &Arc<Self>, method: &'static str, request_id: &str, json: &str) -> Ticket {
        let about = serde_json::from_str::<About>(json).ok();
        let volume = about.and_then(|about| about.volume.or(about.name));
        let (request_id, since) = (request_id.to_owned(), Instant::now());
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        state.open.insert(id, Entry { method, request_id, volume, since, waiting: false });
        drop(state);
        Ticket { calls: Arc::clone(self), id, slot: None }
    }
}

impl Ticket {
    /// Waits for a place among the calls that are carried out, and gives what goes with the call from then
    /// on. The time in the queue is not the call's own: as long as the driver gives signs of life, the call
    /// waits.
    ///
    /// # Errors
    /// `Cancelled`; `DeadlineExceeded` when the driver gave no sign of life for as long as the call may take.
    pub(crate) async fn admit(
        mut self,
        driver: &Name,
        method: &'static str,
        mut call: RequestContext,
    ) -> Result<RequestContext> {
        let calls = Arc::clone(&self.calls);
        let is_question = [Probe::METHOD, Info::METHOD].contains(&method);
        let slots = Arc::clone(if is_question { &calls.questions } else { &calls.slots });
        let slot = match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                self.wait(true);
                let began = Instant::now();
                let patience = call.deadline.map(|end| end.saturating_duration_since(began));
                let mut free = pin!(slots.acquire_owned());
                let slot = tokio::select! {
                    biased;
                    slot = &mut free => slot,
                    () = call.cancel.cancelled() => {
                        let text = format!("driver {driver}: {method} was cancelled while it waited for others");
                        return Err(DriverError::cancelled(text));
                    }
                    () = calls.silent_for(began, patience) => return Err(queued_in_vain(driver, method)),
                };
                call.deadline = call.deadline.and_then(|end| end.checked_add(began.elapsed()));
                self.wait(false);
                slot.map_err(|_| DriverError::unavailable("the driver was stopped"))?
            }
        };
        self.slot = Some(slot);
        let (listener, held) = (call.progress.take(), call.hold.take());
        let call = call.with_progress(move |progress| {
            calls.hear();
            listener.iter().for_each(|listener| listener(progress.clone()));
        });
        Ok(call.holding((self, held)))
    }

    fn wait(&self, waiting: bool) {
        self.calls.state.lock().open.get_mut(&self.id).into_iter().for_each(|entry| entry.waiting = waiting);
    }
}

impl Calls {
    /// Waits until the driver has given no sign of life for so long.
    async fn silent_for(&self, began: Instant, patience: Option<Duration>) {
        let Some(patience) = patience else { return std::future::pending().await };
        while let Some(left) = patience.checked_sub(self.heard().max(began).elapsed()) {
            tokio::time::sleep(left.max(Duration::from_millis(1))).await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.calls.state.lock();
        state.open.remove(&self.id);
        if self.slot.is_some() {
            state.heard = Instant::now();
        }
    }
}

fn queued_in_vain(driver: &Name, method: &str) -> DriverError {
    let text = format!(
        "driver {driver}: {method} did not end before its deadline: it waited for {MAX_CALLS} other calls, \
         of which none ended"
    );
    DriverError::deadline_exceeded(text).hint("see which they are with: convoy driver list")
}

/// Waits for the answer of a call, and says in the log when that takes long.
pub(crate) async fn watched<T>(
    driver: &Name,
    method: &str,
    request_id: &str,
    answer: impl Future<Output = T>,
) -> T {
    let (began, mut pause) = (Instant::now(), LONG);
    let mut answer = pin!(answer);
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = tokio::time::sleep(pause) => {
                let seconds = began.elapsed().as_secs();
                tracing::warn!(%driver, method, request_id, seconds, "a driver has not answered a call yet");
                pause = began.elapsed();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_driver_sdk::ErrorKind;

    static NAME: std::sync::LazyLock<Name> = std::sync::LazyLock::new(|| Name::from_static("slow"));

    fn begin(calls: &Arc<Calls>) -> Ticket {
        calls.begin("volume.create", "r1", r#"{"name":"vol1"}"#)
    }

    #[tokio::test]
    async fn the_time_in_the_queue_is_not_the_calls() {
        let calls = Calls::new();
        let mut running = Vec::new();
        for _ in 0..MAX_CALLS {
            let options = begin(&calls).admit(&NAME, "volume.create", RequestContext::new("r")).await;
            running.push(options.unwrap());
        }
        // A question about the driver itself does not wait for its work.
        let probe = calls.begin(Probe::METHOD, "p", "{}");
        drop(probe.admit(&NAME, Probe::METHOD, RequestContext::new("p")).await.unwrap());

        let allowed = Duration::from_millis(400);
        let queued = begin(&calls);
        let waiting = tokio::spawn(async move {
            let options = RequestContext::new("r").within(allowed);
            queued.admit(&NAME, "volume.create", options).await
        });
        let begun = Instant::now();
        while begun.elapsed() < allowed * 3 {
            calls.hear();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let listed = calls.list();
        assert_eq!(listed.len(), MAX_CALLS + 1);
        let last = listed.last().unwrap();
        assert!(last.waiting && last.age_ms >= 1000 && last.volume.as_deref() == Some("vol1"), "{last:?}");
        running.pop();
        let admitted = waiting.await.unwrap().unwrap();
        assert!(admitted.deadline.unwrap() > Instant::now(), "it has all of its time left");
        drop((running, admitted));
        assert_eq!(calls.count(), 0);
    }

    #[tokio::test]
    async fn a_queue_that_does_not_move_is_not_waited_in_for_ever() {
        let calls = Calls::new();
        let mut running = Vec::new();
        for _ in 0..MAX_CALLS {
            let options = begin(&calls).admit(&NAME, "volume.create", RequestContext::new("r")).await;
            running.push(options.unwrap());
        }
        let options = RequestContext::new("r").within(Duration::from_millis(50));
        let error = begin(&calls).admit(&NAME, "volume.create", options).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
        assert!(error.message.contains("none ended") && error.hint.is_some(), "{error:?}");
        let options = RequestContext::new("r");
        options.cancel.cancel();
        let error = begin(&calls).admit(&NAME, "volume.create", options).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Cancelled);
        assert_eq!(calls.count(), MAX_CALLS);
    }
}
