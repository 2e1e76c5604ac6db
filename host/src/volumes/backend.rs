//! One driver as the volume service sees it: ready, or failed with a reason that its volumes answer with.

mod status;

use super::locks::{Turn, unpoisoned};
use crate::call::Call;
use crate::metrics::METRICS;
use convoy_driver_sdk::context::Progress;
use convoy_driver_sdk::protocol::{Capability, Description, Open, Opened, Request};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_drivers::{CallOptions, DriverHandle};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

/// How long a driver may take to open: it finishes or undoes what a crash had cut off.
const OPEN: Duration = Duration::from_secs(300);

/// A driver of the daemon.
#[derive(Debug)]
pub struct Backend {
    name: Name,
    /// What was loaded; `None` when not even that succeeded.
    loaded: Option<Loaded>,
    /// Why it cannot be called; `None` once it is open.
    failure: RwLock<Option<DriverError>>,
    /// Set after a call whose outcome is unknown: memory may be wrong.
    suspect: AtomicBool,
    /// Names the listing the index was last made from.
    generation: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Loaded {
    handle: DriverHandle,
    open: Open,
}

impl Backend {
    /// A driver that was loaded and is still to be opened.
    pub fn loaded(handle: DriverHandle, open: Open) -> Self {
        let name = handle.name().clone();
        let not_yet = DriverError::new(ErrorKind::Unavailable, "it is not open yet");
        Self::new(name, Some(Loaded { handle, open }), not_yet)
    }

    /// A driver that could not be loaded.
    pub fn failed(name: Name, error: DriverError) -> Self {
        Self::new(name, None, error)
    }

    fn new(name: Name, loaded: Option<Loaded>, failure: DriverError) -> Self {
        Self {
            name,
            loaded,
            failure: RwLock::new(Some(failure)),
            suspect: AtomicBool::new(false),
            generation: Mutex::default(),
        }
    }

    /// Opens it; after a failure this may be tried again.
    ///
    /// # Errors
    /// The driver's, which its volumes answer with from now on.
    pub async fn open(&self, call: &Call) -> Result<Opened, DriverError> {
        let Some(loaded) = &self.loaded else {
            return Err(self
                .failure()
                .unwrap_or_else(|| DriverError::new(ErrorKind::Internal, "not loaded")));
        };
        let opened = loaded.handle.open(loaded.open.clone(), options(&call.within(OPEN), None)).await;
        *unpoisoned(self.failure.write()) = opened.as_ref().err().cloned();
        opened
    }

    /// Whether [`Self::open`] failed and may yet succeed.
    pub fn may_open_yet(&self) -> bool {
        self.loaded.is_some() && self.failure().is_some()
    }

    /// Lets calls that run come to an end, and closes it.
    pub async fn stop(&self, drain: Duration) {
        if let Some(loaded) = &self.loaded {
            loaded.handle.stop(drain).await;
        }
    }

    /// The name users choose it by.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What it says of itself; `None` when it could not be loaded.
    pub fn description(&self) -> Option<&Description> {
        self.loaded.as_ref().map(|loaded| loaded.handle.description())
    }

    /// Whether it is open and declares a capability.
    pub fn can(&self, capability: Capability) -> bool {
        unpoisoned(self.failure.read()).is_none()
            && self.description().is_some_and(|description| description.can(capability))
    }

    /// Why it could not be loaded or opened.
    pub fn failure(&self) -> Option<DriverError> {
        unpoisoned(self.failure.read()).clone()
    }

    /// Says that what is known of its volumes may be wrong, until the next refresh.
    pub fn suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    pub(super) fn take_suspicion(&self) -> bool {
        self.suspect.swap(false, Ordering::AcqRel)
    }

    pub(super) fn generation(&self) -> Option<String> {
        unpoisoned(self.generation.lock()).clone()
    }

    pub(super) fn set_generation(&self, generation: Option<String>) {
        *unpoisoned(self.generation.lock()) = generation;
    }

    /// Calls the driver.
    ///
    /// # Errors
    /// The driver's; `Unavailable` with the reason when it could not be opened.
    pub async fn call<R: Request>(&self, request: R, call: &Call) -> Result<R::Reply, DriverError> {
        self.counted(request, options(call, None)).await
    }

    /// Calls the driver to change a volume, whose turn lasts until the driver is done.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn change<R: Request>(
        &self,
        request: R,
        call: &Call,
        turn: &Turn,
    ) -> Result<R::Reply, DriverError> {
        self.counted(request, options(call, Some(turn.clone()))).await
    }

    async fn counted<R: Request>(&self, request: R, options: CallOptions) -> Result<R::Reply, DriverError> {
        let calling = METRICS.calling(&self.name, R::METHOD);
        let result = match self.handle() {
            Ok(handle) => handle.call(request, options).await,
            Err(error) => Err(error),
        };
        calling.ended(&result);
        result
    }

    fn handle(&self) -> Result<&DriverHandle, DriverError> {
        match (&self.loaded, &*unpoisoned(self.failure.read())) {
            (Some(loaded), None) => Ok(&loaded.handle),
            (_, failure) => Err(self.unavailable(failure.as_ref())),
        }
    }

    fn unavailable(&self, failure: Option<&DriverError>) -> DriverError {
        let reason = failure.map(ToString::to_string).unwrap_or_default();
        let text = format!("driver {} did not start: {reason}", self.name);
        let mut unavailable = DriverError::new(ErrorKind::Unavailable, text);
        unavailable.hint = failure.and_then(|failure| failure.hint.clone());
        unavailable
    }
}

fn options(call: &Call, turn: Option<Turn>) -> CallOptions {
    let mut options = CallOptions::new(call.request_id()).cancel(call.cancel().clone());
    if let Some(deadline) = call.deadline() {
        options = options.deadline(deadline);
    }
    if let Some(report) = call.report() {
        options = options.progress(move |progress: Progress| report(progress));
    }
    match turn {
        Some(turn) => options.hold(turn),
        None => options,
    }
}
