//! Locks by name: made when first needed, gone when nobody wants them any more.

use crate::error::{Error, Result};
use convoy_driver_sdk::Name;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedMutexGuard;

/// How long a call waits for another call on the same volume before it says that the volume is busy.
///
/// Docker gives up a call after two minutes; an error it can show is better than none.
pub(crate) const PATIENCE: Duration = Duration::from_secs(100);

#[derive(Debug, Default)]
pub(crate) struct Locks(Mutex<HashMap<Name, Arc<Lock>>>);

#[derive(Debug, Default)]
struct Lock {
    taken: Arc<tokio::sync::Mutex<()>>,
    holder: Mutex<Option<(&'static str, Instant)>>,
}

/// A held lock; dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct LockGuard {
    locks: Arc<Locks>,
    name: Name,
    lock: Arc<Lock>,
    guard: Option<OwnedMutexGuard<()>>,
}

/// Whatever locks a change of a volume takes, held until the last copy is dropped.
#[derive(Debug, Clone)]
pub struct VolumeGuard {
    _held: Arc<[LockGuard]>,
}

impl VolumeGuard {
    pub(crate) fn new<const N: usize>(held: [LockGuard; N]) -> Self {
        Self { _held: Arc::new(held) }
    }
}

impl Locks {
    /// Waits for the lock of a name. `what` is what others are told while they wait.
    ///
    /// # Errors
    /// [`Error::Busy`] when its holder outlasts `patience`.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        name: &Name,
        what: &'static str,
        patience: Duration,
    ) -> Result<LockGuard> {
        let lock = Arc::clone(self.0.lock().entry(name.clone()).or_default());
        // From here on the entry is dropped by `Held`, also when the wait is given up.
        let taken = Arc::clone(&lock.taken);
        let mut held = LockGuard { locks: Arc::clone(self), name: name.clone(), lock, guard: None };
        match tokio::time::timeout(patience, taken.lock_owned()).await {
            Ok(guard) => held.guard = Some(guard),
            Err(_) => {
                let holder = *held.lock.holder.lock();
                let (holder, since) = holder.unwrap_or(("another call", Instant::now()));
                return Err(Error::Busy { volume: name.clone(), holder, seconds: since.elapsed().as_secs() });
            }
        }
        *held.lock.holder.lock() = Some((what, Instant::now()));
        Ok(held)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.guard.is_some() {
            *self.lock.holder.lock() = None;
        }
        let mut locks = self.locks.0.lock();
        self.guard = None;
        // The table's and this one: nobody else holds it or waits for it, and nobody can come meanwhile.
        if Arc::strong_count(&self.lock) == 2 {
            locks.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[tokio::test]
    async fn one_at_a_time_by_name_and_nothing_stays() {
        let locks = Arc::new(Locks::default());
        let first = locks.acquire(&name("aa"), "mount", PATIENCE).await.unwrap();
        let other = locks.acquire(&name("bb"), "mount", Duration::ZERO).await.unwrap();
        let refused = locks.acquire(&name("aa"), "delete", Duration::from_millis(5)).await.unwrap_err();
        assert!(matches!(refused, Error::Busy { holder: "mount", .. }), "{refused}");
        assert_eq!(locks.len(), 2);
        drop(first);
        let second = locks.acquire(&name("aa"), "delete", Duration::from_millis(5)).await.unwrap();
        drop((second, other));
        assert_eq!(locks.len(), 0);
    }

    #[tokio::test]
    async fn a_waiter_that_goes_away_leaves_the_lock_usable() {
        let locks = Arc::new(Locks::default());
        let first = locks.acquire(&name("aa"), "mount", PATIENCE).await.unwrap();
        let waiting = {
            let locks = Arc::clone(&locks);
            tokio::spawn(async move { locks.acquire(&name("aa"), "delete", PATIENCE).await.map(drop) })
        };
        tokio::task::yield_now().await;
        waiting.abort();
        drop(first);
        let _ = waiting.await;
        locks.acquire(&name("aa"), "mount", Duration::from_millis(5)).await.unwrap();
        assert_eq!(locks.len(), 0);
    }
}
