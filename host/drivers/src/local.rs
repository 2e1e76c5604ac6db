//! Calls of drivers in this program, on threads that may block.

use crate::context::RequestContext;
use crate::wait::wait;
use convoy_driver_sdk::context::{CancelFlag, Context};
use convoy_driver_sdk::dispatch::Dispatch;
use convoy_driver_sdk::{DriverError, Name, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A driver in this program.
pub(crate) trait Local: Send + Sync + 'static {
    /// Carries out a call, blocking.
    fn call(&self, id: u64, method: &str, request: &[u8], context: &Context) -> Result<Vec<u8>>;

    /// Asks a call to end, beside the flag in its context.
    fn cancel(&self, id: u64);
}

pub(crate) struct Builtin(pub(crate) Arc<dyn Dispatch>);

impl Local for Builtin {
    fn call(&self, _: u64, method: &str, request: &[u8], context: &Context) -> Result<Vec<u8>> {
        self.0.dispatch(method, request, context)
    }

    fn cancel(&self, _: u64) {}
}

/// The async side of a [`Local`].
#[derive(Clone)]
pub(crate) struct LocalDriver {
    name: Name,
    driver: Arc<dyn Local>,
}

impl LocalDriver {
    pub(crate) fn new(name: Name, driver: Arc<dyn Local>) -> Self {
        Self { name, driver }
    }

    /// A call on a thread of the runtime's pool for blocking work.
    pub(crate) async fn call(
        &self,
        method: &'static str,
        request: Box<str>,
        call: RequestContext,
    ) -> Result<Vec<u8>> {
        let (deadline, cancel) = (call.deadline, call.cancel.clone());
        let id = next_id();
        let flag = CancelFlag::default();
        let context = context(&call, flag.clone());
        let (driver, hold) = (Arc::clone(&self.driver), call.hold);
        let span = tracing::debug_span!("driver", driver = self.name.as_str(), request_id = call.request_id);
        let running = tokio::task::spawn_blocking(move || {
            let result = span.in_scope(|| driver.call(id, method, request.as_bytes(), &context));
            drop(hold);
            result
        });
        let tell = || {
            flag.cancel();
            self.driver.cancel(id);
        };
        wait(&self.name, method, deadline, cancel, running, tell)
            .await?
            .unwrap_or_else(|error| Err(DriverError::internal(format!("{method}: {error}"))))
    }

    /// A call on this thread: for callers that may block.
    pub(crate) fn call_blocking(
        &self,
        method: &'static str,
        request: &[u8],
        call: &RequestContext,
    ) -> Result<Vec<u8>> {
        self.driver.call(next_id(), method, request, &context(call, CancelFlag::default()))
    }
}

fn context(call: &RequestContext, flag: CancelFlag) -> Context {
    let context = Context::new(call.request_id.as_str()).with_deadline(call.deadline).with_cancel(flag);
    match call.progress.clone() {
        Some(sink) => context.with_progress(move |progress| sink(progress)),
        None => context,
    }
}

/// Unique in this program, as the ABI of libraries wants it.
fn next_id() -> u64 {
    static IDS: AtomicU64 = AtomicU64::new(1);
    IDS.fetch_add(1, Ordering::Relaxed)
}
