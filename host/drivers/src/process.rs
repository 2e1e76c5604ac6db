//! Drivers in programs of their own.
//!
//! - [`spawn`]: starting the program, as `confine` lets it; [`output`]: what it writes beside the protocol.
//! - [`connection`]: calls, by the client of `jsonrpsee`; [`transport`], [`messages`]: what goes over the
//!   socket.
//! - [`launch`]: hello, describe and open; [`supervise`]: when it ends, start it again.

use crate::context::RequestContext;
use crate::error::LoadError;
use crate::restart::RestartPolicy;
use crate::status::DriverHealth;
use crate::wait::wait;
use connection::Connection;
use convoy_driver_sdk::protocol::{Description, Open, Opened};
use convoy_driver_sdk::{DriverError, Name, Result};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

mod confine;
mod connection;
mod launch;
mod messages;
mod output;
mod spawn;
mod supervise;
pub(crate) mod transport;

pub(crate) use launch::check_name;

/// How long a call waits for a process that is being started again.
const WAIT_FOR_RESTART: Duration = Duration::from_secs(10);

/// A driver's process, whichever one it is at the moment.
pub(crate) struct Process {
    shared: Arc<Shared>,
}

/// What the supervisor and the callers share.
struct Shared {
    name: Name,
    path: PathBuf,
    policy: RestartPolicy,
    phase: watch::Sender<Phase>,
    record: Mutex<ProcessState>,
    /// The supervisor is asked to stop (`Some`: how long to drain) or to start again after a failure.
    request: Mutex<Option<SupervisorRequest>>,
    requested: Notify,
}

#[derive(Clone)]
enum Phase {
    Starting,
    Ready(Arc<Connection>),
    Waiting { until: Instant },
    Failed,
    Stopped,
}

#[derive(Default)]
struct ProcessState {
    open: Option<Open>,
    pid: Option<u32>,
    restarts: u32,
    last_error: Option<String>,
}

#[derive(Clone, Copy)]
enum SupervisorRequest {
    Stop { drain: Duration },
    Restart,
}

impl Shared {
    fn request(&self, request: SupervisorRequest) {
        *self.request.lock() = Some(request);
        self.requested.notify_one();
    }

    fn take_request(&self) -> Option<SupervisorRequest> {
        self.request.lock().take()
    }
}

impl Process {
    /// Starts a driver and supervises it from now on. The first start is not repeated when it fails.
    pub(crate) async fn load(
        path: &Path,
        expected: Option<&Name>,
        policy: RestartPolicy,
    ) -> std::result::Result<(Self, Description), LoadError> {
        let (running, description) = launch::launch(path, expected, policy.give_up_after > 1).await?;
        let shared = Arc::new(Shared {
            name: description.name.clone(),
            path: path.to_owned(),
            policy,
            phase: watch::Sender::new(Phase::Ready(Arc::clone(&running.connection))),
            record: Mutex::new(ProcessState { pid: running.child.id(), ..ProcessState::default() }),
            request: Mutex::default(),
            requested: Notify::new(),
        });
        tokio::spawn(supervise::supervise(Arc::clone(&shared), running));
        Ok((Self { shared }, description))
    }

    /// Makes a call over the process that runs, or over the next one.
    pub(crate) async fn call(
        &self,
        method: &'static str,
        request: Box<RawValue>,
        context: RequestContext,
    ) -> Result<Vec<u8>> {
        let connection = self.ready(context.deadline).await?;
        let (deadline, cancel) = (context.deadline, context.cancel.clone());
        let call = connection.call(method, request, context)?;
        let tell = call.canceller();
        wait(&self.shared.name, method, deadline, cancel, call, tell).await?
    }

    /// Remembers how the driver was opened, for its restarts. Called when that succeeded.
    pub(crate) fn opened(&self, open: Open, _: &Opened) {
        self.shared.record.lock().open = Some(open);
    }

    /// Drains and stops it: what is under way may take so long to finish.
    pub(crate) async fn stop(&self, drain: Duration) {
        self.shared.request(SupervisorRequest::Stop { drain });
        let mut phase = self.shared.phase.subscribe();
        // An error means that the supervisor is gone already.
        let _ = phase.wait_for(|phase| matches!(phase, Phase::Stopped)).await;
    }

    /// Starts it again after it was given up.
    pub(crate) fn restart(&self) {
        self.shared.request(SupervisorRequest::Restart);
    }

    pub(crate) fn health(&self) -> DriverHealth {
        match &*self.shared.phase.borrow() {
            Phase::Starting => DriverHealth::Starting,
            Phase::Ready(_) => DriverHealth::Ready,
            Phase::Waiting { until } => {
                let left = until.saturating_duration_since(Instant::now()).as_millis();
                DriverHealth::Restarting { in_ms: u64::try_from(left).unwrap_or(u64::MAX) }
            }
            Phase::Failed => DriverHealth::Failed,
            Phase::Stopped => DriverHealth::Stopped,
        }
    }

    /// Pid, restarts and last error.
    pub(crate) fn facts(&self) -> (Option<u32>, u32, Option<String>) {
        let record = self.shared.record.lock();
        (record.pid, record.restarts, record.last_error.clone())
    }

    /// Waits until there is a process to talk to.
    async fn ready(&self, deadline: Option<Instant>) -> Result<Arc<Connection>> {
        if let Phase::Ready(connection) = &*self.shared.phase.borrow() {
            return Ok(Arc::clone(connection));
        }
        let patience = Instant::now() + WAIT_FOR_RESTART;
        let end = deadline.map_or(patience, |deadline| deadline.min(patience));
        let mut phase = self.shared.phase.subscribe();
        let settled =
            phase.wait_for(|phase| matches!(phase, Phase::Ready(_) | Phase::Failed | Phase::Stopped));
        let settled = match tokio::time::timeout_at(end.into(), settled).await {
            Ok(Ok(phase)) => Some(phase.clone()),
            Ok(Err(_)) => Some(Phase::Stopped),
            Err(_) => None,
        };
        let name = &self.shared.name;
        let error = self.shared.record.lock().last_error.clone().unwrap_or_default();
        let unavailable = DriverError::unavailable;
        match settled {
            Some(Phase::Ready(connection)) => Ok(connection),
            Some(Phase::Stopped) => Err(unavailable(format!("driver {name} was stopped")).retryable(false)),
            Some(_) if self.shared.policy == RestartPolicy::NEVER => {
                Err(unavailable(format!("driver {name} ended: {error}")).retryable(false))
            }
            Some(_) => Err(unavailable(format!("driver {name} ended too often and was given up: {error}"))
                .retryable(false)
                .hint("see its log, correct the cause, and restart the driver or the daemon")),
            None => Err(unavailable(format!("driver {name} is being started again: {error}"))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.shared.request(SupervisorRequest::Stop { drain: Duration::ZERO });
    }
}
