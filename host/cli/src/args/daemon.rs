//! `daemon`.

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Where the daemon looks for its settings unless told otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/convoy/convoy.toml";

/// Where convoy 0.5 kept its records unless told otherwise.
pub const DEFAULT_ROOT: &str = "/var/lib/rancher/convoy";

/// What the daemon is started with. What was not said is `None` or empty, so that the daemon can tell it from
/// what was said and compare that with its saved configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  convoy daemon
  convoy daemon --drivers vfs --driver-opts vfs.path=/srv/volumes
  convoy daemon --drivers devicemapper --drivers vfs --driver-opts dm.datadev=/dev/sdb1 \\
      --driver-opts dm.metadatadev=/dev/sdb2")]
pub struct DaemonArgs {
    /// The socket to listen at, from the global `--socket`, where that was said.
    #[arg(skip)]
    pub socket: Option<PathBuf>,
    /// Whether to log details, from the global `--debug`.
    #[arg(skip)]
    pub debug: bool,
    /// The names of the options that were said by environment and not by flag.
    #[arg(skip)]
    pub by_environment: BTreeSet<String>,
    /// The file with the settings; flags and environment win over it [default: /etc/convoy/convoy.toml, if it
    /// is there]
    #[arg(long, env = "CONVOY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The directory of the daemon's and the drivers' records [default: /var/lib/rancher/convoy]
    #[arg(long, env = "CONVOY_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Log there instead of to standard output
    #[arg(long, env = "CONVOY_LOG", value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// A driver to load; may be repeated, the first is the default one [default: vfs]
    #[arg(long, env = "CONVOY_DRIVERS", value_name = "DRIVER", value_delimiter = ',')]
    pub drivers: Vec<String>,
    /// An option of a driver, as KEY=VALUE; may be repeated [env: CONVOY_DRIVER_OPTS, separated by ';']
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub driver_opts: Vec<String>,
    /// A directory to look for drivers in; may be repeated
    #[arg(long, env = "CONVOY_DRIVER_PATH", value_name = "DIR", value_delimiter = ':')]
    pub driver_path: Vec<PathBuf>,
    /// Mount in this mount namespace, like /proc/1/ns/mnt
    #[arg(long, env = "CONVOY_MNT_NS", value_name = "FILE")]
    pub mnt_ns: Option<String>,
    /// Do nothing when Docker says that a volume is to be deleted
    #[arg(long, env = "CONVOY_IGNORE_DOCKER_DELETE", value_name = "BOOL", hide_possible_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolish())]
    pub ignore_docker_delete: Option<bool>,
    /// Create a volume when Docker mounts one that does not exist
    #[arg(long, env = "CONVOY_CREATE_ON_DOCKER_MOUNT", value_name = "BOOL", hide_possible_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolish())]
    pub create_on_docker_mount: Option<bool>,
    /// How long a command that a driver runs may take, at least 1m [default: as long as the call that it is
    /// for]
    #[arg(long, env = "CONVOY_CMD_TIMEOUT", value_name = "DURATION")]
    pub cmd_timeout: Option<String>,
    /// Memory that all backups and restores together may use, at least 48M [default: 128M]
    #[arg(long, env = "CONVOY_MEMORY", value_name = "SIZE", value_parser = super::size_to_reach)]
    pub memory: Option<u64>,
    /// A file with settings of backup destinations: endpoints, credentials, bandwidth, keys
    #[arg(long, env = "CONVOY_DESTINATIONS", value_name = "FILE")]
    pub destinations: Option<PathBuf>,
    /// A group whose members may use the socket, beside root
    #[arg(long, env = "CONVOY_SOCKET_GROUP", value_name = "GROUP")]
    pub socket_group: Option<String>,
    /// Serve Docker's plugin calls at this socket, too, and nothing else there
    #[arg(long, env = "CONVOY_DOCKER_SOCKET", value_name = "PATH")]
    pub docker_socket: Option<PathBuf>,
    /// A group whose members may use Docker's socket, beside root
    #[arg(long, env = "CONVOY_DOCKER_SOCKET_GROUP", value_name = "GROUP")]
    pub docker_socket_group: Option<String>,
    /// How much to log: error, warn, info, debug or trace [default: info]
    #[arg(long, env = "CONVOY_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// The form of the log: text, json, journal (for journald), or auto [default: auto: journal under
    /// systemd, else text]
    #[arg(long, env = "CONVOY_LOG_FORMAT", value_name = "FORM")]
    pub log_format: Option<String>,
    /// Tell metrics here, too: an address and port like 127.0.0.1:9413, or unix:/PATH
    #[arg(long, env = "CONVOY_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
    /// What becomes of a volume's data when Docker removes the volume: keep or delete [default: keep]
    #[arg(long, env = "CONVOY_DOCKER_REMOVE", value_name = "POLICY")]
    pub docker_remove: Option<String>,
    /// An option of creates that Docker's users may give though it is for operators: DRIVER.OPTION; may be
    /// repeated
    #[arg(long, env = "CONVOY_DOCKER_OPTIONS", value_name = "DRIVER.OPTION", value_delimiter = ',')]
    pub docker_options: Vec<String>,
    /// How long running work may take to end when the daemon stops; a third of it to end by itself, the rest
    /// to undo [default: 45s]
    #[arg(long, env = "CONVOY_STOP_TIMEOUT", value_name = "DURATION")]
    pub stop_timeout: Option<String>,
    /// Take these options although the saved configuration differs
    #[arg(long, env = "CONVOY_IGNORE_CONFIG_FILE", value_parser = boolish())]
    pub ignore_config_file: bool,
}

impl DaemonArgs {
    /// Notes what was said where, in this part of the command line or as a global option.
    pub(crate) fn note_sources(&mut self, matches: &ArgMatches) {
        for id in matches.ids() {
            if matches.value_source(id.as_str()) == Some(ValueSource::EnvVariable) {
                self.by_environment.insert(id.as_str().replace('_', "-"));
            }
        }
        if matches.value_source("socket") == Some(ValueSource::DefaultValue) {
            self.socket = None;
        }
    }

    /// Takes the driver options from `CONVOY_DRIVER_OPTS` where none was given by flag.
    ///
    /// # Errors
    /// The first that is no `KEY=VALUE`.
    pub(crate) fn add_environment(&mut self) -> Result<(), String> {
        let Ok(text) = std::env::var("CONVOY_DRIVER_OPTS") else { return Ok(()) };
        if self.driver_opts.is_empty() {
            let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
            self.driver_opts = parts
                .map(key_value)
                .collect::<Result<_, _>>()
                .map_err(|error| format!("invalid CONVOY_DRIVER_OPTS: {error}, found {text:?}"))?;
            self.by_environment.insert("driver-opts".to_owned());
        }
        Ok(())
    }
}

fn boolish() -> BoolishValueParser {
    BoolishValueParser::new()
}

/// Checks the form; the daemon and the driver look at the parts.
fn key_value(text: &str) -> Result<String, String> {
    super::key_value(text).map(|_| text.to_owned())
}
