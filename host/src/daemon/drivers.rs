//! From the names on the command line to open drivers.

use super::config::Config;
use super::options::{self, OptionError, Options};
use crate::volumes::backend::Backend;
use crate::volumes::set::DriverSet;
use convoy_driver_sdk::context::Context;
use convoy_driver_sdk::dispatch::{Dispatch, Dispatcher};
use convoy_driver_sdk::protocol::{Describe, Description, Open, Opened, Request};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_driver_vfs::VfsDriver;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The driver of a daemon that was given none.
pub const EMBEDDED: &str = "vfs";

/// How long a driver may take to open: it finishes or undoes what a crash had cut off.
const OPEN: Duration = Duration::from_secs(300);

/// Drivers that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DriversError {
    /// An option.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// None could be opened.
    #[error("no driver could be started:{0}")]
    None(String),
    /// There is no such driver.
    #[error("Driver {0} is not supported!")]
    Unknown(String),
}

/// Opens the drivers of a configuration. One that fails is there with the reason, unless all do.
///
/// # Errors
/// [`DriversError`].
pub async fn open(root: &Path, config: &Config, given: &Options) -> Result<DriverSet, DriversError> {
    let mut found = Vec::new();
    for name in &config.general.driver_list {
        let carrier = builtin(name).ok_or_else(|| DriversError::Unknown(name.clone()))?;
        let description = call(&carrier, Describe {}, &Context::new("start")).await;
        found.push((name.clone(), carrier, description));
    }
    let known: Vec<&Description> = found.iter().filter_map(|(_, _, told)| told.as_ref().ok()).collect();
    options::refuse_unknown(given, &known)?;
    let mut backends = Vec::new();
    let mut reasons = String::new();
    for (name, carrier, description) in found {
        let opened = match description {
            Ok(description) => {
                open_one(root, config, given, &carrier, &description).await.map(|()| description)
            }
            Err(error) => Err(error),
        };
        match opened {
            Ok(description) => backends.push(Arc::new(Backend::ready(carrier, description))),
            Err(error) => {
                tracing::error!(driver = name, %error, "a driver could not be started");
                reasons.push_str(&format!("\n  {name}: {error}"));
                if let Some(hint) = &error.hint {
                    reasons.push_str(&format!(" ({hint})"));
                }
                let name = Name::parse(name.clone()).map_err(|_| DriversError::Unknown(name))?;
                backends.push(Arc::new(Backend::failed(name, error)));
            }
        }
    }
    if backends.iter().all(|driver| driver.failure().is_some()) {
        return Err(DriversError::None(reasons));
    }
    let mut backends = backends.into_iter();
    match backends.next() {
        Some(first) => Ok(DriverSet::new(first, backends.collect())),
        None => Err(DriversError::None(String::new())),
    }
}

fn builtin(name: &str) -> Option<Arc<dyn Dispatch>> {
    (name == EMBEDDED).then(|| Arc::new(Dispatcher::<VfsDriver>::new()) as Arc<dyn Dispatch>)
}

async fn open_one(
    root: &Path,
    config: &Config,
    given: &Options,
    carrier: &Arc<dyn Dispatch>,
    description: &Description,
) -> Result<(), DriverError> {
    let request = Open {
        root: root.join(description.name.as_str()),
        options: options::for_driver(given, description),
        mount_namespace: config.mount_namespace.clone(),
        command_timeout_ms: config
            .command_timeout
            .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
    };
    let context = crate::volumes::within(&Context::new("start"), OPEN);
    let Opened { recovered, warnings } = call(carrier, request, &context).await?;
    for line in recovered {
        tracing::info!(driver = %description.name, line, "recovered");
    }
    for line in warnings {
        tracing::warn!(driver = %description.name, line, "needs attention");
    }
    Ok(())
}

async fn call<R: Request>(
    carrier: &Arc<dyn Dispatch>,
    request: R,
    context: &Context,
) -> Result<R::Reply, DriverError> {
    let internal = |error: String| DriverError::new(ErrorKind::Internal, error);
    let json = serde_json::to_vec(&request).map_err(|error| internal(error.to_string()))?;
    let (carrier, context) = (Arc::clone(carrier), context.clone());
    let answer = tokio::task::spawn_blocking(move || carrier.dispatch(R::METHOD, &json, &context))
        .await
        .map_err(|error| internal(error.to_string()))??;
    serde_json::from_slice(&answer).map_err(|error| internal(error.to_string()))
}
