//! The driver's side of the boundary: safe, since it only looks numbers up.

#![allow(unsafe_code, reason = "abi_stable makes the root module by it")]

use super::abi::{Call, DriverModule, DriverModuleRef, Host};
use crate::context::{CancelFlag, Context};
use crate::dispatch::{Dispatch, Dispatcher};
use crate::wire::{LogLevel, LogRecord};
use crate::{Driver, DriverError, PROTOCOL_VERSION, logging};
use abi_stable::library::{__call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::{RResult, RStr, RVec};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

struct Instance {
    driver: Arc<dyn Dispatch>,
    host: Host,
    calls: Mutex<Calls>,
}

/// The instances of this library, by number. Numbers are not used again.
#[derive(Default)]
struct Instances {
    last: u64,
    by_number: HashMap<u64, Arc<Instance>>,
    /// Who gets the logs.
    newest: Option<Host>,
}

static INSTANCES: LazyLock<RwLock<Instances>> = LazyLock::new(RwLock::default);

/// Makes what [`crate::export`] exports: how a host gets at the functions of the driver.
pub const fn header<D: Driver>() -> LibHeader {
    // SAFETY: `construct` returns a `DriverModuleRef`, the type named here.
    unsafe { LibHeader::from_constructor::<DriverModuleRef>(construct::<D>, CheckTypeLayout::Yes) }
}

extern "C" fn construct<D: Driver>() -> RootModuleResult {
    __call_root_module_loader(module::<D>)
}

fn module<D: Driver>() -> DriverModuleRef {
    DriverModule {
        protocol_version: RStr::from_str(PROTOCOL_VERSION),
        sdk_version: RStr::from_str(env!("CARGO_PKG_VERSION")),
        create: create::<D>,
        call,
        cancel,
        destroy,
    }
    .leak_into_prefix()
}

extern "C" fn create<D: Driver>(host: Host) -> u64 {
    guarded(0, || {
        let driver: Arc<dyn Dispatch> = Arc::new(Dispatcher::<D>::new());
        let mut all = INSTANCES.write();
        all.last += 1;
        all.newest = Some(host);
        let number = all.last;
        all.by_number.insert(number, Arc::new(Instance { driver, host, calls: Mutex::default() }));
        drop(all);
        logging::install(log);
        logging::set_level(level(host.log_level));
        number
    })
}

extern "C" fn call(driver: u64, call: Call<'_>) -> RResult<RVec<u8>, RVec<u8>> {
    let outcome = guarded(None, || Some(answer(driver, &call)));
    match outcome.unwrap_or_else(|| Err(DriverError::internal("the driver panicked"))) {
        Ok(reply) => RResult::ROk(reply.into()),
        Err(error) => RResult::RErr(serde_json::to_vec(&error).unwrap_or_default().into()),
    }
}

extern "C" fn cancel(driver: u64, call: u64) {
    guarded((), || {
        if let Some(driver) = find(driver) {
            driver.calls.lock().cancel(call);
        }
    });
}

extern "C" fn destroy(driver: u64) {
    guarded((), || {
        let mut all = INSTANCES.write();
        let forgotten = all.by_number.remove(&driver);
        drop(all);
        // Its own destructor may take a while, and may panic.
        drop(forgotten);
    });
}

/// How many cancellations are remembered that came before their calls: another thread makes the call, and may
/// be late.
const EARLY: usize = 256;

#[derive(Default)]
struct Calls {
    running: HashMap<u64, CancelFlag>,
    /// Cancelled, but not seen yet; or over already, which cannot be told apart: the oldest are forgotten.
    early: BTreeSet<u64>,
}

impl Calls {
    fn begin(&mut self, id: u64) -> CancelFlag {
        let flag = CancelFlag::default();
        if self.early.remove(&id) {
            flag.cancel();
        }
        self.running.insert(id, flag.clone());
        flag
    }

    fn end(&mut self, id: u64) {
        self.running.remove(&id);
    }

    fn cancel(&mut self, id: u64) {
        if let Some(flag) = self.running.get(&id) {
            flag.cancel();
            return;
        }
        self.early.insert(id);
        if self.early.len() > EARLY {
            self.early.pop_first();
        }
    }
}

fn find(driver: u64) -> Option<Arc<Instance>> {
    INSTANCES.read().by_number.get(&driver).cloned()
}

fn answer(driver: u64, call: &Call<'_>) -> crate::Result<Vec<u8>> {
    let instance =
        find(driver).ok_or_else(|| DriverError::unavailable("the driver was destroyed before the call"))?;
    let (host, id) = (instance.host, call.id);
    let deadline = call.deadline_ms.into_option().map(|ms| Instant::now() + Duration::from_millis(ms));
    let cancel = instance.calls.lock().begin(id);
    let context = Context::new(call.request_id.as_str())
        .with_deadline(deadline)
        .with_cancel(cancel)
        .with_progress(move |progress| {
            if let Ok(json) = serde_json::to_vec(&progress) {
                (host.progress)(id, json.as_slice().into());
            }
        });
    let result = logging::in_call(context.request_id(), || {
        instance.driver.dispatch(call.method.as_str(), call.request.as_slice(), &context)
    });
    instance.calls.lock().end(id);
    result
}

fn log(record: LogRecord) {
    let newest = INSTANCES.read().newest;
    if let (Some(host), Ok(json)) = (newest, serde_json::to_vec(&record)) {
        (host.log)(host.token, json.as_slice().into());
    }
}

fn level(number: u8) -> LogLevel {
    match number {
        0 | 1 => LogLevel::Error,
        2 => LogLevel::Warn,
        3 => LogLevel::Info,
        4 => LogLevel::Debug,
        _ => LogLevel::Trace,
    }
}

/// Nothing unwinds into the host. [`Dispatch`] catches the panics of the driver itself; this is for the rest.
fn guarded<T>(otherwise: T, action: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_reaches_its_call_whichever_comes_first() {
        let mut calls = Calls::default();
        let running = calls.begin(1);
        calls.cancel(2);
        let late = calls.begin(2);
        assert!(!running.is_cancelled() && late.is_cancelled());
        calls.cancel(1);
        assert!(running.is_cancelled());
        calls.end(1);
        calls.end(2);
        (3..1000).for_each(|id| calls.cancel(id));
        assert!(calls.running.is_empty() && calls.early.len() == EARLY);
        assert!(calls.begin(999).is_cancelled() && !calls.begin(3).is_cancelled());
    }
}
