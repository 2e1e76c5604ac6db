//! `convoy doctor`: looks at the machine and at the daemon's state, says what is not as it should be and how
//! to repair it, and repairs what it safely can.
//!
//! - `machine`: kernel, clock, limits, the daemon's directory; `docker`: what the engine needs to find the
//!   daemon.
//! - `settings`: the file on disk against what holds; `state`: drivers, volumes, mounts; `backups`: schedules
//!   and destinations, of a running daemon.
//! - [`offline`]: what can be said without one.

mod backups;
mod docker;
mod machine;
pub mod offline;
mod settings;
mod state;

use crate::api::App;
use convoy_client::types::{Diagnosis, Examine, Symptom};
use convoy_driver_sdk::protocol::{Finding, Severity};
use std::path::Path;

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<(Severity, Symptom)>);

impl Findings {
    fn add(&mut self, area: &str, finding: Finding) {
        let severity = match finding.severity {
            Severity::Info => "info",
            Severity::Error => "error",
            // Of a newer driver: whatever it is, it is not nothing.
            _ => "warning",
        };
        let symptom = Symptom {
            severity: severity.to_owned(),
            area: area.to_owned(),
            subject: finding.subject,
            message: finding.message,
            hint: finding.hint.unwrap_or_default(),
            repaired: finding.repaired,
            repairable: finding.repairable,
        };
        self.0.push((finding.severity, symptom));
    }

    fn into_diagnosis(mut self, daemon: bool) -> Diagnosis {
        let rank = |severity: &str| match severity {
            "error" => 0,
            "warning" => 1,
            _ => 2,
        };
        self.0.sort_by_key(|(_, symptom)| (symptom.repaired, rank(&symptom.severity)));
        Diagnosis { daemon, findings: self.0.into_iter().map(|(_, symptom)| symptom).collect() }
    }
}

fn info(subject: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Info, subject, message)
}

fn warning(subject: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Warning, subject, message)
}

fn error(subject: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Error, subject, message)
}

/// Examines a running daemon and its machine.
pub async fn examine(app: &App, asked: &Examine, request_id: &str) -> Diagnosis {
    let mut findings = Findings::default();
    let root = app.root();
    let socket = asked.socket.clone();
    let of_machine = tokio::task::spawn_blocking(move || {
        let mut findings = Findings::default();
        machine::examine(&root, &mut findings);
        docker::examine(Path::new(&socket), &mut findings);
        findings
    });
    match of_machine.await {
        Ok(found) => findings.0.extend(found.0),
        Err(failed) => findings.add("machine", error("doctor", format!("the examination failed: {failed}"))),
    }
    settings::examine(app, &mut findings).await;
    state::examine(app, asked.repair, request_id, &mut findings).await;
    backups::examine(app, request_id, &mut findings).await;
    findings.into_diagnosis(true)
}
