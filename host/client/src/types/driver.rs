//! `GET /drivers`.

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
    /// What it can do, sorted.
    pub capabilities: Vec<String>,
    /// Options of the driver (`--driver-opts`).
    pub options: Vec<DriverOption>,
    /// Options of a create (`--opt`).
    pub create_options: Vec<DriverOption>,
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
