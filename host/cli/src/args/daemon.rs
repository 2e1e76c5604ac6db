//! The arguments of `convoy daemon`.

use crate::settings::values::Values;
use clap::Args;
use clap::builder::BoolishValueParser;
use std::path::PathBuf;

/// Where the daemon looks for its settings unless told otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/convoy/convoy.toml";

/// What the daemon is started with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  convoy daemon
  convoy daemon --drivers vfs --driver-opts vfs.path=/srv/volumes
  convoy daemon --drivers devicemapper --drivers vfs --driver-opts dm.datadev=/dev/sdb1 \\
      --driver-opts dm.metadatadev=/dev/sdb2")]
pub struct DaemonArgs {
    /// The file with the settings; flags and environment win over it [default: /etc/convoy/convoy.toml, if it
    /// is there]
    #[arg(long, env = "CONVOY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The settings that flags and environment give.
    #[command(flatten)]
    pub values: Values,
    /// An option of a driver, as KEY=VALUE; may be repeated [env: CONVOY_DRIVER_OPTS, separated by ';']
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub driver_opts: Vec<String>,
    /// Whether they are those of the environment.
    #[arg(skip)]
    pub driver_opts_by_environment: bool,
    /// Take these options although the saved configuration differs
    #[arg(long, env = "CONVOY_IGNORE_CONFIG_FILE", value_parser = BoolishValueParser::new())]
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
                .map(key_and_value)
                .collect::<Result<_, _>>()
                .map_err(|error| format!("invalid CONVOY_DRIVER_OPTS: {error}, found {text:?}"))?;
            self.driver_opts_by_environment = true;
        }
        Ok(())
    }
}

/// Checks the form; the daemon and the driver look at the parts.
fn key_and_value(text: &str) -> Result<String, String> {
    super::key_value(text).map(|_| text.to_owned())
}
