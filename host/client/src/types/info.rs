//! What `GET /info` takes and answers.

use super::{BTreeMap, Deserialize, Pairs, Serialize};

/// The daemon's settings, and what each driver says of itself.
///
/// The daemon prints it with [`crate::gojson::info`], which keeps the layout of 0.5.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The daemon's settings.
    #[serde(rename = "General", default)]
    pub general: General,
    /// How the settings on disk differ from those that hold, and why; empty if they do not.
    #[serde(rename = "Settings", default, skip_serializing_if = "Pairs::is_empty")]
    pub settings: Pairs,
    /// By driver name.
    #[serde(flatten)]
    pub drivers: BTreeMap<String, Pairs>,
}

/// The daemon's settings, as they also stand in `convoy.cfg`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct General {
    /// The directory of records.
    pub root: String,
    /// The drivers, in the order they were given.
    pub driver_list: Vec<String>,
    /// The driver of a create that names none.
    pub default_driver: String,
    /// The mount namespace to mount in; empty: the daemon's own.
    #[serde(rename = "MountNamespaceFD")]
    pub mount_namespace_fd: String,
    /// Whether Docker's Remove does nothing.
    pub ignore_docker_delete: bool,
    /// Whether Docker's Mount of an unknown volume creates it.
    pub create_on_docker_mount: bool,
    /// How long an external command may take (`1m`); empty: the default.
    pub cmd_timeout: String,
}

/// A setting of the daemon, in the answer to `GET /config`: by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigValue {
    /// The value; a list with commas.
    pub value: String,
    /// Where it comes from: `default`, `/etc/convoy/convoy.toml:12`, `environment NAME`, `flag --name`,
    /// `saved in FILE`.
    pub source: String,
}

/// What reading the settings again did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReloadedConfig {
    /// Settings that hold from now on.
    pub applied: Vec<String>,
    /// Settings that changed and need a restart.
    pub needs_restart: Vec<String>,
}

/// The answer to `GET /healthz`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `ok`; `degraded` when a driver cannot be used; `stopping`.
    pub status: String,
    /// What is wrong with each driver; empty for one that is ready.
    pub drivers: Pairs,
}
