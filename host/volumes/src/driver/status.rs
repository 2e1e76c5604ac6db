//! What `convoy driver list` shows.

use super::ManagedDriver;
use convoy_client::types::{DriverCall, DriverOption, DriverStatus};
use convoy_driver_sdk::protocol::{Capability, OptionSpec, Probe};
use convoy_drivers::{CallUnderWay, DriverHealth, RequestContext};

impl ManagedDriver {
    /// Lists the calls that the driver has not answered, the oldest first.
    pub fn under_way(&self) -> Vec<DriverCall> {
        self.loaded.iter().flat_map(|loaded| loaded.handle.under_way()).map(|call| under_way(&call)).collect()
    }

    /// Who the driver is and whether it takes calls, for which it is asked, unless it is known not to answer.
    pub async fn status(&self, call: &RequestContext) -> DriverStatus {
        let mut status = DriverStatus { name: self.name.to_string(), ..DriverStatus::default() };
        let probed = self.unless_silent(Probe::new(), call).await;
        if let Some(loaded) = &self.loaded {
            // A driver that ended may be back once it has answered.
            let told = loaded.handle.status();
            let description = loaded.handle.description();
            status.message =
                in_words(&told.health, told.restarts, told.last_error.as_deref().unwrap_or_default());
            status.version = told.version;
            status.protocol = told.protocol;
            status.summary = description.summary.clone();
            status.carrier = told.carrier.to_string();
            status.calls = told.under_way.iter().map(under_way).collect();
            status.path = told.path.map(|path| path.display().to_string()).unwrap_or_default();
            status.pid = told.pid;
            status.restarts = told.restarts.into();
            status.capabilities = description.capabilities.iter().map(capability_name).collect();
            status.options = description.options.iter().map(option).collect();
            status.create_options = description.create_options.iter().map(option).collect();
        }
        match probed {
            Ok(probed) => {
                status.healthy = probed.healthy;
                status.message = probed.message.unwrap_or(status.message);
            }
            Err(error) => status.message = error.to_string(),
        }
        status
    }
}

/// What a person is told beside whether it takes calls.
fn in_words(health: &DriverHealth, restarts: u32, why: &str) -> String {
    let state = match health {
        DriverHealth::Ready if restarts > 0 => {
            return format!("started again (restart {restarts}) after it ended: {why}");
        }
        DriverHealth::Ready => String::new(),
        DriverHealth::Starting => "it is starting.".to_owned(),
        DriverHealth::Restarting { in_ms } => format!("it ended and is started again in {in_ms} ms."),
        DriverHealth::Failed => "it ended too often and was given up.".to_owned(),
        DriverHealth::Stopped => "it was stopped.".to_owned(),
    };
    format!("{state} {why}").trim().to_owned()
}

fn option(spec: &OptionSpec) -> DriverOption {
    DriverOption {
        name: spec.name.clone(),
        help: spec.help.clone(),
        default: spec.default.clone(),
        required: spec.required,
        secret: spec.secret,
        docker: spec.docker,
    }
}

/// A call that is not answered yet, as `GET /drivers` tells it.
fn under_way(call: &CallUnderWay) -> DriverCall {
    DriverCall {
        method: call.method.clone(),
        volume: call.volume.as_ref().map(ToString::to_string).unwrap_or_default(),
        request_id: call.request_id.clone(),
        seconds: call.age_ms / 1000,
        waiting: call.waiting,
    }
}

/// As in the driver protocol: `read_tree`.
fn capability_name(capability: &Capability) -> String {
    match serde_json::to_value(capability) {
        Ok(serde_json::Value::String(name)) => name,
        // A unit variant is a text as JSON.
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_back_is_not_said_to_be_away() {
        assert_eq!(in_words(&DriverHealth::Ready, 0, ""), "");
        let back = in_words(&DriverHealth::Ready, 2, "it was killed");
        assert_eq!(back, "started again (restart 2) after it ended: it was killed");
        let away = in_words(&DriverHealth::Restarting { in_ms: 75 }, 2, "it was killed");
        assert_eq!(away, "it ended and is started again in 75 ms. it was killed");
    }
}
