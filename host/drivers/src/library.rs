//! Shared libraries: loading, checking, calling. They are never unloaded.

#![allow(unsafe_code, reason = "to load a library is to run its code")]

use crate::answer;
use crate::error::LoadError;
use crate::local::Local;
use crate::logs;
use convoy_driver_sdk::context::Context;
use convoy_driver_sdk::library::abi::{ABI_VERSION, Bytes, Call, DriverModuleRef, Host, SYMBOL_PREFIX};
use convoy_driver_sdk::library::{AbiHeaderRef, ModuleError, module};
use convoy_driver_sdk::wire::{LogRecord, check_version};
use convoy_driver_sdk::{DriverError, Name, Result};
use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Library {
    module: DriverModuleRef,
    name: Name,
    driver: u64,
    token: u64,
}

/// Drivers whose libraries log, by token.
static LOGGING: LazyLock<RwLock<HashMap<u64, Name>>> = LazyLock::new(RwLock::default);

/// Calls that can report progress, by id.
static CALLS: LazyLock<Mutex<HashMap<u64, Context>>> = LazyLock::new(Mutex::default);

impl Library {
    /// Loads a library, checks it and makes a driver. Blocks: what the library does when it is loaded runs
    /// here.
    ///
    /// # Errors
    /// [`LoadError`] of all kinds but those of processes.
    pub(crate) fn load(path: &Path, name: &Name) -> std::result::Result<Self, LoadError> {
        let module = load_module(path)?;
        check_version(module.protocol_version().as_str())
            .map_err(|error| LoadError::Protocol { path: path.to_owned(), reason: error.to_string() })?;
        static TOKENS: AtomicU64 = AtomicU64::new(1);
        let token = TOKENS.fetch_add(1, Ordering::Relaxed);
        LOGGING.write().insert(token, name.clone());
        let driver = module.create()(Host { token, log_level: logs::level_number(), log, progress });
        let made = Self { module, name: name.clone(), driver, token };
        if driver == 0 {
            let reason = "it panicked when the driver was made".to_owned();
            return Err(LoadError::Start { action: "load", path: path.to_owned(), reason });
        }
        tracing::debug!(path = %path.display(), sdk = module.sdk_version().as_str(), "loaded a driver library");
        Ok(made)
    }
}

impl Local for Library {
    fn call(&self, id: u64, method: &str, request: &[u8], context: &Context) -> Result<Vec<u8>> {
        let millis = |left: std::time::Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        CALLS.lock().insert(id, context.clone());
        let deadline_ms = context.remaining().map(millis);
        let call = Call::new(id, method, request, context.request_id(), deadline_ms);
        let outcome = self.module.call()(self.driver, call);
        CALLS.lock().remove(&id);
        outcome.map(|reply| reply.into_vec()).into_result().map_err(|error| {
            answer::error(&self.name, &error)
                .unwrap_or_else(|| DriverError::internal("the driver's error cannot be read (R8)"))
        })
    }

    fn cancel(&self, id: u64) {
        self.module.cancel()(self.driver, id);
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        self.module.destroy()(self.driver);
        LOGGING.write().remove(&self.token);
    }
}

/// Takes a record that a library logs.
extern "C" fn log(token: u64, record: Bytes<'_>) {
    guarded(|| {
        let name = LOGGING.read().get(&token).cloned();
        if let (Some(name), Ok(record)) = (name, serde_json::from_slice::<LogRecord>(record.as_slice())) {
            logs::emit(&name, &record);
        }
    });
}

/// Takes the progress of a call that a library reports.
extern "C" fn progress(call: u64, progress: Bytes<'_>) {
    guarded(|| {
        let context = CALLS.lock().get(&call).cloned();
        if let (Some(context), Ok(progress)) = (context, serde_json::from_slice(progress.as_slice())) {
            context.progress(progress);
        }
    });
}

/// Nothing unwinds into a library.
fn guarded(action: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(action)).is_err() {
        tracing::error!("a log or progress record of a driver could not be taken");
    }
}

fn load_module(path: &Path) -> std::result::Result<DriverModuleRef, LoadError> {
    // RTLD_LOCAL: its symbols are nobody else's. RTLD_NOW: what it lacks is found out here.
    // SAFETY: a driver is trusted with all the host may do (see `trust`); its initialisers run here.
    let handle = unsafe { Handle::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
        LoadError::Start { action: "load", path: path.to_owned(), reason: reason_of(&error) }
    })?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let symbol = format!("{SYMBOL_PREFIX}{}", stem.strip_prefix("lib").unwrap_or(&stem));
    // SAFETY: only `convoy_driver_sdk::export!` makes symbols of this name, and they are `LibHeader`s, which
    // begin with the `AbiHeader` that this reference is to and that `upgrade` checks first.
    let header = unsafe { handle.get::<AbiHeaderRef>(symbol.as_bytes()) }.map(|header| *header);
    // Kept for ever: threads, static data and function pointers of the library may be in use until the end.
    std::mem::forget(handle);
    let header = header.map_err(|_| LoadError::NotADriver { path: path.to_owned(), symbol })?;
    module(header).map_err(|error| match error {
        ModuleError::Abi { found, detail } => {
            let expected =
                format!("library ABI {ABI_VERSION} (convoy-driver-sdk {})", env!("CARGO_PKG_VERSION"));
            LoadError::Abi { path: path.to_owned(), expected, found, detail }
        }
        ModuleError::Refused(reason) => LoadError::Start { action: "load", path: path.to_owned(), reason },
    })
}

/// `libloading` keeps the text of the dynamic linker in the source of its error.
fn reason_of(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
