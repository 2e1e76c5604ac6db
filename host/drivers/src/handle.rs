//! Calling a driver, the same through every carrier.

use crate::declared;
use crate::local::LocalDriver;
use crate::options::CallOptions;
use crate::process::Process;
use crate::spec::Carrier;
use crate::status::{DriverHealth, DriverStatus};
use convoy_driver_sdk::protocol::{Close, Description, Open, Opened, Request};
use convoy_driver_sdk::{DriverError, ErrorKind, Name, Result};
use serde_json::value::to_raw_value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A loaded driver. Cheap to clone; a process is ended when the last clone is dropped.
#[derive(Clone)]
pub struct DriverHandle {
    inner: Arc<Inner>,
}

struct Inner {
    description: Description,
    carrier: Carrier,
    path: Option<PathBuf>,
    backend: Backend,
    stopped: AtomicBool,
}

pub(crate) enum Backend {
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
        backend: Backend,
    ) -> Self {
        let stopped = AtomicBool::new(false);
        Self { inner: Arc::new(Inner { description, carrier, path, backend, stopped }) }
    }

    /// The driver's name.
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
    ///
    /// # Errors
    /// As [`DriverHandle::call`].
    pub async fn open(&self, request: Open, options: CallOptions) -> Result<Opened> {
        let remembered = request.clone();
        let opened = self.call(request, options).await?;
        if let Backend::Process(process) = &self.inner.backend {
            process.opened(remembered, &opened);
        }
        Ok(opened)
    }

    /// Makes a call.
    ///
    /// Dropping the future cancels the call. What [`CallOptions::hold`] keeps is let go when the driver is done.
    ///
    /// # Errors
    /// The driver's own; `DeadlineExceeded`; `Unavailable` with `retryable` for a process that ended meanwhile.
    pub async fn call<R: Request>(&self, request: R, options: CallOptions) -> Result<R::Reply> {
        self.check_running()?;
        let json = to_raw_value(&request).map_err(|error| self.unreadable(R::METHOD, &error))?;
        drop(request);
        let reply = match &self.inner.backend {
            Backend::Local(driver) => driver.call(R::METHOD, json.into(), options).await,
            Backend::Process(process) => process.call(R::METHOD, json, options).await,
        };
        let reply = reply.map_err(|error| declared::explain(error, R::METHOD, self.description()))?;
        serde_json::from_slice(&reply).map_err(|error| self.unreadable(R::METHOD, &error))
    }

    /// Makes a call on this thread, which may block. Cancellation is not heard.
    ///
    /// # Errors
    /// As [`DriverHandle::call`]; `Unsupported` for a process.
    pub fn call_blocking<R: Request>(&self, request: &R, options: &CallOptions) -> Result<R::Reply> {
        self.check_running()?;
        let Backend::Local(driver) = &self.inner.backend else {
            return Err(DriverError::new(
                ErrorKind::Unsupported,
                format!("driver {}: a process cannot be called from this thread", self.name()),
            ));
        };
        let json = serde_json::to_vec(request).map_err(|error| self.unreadable(R::METHOD, &error))?;
        let reply = driver.call_blocking(R::METHOD, &json, options)?;
        serde_json::from_slice(&reply).map_err(|error| self.unreadable(R::METHOD, &error))
    }

    /// What `convoy driver list` shows.
    pub fn status(&self) -> DriverStatus {
        let Inner { description, carrier, path, backend, stopped } = &*self.inner;
        let (health, calls, (pid, restarts, last_error)) = match backend {
            Backend::Local(driver) if stopped.load(Ordering::Relaxed) => {
                (DriverHealth::Stopped, driver.calls(), (None, 0, None))
            }
            Backend::Local(driver) => (DriverHealth::Ready, driver.calls(), (None, 0, None)),
            Backend::Process(process) => (process.health(), process.calls(), process.facts()),
        };
        DriverStatus {
            name: description.name.clone(),
            carrier: *carrier,
            path: path.clone(),
            version: description.version.clone(),
            protocol: description.protocol.clone(),
            capabilities: description.capabilities.clone(),
            health,
            calls,
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
            Backend::Process(process) => process.stop(drain).await,
            Backend::Local(driver) => {
                let closed = async {
                    while driver.calls() > 0 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    driver.call(Close::METHOD, "{}".into(), CallOptions::new("stop")).await
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
        if let Backend::Process(process) = &self.inner.backend {
            process.restart();
        }
    }

    fn check_running(&self) -> Result<()> {
        if self.inner.stopped.load(Ordering::Acquire) {
            let text = format!("driver {} was stopped", self.name());
            return Err(DriverError::new(ErrorKind::Unavailable, text).retryable(false));
        }
        Ok(())
    }

    fn unreadable(&self, method: &str, error: &serde_json::Error) -> DriverError {
        let text = format!("driver {}: its answer to {method} cannot be read: {error}", self.name());
        DriverError::new(ErrorKind::Internal, text)
            .hint("this is a defect of the driver: report it to its author with the log")
    }
}
