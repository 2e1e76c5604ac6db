//! The settings as they are now: SIGHUP reads them again.

use super::backup_settings::BackupSettings;
use super::effective::Config;
use super::error::{ConfigError, refuse};
use super::file::File;
use super::layers::Layers;
use super::merge::load;
use super::saved::save;
use convoy_cli::args::DaemonArgs;
use convoy_cli::settings::values::Values;
use convoy_cli::settings::{Settings, is_reloaded};
use convoy_client::types::General;
use convoy_driver_sdk::Name;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// The settings as they are now, for whoever needs them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Live(Arc<watch::Sender<Arc<Config>>>);

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// Settings that hold from now on.
    pub applied: Vec<String>,
    /// Settings that changed and need a restart.
    pub needs_restart: Vec<String>,
}

impl Live {
    /// Starts with these settings.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(config))))
    }

    /// As they are now.
    pub fn now(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    /// Notes which driver is the default one, which is known when the drivers are loaded.
    pub fn set_default_driver(&self, name: &Name) {
        self.0.send_modify(|config| {
            let mut changed = (**config).clone();
            changed.general.default_driver = name.to_string();
            *config = Arc::new(changed);
        });
    }

    /// Tells of every change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.0.subscribe()
    }

    /// What a reload would do now: nothing, unless somebody has changed the file.
    ///
    /// # Errors
    /// [`ConfigError`]: a reload, or a start, would fail.
    pub fn differences(&self, root: &Path, args: &DaemonArgs) -> Result<ReloadReport, ConfigError> {
        let old = self.now();
        Ok(compare(&old.shown, &read(&old, root, args)?.shown).0)
    }

    /// Reads the file again and takes over what can change while the daemon runs.
    ///
    /// # Errors
    /// [`ConfigError`]: everything stays as it was.
    pub fn reload(&self, root: &Path, args: &DaemonArgs) -> Result<ReloadReport, ConfigError> {
        let old = self.now();
        let new = read(&old, root, args)?;
        let (report, shown) = compare(&old.shown, &new.shown);
        let settings = Settings::parse(&shown).map_err(|invalid| refuse(&shown, invalid))?;
        let general = General {
            ignore_docker_delete: settings.ignore_docker_delete,
            create_on_docker_mount: settings.create_on_docker_mount,
            ..old.general.clone()
        };
        save(root, &general)?;
        let now = Config {
            settings,
            general,
            docker_rules: new.docker_rules,
            docker_remove: new.docker_remove,
            backups: BackupSettings { memory: old.backups.memory, ..new.backups },
            schedules: new.schedules,
            file: new.file,
            shown,
            ..(*old).clone()
        };
        self.0.send_replace(Arc::new(now));
        Ok(report)
    }
}

fn read(old: &Config, root: &Path, args: &DaemonArgs) -> Result<Config, ConfigError> {
    let known = Some(&old.file.path).filter(|path| !path.as_os_str().is_empty());
    let file = File::find(args.config.as_deref().or(known.map(PathBuf::as_path)))?;
    load(root, Layers { args, file: &file })
}

/// Tells what changed, and the values that hold from now on: what needs a restart stays as it was.
fn compare(old: &Values, new: &Values) -> (ReloadReport, Values) {
    let mut report = ReloadReport::default();
    let mut now = Values::default();
    let keys: BTreeSet<&String> = old.0.keys().chain(new.0.keys()).collect();
    for key in keys {
        let (was, is) = (old.0.get(key), new.0.get(key));
        let changed = was.map(|given| &given.texts) != is.map(|given| &given.texts);
        let reloads = is_reloaded(key);
        if changed {
            let list = if reloads { &mut report.applied } else { &mut report.needs_restart };
            list.push(key.clone());
        }
        // Unchanged, a value may come from another line.
        if let Some(given) = if changed && !reloads { was } else { is } {
            now.0.insert(key.clone(), given.clone());
        }
    }
    (report, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_change_changes_and_the_rest_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("convoy.toml");
        let args = DaemonArgs { config: Some(path.clone()), ..DaemonArgs::default() };
        std::fs::write(&path, "log-level = \"info\"\ndrivers = [\"vfs\"]\n").unwrap();
        let file = File::read(&path).unwrap();
        let live = Live::new(load(dir.path(), Layers { args: &args, file: &file }).unwrap());
        assert_eq!(live.reload(dir.path(), &args).unwrap(), ReloadReport::default());

        std::fs::write(
            &path,
            "\nlog-level = \"debug\"\ndrivers = [\"vfs\", \"ebs\"]\ndocker-remove = \"delete\"\n",
        )
        .unwrap();
        let reloaded = live.reload(dir.path(), &args).unwrap();
        assert_eq!(reloaded.applied, ["docker-remove", "log-level"]);
        assert_eq!(reloaded.needs_restart, ["drivers"]);
        let now = live.now();
        assert_eq!(now.settings.log_level, "debug");
        assert_eq!(now.general.driver_list, ["vfs"]);
        assert_eq!(now.shown.text("drivers"), "vfs");
        assert!(now.shown.0["log-level"].source.to_string().ends_with("convoy.toml:2"));

        std::fs::write(&path, "log-level = \"loud\"\n").unwrap();
        let error = live.reload(dir.path(), &args).unwrap_err().to_string();
        assert!(error.contains("convoy.toml:1") && error.contains("expected error, warn"), "{error}");
        assert_eq!(live.now().shown, now.shown, "a file that is wrong changes nothing");
    }

    /// The keys that are told to be known instead of one that is not.
    fn known(text: &str) -> Vec<String> {
        let error = File::parse(Path::new("c.toml"), text).unwrap_err().to_string();
        let (_, known) = error.split_once("expected one of ").expect(&error);
        known.split(", ").map(|key| key.trim_matches('`').to_owned()).collect()
    }

    #[test]
    fn every_field_of_a_table_is_documented() {
        let backups = include_str!("../../../docs/backups.md");
        let schedules = include_str!("../../../docs/schedules.md");
        for (table, document) in [
            ("[destinations.\"s3://b/\"]", backups),
            ("[[exclude]]", backups),
            ("[[schedule]]", schedules),
            ("[[schedule]]\n[[schedule.before]]", schedules),
            ("[[schedule]]\n[[schedule.notify]]", schedules),
            ("[[schedule]]\n[schedule.keep]", schedules),
        ] {
            let missing: Vec<_> = known(&format!("{table}\nnothing = 1\n"))
                .into_iter()
                .filter(|key| {
                    !["`KEY", "KEY = ", ".KEY]]"].iter().any(|it| document.contains(&it.replace("KEY", key)))
                })
                .collect();
            assert!(missing.is_empty(), "{table}: {missing:?} are not explained");
        }
    }
}
