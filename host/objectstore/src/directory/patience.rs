//! A directory whose server or disk does not answer.
//!
//! A call that hangs in the kernel (an NFS server that is gone) keeps its thread, whoever gives up waiting
//! for it. So whoever waits is told in the end, and while such a call is under way no other is begun: each
//! would keep one more thread. That it ends is also how the end of the trouble is noticed. What a server does
//! is a fact of the machine: all stores in a directory share what is known.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::StoreError;

/// How long a call may take. It is one object of some MiB at most, or a page of a listing; what takes longest
/// is a sync beside somebody else's writes on a slow disk. As long as one request to S3.
pub(super) const CALL: Duration = Duration::from_secs(300);

/// How long it may take to look whether the directory is there.
pub(super) const LOOK: Duration = Duration::from_secs(30);

static DIRECTORIES: LazyLock<Mutex<HashMap<PathBuf, Weak<Watch>>>> = LazyLock::new(Mutex::default);

#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    last: u64,
    /// When each began, and how long it may take.
    under_way: HashMap<u64, (Instant, Duration)>,
}

/// A call that occupies a thread; dropped when it ends.
struct UnderWay {
    watch: Arc<Watch>,
    id: u64,
}

impl Watch {
    /// That of a directory.
    pub(super) fn of(path: &Path) -> Arc<Self> {
        let mut all = DIRECTORIES.lock();
        all.retain(|_, watch| watch.strong_count() > 0);
        if let Some(known) = all.get(path).and_then(Weak::upgrade) {
            return known;
        }
        let watch = Arc::new(Self { path: path.to_owned(), calls: Mutex::default() });
        all.insert(path.to_owned(), Arc::downgrade(&watch));
        watch
    }

    /// Runs a call that blocks, off the async threads, and waits for it so long.
    ///
    /// # Errors
    /// Those of the call; [`StoreError::Unresponsive`] when it does not end, and at once while another has
    /// not ended.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        op: &'static str,
        key: &str,
        limit: Duration,
        call: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if let Some(silence) = self.silence() {
            return Err(self.unresponsive(silence));
        }
        let watch = Arc::clone(self);
        let running = tokio::task::spawn_blocking(move || {
            let _under_way = watch.begin(limit);
            call()
        });
        match tokio::time::timeout(limit, running).await {
            Ok(Ok(result)) => result,
            Ok(Err(gone)) => Err(StoreError::Refused { op, key: key.to_owned(), detail: gone.to_string() }),
            Err(_) => {
                let (path, seconds) = (self.path.display(), limit.as_secs());
                tracing::warn!(%path, op, key, seconds, "a directory of backups does not answer");
                Err(self.unresponsive(limit))
            }
        }
    }

    /// How long the directory has not answered a call, if that is longer than the call may take.
    fn silence(&self) -> Option<Duration> {
        let calls = self.calls.lock();
        let ages = calls.under_way.values().map(|(since, limit)| (since.elapsed(), *limit));
        ages.filter(|(age, limit)| age >= limit).map(|(age, _)| age).max()
    }

    fn unresponsive(&self, silence: Duration) -> StoreError {
        StoreError::Unresponsive { path: self.path.display().to_string(), seconds: silence.as_secs() }
    }

    fn begin(self: &Arc<Self>, limit: Duration) -> UnderWay {
        let mut calls = self.calls.lock();
        calls.last += 1;
        let id = calls.last;
        calls.under_way.insert(id, (Instant::now(), limit));
        UnderWay { watch: Arc::clone(self), id }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let ended = self.watch.calls.lock().under_way.remove(&self.id);
        if ended.is_some_and(|(since, limit)| since.elapsed() >= limit) && self.watch.silence().is_none() {
            tracing::info!(path = %self.watch.path.display(), "a directory of backups answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::DirectoryStore;
    use crate::store::ObjectStore;
    use bytes::Bytes;
    use std::sync::atomic::{AtomicBool, Ordering};

    const SHORT: Duration = Duration::from_secs(1);

    /// A call that hangs in the kernel until told otherwise, as one does whose server is gone.
    async fn hang(store: &DirectoryStore, back: &Arc<AtomicBool>) -> Result<(), StoreError> {
        let back = back.clone();
        let call = move |_: &_, _: &str| {
            while !back.load(Ordering::SeqCst) {
                std::thread::sleep(SHORT / 100);
            }
            Ok(())
        };
        store.blocking("read", "hung", call).await
    }

    #[tokio::test]
    async fn a_directory_that_hangs_is_noticed_asked_once_and_used_again_when_it_answers() {
        let dir = tempfile::tempdir().unwrap();
        let back = Arc::new(AtomicBool::new(false));
        let store = DirectoryStore::open(dir.path()).await.unwrap();
        store.put("whole", Bytes::from_static(b"data")).await.unwrap();
        let store = store.with_patience(SHORT);

        // Whoever asked is told, even if somebody gave up before.
        let gave_up = tokio::time::timeout(SHORT / 4, hang(&store, &back)).await;
        assert!(gave_up.is_err(), "{gave_up:?}");
        let error = hang(&store, &back).await.unwrap_err();
        assert!(matches!(error, StoreError::Unresponsive { .. }) && !error.retryable(), "{error}");
        assert!(error.to_string().starts_with(&format!("{} has not answered for ", dir.path().display())));

        // No further call, by no other store.
        for _ in 0..20 {
            assert!(matches!(store.get("whole", 100).await, Err(StoreError::Unresponsive { .. })));
            assert!(matches!(DirectoryStore::open(dir.path()).await, Err(StoreError::Unresponsive { .. })));
        }
        assert_eq!(calls(dir.path()), 2);
        let other = tempfile::tempdir().unwrap();
        DirectoryStore::open(other.path()).await.unwrap().put("x", Bytes::new()).await.unwrap();

        // The server is back: two readers were waiting.
        back.store(true, Ordering::SeqCst);
        while calls(dir.path()) > 0 {
            tokio::time::sleep(SHORT / 20).await;
        }
        assert_eq!(store.get("whole", 100).await.unwrap(), Bytes::from_static(b"data"));
        DirectoryStore::open(dir.path()).await.unwrap();
    }

    fn calls(path: &Path) -> usize {
        Watch::of(path).calls.lock().under_way.len()
    }
}
