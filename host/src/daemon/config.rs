//! The daemon's settings: what the command line says, and what `convoy.cfg` kept of an earlier start.
//!
//! The file has the form of convoy 0.5, byte for byte. What is saved holds where the command line says nothing; where
//! it says something else, the start is refused, since either could be the mistake.

use super::duration;
use convoy_cli::args::DaemonArgs;
use convoy_client::types::General;
use convoy_driver_sdk::atomic;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's name, in the daemon's root.
pub const FILE: &str = "convoy.cfg";

/// The shortest time an external command of a driver may be given.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The saved ones cannot be read.
    #[error("cannot read the saved configuration {}: {error}; repair it, or start with --ignore-config-file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// They cannot be saved.
    #[error("cannot save the configuration {}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The command line says something else.
    #[error(
        "the saved configuration {} and the command line differ:{differences}\n\
         Leave the option out to go on as saved, or add --ignore-config-file to take the command line's.",
        path.display()
    )]
    Differs {
        /// The file.
        path: PathBuf,
        /// Each on a line of its own.
        differences: String,
    },
    /// `--cmd-timeout` is no duration, or too short.
    #[error("invalid --cmd-timeout {value:?}: {why}")]
    CmdTimeout {
        /// As given.
        value: String,
        /// Why.
        why: String,
    },
    /// `--mnt-ns` names nothing.
    #[error("invalid --mnt-ns {value:?}: expected a mount namespace like /proc/1/ns/mnt: {source}")]
    MountNamespace {
        /// As given.
        value: String,
        /// Why.
        source: std::io::Error,
    },
    /// `--drivers` names no driver.
    #[error("invalid --drivers: a name is empty")]
    EmptyDriver,
}

/// The settings of this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// As they are shown and saved.
    pub general: General,
    /// How long an external command of a driver may take, where that was said.
    pub command_timeout: Option<Duration>,
    /// The mount namespace to mount in.
    pub mount_namespace: Option<PathBuf>,
    /// Whether nothing was saved, or what was saved is ignored.
    pub first_start: bool,
    /// Whether the command line also wins over what the drivers saved.
    pub override_saved: bool,
}

/// Brings saved settings and command line together.
///
/// # Errors
/// [`ConfigError`].
pub fn load(root: &Path, args: &DaemonArgs) -> Result<Config, ConfigError> {
    let path = root.join(FILE);
    let saved = if args.ignore_config_file { None } else { read(&path)? };
    let first_start = saved.is_none();
    let config = check(merge(&path, root, saved, args)?, first_start)?;
    Ok(Config { override_saved: args.ignore_config_file, ..config })
}

/// Saves settings, durably.
///
/// # Errors
/// [`ConfigError::Unwritable`].
pub fn save(root: &Path, general: &General) -> Result<(), ConfigError> {
    let path = root.join(FILE);
    let mut text = serde_json::to_vec(general)
        .map_err(|error| ConfigError::Unreadable { path: path.clone(), error: error.to_string() })?;
    text.push(b'\n');
    if std::fs::read(&path).is_ok_and(|saved| saved == text) {
        return Ok(());
    }
    atomic::write_atomic(&path, &text, 0o644).map_err(|source| ConfigError::Unwritable { path, source })
}

fn read(path: &Path) -> Result<Option<General>, ConfigError> {
    let unreadable = |error: String| ConfigError::Unreadable { path: path.to_owned(), error };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            // An object and nothing else: serde would take an array for one.
            .and_then(|fields: serde_json::Map<_, _>| serde_json::from_value(fields.into()))
            .map(Some)
            .map_err(|error| unreadable(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

fn merge(
    path: &Path,
    root: &Path,
    saved: Option<General>,
    args: &DaemonArgs,
) -> Result<General, ConfigError> {
    if args.drivers.iter().any(String::is_empty) {
        return Err(ConfigError::EmptyDriver);
    }
    let first_start = saved.is_none();
    let mut general = saved.unwrap_or_default();
    let mut differences = String::new();
    let root = root.display().to_string();
    if !first_start && general.root != root {
        tracing::warn!(saved = general.root, now = root, "the root was moved");
    }
    general.root = root;
    {
        let mut option = |flag: &str, saved: String, given: Option<String>| {
            if let Some(given) = given.filter(|given| !first_start && *given != saved) {
                // Writing to a text cannot fail.
                let _ = write!(differences, "\n  {flag}: saved is {saved:?}, given is {given:?}");
            }
        };
        let drivers = (!args.drivers.is_empty()).then(|| args.drivers.join(","));
        option("--drivers", general.driver_list.join(","), drivers);
        option("--mnt-ns", general.mount_namespace_fd.clone(), args.mnt_ns.clone());
        option("--cmd-timeout", general.cmd_timeout.clone(), args.cmd_timeout.clone());
        let flag = |given: Option<bool>| given.map(|given| given.to_string());
        option(
            "--ignore-docker-delete",
            general.ignore_docker_delete.to_string(),
            flag(args.ignore_docker_delete),
        );
        option(
            "--create-on-docker-mount",
            general.create_on_docker_mount.to_string(),
            flag(args.create_on_docker_mount),
        );
    }
    if !differences.is_empty() {
        return Err(ConfigError::Differs { path: path.to_owned(), differences });
    }
    if first_start {
        general.driver_list.clone_from(&args.drivers);
        general.mount_namespace_fd = args.mnt_ns.clone().unwrap_or_default();
        general.cmd_timeout = args.cmd_timeout.clone().unwrap_or_default();
        general.ignore_docker_delete = args.ignore_docker_delete.unwrap_or_default();
        general.create_on_docker_mount = args.create_on_docker_mount.unwrap_or_default();
    }
    if general.driver_list.is_empty() {
        general.driver_list = vec![super::drivers::EMBEDDED.to_owned()];
    }
    Ok(general)
}

fn check(general: General, first_start: bool) -> Result<Config, ConfigError> {
    let command_timeout = match general.cmd_timeout.as_str() {
        "" => None,
        value => {
            let invalid = |why: String| ConfigError::CmdTimeout { value: value.to_owned(), why };
            let timeout = duration::parse(value).map_err(|error| invalid(error.to_string()))?;
            if timeout < SHORTEST_TIMEOUT {
                return Err(invalid("expected at least 1m".to_owned()));
            }
            Some(timeout)
        }
    };
    let mount_namespace = match general.mount_namespace_fd.as_str() {
        "" => None,
        value => {
            let path = match value.parse::<u32>() {
                Ok(descriptor) => {
                    // A driver may be another process.
                    PathBuf::from(format!("/proc/{}/fd/{descriptor}", std::process::id()))
                }
                Err(_) => PathBuf::from(value),
            };
            std::fs::metadata(&path)
                .map_err(|source| ConfigError::MountNamespace { value: value.to_owned(), source })?;
            Some(path)
        }
    };
    Ok(Config { general, command_timeout, mount_namespace, first_start, override_saved: false })
}

#[cfg(test)]
mod tests;
