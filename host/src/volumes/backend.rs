//! One driver as the volume service sees it: ready, or failed with a reason that its volumes answer with.

use super::locks::unpoisoned;
use convoy_client::types::{DriverOption, DriverStatus};
use convoy_driver_sdk::context::Context;
use convoy_driver_sdk::dispatch::Dispatch;
use convoy_driver_sdk::protocol::{Capability, Description, OptionSpec, Probe, Request};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

/// A driver of the daemon.
#[derive(Debug)]
pub struct Backend {
    name: Name,
    state: RwLock<State>,
    /// Set after a call whose outcome is unknown: memory may be wrong.
    suspect: AtomicBool,
    /// Names the listing the index was last made from.
    generation: Mutex<Option<String>>,
}

#[derive(Clone)]
enum State {
    Ready { carrier: Arc<dyn Dispatch>, description: Arc<Description> },
    Failed(DriverError),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ready { description, .. } => f.debug_tuple("Ready").field(description).finish(),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl Backend {
    /// A driver that was opened.
    pub fn ready(carrier: Arc<dyn Dispatch>, description: Description) -> Self {
        let name = description.name.clone();
        Self::new(name, State::Ready { carrier, description: Arc::new(description) })
    }

    /// A driver that could not be opened.
    pub fn failed(name: Name, error: DriverError) -> Self {
        Self::new(name, State::Failed(error))
    }

    fn new(name: Name, state: State) -> Self {
        Self {
            name,
            state: RwLock::new(state),
            suspect: AtomicBool::new(false),
            generation: Mutex::default(),
        }
    }

    /// The name users choose it by.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What it says of itself; `None` when it could not be opened.
    pub fn description(&self) -> Option<Arc<Description>> {
        match &*unpoisoned(self.state.read()) {
            State::Ready { description, .. } => Some(Arc::clone(description)),
            State::Failed(_) => None,
        }
    }

    /// Whether it declares a capability.
    pub fn can(&self, capability: Capability) -> bool {
        self.description().is_some_and(|description| description.can(capability))
    }

    /// Why it could not be opened.
    pub fn failure(&self) -> Option<DriverError> {
        match &*unpoisoned(self.state.read()) {
            State::Ready { .. } => None,
            State::Failed(error) => Some(error.clone()),
        }
    }

    /// What `convoy drivers` shows.
    pub async fn status(&self, context: &Context) -> DriverStatus {
        let mut status = DriverStatus { name: self.name.to_string(), ..DriverStatus::default() };
        if let Some(description) = self.description() {
            status.version = description.version.clone();
            status.protocol = description.protocol.clone();
            status.summary = description.summary.clone();
            status.capabilities = description.capabilities.iter().map(capability_name).collect();
            status.options = description.options.iter().map(option).collect();
            status.create_options = description.create_options.iter().map(option).collect();
        }
        match self.call(Probe {}, context).await {
            Ok(probed) => {
                status.healthy = probed.healthy;
                status.message = probed.message.unwrap_or_default();
            }
            Err(error) => status.message = error.to_string(),
        }
        status
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
    pub async fn call<R: Request>(&self, request: R, context: &Context) -> Result<R::Reply, DriverError> {
        let state = unpoisoned(self.state.read()).clone();
        let carrier = match state {
            State::Ready { carrier, .. } => carrier,
            State::Failed(error) => {
                let mut unavailable = DriverError::new(
                    ErrorKind::Unavailable,
                    format!("driver {} did not start: {error}", self.name),
                );
                unavailable.hint = error.hint;
                return Err(unavailable);
            }
        };
        let context = context.clone();
        let json =
            serde_json::to_vec(&request).map_err(|error| internal::<R>("write the request", &error))?;
        let answer = tokio::task::spawn_blocking(move || carrier.dispatch(R::METHOD, &json, &context))
            .await
            .map_err(|error| internal::<R>("run the call", &error))??;
        serde_json::from_slice(&answer).map_err(|error| internal::<R>("read the reply", &error))
    }
}

fn internal<R: Request>(what: &str, error: &dyn std::fmt::Display) -> DriverError {
    DriverError::new(ErrorKind::Internal, format!("cannot {what} of {}: {error}", R::METHOD))
}

fn option(spec: &OptionSpec) -> DriverOption {
    DriverOption {
        name: spec.name.clone(),
        help: spec.help.clone(),
        default: spec.default.clone(),
        required: spec.required,
        secret: spec.secret,
    }
}

/// As in the driver protocol: `read_tree`.
fn capability_name(capability: &Capability) -> String {
    match serde_json::to_value(capability) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{capability:?}"),
    }
}
