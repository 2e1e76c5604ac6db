//! Syncing a directory beside other work, once for all who wait for it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use convoy_driver_sdk::atomic;
use nix::libc;
use parking_lot::{Condvar, Mutex};

/// Syncs one directory on a thread of its own, which is started when it is first needed.
///
/// A sync is asked for with [`DirSync::begin`] and waited for later: a file system that commits its journal
/// for two syncs at once does it once. Those who ask while a sync runs share the next one.
#[derive(Debug)]
pub(crate) struct DirSync {
    shared: Arc<Shared>,
}

/// A sync that was asked for: it covers every change that was made before.
#[derive(Debug)]
#[must_use = "nothing is durable before it was waited for"]
pub(crate) struct PendingSync {
    shared: Arc<Shared>,
    /// `None`: nobody else does it.
    round: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Is there a thread?
    running: bool,
    /// The last round that was asked for, and the last one that ended.
    asked: u64,
    ended: u64,
    /// The rounds that failed, for those who still wait for one of them, and why.
    failed: Vec<(u64, i32)>,
    waiting: usize,
    /// Whether a round is under way: who comes now needs the next.
    syncing: bool,
    closed: bool,
}

impl DirSync {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { shared: Arc::new(Shared { dir, state: Mutex::default(), changed: Condvar::new() }) }
    }

    /// Begins to make durable what was changed in the directory until now.
    pub(crate) fn begin(&self) -> PendingSync {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        if !state.running {
            let worker = Arc::clone(&shared);
            let started =
                std::thread::Builder::new().name("convoy-sync".to_owned()).spawn(move || worker.work());
            // Without a thread whoever waits does it.
            state.running = started.is_ok();
        }
        let round = state.running.then(|| {
            // The one that is asked for and has not begun, or a new one.
            if state.asked == state.ended || (state.syncing && state.asked == state.ended + 1) {
                state.asked += 1;
            }
            state.waiting += 1;
            state.asked
        });
        drop(state);
        shared.changed.notify_all();
        PendingSync { shared, round }
    }
}

impl Drop for DirSync {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl PendingSync {
    pub(crate) fn wait(mut self) -> io::Result<()> {
        let Some(round) = self.round else { return atomic::sync_dir(&self.shared.dir) };
        let mut state = self.shared.state.lock();
        while state.ended < round {
            self.shared.changed.wait(&mut state);
        }
        let failed = state.failed.iter().find(|(failed, _)| *failed == round);
        let result = failed.map_or(Ok(()), |(_, errno)| Err(io::Error::from_raw_os_error(*errno)));
        drop(state);
        self.leave();
        result
    }

    fn leave(&mut self) {
        if self.round.take().is_some() {
            let mut state = self.shared.state.lock();
            state.waiting -= 1;
            if state.waiting == 0 {
                state.failed.clear();
            }
        }
    }
}

impl Drop for PendingSync {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if state.ended < state.asked {
                let round = state.ended + 1;
                state.syncing = true;
                drop(state);
                let synced = atomic::sync_dir(&self.dir);
                state = self.state.lock();
                state.syncing = false;
                state.ended = round;
                if let Err(error) = synced {
                    state.failed.push((round, error.raw_os_error().unwrap_or(libc::EIO)));
                }
                self.changed.notify_all();
            } else if state.closed {
                return;
            } else {
                self.changed.wait(&mut state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_ask_are_answered() {
        let dir = tempfile::tempdir().unwrap();
        let sync = DirSync::new(dir.path().to_owned());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| sync.begin().wait().unwrap()));
            }
        });
        drop(sync.begin());
        sync.begin().wait().unwrap();
        let state = sync.shared.state.lock();
        assert_eq!((state.waiting, state.failed.len()), (0, 0));
        assert!(state.asked <= 402 && state.ended + 1 >= state.asked, "{state:?}");
    }

    #[test]
    fn a_failure_reaches_whoever_waited_for_it_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone");
        let sync = DirSync::new(path.clone());
        let kept = sync.begin();
        assert_eq!(sync.begin().wait().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(kept.wait().unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::create_dir(&path).unwrap();
        sync.begin().wait().unwrap();
    }

    #[test]
    fn the_thread_ends_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let sync = DirSync::new(dir.path().to_owned());
        sync.begin().wait().unwrap();
        let shared = Arc::downgrade(&sync.shared);
        drop(sync);
        for _ in 0..1000 {
            if shared.strong_count() == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("the thread is still there");
    }
}
