//! One driver as the volume service sees it: ready, or failed with a reason that its volumes answer with.

mod patience;
mod status;

use crate::locks::VolumeGuard;
use convoy_activity::metrics::METRICS;
use convoy_driver_sdk::protocol::{Capability, Description, Open, Opened, Probe, Probed, Request};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_drivers::DriverHandle;
use convoy_drivers::RequestContext;
use parking_lot::{Mutex, RwLock};
use patience::{PendingCall, explained, hangs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a driver may take to say something: list, get, info.
pub const QUICK: Duration = Duration::from_secs(30);

/// How long a driver may take to change something. Clouds take minutes to attach; whoever waits has given up
/// by then, and what was begun is found by the next refresh.
pub const CHANGE: Duration = Duration::from_secs(600);

/// How long whoever wants something changed waits for a driver that is being opened: it may have a crash to
/// clear up. Docker waits two minutes.
const OPENING: Duration = Duration::from_secs(60);

/// How long a call may take while the driver answers nothing else. Whoever asks is not to wait for minutes to
/// be told so.
const SILENT: Duration = Duration::from_secs(10);

/// A driver of the daemon.
#[derive(Debug)]
pub struct ManagedDriver {
    name: Name,
    /// What was loaded; `None` when not even that succeeded.
    loaded: Option<LoadedDriver>,
    /// Why it cannot be called; `None` once it is open.
    failure: RwLock<Option<DriverError>>,
    /// Set after a call whose outcome is unknown: memory may be wrong.
    suspect: AtomicBool,
    /// Names the listing the index was last made from.
    generation: Mutex<Option<String>>,
    opening: PendingCall<Opened>,
    /// Wakes those who wait for it to be open.
    opened: Notify,
    probing: PendingCall<Probed>,
    /// Set while mounts are used that the driver was not told of since it was opened.
    unconfirmed: AtomicBool,
}

#[derive(Debug)]
struct LoadedDriver {
    handle: DriverHandle,
    open: Open,
}

impl ManagedDriver {
    /// A driver that was loaded and is still to be opened.
    pub fn loaded(handle: DriverHandle, open: Open) -> Self {
        let name = handle.name().clone();
        let not_yet = DriverError::new(ErrorKind::Unavailable, "it is not open yet");
        Self::new(name, Some(LoadedDriver { handle, open }), not_yet)
    }

    /// A driver that could not be loaded.
    pub fn failed(name: Name, error: DriverError) -> Self {
        Self::new(name, None, error)
    }

    fn new(name: Name, loaded: Option<LoadedDriver>, failure: DriverError) -> Self {
        Self {
            name,
            loaded,
            failure: RwLock::new(Some(failure)),
            suspect: AtomicBool::new(false),
            generation: Mutex::default(),
            opening: PendingCall::default(),
            opened: Notify::new(),
            probing: PendingCall::default(),
            unconfirmed: AtomicBool::new(false),
        }
    }

    /// Opens it; after a failure this may be tried again. One that takes longer goes on being opened, and is
    /// waited for by the next who tries.
    ///
    /// # Errors
    /// The driver's, which its volumes answer with from now on; `DeadlineExceeded`, likewise.
    pub async fn open(&self, patience: Duration) -> Result<Opened, DriverError> {
        let Some(loaded) = &self.loaded else {
            return Err(self
                .failure()
                .unwrap_or_else(|| DriverError::new(ErrorKind::Internal, "not loaded")));
        };
        let (handle, open) = (loaded.handle.clone(), loaded.open.clone());
        let opening = async move { handle.open(open, RequestContext::new("open")).await };
        let opened = self.opening.ask(&self.name, patience, opening).await;
        *self.failure.write() = opened.as_ref().err().cloned();
        if opened.is_ok() {
            self.opened.notify_waiters();
        }
        opened
    }

    /// Whether it is being opened and takes its time.
    pub fn is_opening(&self) -> bool {
        self.opening.is_unanswered() && self.failure().is_some()
    }

    /// Asks it how its storage is.
    ///
    /// # Errors
    /// The driver's; `DeadlineExceeded` when it does not answer within `patience`. From then on, until it
    /// answers this or anything else, [`Self::silence`] says so.
    pub async fn probe(&self, patience: Duration) -> Result<Probed, DriverError> {
        let (handle, name) = (self.handle()?.clone(), self.name.clone());
        let probing = async move {
            let calling = METRICS.calling(&name, Probe::METHOD);
            let result = handle.call(Probe::new(), RequestContext::new("probe")).await;
            calling.ended(&result);
            result
        };
        self.probing.ask(&self.name, patience, probing).await
    }

    /// Why it is of no use although it is open: it answers nothing.
    pub fn silence(&self) -> Option<DriverError> {
        self.silent_for().map(|silence| hangs(&self.name, silence))
    }

    fn silent_for(&self) -> Option<Duration> {
        self.probing.silence(self.loaded.as_ref()?.handle.heard())
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
        self.failure.read().is_none()
            && self.description().is_some_and(|description| description.can(capability))
    }

    /// Why it could not be loaded or opened.
    pub fn failure(&self) -> Option<DriverError> {
        self.failure.read().clone()
    }

    /// Says that what is known of its volumes may be wrong, until the next refresh.
    pub fn suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    pub(crate) fn take_suspicion(&self) -> bool {
        self.suspect.swap(false, Ordering::AcqRel)
    }

    /// Says that the driver is to be told which of its volumes are in use.
    pub(crate) fn set_unconfirmed(&self, unconfirmed: bool) {
        self.unconfirmed.store(unconfirmed, Ordering::Release);
    }

    pub(crate) fn is_unconfirmed(&self) -> bool {
        self.unconfirmed.load(Ordering::Acquire)
    }

    pub(crate) fn generation(&self) -> Option<String> {
        self.generation.lock().clone()
    }

    pub(crate) fn set_generation(&self, generation: Option<String>) {
        *self.generation.lock() = generation;
    }

    /// Calls the driver.
    ///
    /// # Errors
    /// The driver's; `Unavailable` with the reason when it could not be opened.
    pub async fn call<R: Request>(&self, request: R, call: &RequestContext) -> Result<R::Reply, DriverError> {
        self.counted(request, call, None).await
    }

    /// Calls the driver for what is asked again and again, by whoever watches: each call that it does not
    /// answer keeps a thread.
    ///
    /// # Errors
    /// As [`Self::call`]; [`Self::silence`] at once.
    pub async fn unless_silent<R: Request>(
        &self,
        request: R,
        call: &RequestContext,
    ) -> Result<R::Reply, DriverError> {
        match self.silence() {
            Some(silence) => Err(silence),
            None => self.call(request, call).await,
        }
    }

    /// Calls the driver to change a volume, whose lock lasts until the driver is done. After an error that
    /// leaves open whether it was done, the driver's volumes are listed anew.
    pub async fn change<R: Request>(
        &self,
        request: R,
        call: &RequestContext,
        guard: &VolumeGuard,
    ) -> Result<R::Reply, DriverError> {
        self.wait_until_open(call).await;
        let changed = self.counted(request, call, Some(guard.clone())).await;
        changed.inspect_err(|error| {
            if is_ambiguous(error) {
                self.suspect();
            }
        })
    }

    /// Containers that start with the machine come at once: a driver that takes its time to open is worth
    /// waiting for.
    async fn wait_until_open(&self, call: &RequestContext) {
        let opened = self.opened.notified();
        if self.is_opening() {
            let end = call.within(OPENING).deadline();
            // Whether it is open now the call finds out.
            let _ =
                tokio::time::timeout_at(end.map_or_else(tokio::time::Instant::now, Into::into), opened).await;
        }
    }

    async fn counted<R: Request>(
        &self,
        request: R,
        call: &RequestContext,
        guard: Option<VolumeGuard>,
    ) -> Result<R::Reply, DriverError> {
        let calling = METRICS.calling(&self.name, R::METHOD);
        let call = match guard {
            Some(guard) => call.clone().holding(guard),
            None => call.clone(),
        };
        let result = match self.handle() {
            Ok(handle) => {
                tokio::select! {
                    biased;
                    result = handle.call(request, call) => result,
                    () = self.falls_silent(), if self.silence().is_some() => {
                        let text = format!("driver {}: {} was not answered", self.name, R::METHOD);
                        Err(DriverError::new(ErrorKind::DeadlineExceeded, text))
                    }
                }
            }
            Err(error) => Err(error),
        };
        let result = match self.silent_for() {
            Some(silence) => result.map_err(|error| explained(error, &self.name, silence)),
            None => result,
        };
        calling.ended(&result);
        result
    }

    /// Waits until the driver is silent, and still is a while later.
    async fn falls_silent(&self) {
        loop {
            tokio::time::sleep(SILENT).await;
            if self.silence().is_some() {
                return;
            }
        }
    }

    fn handle(&self) -> Result<&DriverHandle, DriverError> {
        // Not under its lock: what is said of it looks at it once more.
        let failure = self.failure();
        match (&self.loaded, failure) {
            (Some(loaded), None) => Ok(&loaded.handle),
            (_, failure) => Err(self.unavailable(failure.as_ref())),
        }
    }

    fn unavailable(&self, failure: Option<&DriverError>) -> DriverError {
        let reason = failure.map(ToString::to_string).unwrap_or_default();
        let text = if self.is_opening() {
            format!("driver {} is not open yet: {reason}", self.name)
        } else {
            format!("driver {} did not start: {reason}", self.name)
        };
        let mut unavailable = DriverError::new(ErrorKind::Unavailable, text);
        unavailable.hint = failure.and_then(|failure| failure.hint.clone());
        unavailable
    }
}

/// Whether, after this error, the driver may have done what it was asked all the same.
fn is_ambiguous(error: &DriverError) -> bool {
    use ErrorKind::{Cancelled, DeadlineExceeded, Internal, Unavailable};
    matches!(error.kind, Cancelled | DeadlineExceeded | Internal | Unavailable)
}
