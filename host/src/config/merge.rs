//! Settings from everywhere, brought together: each value with where it comes from.

use super::file::{File, Memory};
use super::schedules::schedules;
use super::setting::{Layers, Setting, SettingValue, Shown, Source};
use super::{
    Config, ConfigError, EMBEDDED, LOG_LEVEL, Options, SHORTEST_TIMEOUT, STOP_TIMEOUT, Sockets, log_level,
};
use crate::config::destinations::{BackupSettings, Destinations};
use crate::config::{duration, options};
use crate::listen::{Address, InvalidAddress};
use convoy_client::DEFAULT_SOCKET;
use convoy_client::types::General;
use convoy_objectstore::Destination;
use convoy_schedule::Schedule;
use convoy_volumes::{DockerRemove, DockerRules};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Collects settings.
struct Merge<'a> {
    layers: Layers<'a>,
    /// Where the saved ones are.
    path: &'a Path,
    first_start: bool,
    shown: Shown,
    differences: String,
}

pub(super) fn merge(
    path: &Path,
    root: &Path,
    saved: Option<General>,
    layers: Layers<'_>,
) -> Result<Config, ConfigError> {
    let first_start = saved.is_none();
    let mut merge = Merge { layers, path, first_start, shown: Shown::new(), differences: String::new() };
    let general = merge.general(root, saved.unwrap_or_default())?;
    let backups = merge.backups()?;
    let schedules = schedules(layers.file, &general.driver_list)?;
    let config = Config {
        command_timeout: command_timeout(&general)?,
        mount_namespace: mount_namespace(&general)?,
        first_start,
        override_saved: layers.args.ignore_config_file,
        driver_options: merge.driver_options()?,
        driver_path: merge.driver_path(),
        sockets: merge.sockets(),
        log_level: merge.log()?,
        docker_rules: merge.docker_rules(&backups.destinations, &schedules)?,
        docker_remove: merge.docker_remove()?,
        stop_timeout: merge.stop_timeout()?,
        metrics_listen: merge.metrics_listen()?,
        backups,
        schedules,
        file: layers.file.clone(),
        general,
        shown: Shown::new(),
    };
    merge.show_tables(layers.file);
    Ok(Config { shown: merge.shown, ..config })
}

impl Merge<'_> {
    fn show(&mut self, key: &str, value: String, source: Source) {
        self.shown.insert(key.to_owned(), Setting { value, source });
    }

    /// A setting that is not saved.
    fn take<T: Clone>(
        &mut self,
        key: &str,
        flag: Option<T>,
        file: Option<&T>,
        show: impl Fn(&T) -> String,
        default: &str,
    ) -> Option<T> {
        let given = self.layers.pick(key, flag, file);
        let (text, source) = match &given {
            Some(given) => (show(&given.value), given.source.clone()),
            None => (default.to_owned(), Source::Default),
        };
        self.show(key, text, source);
        given.map(|given| given.value)
    }

    /// A setting that is saved, as text: flags that differ from what is saved are noted, unless the file
    /// decides.
    fn with_saved(
        &mut self,
        key: &str,
        saved: String,
        unsaid: &str,
        given: Option<SettingValue<String>>,
    ) -> String {
        let in_file = self.layers.file.line(key).is_some();
        match given {
            Some(given) => {
                if !self.first_start && given.value != saved {
                    if in_file {
                        tracing::info!(key, saved, now = given.value, from = %given.source, "a saved setting changes");
                    } else {
                        let value = &given.value;
                        // Writing to a text cannot fail.
                        let _ =
                            write!(self.differences, "\n  --{key}: saved is {saved:?}, given is {value:?}");
                    }
                }
                self.show(key, given.value.clone(), given.source);
                given.value
            }
            None => {
                let source = if self.first_start || saved == unsaid {
                    Source::Default
                } else {
                    Source::Saved(self.path.to_owned())
                };
                self.show(key, saved.clone(), source);
                saved
            }
        }
    }

    fn general(&mut self, root: &Path, mut general: General) -> Result<General, ConfigError> {
        let Layers { args, file } = self.layers;
        let settings = &file.settings;
        let drivers = self.layers.pick(
            "drivers",
            (!args.drivers.is_empty()).then(|| args.drivers.clone()),
            settings.drivers.as_ref(),
        );
        if drivers.as_ref().is_some_and(|given| given.value.iter().any(String::is_empty)) {
            return Err(ConfigError::EmptyDriver);
        }
        let shown_root = root.display().to_string();
        if !self.first_start && general.root != shown_root {
            tracing::warn!(saved = general.root, now = shown_root, "the root was moved");
        }
        general.root.clone_from(&shown_root);
        let asked = self.layers.pick("root", args.root.clone(), settings.root.as_ref());
        self.show("root", shown_root, asked.map_or(Source::Default, |given| given.source));

        let text = |given: Option<SettingValue<bool>>| {
            given.map(|given| SettingValue { value: given.value.to_string(), source: given.source })
        };
        let joined = drivers
            .as_ref()
            .map(|given| SettingValue { value: given.value.join(","), source: given.source.clone() });
        if self.first_start && joined.is_none() || general.driver_list.is_empty() {
            general.driver_list = vec![EMBEDDED.to_owned()];
        }
        self.with_saved("drivers", general.driver_list.join(","), EMBEDDED, joined);
        if let Some(drivers) = drivers {
            general.driver_list = drivers.value;
        }
        let given = self.layers.pick("mnt-ns", args.mnt_ns.clone(), settings.mnt_ns.as_ref());
        general.mount_namespace_fd = self.with_saved("mnt-ns", general.mount_namespace_fd.clone(), "", given);
        let given = self.layers.pick("cmd-timeout", args.cmd_timeout.clone(), settings.cmd_timeout.as_ref());
        general.cmd_timeout = self.with_saved("cmd-timeout", general.cmd_timeout.clone(), "", given);
        let key = "ignore-docker-delete";
        let given = self.layers.pick(key, args.ignore_docker_delete, settings.ignore_docker_delete.as_ref());
        let saved = general.ignore_docker_delete.to_string();
        general.ignore_docker_delete = self.with_saved(key, saved, "false", text(given)) == "true";
        let key = "create-on-docker-mount";
        let given =
            self.layers.pick(key, args.create_on_docker_mount, settings.create_on_docker_mount.as_ref());
        let saved = general.create_on_docker_mount.to_string();
        general.create_on_docker_mount = self.with_saved(key, saved, "false", text(given)) == "true";
        if self.differences.is_empty() {
            return Ok(general);
        }
        let differences = std::mem::take(&mut self.differences);
        Err(ConfigError::Differs { path: self.path.to_owned(), differences })
    }

    /// The options of the file, and those of the command line over them.
    fn driver_options(&mut self) -> Result<Options, ConfigError> {
        let Layers { args, file } = self.layers;
        let mut all = file.settings.driver_options.clone();
        for (name, value) in &all {
            let key = format!("driver-options.{name}");
            let source = self.layers.in_file(&key);
            self.shown.insert(key, Setting { value: value.clone(), source });
        }
        for (name, value) in options::parse(&args.driver_opts)? {
            self.show(&format!("driver-options.{name}"), value.clone(), self.layers.flag("driver-opts"));
            all.insert(name, value);
        }
        Ok(all)
    }

    fn driver_path(&mut self) -> Vec<PathBuf> {
        let Layers { args, file } = self.layers;
        let flag = (!args.driver_path.is_empty()).then(|| args.driver_path.clone());
        let show = |paths: &Vec<PathBuf>| {
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(",")
        };
        self.take("driver-path", flag, file.settings.driver_path.as_ref(), show, "").unwrap_or_default()
    }

    fn sockets(&mut self) -> Sockets {
        let Layers { args, file } = self.layers;
        let settings = &file.settings;
        let path = |path: &PathBuf| path.display().to_string();
        let admin = self.take("socket", args.socket.clone(), settings.socket.as_ref(), path, DEFAULT_SOCKET);
        let mut group = |key, flag: &Option<String>, file: &Option<String>| {
            self.take(key, flag.clone(), file.as_ref(), String::clone, "")
        };
        let admin_group = group("socket-group", &args.socket_group, &settings.socket_group);
        let docker_group =
            group("docker-socket-group", &args.docker_socket_group, &settings.docker_socket_group);
        let docker =
            self.take("docker-socket", args.docker_socket.clone(), settings.docker_socket.as_ref(), path, "");
        let said = |group: Option<String>| group.filter(|group| !group.is_empty());
        Sockets {
            admin: admin.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)),
            admin_group: said(admin_group),
            docker: docker.filter(|path| !path.as_os_str().is_empty()),
            docker_group: said(docker_group),
        }
    }

    fn log(&mut self) -> Result<String, ConfigError> {
        let Layers { args, file } = self.layers;
        let show = |path: &PathBuf| path.display().to_string();
        self.take("log", args.log.clone(), file.settings.log.as_ref(), show, "");
        let given = log_level(self.layers)?
            .unwrap_or_else(|| SettingValue { value: LOG_LEVEL.to_owned(), source: Source::Default });
        self.show("log-level", given.value.clone(), given.source);
        Ok(given.value)
    }

    /// A text that is read further.
    fn parsed<T>(
        &mut self,
        key: &'static str,
        flag: Option<String>,
        file: Option<&String>,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let given = self
            .layers
            .pick(key, flag, file)
            .unwrap_or_else(|| SettingValue { value: default.to_owned(), source: Source::Default });
        let SettingValue { value, source } = given;
        self.show(key, value.clone(), source.clone());
        parse(&value).map_err(|why| ConfigError::Value { key, value, at: source, why })
    }

    fn docker_remove(&mut self) -> Result<DockerRemove, ConfigError> {
        let Layers { args, file } = self.layers;
        let (flag, file) = (args.docker_remove.clone(), file.settings.docker_remove.as_ref());
        self.parsed("docker-remove", flag, file, "keep", str::parse)
    }

    fn docker_rules(
        &mut self,
        destinations: &Destinations,
        schedules: &[Schedule],
    ) -> Result<Arc<DockerRules>, ConfigError> {
        let key = "docker-options";
        let Layers { args, file } = self.layers;
        let named = args.docker_options.iter().filter(|option| !option.is_empty());
        let flag: Vec<String> = named.cloned().collect();
        let flag = (!flag.is_empty()).then_some(flag);
        let given = self.layers.pick(key, flag, file.settings.docker_options.as_ref());
        let SettingValue { value, source } =
            given.unwrap_or(SettingValue { value: Vec::new(), source: Source::Default });
        self.show(key, value.join(","), source.clone());
        let scheduled =
            schedules.iter().filter_map(|schedule| schedule.destination.parse::<Destination>().ok());
        let places = destinations.places().cloned().chain(scheduled.map(|it| it.place().clone())).collect();
        DockerRules::new(&value, places).map(Arc::new).map_err(|why| ConfigError::Value {
            key,
            value: value.join(","),
            at: source,
            why,
        })
    }

    fn stop_timeout(&mut self) -> Result<Duration, ConfigError> {
        let Layers { args, file } = self.layers;
        let (flag, file) = (args.stop_timeout.clone(), file.settings.stop_timeout.as_ref());
        self.parsed("stop-timeout", flag, file, STOP_TIMEOUT, |text| {
            duration::parse(text).map_err(|error| error.to_string())
        })
    }

    fn metrics_listen(&mut self) -> Result<Option<Address>, ConfigError> {
        let Layers { args, file } = self.layers;
        let (flag, file) = (args.metrics_listen.clone(), file.settings.metrics_listen.as_ref());
        self.parsed("metrics-listen", flag, file, "", |text| match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|error: InvalidAddress| error.to_string()),
        })
    }

    fn backups(&mut self) -> Result<BackupSettings, ConfigError> {
        let Layers { args, file } = self.layers;
        let memory = self.take(
            "memory",
            args.memory.map(Memory),
            file.settings.memory.as_ref(),
            |memory| memory.to_string(),
            &Memory::DEFAULT.to_string(),
        );
        let destinations = match &args.destinations {
            Some(path) => {
                self.show("destinations", path.display().to_string(), self.layers.flag("destinations"));
                Destinations::load(path)?
            }
            None => file.settings.destinations.clone().unwrap_or_default(),
        };
        Ok(BackupSettings { memory: memory.map(|Memory(bytes)| bytes), destinations })
    }

    /// What the file says beside flags and driver options.
    fn show_tables(&mut self, file: &File) {
        for (key, value, line) in file.values() {
            if key.contains('.') && !key.starts_with("driver-options.") {
                let source = Source::File { path: file.path.clone(), line };
                self.show(key, value.to_owned(), source);
            }
        }
    }
}

fn command_timeout(general: &General) -> Result<Option<Duration>, ConfigError> {
    let value = general.cmd_timeout.as_str();
    if value.is_empty() {
        return Ok(None);
    }
    let invalid = |why: String| ConfigError::CmdTimeout { value: value.to_owned(), why };
    let timeout = duration::parse(value).map_err(|error| invalid(error.to_string()))?;
    if timeout < SHORTEST_TIMEOUT {
        return Err(invalid("expected at least 1m".to_owned()));
    }
    Ok(Some(timeout))
}

fn mount_namespace(general: &General) -> Result<Option<PathBuf>, ConfigError> {
    let value = general.mount_namespace_fd.as_str();
    if value.is_empty() {
        return Ok(None);
    }
    let path = match value.parse::<u32>() {
        // A driver may be another process.
        Ok(descriptor) => PathBuf::from(format!("/proc/{}/fd/{descriptor}", std::process::id())),
        Err(_) => PathBuf::from(value),
    };
    std::fs::metadata(&path)
        .map_err(|source| ConfigError::MountNamespace { value: value.to_owned(), source })?;
    Ok(Some(path))
}
