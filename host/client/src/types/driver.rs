//! What `GET /drivers` takes and answers.

use super::{Deserialize, Serialize};

/// A driver that the daemon has loaded, or that `convoy driver list` found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverStatus {
    /// The name users choose it by.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// The version of the driver protocol it speaks.
    pub protocol: String,
    /// One line about it.
    pub summary: String,
    /// How it is reached: `builtin`, `library` or `process`.
    pub carrier: String,
    /// The file it was loaded from; empty for a builtin one.
    pub path: String,
    /// The process; missing for other carriers and while it is down.
    #[serde(rename = "PID", skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How often the process was started again.
    pub restarts: u64,
    /// Whether it takes calls.
    pub healthy: bool,
    /// Why not, or what soon will be wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Installed, but not loaded by the daemon that answered, or there is none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not_loaded: bool,
    /// Why it cannot be loaded, and what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Whether a create that names no driver goes to it.
    pub default: bool,
    /// Calls that it has not answered yet, the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<DriverCall>,
    /// What it can do, sorted.
    pub capabilities: Vec<String>,
    /// Options of the driver (`--driver-opts`).
    pub options: Vec<DriverOption>,
    /// Options of a create (`--opt`).
    pub create_options: Vec<DriverOption>,
}

/// A call that a driver has not answered yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverCall {
    /// The method of the driver protocol: `volume.create`.
    pub method: String,
    /// The volume it is about; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume: String,
    /// The request it belongs to, as in the log.
    #[serde(rename = "RequestID")]
    pub request_id: String,
    /// For how many seconds it has not been answered.
    pub seconds: u64,
    /// It waits for other calls of the driver to end.
    pub waiting: bool,
}

impl DriverCall {
    /// For a person: `volume.create of vol1 has not been answered for 100 s`.
    pub fn in_words(&self) -> String {
        let of = if self.volume.is_empty() { String::new() } else { format!(" of {}", self.volume) };
        let what = if self.waiting { "has waited for other calls" } else { "has not been answered" };
        format!("{}{of} {what} for {} s", self.method, self.seconds)
    }
}

/// An option that a driver understands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverOption {
    /// As the user writes it.
    pub name: String,
    /// One line of help.
    pub help: String,
    /// What holds when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Whether it must be given.
    pub required: bool,
    /// Whether its value is never logged, stored or shown.
    pub secret: bool,
    /// Of a create: whether Docker's users may give it without `docker-options`.
    pub docker: bool,
}
