//! What was read and may be read again: so much of it, the least used goes first, and what two want at the
//! same time is read once.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::engine::ctx::Ctx;
use crate::error::BackupResult;

/// See the [module](self). Values are cheap to clone: what was evicted lives as long as somebody has it.
pub(super) struct Cache<K, V> {
    state: Mutex<State<K, V>>,
    changed: Condvar,
    capacity: usize,
}

impl<K, V> std::fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

struct State<K, V> {
    slots: HashMap<K, Slot<V>>,
    /// Keys of what is there, by when it was used last.
    used: BTreeMap<u64, K>,
    clock: u64,
    weight: usize,
}

enum Slot<V> {
    /// Somebody reads it.
    Coming,
    Here {
        value: V,
        weight: usize,
        used: u64,
    },
}

/// What there is for a key.
pub(super) enum Claimed<'a, K: Hash + Eq + Copy, V: Clone> {
    Here(V),
    /// Somebody else reads it.
    Coming,
    /// It is the caller's to read.
    Mine(Claim<'a, K, V>),
}

/// The right to read a value, which nobody else reads meanwhile. Dropped without one, the next may.
pub(super) struct Claim<'a, K: Hash + Eq + Copy, V: Clone> {
    cache: &'a Cache<K, V>,
    key: K,
    done: bool,
}

impl<K: Hash + Eq + Copy, V: Clone> State<K, V> {
    /// Lets the least used go until so much is left.
    fn shrink(&mut self, to: usize) {
        while self.weight > to
            && let Some((_, key)) = self.used.pop_first()
        {
            if let Some(Slot::Here { weight, .. }) = self.slots.remove(&key) {
                self.weight -= weight;
            }
        }
    }
}

impl<K: Hash + Eq + Copy, V: Clone> Cache<K, V> {
    /// For values that weigh so many bytes together.
    pub(super) fn new(capacity: usize) -> Self {
        let state = State { slots: HashMap::new(), used: BTreeMap::new(), clock: 0, weight: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), capacity }
    }

    /// The value, or the right to read it, or neither.
    pub(super) fn claim(&self, key: K) -> Claimed<'_, K, V> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.clock += 1;
        match state.slots.get_mut(&key) {
            None => {
                state.slots.insert(key, Slot::Coming);
                Claimed::Mine(Claim { cache: self, key, done: false })
            }
            Some(Slot::Coming) => Claimed::Coming,
            Some(Slot::Here { value, used, .. }) => {
                state.used.remove(used);
                *used = state.clock;
                state.used.insert(state.clock, key);
                Claimed::Here(value.clone())
            }
        }
    }

    /// Waits a little for somebody who reads.
    pub(super) fn wait(&self, ctx: &Ctx) -> BackupResult<()> {
        ctx.check()?;
        let mut state = self.state.lock();
        // A stop does not wake us, nor what came before we waited: look for it now and then.
        self.changed.wait_for(&mut state, Duration::from_millis(20));
        Ok(())
    }

    /// The value; `read` gives it and what it weighs if it is not there.
    pub(super) fn get(
        &self,
        key: K,
        ctx: &Ctx,
        read: impl Fn() -> BackupResult<(V, usize)>,
    ) -> BackupResult<V> {
        loop {
            match self.claim(key) {
                Claimed::Here(value) => return Ok(value),
                Claimed::Coming => self.wait(ctx)?,
                Claimed::Mine(claim) => {
                    let (value, weight) = read()?;
                    claim.fill(value.clone(), weight);
                    return Ok(value);
                }
            }
        }
    }

    /// Lets go of everything.
    pub(super) fn clear(&self) {
        self.state.lock().shrink(0);
    }
}

impl<K: Hash + Eq + Copy, V: Clone> Claim<'_, K, V> {
    /// Gives the value to all who want it. What is too heavy for the cache is not kept.
    pub(super) fn fill(mut self, value: V, weight: usize) {
        self.done = true;
        let mut state = self.cache.state.lock();
        state.slots.remove(&self.key);
        if weight <= self.cache.capacity {
            state.shrink(self.cache.capacity - weight);
            state.clock += 1;
            let used = state.clock;
            state.used.insert(used, self.key);
            state.weight += weight;
            state.slots.insert(self.key, Slot::Here { value, weight, used });
        }
        drop(state);
        self.cache.changed.notify_all();
    }
}

impl<K: Hash + Eq + Copy, V: Clone> Drop for Claim<'_, K, V> {
    fn drop(&mut self) {
        if !self.done {
            self.cache.state.lock().slots.remove(&self.key);
            self.cache.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(cache: &Cache<u8, u8>, key: u8, weight: usize) -> bool {
        match cache.claim(key) {
            Claimed::Here(value) => {
                assert_eq!(value, key);
                true
            }
            Claimed::Mine(claim) => {
                claim.fill(key, weight);
                false
            }
            Claimed::Coming => panic!("nobody reads"),
        }
    }

    #[test]
    fn what_is_used_least_goes_and_what_fails_may_be_read_again() {
        let cache = Cache::new(3);
        for key in 0..3 {
            assert!(!fill(&cache, key, 1));
        }
        assert!(fill(&cache, 0, 1));
        assert!(!fill(&cache, 9, 1), "1 was used least and goes");
        assert!(fill(&cache, 0, 1) && fill(&cache, 2, 1) && fill(&cache, 9, 1));
        assert!(!fill(&cache, 1, 1));
        assert!(!fill(&cache, 7, 4) && !fill(&cache, 7, 4), "too heavy to be kept");
        assert!(fill(&cache, 1, 1), "and nothing had to go for it");
        let Claimed::Mine(claim) = cache.claim(50) else { panic!() };
        assert!(matches!(cache.claim(50), Claimed::Coming));
        drop(claim);
        assert!(matches!(cache.claim(50), Claimed::Mine(_)));
    }

    proptest! {
        #[test]
        fn no_more_is_kept_than_there_is_room(uses in prop::collection::vec((0u8..20, 1usize..9), 0..200)) {
            let cache = Cache::new(30);
            for (key, weight) in uses {
                fill(&cache, key, weight);
                let state = cache.state.lock();
                let kept: usize = state.slots.values().map(|slot| match slot {
                    Slot::Here { weight, .. } => *weight,
                    Slot::Coming => 0,
                }).sum();
                prop_assert!(kept == state.weight && kept <= 30 && state.used.len() == state.slots.len());
            }
        }
    }
}
