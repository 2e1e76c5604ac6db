//! A store that fails as told: for tests of what must survive a bad store.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use crate::error::StoreError;
use crate::store::{ByteStream, Depth, ObjectInfo, ObjectStore, Page, PutOutcome};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done and an error is given that says a retry may help.
    Error,
    /// Nothing is done and an error is given that no retry helps.
    Refuse,
    /// Nothing is done and an error is given that says it is not allowed.
    Deny,
    /// It is done, and yet an error is given.
    LostAnswer,
    /// Of a read, half the bytes come; of a write, half the bytes are stored, and success is told.
    Truncate,
    /// A bit of what is read, or stored, is flipped.
    Corrupt,
    /// It takes that much longer.
    Slow(Duration),
    /// It never answers.
    Hang,
}

/// A call, as a plan sees it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Counts from 0, over all calls.
    pub number: u64,
    /// `put`, `put_if_absent`, `put_stream`, `get`, `get_range`, `head`, `list`, `delete` or `sweep`.
    pub op: &'static str,
    /// The object or directory.
    pub key: &'a str,
}

type Plan = dyn Fn(Call<'_>) -> Option<Fault> + Send + Sync;

/// See the [module](self).
#[derive(Clone)]
pub struct FaultStore<S> {
    inner: S,
    plan: Arc<Plan>,
    calls: Arc<AtomicU64>,
}

impl<S: fmt::Debug> fmt::Debug for FaultStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S: ObjectStore> FaultStore<S> {
    /// Wraps a store; the plan is asked before each call.
    pub fn new(inner: S, plan: impl Fn(Call<'_>) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self { inner, plan: Arc::new(plan), calls: Arc::default() }
    }

    /// Calls made so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Asks the plan, and does what comes before the call itself.
    async fn before(&self, op: &'static str, key: &str) -> Result<Option<Fault>, StoreError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = (self.plan)(Call { number, op, key });
        match fault {
            Some(Fault::Error) => return Err(lost(op, key)),
            Some(Fault::Refuse) => {
                return Err(StoreError::Refused { op, key: key.to_owned(), detail: "injected".into() });
            }
            Some(Fault::Deny) => {
                return Err(StoreError::Denied { op, key: key.to_owned(), detail: "injected".into() });
            }
            Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
            Some(Fault::Hang) => futures::future::pending().await,
            _ => {}
        }
        Ok(fault)
    }
}

/// The error of a fault that a retry may help.
fn lost(op: &'static str, key: &str) -> StoreError {
    StoreError::Transient { op, key: key.to_owned(), detail: "injected".into() }
}

fn damage(data: Bytes, fault: Option<Fault>) -> Bytes {
    match fault {
        Some(Fault::Truncate) => data.slice(..data.len() / 2),
        Some(Fault::Corrupt) => {
            let mut data = data.to_vec();
            let middle = data.len() / 2;
            if let Some(byte) = data.get_mut(middle) {
                *byte ^= 0x10;
            }
            data.into()
        }
        _ => data,
    }
}

/// Turns success into an error if the answer is to be lost.
fn after<T>(op: &'static str, key: &str, fault: Option<Fault>, value: T) -> Result<T, StoreError> {
    if fault == Some(Fault::LostAnswer) { Err(lost(op, key)) } else { Ok(value) }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for FaultStore<S> {
    async fn put(&self, key: &str, data: Bytes) -> Result<(), StoreError> {
        let fault = self.before("put", key).await?;
        self.inner.put(key, damage(data, fault)).await?;
        after("put", key, fault, ())
    }

    async fn put_if_absent(&self, key: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        let fault = self.before("put_if_absent", key).await?;
        let outcome = self.inner.put_if_absent(key, damage(data, fault)).await?;
        after("put_if_absent", key, fault, outcome)
    }

    async fn put_stream(&self, key: &str, data: ByteStream) -> Result<u64, StoreError> {
        let fault = self.before("put_stream", key).await?;
        let damaged = data.map(move |bytes| bytes.map(|b| damage(b, fault)));
        let size = self.inner.put_stream(key, damaged.boxed()).await?;
        after("put_stream", key, fault, size)
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        let fault = self.before("get", key).await?;
        let data = self.inner.get(key, limit).await?;
        after("get", key, fault, damage(data, fault))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let fault = self.before("get_range", key).await?;
        let data = self.inner.get_range(key, range).await?;
        after("get_range", key, fault, damage(data, fault))
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        let fault = self.before("head", key).await?;
        let info = self.inner.head(key).await?;
        after("head", key, fault, info)
    }

    async fn list(&self, dir: &str, depth: Depth, page: Option<&str>) -> Result<Page, StoreError> {
        let fault = self.before("list", dir).await?;
        let listed = self.inner.list(dir, depth, page).await?;
        after("list", dir, fault, listed)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let first = keys.first().map_or("", String::as_str);
        let fault = self.before("delete", first).await?;
        self.inner.delete(keys).await?;
        after("delete", first, fault, ())
    }

    async fn sweep(&self, dir: &str, older_than: Duration) -> Result<u64, StoreError> {
        let fault = self.before("sweep", dir).await?;
        let swept = self.inner.sweep(dir, older_than).await?;
        after("sweep", dir, fault, swept)
    }
}
