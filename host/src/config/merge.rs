//! The layers of settings, brought together.

use super::backup_settings::BackupSettings;
use super::destinations::Destinations;
use super::effective::Config;
use super::error::{ConfigError, refuse};
use super::excludes::Excludes;
use super::file::File;
use super::layers::Layers;
use super::options;
use super::saved::{FILE, read};
use super::schedules::schedules;
use convoy_cli::args::DaemonArgs;
use convoy_cli::settings::values::{GivenValue, InvalidValue, Source, Values};
use convoy_cli::settings::{EMBEDDED_DRIVER, Setting, Settings};
use convoy_client::types::General;
use convoy_objectstore::Destination;
use convoy_schedule::Schedule;
use convoy_volumes::DockerRules;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// Brings what is saved and what is asked for together.
pub fn load(root: &Path, layers: Layers<'_>) -> Result<Config, ConfigError> {
    let saved = if layers.args.ignore_config_file { None } else { read(&root.join(FILE))? };
    merge(root, saved, layers)
}

/// Puts flags over the file over what is saved over the defaults, and parses the values.
pub(super) fn merge(root: &Path, saved: Option<General>, layers: Layers<'_>) -> Result<Config, ConfigError> {
    let first_start = saved.is_none();
    let general = saved.unwrap_or_default();
    let mut values = layers.values();
    if !first_start {
        keep_saved(&root.join(FILE), &general, layers, &mut values)?;
    }
    let root = root.display().to_string();
    if !first_start && general.root != root {
        tracing::warn!(saved = general.root, now = root, "the root was moved");
    }
    // The real path of the one that was given.
    if let Some(given) = values.0.get_mut("root") {
        given.texts = vec![root.clone()];
    }
    let source = match layers.args.driver_opts_by_environment {
        true => Source::Environment("CONVOY_DRIVER_OPTS".to_owned()),
        false => Source::Flag("--driver-opts".to_owned()),
    };
    for (name, value) in options::parse(&layers.args.driver_opts)? {
        let given = GivenValue { texts: vec![value], source: source.clone() };
        values.0.insert(format!("driver-options.{name}"), given);
    }
    let driver_option = |(key, given): (&String, &GivenValue)| {
        Some((key.strip_prefix("driver-options.")?.to_owned(), given.text()))
    };
    let refused = |invalid| refuse(&values, invalid);

    let settings = Settings::parse(&values).map_err(refused)?;
    let destinations = match &settings.destinations {
        Some(path) => Destinations::load(path)?,
        None => layers.file.tables.destinations.clone().unwrap_or_default(),
    };
    let schedules = schedules(layers.file, &settings.drivers)?;
    let excludes = Excludes::of_file(layers.file)?;
    let docker_rules = docker_rules(&settings.docker_options, &destinations, &schedules)
        .map_err(|why| refused(InvalidValue { key: "docker-options", why }))?;
    let docker_remove =
        settings.docker_remove.parse().map_err(|why| refused(InvalidValue { key: "docker-remove", why }))?;
    Ok(Config {
        general: General {
            root,
            driver_list: settings.drivers.clone(),
            default_driver: general.default_driver,
            mount_namespace_fd: values.text("mnt-ns"),
            ignore_docker_delete: settings.ignore_docker_delete,
            create_on_docker_mount: settings.create_on_docker_mount,
            cmd_timeout: values.text("cmd-timeout"),
        },
        first_start,
        override_saved: layers.args.ignore_config_file,
        driver_options: values.0.iter().filter_map(driver_option).collect(),
        docker_rules: Arc::new(docker_rules),
        docker_remove,
        backups: BackupSettings { memory: Some(settings.memory.0), destinations, excludes },
        schedules,
        file: layers.file.clone(),
        settings,
        shown: values,
    })
}

/// The settings of backups for a program that is no daemon: what the file says, and nothing of an earlier start.
///
/// # Errors
/// As for [`load`].
pub fn backups_of(file: &File) -> Result<BackupSettings, ConfigError> {
    let args = DaemonArgs::default();
    let values = Layers { args: &args, file }.values();
    let settings = Settings::parse(&values).map_err(|invalid| refuse(&values, invalid))?;
    let destinations = match &settings.destinations {
        Some(path) => Destinations::load(path)?,
        None => file.tables.destinations.clone().unwrap_or_default(),
    };
    let excludes = Excludes::of_file(file)?;
    Ok(BackupSettings { memory: Some(settings.memory.0), destinations, excludes })
}

/// What `convoy.cfg` has, by key.
pub(super) fn saved(general: &General) -> [(&'static str, Vec<String>); 5] {
    let drivers = match general.driver_list.as_slice() {
        [] => vec![EMBEDDED_DRIVER.to_owned()],
        drivers => drivers.to_vec(),
    };
    [
        ("drivers", drivers),
        ("mnt-ns", vec![general.mount_namespace_fd.clone()]),
        ("cmd-timeout", vec![general.cmd_timeout.clone()]),
        ("ignore-docker-delete", vec![general.ignore_docker_delete.to_string()]),
        ("create-on-docker-mount", vec![general.create_on_docker_mount.to_string()]),
    ]
}

/// Takes what is saved where nobody says anything. Flags that differ from it are refused, unless the file has
/// that setting too: it is edited on purpose, and decides.
fn keep_saved(
    path: &Path,
    general: &General,
    layers: Layers<'_>,
    values: &mut Values,
) -> Result<(), ConfigError> {
    let mut differences = String::new();
    for (key, texts) in saved(general) {
        let (Some(setting), Some(given)) = (Setting::find(key), values.0.get_mut(key)) else { continue };
        let (saved, now) = (texts.join(","), given.text());
        if given.source == Source::Default {
            if saved != setting.default {
                *given = GivenValue { texts, source: Source::Saved(path.to_owned()) };
            }
        } else if now != saved && layers.file.line(key).is_some() {
            tracing::info!(key, saved, now, from = %given.source, "a saved setting changes");
        } else if now != saved {
            // Writing to a text cannot fail.
            let _ = write!(differences, "\n  --{key}: saved is {saved:?}, given is {now:?}");
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(ConfigError::Differs { path: path.to_owned(), differences })
}

/// What Docker's users may ask for: options of the settings, and backups of the destinations that these name.
fn docker_rules(
    options: &[String],
    destinations: &Destinations,
    schedules: &[Schedule],
) -> Result<DockerRules, String> {
    let scheduled = schedules.iter().filter_map(|schedule| schedule.destination.parse::<Destination>().ok());
    let places = destinations.places().cloned().chain(scheduled.map(|it| it.place().clone())).collect();
    DockerRules::new(options, places)
}
