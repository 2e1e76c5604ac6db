//! What was found so far.

use convoy_client::types::{Diagnosis, Symptom};
use convoy_driver_sdk::protocol::{Finding, Severity};

#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(Severity, Symptom)>);

impl Findings {
    pub(super) fn add(&mut self, area: &str, finding: Finding) {
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

    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Sorts what was found, the worst first. `daemon` says whether a daemon runs.
    pub(super) fn into_diagnosis(mut self, daemon: bool) -> Diagnosis {
        let rank = |severity: &str| match severity {
            "error" => 0,
            "warning" => 1,
            _ => 2,
        };
        self.0.sort_by_key(|(_, symptom)| (symptom.repaired, rank(&symptom.severity)));
        Diagnosis { daemon, findings: self.0.into_iter().map(|(_, symptom)| symptom).collect() }
    }
}

pub(super) fn info(subject: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Info, subject, message)
}

pub(super) fn warning(subject: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Warning, subject, message)
}

pub(super) fn error(subject: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Error, subject, message)
}
