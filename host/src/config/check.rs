//! `convoy config check`: what a daemon would say of a file, without one.

use super::effective::Config;
use super::error::ConfigError;
use super::file::File;
use super::layers::{Layers, root};
use super::merge::merge;
use super::options::{self, OptionError};
use super::saved::{FILE, read};
use convoy_cli::args::DaemonArgs;
use convoy_cli::driver::describe_apart;
use convoy_driver_sdk::protocol::Description;
use convoy_driver_sdk::secret::{self, SecretFileError};
use convoy_objectstore::Destination;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Keys, whole or their last part, whose values are files that the daemon reads when it needs them.
const FILES: [&str; 4] = [CERTIFICATES, "credentials-file", "encryption-key-file", "passphrase-file"];

/// The one of them that is no secret.
const CERTIFICATES: &str = "ca-file";

/// Checks a file and says that all is well.
///
/// More than a start does: files that are named have to be there, which at a start they need not, and the
/// options of drivers are looked up with drivers that are loaded for it, in processes of their own.
pub fn check_file(path: &Path) -> Result<String, ConfigError> {
    let file = File::read(path)?;
    let args = DaemonArgs::default();
    let layers = Layers { args: &args, file: &file };
    let root = root(layers);
    // Which drivers there are may be known from an earlier start alone. What cannot be read is no fault of
    // this file.
    let saved = read(&root.join(FILE)).ok().flatten();
    let from_earlier = saved.is_some();
    let config = merge(&root, saved, layers)?;
    named_files(&file)?;
    let unchecked = driver_options(&config, from_earlier)?.map_or_else(String::new, |driver| {
        format!("; the options of drivers were not checked, since driver {driver} cannot be loaded here")
    });
    let destinations = destinations(&config)?;
    let warnings: String = file.warnings().iter().map(|warning| format!("\nwarning: {warning}")).collect();
    let count = file.values().count();
    Ok(format!("{}: {count} settings, all well{unchecked}{destinations}{warnings}", path.display()))
}

fn named_files(file: &File) -> Result<(), ConfigError> {
    for (key, value, _) in file.values() {
        let last = key.rsplit('.').next().unwrap_or(key);
        if !FILES.contains(&last) || !(key.starts_with("destinations.") || key.starts_with("schedule.")) {
            continue;
        }
        let path = PathBuf::from(value);
        if let Err(source) = readable(&path, last != CERTIFICATES) {
            return Err(ConfigError::NamedFile { path, at: file.at(key), source });
        }
    }
    Ok(())
}

fn readable(path: &Path, is_secret: bool) -> std::io::Result<()> {
    if path.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    if !is_secret {
        return std::fs::File::open(path).map(drop);
    }
    secret::open(path).map(drop).map_err(|error| match error {
        SecretFileError::Unreadable { source, .. } => source,
        other => std::io::Error::other(other),
    })
}

/// Each destination that the settings name, whether or not a schedule uses it, with the credentials it would
/// be asked with in this environment.
fn destinations(config: &Config) -> Result<String, ConfigError> {
    let of_schedules = config.schedules.iter().map(|schedule| schedule.destination.as_str());
    let settings = &config.backups.destinations;
    let all: BTreeSet<&str> = settings.urls().chain(of_schedules).collect();
    let mut told = String::new();
    for url in all {
        let Ok(destination) = url.parse::<Destination>().or_else(|_| format!("{url}/").parse()) else {
            continue;
        };
        let found = settings
            .probe(&destination)
            .map_err(|error| ConfigError::Destination { url: url.to_owned(), why: error.to_string() })?;
        // Writing to a text cannot fail.
        let _ = write!(told, "\ndestination {url}: {found}");
    }
    Ok(told)
}

/// Refuses options that none of the drivers knows; or gives the driver that cannot be asked.
fn driver_options(config: &Config, from_earlier: bool) -> Result<Option<String>, ConfigError> {
    let mut options = config.driver_options.clone();
    if config.file.line("drivers").is_none() && !from_earlier {
        // A flag may name other drivers: only what is surely meant for the embedded one can be told to be
        // wrong.
        options.retain(|name, _| name.starts_with("vfs."));
    }
    if options.is_empty() {
        return Ok(None);
    }
    let mut known = Vec::new();
    for driver in &config.settings.drivers {
        match describe_apart(driver, &config.settings.driver_path) {
            Some(description) => known.push(description),
            None => return Ok(Some(driver.clone())),
        }
    }
    let known: Vec<&Description> = known.iter().collect();
    options::refuse_unknown(&options, &known).map_err(|error| match error {
        OptionError::Unknown { name, known } => {
            let at = config.file.at(&format!("driver-options.{name}"));
            ConfigError::UnknownOption { name, at, known }
        }
        other => other.into(),
    })?;
    Ok(None)
}
