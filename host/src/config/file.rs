//! The file of settings, `convoy.toml`.
//!
//! Its keys are the names of the daemon's flags. Beside them stand the tables of other parts of the daemon,
//! each with a type of its own that serde fills; a key nobody knows is refused with its line.

use super::ConfigError;
use super::spelling::with_dashes;
use crate::config::destinations::Destinations;
use convoy_cli::args::DEFAULT_CONFIG;
use convoy_driver_sdk::size;
use convoy_schedule::config::{ScheduleConfig, SchedulingConfig};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What stands in the file. What does not is `None` or empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// `--root`
    pub root: Option<PathBuf>,
    /// `--log`
    pub log: Option<PathBuf>,
    /// `--log-level`
    pub log_level: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
    /// `--metrics-listen`
    pub metrics_listen: Option<String>,
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--socket-group`
    pub socket_group: Option<String>,
    /// `--docker-socket`
    pub docker_socket: Option<PathBuf>,
    /// `--docker-socket-group`
    pub docker_socket_group: Option<String>,
    /// `--drivers`
    pub drivers: Option<Vec<String>>,
    /// `--driver-path`
    pub driver_path: Option<Vec<PathBuf>>,
    /// `--mnt-ns`
    pub mnt_ns: Option<String>,
    /// `--ignore-docker-delete`
    pub ignore_docker_delete: Option<bool>,
    /// `--create-on-docker-mount`
    pub create_on_docker_mount: Option<bool>,
    /// `--cmd-timeout`
    pub cmd_timeout: Option<String>,
    /// `--docker-remove`
    pub docker_remove: Option<String>,
    /// `--docker-options`
    pub docker_options: Option<Vec<String>>,
    /// `--stop-timeout`
    pub stop_timeout: Option<String>,
    /// `--driver-opts`, by name. TOML reads `vfs.path = "/srv"` as a table in a table: both forms are one.
    #[serde(deserialize_with = "driver_options")]
    pub driver_options: BTreeMap<String, String>,
    /// `--memory`
    pub memory: Option<Memory>,
    /// `--destinations` names another file with this table.
    pub destinations: Option<Destinations>,
    /// What is backed up when.
    pub schedule: Vec<ScheduleConfig>,
    /// What holds for all schedules.
    pub scheduling: SchedulingConfig,
}

/// Bytes of memory, written as a size: `256M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Memory(pub u64);

impl Memory {
    /// What the engine keeps to when nobody says.
    pub const DEFAULT: Self = Self(128 << 20);
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 20) == 0 => write!(f, "{}M", bytes >> 20),
            bytes => write!(f, "{bytes}"),
        }
    }
}

impl TryFrom<String> for Memory {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match size::parse(&text) {
            Ok(0) => Err("expected a size greater than 0".to_owned()),
            Ok(bytes) => Ok(Self(bytes)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A file of settings that was read; or none, which says nothing.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// Where it is; empty for none.
    pub path: PathBuf,
    /// What it says.
    pub settings: Settings,
    /// Every value by its full key, with the line its key stands on.
    values: BTreeMap<String, (String, usize)>,
    /// What is understood and should be written otherwise.
    warnings: Vec<String>,
}

impl File {
    /// Reads the file that was asked for, or the usual one if it is there.
    ///
    /// # Errors
    /// [`ConfigError::File`], [`ConfigError::FileUnreadable`].
    pub fn find(asked: Option<&Path>) -> Result<Self, ConfigError> {
        match asked {
            Some(path) if !path.as_os_str().is_empty() => Self::read(path),
            _ => match Self::read(Path::new(DEFAULT_CONFIG)) {
                Err(ConfigError::FileUnreadable { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    Ok(Self::default())
                }
                result => result,
            },
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::FileUnreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// [`ConfigError::File`], with line and column.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let wrong = |error: toml::de::Error| {
            // Without the line itself, which may hold a secret.
            let place = error.span().map(|span| place(text, span.start)).unwrap_or_default();
            let of = error.span().and_then(|span| schedule_at(text, span.start)).unwrap_or_default();
            ConfigError::File {
                path: path.to_owned(),
                error: format!("{place}{of}{}", error.message().trim_end()),
            }
        };
        let (text, warnings) = with_dashes(text);
        let text = text.as_str();
        let settings: Settings = toml::from_str(text).map_err(wrong)?;
        let mut values = BTreeMap::new();
        collect(text, "", DeTable::parse(text).map_err(wrong)?.get_ref(), &mut values);
        Ok(Self { path: path.to_owned(), settings, values, warnings })
    }

    /// What is understood and should be written otherwise, with its line.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Logs that.
    pub fn warn(&self) {
        for warning in &self.warnings {
            tracing::warn!(file = %self.path.display(), warning, "settings");
        }
    }

    /// The line a key stands on.
    pub fn line(&self, key: &str) -> Option<usize> {
        self.values.get(key).map(|(_, line)| *line)
    }

    /// Every value by its full key (`destinations.nightly.url`), as text, with its line.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        self.values.iter().map(|(key, (value, line))| (key.as_str(), value.as_str(), *line))
    }
}

/// Collects the values of a table. A list is a value; a list of tables is not, its tables are numbered from
/// 0.
fn collect(text: &str, above: &str, table: &DeTable<'_>, values: &mut BTreeMap<String, (String, usize)>) {
    for (key, value) in table {
        let name = key.get_ref();
        let path = if above.is_empty() { name.to_string() } else { format!("{above}.{name}") };
        match value.get_ref() {
            DeValue::Table(table) => collect(text, &path, table, values),
            DeValue::Array(array) if array.iter().any(|item| item.get_ref().is_table()) => {
                for (number, item) in array.iter().enumerate() {
                    if let DeValue::Table(table) = item.get_ref() {
                        collect(text, &format!("{path}.{number}"), table, values);
                    }
                }
            }
            plain => {
                values.insert(path, (shown(text, plain, value), line_of(text, key.span().start)));
            }
        }
    }
}

/// A value as it is shown: text without quotes, everything else as written.
fn shown(text: &str, plain: &DeValue<'_>, value: &Spanned<DeValue<'_>>) -> String {
    match plain.as_str() {
        Some(plain) => plain.to_owned(),
        None => text.get(value.span()).unwrap_or_default().to_owned(),
    }
}

/// Which schedule of the file stands there, as the beginning of a message.
fn schedule_at(text: &str, offset: usize) -> Option<String> {
    let headers =
        |text: &str| text.lines().filter(|line| line.trim_start().starts_with("[[schedule]]")).count();
    let mut until = text.get(..offset)?.to_owned();
    until.push_str(text.get(offset..)?.lines().next().unwrap_or_default());
    let last = until.lines().rev().find(|line| line.trim_start().starts_with('['))?;
    if ["[schedule]", "[schedule."].iter().any(|header| last.trim_start().starts_with(header)) {
        return Some(
            "a schedule begins with [[schedule]], and its name is a setting below that: ".to_owned(),
        );
    }
    let number = headers(&until).checked_sub(1)?;
    if !last.trim_start().trim_start_matches('[').starts_with("schedule") {
        return None;
    }
    let table = DeTable::parse(text).ok()?;
    let schedule = table.get_ref().get("schedule")?.get_ref().as_array()?.get(number)?;
    match schedule.get_ref().as_table()?.get("name").and_then(|name| name.get_ref().as_str()) {
        Some(name) => Some(format!("schedule {name:?}: ")),
        None => Some(format!("schedule {} of the file: ", number + 1)),
    }
}

fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
    format!("line {}, column {column}: ", line_of(text, offset))
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn driver_options<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let mut flat = BTreeMap::new();
    flatten("", toml::Table::deserialize(from)?, &mut flat).map_err(serde::de::Error::custom)?;
    Ok(flat)
}

fn flatten(above: &str, table: toml::Table, flat: &mut BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in table {
        let path = if above.is_empty() { name } else { format!("{above}.{name}") };
        let value = match value {
            toml::Value::Table(table) => {
                flatten(&path, table, flat)?;
                continue;
            }
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            other => {
                return Err(format!(
                    "driver option {path}: expected a text, a whole number or true or false, found {}",
                    other.type_str()
                ));
            }
        };
        if flat.insert(path.clone(), value).is_some() {
            return Err(format!("driver option {path} is given twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<File, ConfigError> {
        File::parse(Path::new("/etc/convoy/convoy.toml"), text)
    }

    #[test]
    fn values_know_their_lines() {
        let file = parse(
            "# settings\nroot = \"/srv/convoy\"\ndrivers = [\n  \"vfs\",\n]\n\n[driver-options]\nvfs.path = \"/v\"\n\
             \"dm.thinpoolname\" = \"p=1\"\n[driver-options.dm]\nblocksize = 65536\n",
        )
        .unwrap();
        assert_eq!(file.settings.root.as_deref(), Some(Path::new("/srv/convoy")));
        assert_eq!(file.settings.drivers.as_deref(), Some(&["vfs".to_owned()][..]));
        let options: Vec<_> =
            file.settings.driver_options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(options, [("dm.blocksize", "65536"), ("dm.thinpoolname", "p=1"), ("vfs.path", "/v")]);
        let line = |key: &str| file.line(key);
        assert_eq!((line("root"), line("drivers")), (Some(2), Some(3)));
        assert_eq!(line("driver-options.vfs.path"), Some(8));
        assert_eq!(line("driver-options.dm.blocksize"), Some(11));
        assert_eq!(line("log"), None);
        assert!(file.values().any(|(key, value, _)| key == "root" && value == "/srv/convoy"));
    }

    #[test]
    fn mistakes_are_refused_with_their_line() {
        for (text, line, said) in [
            ("root = 5", 1, "expected path string"),
            ("\nrooot = \"/x\"", 2, "rooot"),
            ("drivers = \"vfs\"", 1, "sequence"),
            ("\n\nroot = \"/x", 3, ""),
            ("[driver-options]\nvfs.path = 1.5", 1, "vfs.path"),
            ("root = \"/a\"\nroot = \"/b\"", 2, "duplicate key"),
            ("ignore-docker-delete = \"yes\"", 1, "boolean"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("invalid settings in /etc/convoy/convoy.toml: "), "{error}");
            assert!(error.contains(&format!("line {line}, ")) && error.contains(said), "{text}: {error}");
        }
        assert_eq!(parse("").unwrap().values().count(), 0);
    }

    #[test]
    fn mistakes_in_a_schedule_name_it() {
        let one = "[[schedule]]\nname = \"one\"\ncron = \"@daily\"\nvolumes = [\"*\"]\nkind = \"backup\"\n";
        let two = one.replace("one", "two");
        for (text, said) in [
            (
                format!("{one}{}", two.replace("kind = \"backup\"\n", "")),
                "schedule \"two\": missing field `kind`",
            ),
            (format!("{one}{two}kep = 1\n"), "schedule \"two\": unknown field `kep`"),
            (format!("{one}jitter = 5\n{two}"), "schedule \"one\": invalid type"),
            (format!("{one}{two}[[schedule.before]]\nexecute = []\n"), "schedule \"two\": unknown field"),
            (format!("{one}[[schedule]]\nkind = \"backup\"\n"), "schedule 2 of the file: missing field"),
            ("[schedule.one]\ncron = \"@daily\"\n".to_owned(), "a schedule begins with [[schedule]]"),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let error = parse(&format!("{one}[scheduling]\nparalel = 1\n")).unwrap_err().to_string();
        assert!(!error.contains("schedule \""), "{error}");
    }

    #[test]
    fn both_spellings_are_understood() {
        let file =
            parse("log_level = \"warn\"\n[destinations.\"s3://b/\"]\nca-file = \"/a\"\npath_style = true\n");
        let file = file.unwrap();
        assert_eq!(file.settings.log_level.as_deref(), Some("warn"));
        assert_eq!(file.line("destinations.s3://b/.path-style"), Some(4));
        assert_eq!(file.warnings().len(), 2);
        let error = parse("log_level = \"warn\"\nlog-level = \"info\"\n").unwrap_err().to_string();
        assert!(error.contains("line 2, ") && error.contains("duplicate key"), "{error}");
    }

    #[test]
    fn a_file_that_was_asked_for_has_to_be_there() {
        let missing = Path::new("/nonexistent/convoy.toml");
        assert!(matches!(File::find(Some(missing)), Err(ConfigError::FileUnreadable { .. })));
    }
}
