//! What `convoy driver list` shows of a loaded driver.

use crate::spec::Carrier;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::protocol::Capability;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Whether calls can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum DriverHealth {
    /// The driver takes calls.
    Ready,
    /// The process is starting.
    Starting,
    /// The process ended and is started again soon.
    Restarting {
        /// How many milliseconds it is until the next start.
        in_ms: u64,
    },
    /// The process ended too often and is left alone until somebody asks for a restart.
    Failed,
    /// It was stopped, and is not started again.
    Stopped,
}

/// A call that the driver has not answered yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallUnderWay {
    /// The method that was called: `volume.create`.
    pub method: String,
    /// The request that it belongs to, as in the log.
    pub request_id: String,
    /// The volume it is about, if it is about one.
    pub volume: Option<Name>,
    /// Milliseconds since it was made.
    pub age_ms: u64,
    /// It waits for other calls to end: the driver was not given it yet.
    pub waiting: bool,
}

/// What `convoy driver list` shows of a loaded driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverStatus {
    /// The name of the driver.
    pub name: Name,
    /// How it is reached.
    pub carrier: Carrier,
    /// Its file; none for a builtin.
    pub path: Option<PathBuf>,
    /// The driver's own version.
    pub version: String,
    /// The protocol version it was built with.
    pub protocol: String,
    /// The capabilities that it declares.
    pub capabilities: BTreeSet<Capability>,
    /// Whether calls can be made.
    pub health: DriverHealth,
    /// How many calls are under way, those nobody waits for any more among them.
    pub calls: usize,
    /// These calls, the oldest first.
    pub under_way: Vec<CallUnderWay>,
    /// The id of its process, if it runs in one.
    pub pid: Option<u32>,
    /// How often the process was started again.
    pub restarts: u32,
    /// Why the process ended last.
    pub last_error: Option<String>,
}
