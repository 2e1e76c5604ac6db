//! From the names on the command line to open drivers.

use crate::config::Config;
use crate::config::options::{self, OptionError, Options};
use convoy_cli::settings::EMBEDDED_DRIVER;
use convoy_driver_local::LocalDriver;
use convoy_driver_sdk::dispatch::{Dispatch, Dispatcher};
use convoy_driver_sdk::protocol::{Description, Open, Opened};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_driver_vfs::VfsDriver;
use convoy_drivers::{DriverHandle, DriverSpec, Drivers, LoadError, SearchPath};
use convoy_volumes::{DriverSet, ManagedDriver};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long drivers are waited for until they are open. Docker waits half a minute for a plugin that is not
/// there yet.
const PATIENCE: Duration = Duration::from_secs(20);

/// Drivers that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum DriversError {
    #[error("invalid --drivers {given:?}: {why}")]
    Spec { given: String, why: String },
    #[error(transparent)]
    Option(#[from] OptionError),
    /// One that was asked for by a first start does not exist.
    #[error("{error} ({})", error.hint())]
    NotFound { error: LoadError },
    #[error("--drivers names driver {0} twice")]
    Twice(Name),
    #[error("no driver could be started:{0}")]
    None(String),
}

/// Loads and opens the drivers of a configuration. One that fails is there with the reason, unless all do;
/// one that takes its time goes on being opened.
pub async fn open(root: &Path, config: &Config) -> Result<DriverSet, DriversError> {
    let given = &config.driver_options;
    let installed = installed(&config.settings.driver_path);
    let mut loaded = Vec::new();
    for text in &config.settings.drivers {
        let spec: DriverSpec = text
            .parse()
            .map_err(|error| DriversError::Spec { given: text.clone(), why: format!("{error}") })?;
        match installed.load(&spec).await {
            // A typing error is to be found at once; a driver that is gone later costs only its own volumes.
            Err(error @ LoadError::NotFound { .. }) if config.first_start => {
                return Err(DriversError::NotFound { error });
            }
            result => loaded.push((spec, result)),
        }
    }
    // Which options a driver that cannot be loaded knows is not known either.
    if loaded.iter().all(|(_, result)| result.is_ok()) {
        let known: Vec<&Description> = loaded
            .iter()
            .filter_map(|(_, result)| result.as_ref().ok())
            .map(DriverHandle::description)
            .collect();
        options::refuse_unknown(given, &known)?;
    }
    let backends = make(root, config, given, loaded)?;
    let mut reasons = String::new();
    let opened = futures::future::join_all(backends.iter().map(|driver| open_one(driver))).await;
    for (driver, opened) in backends.iter().zip(opened) {
        if let Err(error) = opened {
            tracing::error!(driver = %driver.name(), %error, "a driver could not be started");
            reasons.push_str(&format!("\n  {}: {error}", driver.name()));
            if let Some(hint) = &error.hint {
                reasons.push_str(&format!(" ({hint})"));
            }
        }
    }
    // Storage that does not answer is waited for by a daemon that runs: it can say so, and knows what is
    // mounted.
    let hopeless = |failure: DriverError| failure.kind != ErrorKind::DeadlineExceeded;
    if backends.iter().all(|driver| driver.failure().is_some_and(hopeless)) {
        return Err(DriversError::None(reasons));
    }
    let mut backends = backends.into_iter();
    match backends.next() {
        Some(first) => Ok(DriverSet::new(first, backends.collect())),
        None => Err(DriversError::None(reasons)),
    }
}

/// Every driver that could be loaded.
pub fn installed(path: &[PathBuf]) -> Drivers {
    Drivers::new(SearchPath::standard(path))
        .builtin(Name::from_static(EMBEDDED_DRIVER), || {
            Arc::new(Dispatcher::<VfsDriver>::new()) as Arc<dyn Dispatch>
        })
        .builtin(Name::from_static("local"), || {
            Arc::new(Dispatcher::<LocalDriver>::new()) as Arc<dyn Dispatch>
        })
}

fn make(
    root: &Path,
    config: &Config,
    given: &Options,
    loaded: Vec<(DriverSpec, Result<DriverHandle, LoadError>)>,
) -> Result<Vec<Arc<ManagedDriver>>, DriversError> {
    let mut backends: Vec<Arc<ManagedDriver>> = Vec::new();
    for (spec, result) in loaded {
        let backend = match result {
            Ok(handle) => {
                let open = Open::new(root.join(handle.name().as_str()))
                    .options(options::for_driver(given, handle.description()))
                    .override_saved(config.override_saved)
                    .mount_namespace(config.settings.mnt_ns.clone())
                    .command_timeout_ms(
                        config
                            .settings
                            .cmd_timeout
                            .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
                    );
                ManagedDriver::loaded(handle, open)
            }
            Err(error) => {
                let name = spec
                    .name()
                    .ok_or_else(|| DriversError::Spec { given: spec.to_string(), why: error.to_string() })?;
                ManagedDriver::failed(name, DriverError::from(error))
            }
        };
        if backends.iter().any(|other| other.name() == backend.name()) {
            return Err(DriversError::Twice(backend.name().clone()));
        }
        backends.push(Arc::new(backend));
    }
    Ok(backends)
}

async fn open_one(driver: &ManagedDriver) -> Result<(), DriverError> {
    let Opened { recovered, warnings, .. } = driver.open(PATIENCE).await?;
    for line in recovered {
        tracing::info!(driver = %driver.name(), line, "recovered");
    }
    for line in warnings {
        tracing::warn!(driver = %driver.name(), line, "needs attention");
    }
    Ok(())
}
