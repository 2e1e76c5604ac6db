//! The memory that backups, restores, checks and prunes share.
//!
//! Each gets a share before it begins and gives it back at its end, so that what all of them use together is
//! bounded however many are asked for at once. Who comes when there is none left waits, in order. Work whose
//! storage hangs keeps what it holds, and nobody can wait for its end: its share is lent to others, so that
//! in such times as much again may be in use.

#![allow(unsafe_code, reason = "the C library's allocator is tuned by calls that libc alone has")]

use convoy_activity::jobs::Running;
use convoy_backup::{Engine, EngineOptions};
use convoy_client::types::Progress;
use convoy_volumes::{Error, Result};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Shares are whole MiB.
const UNIT: u64 = 1 << 20;
/// Less than this is no share: the engine's own least.
const LEAST: u32 = 48;
/// How often work that waits says that it does.
const LOOK: Duration = Duration::from_millis(500);
/// What a thread of the engine that fetches holds: see its `requests`.
const REQUEST: u64 = 8 << 20;
/// Packs and what is fetched with one request are larger than this; few other things are.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1 << 20;

/// The memory that is shared, in MiB.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    options: EngineOptions,
    /// Where engines make files without a name.
    room: Arc<Path>,
    /// How much there is.
    all: u32,
    free: Arc<Semaphore>,
    /// How much more of what is in use may be lent.
    lendable: Arc<Semaphore>,
}

/// An engine with the memory it may use; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    engine: Engine,
    /// Of what is free; once it is lent, of what may be lent.
    permit: Mutex<OwnedSemaphorePermit>,
    lendable: Arc<Semaphore>,
}

impl Drop for Share {
    fn drop(&mut self) {
        give_back();
    }
}

impl Share {
    /// Lets others have it, too, unless as much is lent as there is.
    pub(super) fn lend(&self) {
        let mut permit = self.permit.lock();
        let units = u32::try_from(permit.num_permits()).unwrap_or(u32::MAX);
        if let Ok(loan) = Arc::clone(&self.lendable).try_acquire_many_owned(units) {
            *permit = loan;
        }
    }
}

/// Has the allocator take large buffers from the kernel and return them when they are freed. glibc otherwise
/// learns from the first of them to keep such sizes in its arenas, of which there are several for each core:
/// 100 MiB stayed with an idle daemon after six backups at once, and came on top of what the next ones used.
fn return_large_buffers() {
    // SAFETY: it changes parameters of the allocator alone, at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Returns to the kernel what small buffers of work that is done have left in the arenas.
fn give_back() {
    // SAFETY: it may be called at any time from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

impl std::ops::Deref for Share {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Memory {
    /// The memory of these options, for all work together. What is too much for it goes to files without a
    /// name in `room`.
    pub(super) fn new(options: EngineOptions, room: &Path) -> Self {
        return_large_buffers();
        let all = u32::try_from(options.memory / UNIT).unwrap_or(u32::MAX).max(LEAST);
        let permits = usize::try_from(all).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        let [free, lendable] = [permits; 2].map(|all| Arc::new(Semaphore::new(all)));
        Self { options, room: room.into(), all, free, lendable }
    }

    /// An engine for a job, once there is memory for it.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the job is cancelled while it waits.
    pub(super) async fn share(&self, job: &Running) -> Result<Share> {
        self.share_of(job, 1).await
    }

    /// The same for so many operations of one job at once: each may use what the engine says, and all of them
    /// together take one share. What they need at least is taken at once, since jobs that each hold a part
    /// and wait for more would wait for each other.
    ///
    /// # Errors
    /// As [`Self::share`].
    pub(super) async fn share_of(&self, job: &Running, operations: u32) -> Result<Share> {
        let operations = operations.max(1);
        let least = LEAST.saturating_mul(operations).min(self.all);
        let mut permit = match Arc::clone(&self.free).try_acquire_many_owned(least) {
            Ok(permit) => permit,
            Err(_) => {
                tracing::info!(job = job.id(), "waits for the memory of other work");
                job.reporter()(Progress { phase: "waiting".to_owned(), ..Progress::default() });
                let (waiting, cancel) = (Arc::clone(&self.free).acquire_many_owned(least), job.cancel());
                let waits = async {
                    loop {
                        job.is_patient();
                        tokio::time::sleep(LOOK).await;
                    }
                };
                let waited = tokio::select! {
                    permit = waiting => permit.ok(),
                    () = cancel.cancelled() => None,
                    () = waits => None,
                };
                waited.ok_or_else(|| Error::Cancelled("the work was cancelled".to_owned()))?
            }
        };
        let free = u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX);
        // Somebody else may have taken it just now: then the least does.
        if let Ok(more) = Arc::clone(&self.free).try_acquire_many_owned(beyond_least(free)) {
            permit.merge(more);
        }
        let memory = u64::try_from(permit.num_permits()).unwrap_or(u64::MAX).saturating_mul(UNIT);
        let memory = memory / u64::from(operations);
        let most = usize::try_from(memory / REQUEST).unwrap_or(usize::MAX);
        let options = EngineOptions { memory, requests: self.options.requests.min(most), ..self.options };
        let (permit, lendable) = (Mutex::new(permit), Arc::clone(&self.lendable));
        let engine = Engine::new(options).with_room(Arc::clone(&self.room));
        Ok(Share { engine, permit, lendable })
    }
}

/// What to take beside the least share when so much is free beside it: five eighths of all, and no more than
/// leaves another a share; everything where there is none for another.
fn beyond_least(free: u32) -> u32 {
    let five_eighths = u32::try_from((u64::from(free) + u64::from(LEAST)) * 5 / 8).unwrap_or(u32::MAX);
    match free.checked_sub(LEAST) {
        None => free,
        Some(beyond) => beyond.min(five_eighths.saturating_sub(LEAST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_activity::jobs::{About, Jobs};

    fn memory(mib: u64) -> Memory {
        let options = EngineOptions { memory: mib * UNIT, requests: 8, ..EngineOptions::default() };
        Memory::new(options, Path::new("/nonexistent"))
    }

    fn units(share: &Share) -> usize {
        share.permit.lock().num_permits()
    }

    fn job(jobs: &Jobs) -> Running {
        jobs.begin(About::volume("backup create", "vol1"))
    }

    #[tokio::test]
    async fn shares_are_never_more_than_there_is() {
        let jobs = Jobs::default();
        for (all, expected) in [
            (1, &[48][..]),
            (48, &[48]),
            (64, &[64]),
            (95, &[95]),
            (96, &[48, 48]),
            (128, &[80, 48]),
            (256, &[160, 48, 48]),
            (512, &[320, 120, 72]),
        ] {
            let memory = memory(all);
            let mut held = Vec::new();
            for mib in expected {
                let permit = memory.share(&job(&jobs)).await.unwrap();
                assert_eq!(units(&permit), *mib, "of {all}");
                held.push(permit);
            }
            let (running, more) = (job(&jobs), Duration::from_millis(50));
            assert!(tokio::time::timeout(more, memory.share(&running)).await.is_err(), "of {all}");
            assert_eq!(running.watch().borrow().phase, "waiting");
            held.pop();
            memory.share(&running).await.unwrap();
        }
    }

    #[tokio::test]
    async fn operations_of_one_job_take_one_share_together_and_wait_for_nobody_who_waits() {
        let jobs = Jobs::default();
        let small = memory(48);
        assert_eq!(units(&small.share_of(&job(&jobs), 2).await.unwrap()), 48, "there is no more");
        let memory = memory(128);
        let both = memory.share_of(&job(&jobs), 2).await.unwrap();
        assert!(units(&both) >= 96, "{}", units(&both));
        let (running, more) = (job(&jobs), Duration::from_millis(50));
        assert!(tokio::time::timeout(more, memory.share_of(&running, 2)).await.is_err());
        drop(both);
        memory.share_of(&running, 2).await.unwrap();
    }

    #[tokio::test]
    async fn what_hangs_lends_its_share_up_to_as_much_as_there_is() {
        let (jobs, memory) = (Jobs::default(), memory(96));
        let mut hung = Vec::new();
        for _ in 0..4 {
            let share = memory.share(&job(&jobs)).await.unwrap();
            share.lend();
            share.lend();
            hung.push(share);
        }
        assert!(hung.iter().all(|share| units(share) == 48));
        let (running, more) = (job(&jobs), Duration::from_millis(50));
        assert!(tokio::time::timeout(more, memory.share(&running)).await.is_err(), "not without end");
        // Whatever ends first, no more is free in the end than there was.
        drop(hung.remove(0));
        drop(hung);
        assert_eq!((memory.free.available_permits(), memory.lendable.available_permits()), (96, 96));
    }

    #[tokio::test]
    async fn who_waits_can_be_cancelled_and_takes_nothing() {
        let (jobs, memory) = (Jobs::default(), memory(48));
        let held = memory.share(&job(&jobs)).await.unwrap();
        let running = job(&jobs);
        running.cancel().cancel();
        assert!(matches!(memory.share(&running).await, Err(Error::Cancelled(_))));
        drop(held);
        memory.share(&job(&jobs)).await.unwrap();
    }
}
