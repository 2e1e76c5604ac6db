//! What `POST /doctor` takes and answers.

use super::{Deserialize, Serialize, is_false};

/// What to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Examine {
    /// Repair what can be repaired without losing anything that somebody may want.
    pub repair: bool,
    /// The socket that Docker's plugin specification should name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub socket: String,
}

/// Everything that was found, the worst first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Diagnosis {
    /// Whether the daemon was asked, or only files were read.
    pub daemon: bool,
    /// What was found.
    pub findings: Vec<Symptom>,
}

/// One thing that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Symptom {
    /// `error`: something does not work, or data is at risk; `warning`: it should be looked after; `info`:
    /// worth knowing.
    pub severity: String,
    /// Where: `machine`, `docker`, `daemon`, `driver NAME`, `backups`, `schedules`.
    pub area: String,
    /// What it is about, in a word or two.
    pub subject: String,
    /// What was expected and what was found.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// It was repaired just now.
    #[serde(skip_serializing_if = "is_false")]
    pub repaired: bool,
    /// `convoy doctor --repair` would repair it.
    #[serde(skip_serializing_if = "is_false")]
    pub repairable: bool,
}
