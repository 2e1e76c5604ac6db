//! Tells whoever wants to know how a run ended.

use super::hooks::{self, on_host};
use convoy_schedule::config::Occasion;
use convoy_schedule::schedule::{Channel, Notify, Variable};
use serde::Serialize;
use std::time::Duration;

/// How long a program or a server may take to be told.
const LIMIT: Duration = Duration::from_secs(30);

/// How often a server is told that cannot be reached, and how long is waited in between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(5);

/// How a run ended, or that it does not, as it is told.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Report {
    /// The name of the schedule.
    pub(super) schedule: String,
    /// The name of the volume.
    pub(super) volume: String,
    /// `success`, `failure` or `stall`.
    pub(super) result: &'static str,
    /// Why it failed, or does not end.
    pub(super) error: String,
    /// The moment it was for.
    pub(super) at: String,
    /// The snapshot, if one was made.
    pub(super) snapshot: String,
    /// The backup, if one was made.
    pub(super) backup: String,
    /// How long it took, in seconds.
    pub(super) seconds: u64,
    /// The name of this host.
    pub(super) host: String,
}

/// Tells those who are to be told. A failure to tell is logged.
pub(super) async fn tell(notify: &[Notify], report: &Report) {
    let failed = !report.error.is_empty();
    for one in notify.iter().filter(|one| failed || one.on == Occasion::Always) {
        let result = match &one.channel {
            Channel::Command(command, variables) => by_command(command, variables, report).await,
            Channel::Webhook(url, headers) => by_webhook(url, headers, report).await,
        };
        if let Err(error) = result {
            tracing::error!(
                schedule = report.schedule,
                volume = report.volume,
                error,
                "nobody could be notified"
            );
        }
    }
}

async fn by_command(command: &[String], variables: &[Variable], report: &Report) -> Result<(), String> {
    let text = serde_json::to_string(report).map_err(|error| error.to_string())?;
    let own = [
        ("CONVOY_SCHEDULE", report.schedule.clone()),
        ("CONVOY_VOLUME", report.volume.clone()),
        ("CONVOY_RESULT", report.result.to_owned()),
        ("CONVOY_ERROR", report.error.clone()),
    ];
    let environment = hooks::environment(variables, &own);
    on_host(command, LIMIT, &environment, Some(&text)).await.map(drop).map_err(|error| error.to_string())
}

async fn by_webhook(
    url: &str,
    headers: &std::collections::BTreeMap<String, String>,
    report: &Report,
) -> Result<(), String> {
    // An error says that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(LIMIT).build().map_err(|error| error.to_string())?;
    let mut last = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let mut request = client.post(url).json(report);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        match request.send().await {
            Ok(response) if response.status().is_success() => return Ok(()),
            // It was understood and not wanted: again it would be no different.
            Ok(response) if response.status().is_client_error() => {
                return Err(format!("the webhook answered {}", response.status()));
            }
            Ok(response) => last = format!("the webhook answered {}", response.status()),
            // Without the URL: it may be a secret.
            Err(error) => last = format!("the webhook cannot be reached: {}", causes(&error.without_url())),
        }
    }
    Err(last)
}

fn causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", causes(source)),
        None => error.to_string(),
    }
}
