//! Questions of many callers, asked together.
//!
//! Calls in flight wait by describing their volume again and again. A question that comes while another is
//! being asked waits for its end, and then everything that has gathered is asked with one request: no
//! question is delayed by more than that, and however many calls wait, one request at a time is on its way.

use convoy_driver_sdk::{Context, DriverError, ErrorKind, Result};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often a caller that waits looks whether its call is to go on.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// Gathers questions about things by id.
#[derive(Debug)]
pub struct Batch<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

type Answer<T> = Result<BTreeMap<String, T>>;

#[derive(Debug)]
struct State<T> {
    last: u64,
    asking: bool,
    waiting: BTreeMap<u64, Vec<String>>,
    answered: BTreeMap<u64, Answer<T>>,
    /// Who has given up while being asked for.
    gone: BTreeSet<u64>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        let state = State {
            last: 0,
            asking: false,
            waiting: BTreeMap::new(),
            answered: BTreeMap::new(),
            gone: BTreeSet::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<T: Clone> Batch<T> {
    /// What there is under some ids. `ask` is handed these ids, and perhaps those of others; what it answers
    /// was asked after this was called.
    ///
    /// # Errors
    /// Those of `ask`, whoever's it was; `Cancelled`, `DeadlineExceeded` for this call.
    pub fn ask(&self, ids: &[&str], context: &Context, ask: impl Fn(&[&str]) -> Answer<T>) -> Answer<T> {
        let mut state = self.state.lock();
        state.last += 1;
        let ticket = state.last;
        state.waiting.insert(ticket, ids.iter().map(|id| (*id).to_owned()).collect());
        loop {
            if let Some(answer) = state.answered.remove(&ticket) {
                return answer;
            }
            if let Err(error) = context.check() {
                if state.waiting.remove(&ticket).is_none() {
                    state.gone.insert(ticket);
                }
                return Err(error);
            }
            if state.asking || !state.waiting.contains_key(&ticket) {
                self.changed.wait_for(&mut state, CHECK_EVERY);
                continue;
            }
            state = self.lead(state, ticket, &ask);
        }
    }

    /// Asks for everybody who waits. A caller whose own call ends meanwhile answers only itself: the others
    /// ask anew.
    fn lead<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T>>,
        ticket: u64,
        ask: impl Fn(&[&str]) -> Answer<T>,
    ) -> MutexGuard<'a, State<T>> {
        state.asking = true;
        let mut asking = BatchRequest { batch: self, asked: std::mem::take(&mut state.waiting) };
        drop(state);
        let ids: BTreeSet<_> = asking.asked.values().flatten().map(String::as_str).collect();
        let answer = ask(&ids.into_iter().collect::<Vec<_>>());
        let asked = std::mem::take(&mut asking.asked);
        drop(asking);
        let mut state = self.state.lock();
        let own_end = matches!(
            &answer,
            Err(DriverError { kind: ErrorKind::Cancelled | ErrorKind::DeadlineExceeded, .. })
        );
        for (waiter, ids) in asked {
            if state.gone.remove(&waiter) {
                continue;
            }
            if own_end && waiter != ticket {
                state.waiting.insert(waiter, ids);
                continue;
            }
            let part = answer.as_ref().map(|found| {
                let here = ids.into_iter().filter_map(|id| Some((found.get(&id)?.clone(), id)));
                here.map(|(thing, id)| (id, thing)).collect()
            });
            state.answered.insert(waiter, part.map_err(DriverError::clone));
        }
        self.changed.notify_all();
        state
    }
}

/// While this lives a question is being asked. If that panics, those who wait for the answer ask anew.
struct BatchRequest<'a, T> {
    batch: &'a Batch<T>,
    asked: BTreeMap<u64, Vec<String>>,
}

impl<T> Drop for BatchRequest<'_, T> {
    fn drop(&mut self) {
        let mut state = self.batch.state.lock();
        state.asking = false;
        let unasked = std::mem::take(&mut self.asked);
        let unasked =
            unasked.into_iter().filter(|(waiter, _)| !state.gone.contains(waiter)).collect::<Vec<_>>();
        state.waiting.extend(unasked);
        self.batch.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_driver_sdk::context::CancelFlag;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn echo(ids: &[&str]) -> Answer<String> {
        std::thread::sleep(Duration::from_millis(100));
        Ok(ids.iter().filter(|id| **id != "none").map(|id| ((*id).to_owned(), format!("<{id}>"))).collect())
    }

    #[test]
    fn what_gathers_while_one_asks_is_asked_at_once() {
        let batch = Batch::default();
        let requests = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..20 {
                let (batch, requests) = (&batch, &requests);
                scope.spawn(move || {
                    let id = format!("v{number}");
                    let found = batch.ask(&[&id, "none"], &Context::new("1"), |ids| {
                        requests.fetch_add(1, Ordering::Relaxed);
                        echo(ids)
                    });
                    assert_eq!(found.unwrap(), BTreeMap::from([(id.clone(), format!("<{id}>"))]));
                });
            }
        });
        let requests = requests.into_inner();
        assert!((2..=4).contains(&requests), "{requests} requests");
        assert_forgotten(&batch);
    }

    fn assert_forgotten(batch: &Batch<String>) {
        let state = batch.state.lock();
        assert!(state.answered.is_empty() && state.waiting.is_empty() && state.gone.is_empty(), "{state:?}");
    }

    #[test]
    fn a_caller_who_gives_up_takes_nobody_along() {
        let batch = Batch::<String>::default();
        let flag = CancelFlag::default();
        let hasty = Context::new("1").with_cancel(flag.clone());
        std::thread::scope(|scope| {
            let leader = scope.spawn(|| {
                batch.ask(&["a"], &hasty, |_| {
                    while hasty.check().is_ok() {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(hasty.check().unwrap_err())
                })
            });
            std::thread::sleep(Duration::from_millis(50));
            let follower = scope.spawn(|| batch.ask(&["b"], &Context::new("2"), echo));
            let gone = scope.spawn(|| batch.ask(&["c"], &hasty, echo));
            std::thread::sleep(Duration::from_millis(50));
            flag.cancel();
            assert_eq!(leader.join().unwrap().unwrap_err().kind, ErrorKind::Cancelled);
            assert_eq!(gone.join().unwrap().unwrap_err().kind, ErrorKind::Cancelled);
            assert_eq!(follower.join().unwrap().unwrap()["b"], "<b>");
        });
        assert_forgotten(&batch);
    }

    #[test]
    fn a_panic_is_the_askers_alone() {
        let batch = Batch::<String>::default();
        std::thread::scope(|scope| {
            let fails = scope.spawn(|| {
                batch.ask(&["a"], &Context::new("1"), |_| {
                    std::thread::sleep(Duration::from_millis(100));
                    panic!("on purpose")
                })
            });
            std::thread::sleep(Duration::from_millis(30));
            let follower = scope.spawn(|| batch.ask(&["b"], &Context::new("2"), echo));
            assert!(fails.join().is_err());
            assert_eq!(follower.join().unwrap().unwrap()["b"], "<b>");
        });
    }

    #[test]
    fn a_refusal_is_everybodys() {
        let batch = Batch::<String>::default();
        let refused = batch.ask(&["a"], &Context::new("1"), |_| Err(DriverError::unavailable("away")));
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Unavailable);
        assert_eq!(batch.ask(&["a"], &Context::new("1"), echo).unwrap()["a"], "<a>");
    }
}
