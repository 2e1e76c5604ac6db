//! The settings of a run, as all layers together give them.

use super::backup_settings::BackupSettings;
use super::file::File;
use super::options::Options;
use convoy_cli::settings::Settings;
use convoy_cli::settings::values::Values;
use convoy_client::types::General;
use convoy_schedule::Schedule;
use convoy_volumes::{DockerRemove, DockerRules};
use std::sync::Arc;

/// The settings of this run.
#[derive(Debug, Clone)]
pub struct Config {
    /// The settings, parsed.
    pub settings: Settings,
    /// The settings as `convoy info` shows them and `convoy.cfg` keeps them.
    pub general: General,
    /// Whether nothing was saved, or what was saved is ignored.
    pub first_start: bool,
    /// Whether the command line also wins over what the drivers saved.
    pub override_saved: bool,
    /// The drivers' options.
    pub driver_options: Options,
    /// What Docker's users may ask for.
    pub docker_rules: Arc<DockerRules>,
    /// What becomes of the data of a volume that has no policy of its own.
    pub docker_remove: DockerRemove,
    /// How backups are made.
    pub backups: BackupSettings,
    /// What is backed up when.
    pub schedules: Vec<Schedule>,
    /// The file of settings, with the tables of other parts of the daemon.
    pub file: File,
    /// Every setting with where it comes from.
    pub shown: Values,
}
