//! Keeps what goes to and comes from a store below a rate.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::store::{ByteStream, Depth, ObjectInfo, ObjectStore, Page, PutOutcome};

/// What is smaller goes ahead of the queue, though it counts: records, and above all the renewals of locks,
/// which must not wait behind minutes of data.
const SMALL: usize = 64 << 10;

/// One direction: when the bytes granted so far will have passed at the rate.
#[derive(Debug)]
struct Lane {
    bytes_per_second: Option<u64>,
    free_at: Mutex<Option<Instant>>,
}

impl Lane {
    fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(None) }
    }

    async fn pass(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_second.filter(|r| *r > 0) else { return };
        // Bytes and rates are far below 2^52: exact enough as floats.
        #[allow(clippy::cast_precision_loss)]
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let start = {
            let mut free_at = self.free_at.lock();
            let now = Instant::now();
            let start = free_at.map_or(now, |free_at| free_at.max(now));
            *free_at = Some(start + takes);
            start
        };
        if bytes > SMALL {
            tokio::time::sleep_until(start).await;
        }
    }
}

/// A rate for each direction, shared by all stores that are given it.
#[derive(Debug)]
pub struct Bandwidth {
    up: Lane,
    down: Lane,
}

impl Bandwidth {
    /// Rates in bytes per second; `None` is no limit.
    pub fn new(up: Option<u64>, down: Option<u64>) -> Self {
        Self { up: Lane::new(up), down: Lane::new(down) }
    }
}

/// A store behind a narrow road. Requests wait their turn; a request is never cut in pieces.
#[derive(Debug)]
pub struct LimitedStore<S> {
    inner: S,
    road: Arc<Bandwidth>,
}

impl<S: ObjectStore> LimitedStore<S> {
    /// Wraps a store.
    pub fn new(inner: S, road: Arc<Bandwidth>) -> Self {
        Self { inner, road }
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for LimitedStore<S> {
    async fn put(&self, key: &str, data: Bytes) -> Result<(), StoreError> {
        self.road.up.pass(data.len()).await;
        self.inner.put(key, data).await
    }

    async fn put_if_absent(&self, key: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        self.road.up.pass(data.len()).await;
        self.inner.put_if_absent(key, data).await
    }

    async fn put_stream(&self, key: &str, data: ByteStream) -> Result<u64, StoreError> {
        let road = self.road.clone();
        let slowed = data.then(move |bytes| {
            let road = road.clone();
            async move {
                if let Ok(bytes) = &bytes {
                    road.up.pass(bytes.len()).await;
                }
                bytes
            }
        });
        self.inner.put_stream(key, slowed.boxed()).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        let data = self.inner.get(key, limit).await?;
        self.road.down.pass(data.len()).await;
        Ok(data)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.road.down.pass(usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0)).await;
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        self.inner.head(key).await
    }

    async fn list(&self, dir: &str, depth: Depth, page: Option<&str>) -> Result<Page, StoreError> {
        self.inner.list(dir, depth, page).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.inner.delete(keys).await
    }

    async fn sweep(&self, dir: &str, older_than: Duration) -> Result<u64, StoreError> {
        self.inner.sweep(dir, older_than).await
    }
}
