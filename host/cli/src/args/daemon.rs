//! `daemon`.

use clap::Args;
use clap::builder::BoolishValueParser;
use std::path::PathBuf;

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
    /// The socket to listen at, from the global `--socket`.
    #[arg(skip)]
    pub socket: PathBuf,
    /// Whether to log details, from the global `--debug`.
    #[arg(skip)]
    pub debug: bool,
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
    /// How long a command that a driver runs may take, at least 1m [default: 1m]
    #[arg(long, env = "CONVOY_CMD_TIMEOUT", value_name = "DURATION")]
    pub cmd_timeout: Option<String>,
    /// Memory that one backup or restore may use, at least 48M [default: 128M]
    #[arg(long, env = "CONVOY_MEMORY", value_name = "SIZE", value_parser = super::size_to_reach)]
    pub memory: Option<u64>,
    /// A file with settings of backup destinations: endpoints, credentials, bandwidth, keys
    #[arg(long, env = "CONVOY_DESTINATIONS", value_name = "FILE")]
    pub destinations: Option<PathBuf>,
    /// Take these options although the saved configuration differs
    #[arg(long, env = "CONVOY_IGNORE_CONFIG_FILE", value_parser = boolish())]
    pub ignore_config_file: bool,
}

impl DaemonArgs {
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
