//! How backups are made: what holds for a destination, and what for all of them.
//!
//! In a configuration file this is a table of destinations, each by the URL it begins with:
//!
//! ```toml
//! [destinations."s3://backups/hosts/"]
//! endpoint = "https://minio.example.com:9000"
//! profile = "backups"
//! bandwidth = "20M"
//! ```

use super::spelling::{OneOf, with_dashes};
use convoy_driver_sdk::size;
use convoy_objectstore::{
    Bandwidth, Destination, Location, SCHEMES, Scheme, SettingKind, StoreError, StoreOptions, scheme,
};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The highest level of zstd there is use for.
pub const MAX_COMPRESSION: u8 = 19;

/// What holds for the destinations whose URLs begin alike. What is not said is as without settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DestinationSettings {
    /// What is set for the kind of store: see its [`Scheme`].
    pub store: StoreOptions,
    /// Bytes a second in each direction, all work at these destinations together.
    pub bandwidth: Option<Rate>,
    /// The key that encrypts new backups and opens old ones, unless a request names another.
    pub encryption_key_file: Option<PathBuf>,
    /// A file with a passphrase that does, in the place of a key file.
    pub passphrase_file: Option<PathBuf>,
    /// The name of a systemd credential with a passphrase that does, in the place of a file.
    pub passphrase_credential: Option<String>,
    /// The level of zstd, 1 to 19, or 0 to store everything as it is.
    pub compression: Option<u8>,
}

impl<'de> Deserialize<'de> for DestinationSettings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(SettingsVisitor)
    }
}

struct SettingsVisitor;

impl<'de> Visitor<'de> for SettingsVisitor {
    type Value = DestinationSettings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("settings of a destination")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<DestinationSettings, M::Error> {
        const OF_ALL: [&str; 5] =
            ["bandwidth", "encryption-key-file", "passphrase-file", "passphrase-credential", "compression"];
        let of_stores = || SCHEMES.iter().flat_map(|scheme| scheme.settings());
        let keys: Vec<&str> = of_stores().map(|setting| setting.key).chain(OF_ALL).collect();
        let mut settings = DestinationSettings::default();
        while let Some(key) = map.next_key_seed(OneOf(&keys))? {
            match key {
                "bandwidth" => settings.bandwidth = map.next_value()?,
                "encryption-key-file" => settings.encryption_key_file = map.next_value()?,
                "passphrase-file" => settings.passphrase_file = map.next_value()?,
                "passphrase-credential" => settings.passphrase_credential = map.next_value()?,
                "compression" => settings.compression = map.next_value()?,
                key => {
                    let is_switch = of_stores().any(|it| it.key == key && it.kind == SettingKind::Switch);
                    let value = match is_switch {
                        true => map.next_value::<bool>()?.to_string(),
                        false => map.next_value()?,
                    };
                    settings.store.set(key, value);
                }
            }
        }
        Ok(settings)
    }
}

/// Bytes a second, written as a size: `20M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate(pub u64);

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match size::parse(&text) {
            Ok(0) => Err("a bandwidth of 0 lets nothing pass: leave it out for no limit".to_owned()),
            Ok(rate) => Ok(Self(rate)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum SettingsError {
    #[error("the destination {url:?} of settings: {why}")]
    Url { url: String, why: String },
    #[error("the setting {setting} of destination {url:?}: {why}")]
    Value { url: String, setting: &'static str, why: String },
    #[error("cannot read the settings of destinations {}: {why}", path.display())]
    File { path: PathBuf, why: String },
}

/// Which destinations settings are for.
#[derive(Debug, Clone)]
enum Scope {
    /// `s3://`: all of the kind.
    All(&'static dyn Scheme),
    /// A place and what is below it.
    At(Location),
}

#[derive(Debug, Clone)]
struct Entry {
    url: String,
    scope: Scope,
    settings: DestinationSettings,
    road: Option<Arc<Bandwidth>>,
}

/// Settings by destination. Where several fit, the one with the longest path holds, alone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, DestinationSettings>")]
pub struct Destinations(Vec<Entry>);

/// A file with nothing but the table of destinations.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    destinations: Destinations,
}

impl TryFrom<BTreeMap<String, DestinationSettings>> for Destinations {
    type Error = SettingsError;

    fn try_from(table: BTreeMap<String, DestinationSettings>) -> Result<Self, SettingsError> {
        let mut entries: Vec<Entry> = Vec::new();
        for (url, settings) in table {
            let scope = Scope::parse(&url)?;
            if let Some(other) = entries.iter().find(|entry| entry.scope.is(&scope)) {
                let why = format!("it is the same as {:?}", other.url);
                return Err(SettingsError::Url { url, why });
            }
            check(&url, &scope, &settings)?;
            let road = settings.bandwidth.map(|Rate(rate)| Arc::new(Bandwidth::new(Some(rate), Some(rate))));
            entries.push(Entry { url, scope, settings, road });
        }
        Ok(Self(entries))
    }
}

impl Destinations {
    /// Reads a file with a table `destinations`.
    ///
    /// # Errors
    /// [`SettingsError::File`], with the line where that is known.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let failed = |why: String| SettingsError::File { path: path.to_owned(), why };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let (text, warnings) = with_dashes(&text);
        for warning in warnings {
            tracing::warn!(file = %path.display(), warning, "settings");
        }
        // The error shows the place in the text; it ends in a line of its own.
        let file: File =
            toml::from_str(&text).map_err(|error| failed(error.to_string().trim_end().to_owned()))?;
        Ok(file.destinations)
    }

    /// The URLs of the destinations that have settings of their own.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        let own = self.0.iter().filter(|entry| matches!(entry.scope, Scope::At(_)));
        own.map(|entry| entry.url.as_str())
    }

    /// The places that have settings of their own.
    pub fn places(&self) -> impl Iterator<Item = &Location> {
        self.0.iter().filter_map(|entry| match &entry.scope {
            Scope::At(place) => Some(place),
            Scope::All(_) => None,
        })
    }

    /// Tells what can be told of a destination without asking a server.
    ///
    /// # Errors
    /// [`StoreError::Config`] for credentials that cannot be used.
    pub fn probe(&self, destination: &Destination) -> Result<String, StoreError> {
        destination.probe(&self.of(destination).0.store)
    }

    /// Gives the settings of a destination, and the bandwidth that it shares with others.
    pub fn of(&self, destination: &Destination) -> (DestinationSettings, Option<Arc<Bandwidth>>) {
        let fitting = self.0.iter().filter_map(|entry| Some((entry.scope.fits(destination)?, entry)));
        let best = fitting.max_by_key(|(length, _)| *length);
        best.map(|(_, entry)| (entry.settings.clone(), entry.road.clone())).unwrap_or_default()
    }
}

impl Scope {
    fn parse(url: &str) -> Result<Self, SettingsError> {
        if let Some(scheme) = url.strip_suffix("://").and_then(scheme) {
            return Ok(Self::All(scheme));
        }
        let whole = if url.ends_with('/') { url.to_owned() } else { format!("{url}/") };
        match whole.parse::<Destination>() {
            Ok(destination) => Ok(Self::At(destination.place().clone())),
            Err(error) => Err(SettingsError::Url { url: url.to_owned(), why: error.to_string() }),
        }
    }

    fn scheme(&self) -> &'static dyn Scheme {
        match self {
            Self::All(scheme) => *scheme,
            Self::At(place) => place.scheme,
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All(scheme), Self::All(other)) => scheme.name() == other.name(),
            (Self::At(place), Self::At(other)) => place == other,
            _ => false,
        }
    }

    /// How well this fits: the greater, the better.
    fn fits(&self, destination: &Destination) -> Option<(usize, bool)> {
        match self {
            Self::All(scheme) => (scheme.name() == destination.scheme()).then_some((0, false)),
            Self::At(place) => place.fit(destination.place()),
        }
    }
}

/// Refuses what could not be used later.
fn check(url: &str, scope: &Scope, settings: &DestinationSettings) -> Result<(), SettingsError> {
    let refuse =
        |setting, why: &str| Err(SettingsError::Value { url: url.to_owned(), setting, why: why.to_owned() });
    settings.store.check(scope.scheme()).or_else(|(setting, why)| refuse(setting, &why))?;
    for (setting, path) in [
        ("encryption-key-file", &settings.encryption_key_file),
        ("passphrase-file", &settings.passphrase_file),
    ] {
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return refuse(setting, "expected an absolute path");
        }
    }
    if settings.passphrase_credential.as_deref().is_some_and(|name| !is_credential_name(name)) {
        return refuse("passphrase-credential", "expected the name of a credential, not a path");
    }
    let secrets = [
        ("encryption-key-file", settings.encryption_key_file.is_some()),
        ("passphrase-file", settings.passphrase_file.is_some()),
        ("passphrase-credential", settings.passphrase_credential.is_some()),
    ];
    let mut given = secrets.iter().filter(|(_, given)| *given);
    if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
        return refuse(second, &format!("{first} is set too, and one thing opens the backups"));
    }
    if settings.compression.is_some_and(|level| level > MAX_COMPRESSION) {
        return refuse("compression", "expected a level from 1 to 19, or 0 for none");
    }
    Ok(())
}

/// Whether systemd could hand over a credential of this name: it is one part of a path.
fn is_credential_name(name: &str) -> bool {
    !name.is_empty() && name.len() < 256 && name != "." && name != ".." && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Destinations, String> {
        toml::from_str::<File>(&with_dashes(text).0)
            .map(|file| file.destinations)
            .map_err(|error| error.to_string())
    }

    fn profile(of: &Destinations, url: &str) -> Option<String> {
        of.of(&url.parse().unwrap()).0.store.get("profile")
    }

    #[test]
    fn the_longest_path_holds() {
        let all = read(
            r#"
            [destinations."s3://"]
            profile = "all"
            [destinations."s3://b1"]
            profile = "bucket"
            [destinations."s3://b1/a/b/"]
            profile = "path"
            [destinations."s3://b1@r-1/a/b"]
            profile = "region"
            [destinations."vfs:///srv"]
            bandwidth = "1M"
            "#,
        )
        .unwrap();
        for (url, expected) in [
            ("s3://other/x/", "all"),
            ("s3://b1/", "bucket"),
            ("s3://b1@r-2/x/", "bucket"),
            ("s3://b1/a/bc/", "bucket"),
            ("s3://b1/a/b/", "path"),
            ("s3://b1/a/b", "path"),
            ("s3://b1@r-2/a/b/c/", "path"),
            ("s3://b1@r-1/a/b/c/", "region"),
        ] {
            assert_eq!(profile(&all, url).as_deref(), Some(expected), "{url}");
        }
        let rate = |url: &str| all.of(&url.parse().unwrap()).0.bandwidth;
        assert_eq!(rate("vfs:///srv/x/"), Some(Rate(1 << 20)));
        assert_eq!(rate("vfs:///srvx/"), None);
        assert!(all.of(&"vfs:///srv/x/".parse().unwrap()).1.is_some());
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_was_expected() {
        for (url, line, expected) in [
            ("s3://b1/", "bandwith = \"1M\"", "unknown field `bandwith`"),
            ("s3://b1/", "bandwidth = \"fast\"", "invalid size"),
            ("s3://b1/", "bandwidth = \"0\"", "lets nothing pass"),
            ("s3://b1/", "endpoint = \"minio:9000\"", "http://"),
            ("s3://b1/", "ca_file = \"ca.pem\"", "absolute"),
            ("s3://b1/", "compression = 20", "1 to 19"),
            ("s3://b1/", "passphrase_file = \"p\"", "absolute"),
            ("s3://b1/", "passphrase_credential = \"/etc/p\"", "not a path"),
            ("s3://b1/", "encryption_key_file = \"/k\"\npassphrase_file = \"/p\"", "is set too"),
            ("s3://b1/", "passphrase = \"secret\"", "unknown field `passphrase`"),
            ("vfs:///b/", "region = \"r-1\"", "only an s3://"),
            ("ftp://b/", "", "ftp is not supported"),
            ("vfs://b/", "", "vfs:///path/"),
        ] {
            let error = read(&format!("[destinations.\"{url}\"]\n{line}\n")).unwrap_err();
            assert!(error.contains(expected), "{url} {line}: {error}");
        }
        let twice = "[destinations.\"s3://b1\"]\n[destinations.\"s3://b1/\"]\n";
        assert!(read(twice).unwrap_err().contains("the same"));
        assert!(read("[destination.\"s3://b1\"]\n").unwrap_err().contains("unknown field"));
    }

    #[test]
    fn a_proxy_is_not_shown() {
        let all = read("[destinations.\"s3://b1\"]\nproxy = \"http://me:secret@proxy:1\"\n").unwrap();
        assert!(!format!("{all:?}").contains("secret"));
        let error = read("[destinations.\"s3://b1\"]\nproxy = \"me:secret@proxy\"\n").unwrap_err();
        assert!(error.contains("proxy of destination") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn credentials_have_names_and_no_paths() {
        assert!(is_credential_name("convoy.passphrase"));
        for name in ["", ".", "..", "a/b", "/etc/passwd"] {
            assert!(!is_credential_name(name), "{name}");
        }
    }
}
