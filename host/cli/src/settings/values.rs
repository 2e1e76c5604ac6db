//! What was given for a setting, where, and how it is parsed.

use super::{Kind, SETTINGS, Setting, duration as durations};
use convoy_driver_sdk::size;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The shortest time an external command of a driver may be given.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// An earlier start saved it in this file.
    Saved(PathBuf),
    /// The file of settings.
    File {
        /// The file of settings.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag on the command line.
    Flag(String),
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Saved(path) => write!(f, "saved in {}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// The value of a setting as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenValue {
    /// One text, or those of a list.
    pub texts: Vec<String>,
    /// Who gave it.
    pub source: Source,
}

impl GivenValue {
    /// The value as it is shown: a list with commas.
    pub fn text(&self) -> String {
        self.texts.join(",")
    }
}

/// A value that its setting cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidValue {
    /// The key of the setting.
    pub key: &'static str,
    /// What was expected.
    pub why: String,
}

/// Values by key: those of one layer, or of all with the higher over the lower. The keys of tables have dots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values(pub BTreeMap<String, GivenValue>);

impl Values {
    /// What holds where nobody says anything.
    pub fn defaults() -> Self {
        let of_file = SETTINGS.iter().filter(|setting| setting.in_file);
        Self(
            of_file
                .map(|it| (it.key.to_owned(), GivenValue { texts: it.texts(), source: Source::Default }))
                .collect(),
        )
    }

    /// Puts a layer over this one.
    pub fn under(mut self, higher: &Self) -> Self {
        self.0.extend(higher.0.clone());
        self
    }

    /// The texts of a setting; none if it has no value.
    pub fn texts(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], |given| &given.texts)
    }

    /// The value of a setting as it is shown.
    pub fn text(&self, key: &str) -> String {
        self.texts(key).join(",")
    }

    /// Parses the value of a setting.
    ///
    /// # Errors
    /// [`InvalidValue`]. The row has to be in the table.
    pub fn parse<T>(&self, key: &'static str, parse: Parse<T>) -> Result<T, InvalidValue> {
        let setting = Setting::find(key).unwrap_or(&Setting::PLAIN);
        parse(setting, self.texts(key)).map_err(|why| InvalidValue { key, why })
    }
}

/// Makes the value of a setting of its texts, or says what was expected.
pub type Parse<T> = fn(&Setting, &[String]) -> Result<T, String>;

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn first(texts: &[String]) -> &str {
    texts.first().map_or("", String::as_str)
}

pub(super) fn one<T: FromStr<Err: Display>>(_: &Setting, texts: &[String]) -> Result<T, String> {
    parsed(first(texts))
}

/// One value; nothing is none.
pub fn optional<T: FromStr<Err: Display>>(_: &Setting, texts: &[String]) -> Result<Option<T>, String> {
    Some(first(texts)).filter(|text| !text.is_empty()).map(parsed).transpose()
}

pub(super) fn list<T: FromStr<Err: Display>>(_: &Setting, texts: &[String]) -> Result<Vec<T>, String> {
    texts.iter().map(|text| parsed(text)).collect()
}

pub(super) fn names(_: &Setting, texts: &[String]) -> Result<Vec<String>, String> {
    if texts.iter().any(String::is_empty) { Err("a name is empty".to_owned()) } else { Ok(texts.to_vec()) }
}

/// One of the setting's choices.
pub fn one_of(setting: &Setting, texts: &[String]) -> Result<String, String> {
    let text = first(texts);
    if setting.choices.contains(&text) {
        return Ok(text.to_owned());
    }
    let (last, others) = setting.choices.split_last().unwrap_or((&"", &[]));
    Err(format!("expected {} or {last}", others.join(", ")))
}

pub(super) fn duration(_: &Setting, texts: &[String]) -> Result<Duration, String> {
    durations::parse(first(texts)).map_err(|error| error.to_string())
}

/// A duration of a minute or more; nothing is none.
pub(super) fn at_least_a_minute(setting: &Setting, texts: &[String]) -> Result<Option<Duration>, String> {
    if first(texts).is_empty() {
        return Ok(None);
    }
    let timeout = duration(setting, texts)?;
    if timeout < SHORTEST_TIMEOUT { Err("expected at least 1m".to_owned()) } else { Ok(Some(timeout)) }
}

/// A mount namespace: a file, or an open descriptor of this process; nothing is none.
pub(super) fn mount_namespace(_: &Setting, texts: &[String]) -> Result<Option<PathBuf>, String> {
    let path = match first(texts) {
        "" => return Ok(None),
        // A driver may be another process.
        text if text.parse::<u32>().is_ok() => {
            PathBuf::from(format!("/proc/{}/fd/{text}", std::process::id()))
        }
        text => PathBuf::from(text),
    };
    let missing = |error| format!("expected a mount namespace like /proc/1/ns/mnt: {error}");
    Path::metadata(&path).map(|_| Some(path)).map_err(missing)
}

impl Setting {
    /// The texts of the default.
    pub fn texts(&self) -> Vec<String> {
        match self.kind {
            Kind::List(_) => {
                self.default.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect()
            }
            _ => vec![self.default.to_owned()],
        }
    }
}

/// A number of bytes that is not 0, written as a size: `256M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 20) == 0 => write!(f, "{}M", bytes >> 20),
            bytes => write!(f, "{bytes}"),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match size::parse(text) {
            Ok(0) => Err("expected a size greater than 0".to_owned()),
            Ok(bytes) => Ok(Self(bytes)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Where metrics are told besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// At an address of the network.
    Tcp(SocketAddr),
    /// At a unix socket.
    Unix(PathBuf),
}

/// A text that is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an address and a port like 127.0.0.1:9413, or unix:/PATH")]
pub struct InvalidAddress;

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(InvalidAddress) };
        }
        text.parse().map(Self::Tcp).map_err(|_| InvalidAddress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!("127.0.0.1:9413".parse(), Ok(Address::Tcp(([127, 0, 0, 1], 9413).into())));
        assert_eq!("unix:/run/m.sock".parse(), Ok(Address::Unix("/run/m.sock".into())));
        for bad in ["", "9413", "localhost", "unix:m.sock", "127.0.0.1"] {
            assert_eq!(bad.parse::<Address>(), Err(InvalidAddress), "{bad}");
        }
    }

    #[test]
    fn rows_are_whole_and_their_defaults_can_be_used() {
        for setting in SETTINGS {
            let variable = format!("CONVOY_{}", setting.key.replace('-', "_").to_uppercase());
            assert_eq!(setting.variable, variable);
            assert!(!setting.value_name.is_empty() && !setting.help.is_empty(), "{}", setting.key);
            assert!(
                setting.choices.is_empty() || setting.choices.contains(&setting.default),
                "{}",
                setting.key
            );
        }
        super::super::Settings::parse(&Values::defaults()).unwrap();
    }
}
