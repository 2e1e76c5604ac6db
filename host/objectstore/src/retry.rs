//! Tries again what may yet succeed, with back-off and jitter.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;
use crate::store::{ByteStream, Depth, ObjectInfo, ObjectStore, Page, PutOutcome};

/// How often and how patiently to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Calls in all, the first included; at least one is made.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles with each.
    pub first_wait: Duration,
    /// No wait is longer.
    pub longest_wait: Duration,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
}

impl Default for RetryPolicy {
    /// Six attempts over about ten seconds; two minutes for each.
    fn default() -> Self {
        Self {
            attempts: 6,
            first_wait: Duration::from_millis(300),
            longest_wait: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    /// The wait after so many failed attempts: between half and all of the doubled wait, so that clients do
    /// not march in step.
    fn wait(&self, failed: u32) -> Duration {
        let full =
            self.first_wait.saturating_mul(1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX));
        full.min(self.longest_wait).mul_f64(rand::random_range(0.5..1.0))
    }
}

/// A store that repeats failed calls. Streams cannot be read twice: [`ObjectStore::put_stream`] is passed on
/// as it is.
#[derive(Debug)]
pub struct RetryStore<S> {
    inner: S,
    policy: RetryPolicy,
}

impl<S: ObjectStore> RetryStore<S> {
    /// Wraps a store.
    pub fn new(inner: S, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }

    /// Calls until it succeeds, fails for good, or was tried often enough. Gives the number of failures on
    /// the way as well.
    async fn retry<T, F, Fut>(&self, op: &'static str, key: &str, call: F) -> Result<(T, u32), StoreError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let mut failed = 0;
        loop {
            let after = self.policy.attempt_timeout;
            let result = match tokio::time::timeout(after, call()).await {
                Ok(result) => result,
                Err(_) => Err(StoreError::Timeout { op, key: key.to_owned(), after }),
            };
            match result {
                Ok(value) => return Ok((value, failed)),
                Err(error) => {
                    failed += 1;
                    if !error.retryable() || failed >= self.policy.attempts {
                        return Err(error);
                    }
                    let wait = self.policy.wait(failed);
                    tracing::warn!(op, key, %error, attempt = failed, ?wait, "object store call failed, trying again");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for RetryStore<S> {
    async fn put(&self, key: &str, data: Bytes) -> Result<(), StoreError> {
        self.retry("write", key, || self.inner.put(key, data.clone())).await.map(|(done, _)| done)
    }

    async fn put_if_absent(&self, key: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        let (outcome, failed) =
            self.retry("write", key, || self.inner.put_if_absent(key, data.clone())).await?;
        if outcome == PutOutcome::Exists && failed > 0 {
            // An attempt whose answer was lost may have been the one that created it.
            let limit = data.len() as u64;
            return match self.get(key, limit).await {
                Ok(found) if found == data => Ok(PutOutcome::Created),
                Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::NotFound { .. }) => {
                    Ok(PutOutcome::Exists)
                }
                Err(e) => Err(e),
            };
        }
        Ok(outcome)
    }

    async fn put_stream(&self, key: &str, data: ByteStream) -> Result<u64, StoreError> {
        self.inner.put_stream(key, data).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        Ok(self.retry("read", key, || self.inner.get(key, limit)).await?.0)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        Ok(self.retry("read", key, || self.inner.get_range(key, range.clone())).await?.0)
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        Ok(self.retry("look up", key, || self.inner.head(key)).await?.0)
    }

    async fn list(&self, dir: &str, depth: Depth, page: Option<&str>) -> Result<Page, StoreError> {
        Ok(self.retry("list", dir, || self.inner.list(dir, depth, page)).await?.0)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let first = keys.first().map_or("", String::as_str);
        self.retry("delete", first, || self.inner.delete(keys)).await.map(|(done, _)| done)
    }

    async fn sweep(&self, dir: &str, older_than: Duration) -> Result<u64, StoreError> {
        self.inner.sweep(dir, older_than).await
    }
}
