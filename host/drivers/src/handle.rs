//! Calling a driver, the same through every carrier.

use crate::answer;
use crate::calls::{Calls, watched};
use crate::context::RequestContext;
use crate::declared;
use crate::local::LocalDriver;
use crate::process::Process;
use crate::spec::Carrier;
use crate::status::{CallUnderWay, DriverHealth, DriverStatus};
use crate::wait::wait;
use convoy_driver_sdk::protocol::{
    AbortRestore, Close, Description, FinishRestore, MountVolume, Mounted, Open, Opened, PrepareRestore,
    PreparedRestore, Request, Volume,
};
use convoy_driver_sdk::{DriverError, ErrorKind, Name, Result};
use parking_lot::Mutex;
use serde_json::value::to_raw_value;
use std::any::Any;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A loaded driver. Cheap to clone; a process is ended when the last clone is dropped.
#[derive(Clone)]
pub struct DriverHandle {
    inner: Arc<Inner>,
}

struct Inner {
    description: Description,
    carrier: Carrier,
    path: Option<PathBuf>,
    backend: RunningDriver,
    calls: Arc<Calls>,
    /// It mounts where this program may not see it.
    elsewhere: AtomicBool,
    /// Volumes that are being restored, by handle.
    restores: Mutex<HashMap<String, Name>>,
    stopped: AtomicBool,
}

pub(crate) enum RunningDriver {
    Local(LocalDriver),
    Process(Process),
}

impl std::fmt::Debug for DriverHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DriverHandle({}:{})", self.inner.carrier, self.inner.description.name)
    }
}

impl DriverHandle {
    pub(crate) fn new(
        description: Description,
        carrier: Carrier,
        path: Option<PathBuf>,
        backend: RunningDriver,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                description,
                carrier,
                path,
                backend,
                calls: Calls::new(),
                elsewhere: AtomicBool::new(false),
                restores: Mutex::default(),
                stopped: AtomicBool::new(false),
            }),
        }
    }

    /// The name of the driver.
    pub fn name(&self) -> &Name {
        &self.inner.description.name
    }

    /// What the driver said of itself when it was loaded.
    pub fn description(&self) -> &Description {
        &self.inner.description
    }

    /// How it is reached.
    pub fn carrier(&self) -> Carrier {
        self.inner.carrier
    }

    /// Opens the driver. A process that is started again later is opened in the same way.
    pub async fn open(&self, request: Open, call: RequestContext) -> Result<Opened> {
        let remembered = request.clone();
        self.inner.elsewhere.store(request.mount_namespace.is_some(), Ordering::Release);
        let opened = self.call(request, call).await?;
        if let RunningDriver::Process(process) = &self.inner.backend {
            process.opened(remembered, &opened);
        }
        Ok(opened)
    }

    /// Makes a call and checks its answer.
    ///
    /// Dropping the future cancels the call. What [`RequestContext::holding`] keeps is let go when the driver
    /// is done.
    ///
    /// # Errors
    /// The driver's own; `DeadlineExceeded`; `Unavailable` with `retryable` for a process that ended
    /// meanwhile; `Internal` for an answer that breaks a rule of the protocol.
    pub async fn call<R: Request>(&self, request: R, call: RequestContext) -> Result<R::Reply> {
        self.check_running()?;
        let json = to_raw_value(&request).map_err(|error| self.unwritable(R::METHOD, &error))?;
        let ticket = self.inner.calls.begin(R::METHOD, &call.request_id, json.get());
        let call = ticket.admit(self.name(), R::METHOD, call).await?;
        let (request_id, deadline) = (call.request_id.clone(), call.deadline);
        let answer = async {
            match &self.inner.backend {
                RunningDriver::Local(driver) => driver.call(R::METHOD, json.into(), call).await,
                RunningDriver::Process(process) => process.call(R::METHOD, json, call).await,
            }
        };
        let reply = watched(self.name(), R::METHOD, &request_id, answer).await;
        let reply = self.read(&request, reply)?;
        self.look_at_mount(&request, &reply, deadline).await?;
        Ok(reply)
    }

    /// Understands what came back of a call.
    fn read<R: Request>(&self, request: &R, reply: Result<Vec<u8>>) -> Result<R::Reply> {
        let reply = reply.map_err(|error| declared::explain(error, R::METHOD, self.description()))?;
        let broken = |broken: answer::BrokenRule| broken.error(self.name(), R::METHOD);
        let reply = answer::read(request, &reply).map_err(broken)?;
        self.follow_restore(request, &reply).map_err(broken)?;
        Ok(reply)
    }

    /// A restore is finished by its handle: the volume it makes is the one that it was prepared for.
    fn follow_restore<R: Request>(&self, request: &R, reply: &R::Reply) -> answer::RuleCheck {
        let (request, reply): (&dyn Any, &dyn Any) = (request, reply);
        let mut restores = self.inner.restores.lock();
        if let (Some(request), Some(reply)) =
            (request.downcast_ref::<PrepareRestore>(), reply.downcast_ref::<PreparedRestore>())
        {
            restores.insert(reply.handle.clone(), request.name.clone());
        } else if let (Some(request), Some(volume)) =
            (request.downcast_ref::<FinishRestore>(), reply.downcast_ref::<Volume>())
        {
            let asked = restores.remove(&request.handle);
            answer::is_volume(volume, asked.as_ref())?;
        } else if let Some(request) = request.downcast_ref::<AbortRestore>() {
            restores.remove(&request.handle);
        }
        Ok(())
    }

    /// Looks whether the directory is there where a driver says that it has mounted a volume.
    async fn look_at_mount<R: Request>(
        &self,
        request: &R,
        reply: &R::Reply,
        deadline: Option<Instant>,
    ) -> Result<()> {
        let (request, reply): (&dyn Any, &dyn Any) = (request, reply);
        let (Some(request), Some(mounted)) =
            (request.downcast_ref::<MountVolume>(), reply.downcast_ref::<Mounted>())
        else {
            return Ok(());
        };
        if self.inner.elsewhere.load(Ordering::Acquire) {
            return Ok(());
        }
        let (asked, found) = (request.mountpoint.clone(), mounted.mountpoint.clone());
        // It may hang as the storage does.
        let looking = tokio::task::spawn_blocking(move || answer::is_mounted(asked.as_deref(), &found));
        let method = MountVolume::METHOD;
        let looked = wait(self.name(), method, deadline, CancellationToken::new(), looking, || {}).await?;
        let looked = looked.map_err(|error| DriverError::internal(error.to_string()))?;
        looked.map_err(|broken| broken.error(self.name(), method))
    }

    /// Makes a call on this thread, which may block. Cancellation is not heard.
    ///
    /// # Errors
    /// As [`DriverHandle::call`]; `Unsupported` for a process.
    pub fn call_blocking<R: Request>(&self, request: &R, call: &RequestContext) -> Result<R::Reply> {
        self.check_running()?;
        let RunningDriver::Local(driver) = &self.inner.backend else {
            return Err(DriverError::new(
                ErrorKind::Unsupported,
                format!("driver {}: a process cannot be called from this thread", self.name()),
            ));
        };
        let json = serde_json::to_string(request).map_err(|error| self.unwritable(R::METHOD, &error))?;
        let _ticket = self.inner.calls.begin(R::METHOD, &call.request_id, &json);
        self.read(request, driver.call_blocking(R::METHOD, json.as_bytes(), call))
    }

    /// When the driver last gave a sign of life: an answer, or progress; when it was loaded, if there was
    /// none yet.
    pub fn heard(&self) -> Instant {
        self.inner.calls.heard()
    }

    /// The calls that the driver has not answered, the oldest first.
    pub fn under_way(&self) -> Vec<CallUnderWay> {
        self.inner.calls.list()
    }

    /// What `convoy driver list` shows.
    pub fn status(&self) -> DriverStatus {
        let Inner { description, carrier, path, backend, stopped, .. } = &*self.inner;
        let under_way = self.under_way();
        let (health, (pid, restarts, last_error)) = match backend {
            RunningDriver::Local(_) if stopped.load(Ordering::Relaxed) => {
                (DriverHealth::Stopped, (None, 0, None))
            }
            RunningDriver::Local(_) => (DriverHealth::Ready, (None, 0, None)),
            RunningDriver::Process(process) => (process.health(), process.facts()),
        };
        DriverStatus {
            name: description.name.clone(),
            carrier: *carrier,
            path: path.clone(),
            version: description.version.clone(),
            protocol: description.protocol.clone(),
            capabilities: description.capabilities.clone(),
            health,
            calls: under_way.len(),
            under_way,
            pid,
            restarts,
            last_error,
        }
    }

    /// Stops the driver: no new calls; those under way have so long to finish; then it is closed.
    pub async fn stop(&self, drain: Duration) {
        if self.inner.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        match &self.inner.backend {
            RunningDriver::Process(process) => process.stop(drain).await,
            RunningDriver::Local(driver) => {
                let closed = async {
                    while self.inner.calls.count() > 0 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    driver.call(Close::METHOD, "{}".into(), RequestContext::new("stop")).await
                };
                match tokio::time::timeout(drain, closed).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(driver = %self.name(), %error, "a driver could not be closed")
                    }
                    Err(_) => {
                        tracing::warn!(driver = %self.name(), ?drain, "a driver did not finish in time")
                    }
                }
            }
        }
    }

    /// Starts a process again that had been given up; does nothing to others.
    pub fn restart(&self) {
        if let RunningDriver::Process(process) = &self.inner.backend {
            process.restart();
        }
    }

    fn check_running(&self) -> Result<()> {
        if self.inner.stopped.load(Ordering::Acquire) {
            let text = format!("driver {} was stopped", self.name());
            return Err(DriverError::unavailable(text).retryable(false));
        }
        Ok(())
    }

    fn unwritable(&self, method: &str, error: &serde_json::Error) -> DriverError {
        let text = format!("driver {}: the request of {method} cannot be written: {error}", self.name());
        DriverError::internal(text)
    }
}
