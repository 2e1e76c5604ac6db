//! What `convoy driver list` shows.

use super::Backend;
use crate::call::Call;
use convoy_client::types::{DriverOption, DriverStatus};
use convoy_driver_sdk::protocol::{Capability, OptionSpec, Probe};
use convoy_drivers::DriverHealth;

impl Backend {
    /// Who the driver is and whether it takes calls, for which it is asked.
    pub async fn status(&self, call: &Call) -> DriverStatus {
        let mut status = DriverStatus { name: self.name.to_string(), ..DriverStatus::default() };
        if let Some(loaded) = &self.loaded {
            let told = loaded.handle.status();
            let description = loaded.handle.description();
            status.version = told.version;
            status.protocol = told.protocol;
            status.summary = description.summary.clone();
            status.carrier = told.carrier.to_string();
            status.path = told.path.map(|path| path.display().to_string()).unwrap_or_default();
            status.pid = told.pid;
            status.restarts = told.restarts.into();
            status.capabilities = description.capabilities.iter().map(capability_name).collect();
            status.options = description.options.iter().map(option).collect();
            status.create_options = description.create_options.iter().map(option).collect();
            status.message = told.last_error.unwrap_or_default();
            if let Some(health) = in_words(&told.health) {
                status.message = [health, std::mem::take(&mut status.message)].join(" ").trim().to_owned();
            }
        }
        match self.call(Probe {}, call).await {
            Ok(probed) => {
                status.healthy = probed.healthy;
                status.message = probed.message.unwrap_or(status.message);
            }
            Err(error) => status.message = error.to_string(),
        }
        status
    }
}

fn in_words(health: &DriverHealth) -> Option<String> {
    match health {
        DriverHealth::Ready => None,
        DriverHealth::Starting => Some("it is starting.".to_owned()),
        DriverHealth::Restarting { in_ms } => Some(format!("it ended and is started again in {in_ms} ms.")),
        DriverHealth::Failed => Some("it ended too often and was given up.".to_owned()),
        DriverHealth::Stopped => Some("it was stopped.".to_owned()),
    }
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
