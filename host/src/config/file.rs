//! The file of settings, `convoy.toml`.
//!
//! Its keys are those of the table of settings. Beside them stand the tables of other parts of the daemon,
//! each with a type of its own that serde fills; a key nobody knows is refused with its line.

use super::destinations::Destinations;
use super::error::ConfigError;
use super::exclude_table::ExcludeTable;
use super::spelling::{OneOf, with_dashes};
use convoy_cli::args::DEFAULT_CONFIG;
use convoy_cli::settings::values::{GivenValue, Size, Source, Values};
use convoy_cli::settings::{Kind, SETTINGS, Setting, TABLES};
use convoy_schedule::config::{ScheduleConfig, SchedulingConfig};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The tables of the file. One that is not there is `None` or empty.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// The options of drivers, by name. TOML reads `vfs.path = "/srv"` as a table in a table: both forms are
    /// one.
    driver_options: BTreeMap<String, String>,
    /// The settings of destinations; the flag `--destinations` names another file with this table.
    pub destinations: Option<Destinations>,
    /// What is backed up when.
    pub schedule: Vec<ScheduleConfig>,
    /// What is left out of backups.
    pub exclude: Vec<ExcludeTable>,
    /// What holds for all schedules.
    pub scheduling: SchedulingConfig,
}

/// What stands in the file: settings by key, each in the form that its row says, and tables.
#[derive(Default)]
struct Contents {
    settings: BTreeMap<&'static str, Vec<String>>,
    tables: Tables,
}

impl<'de> Deserialize<'de> for Contents {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ContentsVisitor)
    }
}

struct ContentsVisitor;

impl<'de> Visitor<'de> for ContentsVisitor {
    type Value = Contents;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("settings")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Contents, M::Error> {
        let keys = SETTINGS.iter().filter(|setting| setting.in_file).map(|setting| setting.key);
        let keys: Vec<&str> = keys.chain(TABLES.iter().map(|table| table.key)).collect();
        let Contents { mut settings, mut tables } = Contents::default();
        while let Some(key) = map.next_key_seed(OneOf(&keys))? {
            match key {
                "driver-options" => tables.driver_options = map.next_value::<DriverOptions>()?.0,
                "destinations" => tables.destinations = Some(map.next_value()?),
                "exclude" => tables.exclude = map.next_value()?,
                "schedule" => tables.schedule = map.next_value()?,
                "scheduling" => tables.scheduling = map.next_value()?,
                key => {
                    let kind = Setting::find(key).map_or(Kind::Text, |setting| setting.kind);
                    settings.insert(key, map.next_value_seed(InFile(kind))?);
                }
            }
        }
        Ok(Contents { settings, tables })
    }
}

/// The value of a setting in the form that its kind has in the file.
struct InFile(Kind);

impl<'de> DeserializeSeed<'de> for InFile {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Vec<String>, D::Error> {
        Ok(match self.0 {
            Kind::Text => vec![String::deserialize(from)?],
            Kind::Path => vec![PathBuf::deserialize(from)?.display().to_string()],
            Kind::Switch => vec![bool::deserialize(from)?.to_string()],
            Kind::List(_) => Vec::deserialize(from)?,
            Kind::Size => {
                let size: Size = String::deserialize(from)?.parse().map_err(D::Error::custom)?;
                vec![size.to_string()]
            }
        })
    }
}

/// A file of settings that was read; or none, which says nothing.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// Where it is; empty for none.
    pub path: PathBuf,
    /// Every value by its full key (`destinations.nightly.url`), with the line its key stands on.
    pub values: Values,
    /// The tables of the file.
    pub tables: Tables,
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
        let Contents { settings, tables } = toml::from_str(text).map_err(wrong)?;
        let mut file = Self { path: path.to_owned(), tables, warnings, ..Self::default() };
        file.collect(text, "", DeTable::parse(text).map_err(wrong)?.get_ref());
        // What is parsed is shown as it was understood, everything else as it was written.
        let settings = settings.into_iter().map(|(key, texts)| (key.to_owned(), texts));
        let options = &file.tables.driver_options;
        let options =
            options.iter().map(|(name, value)| (format!("driver-options.{name}"), vec![value.clone()]));
        for (key, texts) in settings.chain(options).collect::<Vec<_>>() {
            if let Some(given) = file.values.0.get_mut(&key) {
                given.texts = texts;
            }
        }
        Ok(file)
    }

    /// What is understood and should be written otherwise, with its line.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Logs what is understood and should be written otherwise.
    pub fn warn(&self) {
        for warning in &self.warnings {
            tracing::warn!(file = %self.path.display(), warning, "settings");
        }
    }

    /// The line a key stands on.
    pub fn line(&self, key: &str) -> Option<usize> {
        self.values().find(|(known, ..)| *known == key).map(|(.., line)| line)
    }

    /// Where a key stands; the first line, if it is left out.
    pub fn at(&self, key: &str) -> Source {
        Source::File { path: self.path.clone(), line: self.line(key).unwrap_or(1) }
    }

    /// Every value by its full key, as text, with its line.
    pub fn values(&self) -> impl Iterator<Item = (&str, String, usize)> {
        self.values.0.iter().filter_map(|(key, given)| match given.source {
            Source::File { line, .. } => Some((key.as_str(), given.text(), line)),
            _ => None,
        })
    }

    /// Collects the values of a table. A list is a value; a list of tables is not, its tables are numbered
    /// from 0.
    fn collect(&mut self, text: &str, above: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = if above.is_empty() { name.to_string() } else { format!("{above}.{name}") };
            match value.get_ref() {
                DeValue::Table(table) => self.collect(text, &path, table),
                DeValue::Array(array) if array.iter().any(|item| item.get_ref().is_table()) => {
                    for (number, item) in array.iter().enumerate() {
                        if let DeValue::Table(table) = item.get_ref() {
                            self.collect(text, &format!("{path}.{number}"), table);
                        }
                    }
                }
                plain => {
                    let source =
                        Source::File { path: self.path.clone(), line: line_of(text, key.span().start) };
                    let texts = vec![shown(text, plain, value)];
                    self.values.0.insert(path, GivenValue { texts, source });
                }
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

/// The table of driver options, flat.
#[derive(Deserialize)]
#[serde(try_from = "toml::Table")]
struct DriverOptions(BTreeMap<String, String>);

impl TryFrom<toml::Table> for DriverOptions {
    type Error = String;

    fn try_from(table: toml::Table) -> Result<Self, String> {
        let mut flat = BTreeMap::new();
        flatten("", table, &mut flat)?;
        Ok(Self(flat))
    }
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
            "# settings\nroot = \"/srv/convoy\"\ndrivers = [\n  \"vfs\",\n]\n\n[driver-options]\nvfs.path = \
             \"/v\"\n\
             \"dm.thinpoolname\" = \"p=1\"\n[driver-options.dm]\nblocksize = 65536\n",
        )
        .unwrap();
        assert_eq!(
            (file.values.text("root").as_str(), file.values.texts("drivers")),
            ("/srv/convoy", &["vfs".to_owned()][..])
        );
        let options: Vec<_> =
            file.tables.driver_options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
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
        assert_eq!(file.values.text("log-level"), "warn");
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
