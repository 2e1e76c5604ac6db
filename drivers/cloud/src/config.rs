//! What a driver is told when it is opened: options, and beneath them what convoy 0.5 kept of its first
//! start.

use crate::provider::Provider;
use crate::settings;
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::{Open, OptionSpec};
use convoy_driver_sdk::{DriverError, ErrorKind, Result, size};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use url::Url;

/// Everything a driver is told; `T` is the provider's own part.
#[derive(Debug, Clone)]
pub struct Config<T> {
    /// How volumes are made.
    pub common: Common,
    /// Where things are.
    pub places: Places,
    /// The provider's own.
    pub own: T,
}

/// How volumes are made when nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// GiB of a new volume.
    pub default_gib: u64,
    /// The file system of a new volume.
    pub fs: FsKind,
    /// Whether a mounted file system is frozen for every snapshot, asked for or not.
    pub freeze: bool,
    /// Options of every mount of a volume, as after `mount -o`.
    pub mount_options: String,
}

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The API, if not where the provider has it.
    pub endpoint: Option<Url>,
    /// The metadata service, if not where the provider has it.
    pub metadata: Option<Url>,
    /// Device nodes: `/dev`.
    pub dev: PathBuf,
    /// The kernel's descriptions of devices: `/sys`.
    pub sys: PathBuf,
}

/// The options that a driver declares.
pub fn options<P: Provider>() -> Vec<OptionSpec> {
    let option = |name: &str, help: &str| OptionSpec::new(&format!("{}.{name}", P::PREFIX), help);
    let (api, metadata) = P::ENDPOINTS;
    let mut options = vec![
        option("defaultvolumesize", "size of a new volume").default_value(P::DEFAULT_SIZE),
        option("fs", "file system of a new volume: ext4 or xfs").default_value("ext4"),
        option("fsfreeze", "freeze a mounted file system for every snapshot").default_value("false"),
        option(
            "mountoptions",
            "options of every mount; with suid and dev, set-user-ID programs and devices have an effect",
        ),
        option("endpoint", "address of the API").default_value(api),
        option("metadata-endpoint", "address of the metadata service").default_value(metadata),
    ];
    options.extend(P::options());
    options
}

impl<T> Config<T> {
    /// From the options of an open, the environment, and what convoy 0.5 kept.
    ///
    /// # Errors
    /// `InvalidArgument`; `DataLoss` if what 0.5 kept is damaged; whatever keeps a file from being read.
    pub fn read<P: Provider<Own = T>>(request: &Open) -> Result<Self> {
        convoy_driver_sdk::options::check(&options::<P>(), &request.options)?;
        let options = Options {
            prefix: P::PREFIX,
            given: &request.options,
            saved: saved(&request.root.join(format!("{}.cfg", P::DRIVER)))?,
        };
        let own = P::read(&options)?;
        let bytes = match (options.get("defaultvolumesize"), options.saved("DefaultVolumeSize")) {
            (None, Some(Value::Number(bytes))) if bytes.as_u64().is_some_and(|bytes| bytes > 0) => {
                bytes.as_u64().unwrap_or_default()
            }
            (text, _) => size::parse(text.unwrap_or(P::DEFAULT_SIZE))
                .map_err(|error| options.invalid("defaultvolumesize", error))?,
        };
        let common = Common {
            default_gib: settings::gib::<P>(bytes)?,
            fs: settings::fs_kind(options.get("fs").unwrap_or("ext4"))?,
            freeze: options.boolean("fsfreeze")?.unwrap_or(false),
            mount_options: options.get("mountoptions").unwrap_or_default().to_owned(),
        };
        let places = Places {
            endpoint: options.url("endpoint")?,
            metadata: options.url("metadata-endpoint")?,
            dev: PathBuf::from("/dev"),
            sys: PathBuf::from("/sys"),
        };
        Ok(Self { common, places, own })
    }
}

/// The options of an open by their short names; what is empty is not given.
#[derive(Debug)]
pub struct Options<'a> {
    prefix: &'static str,
    given: &'a BTreeMap<String, String>,
    saved: Map<String, Value>,
}

impl Options<'_> {
    /// One of them: `fs` for `ebs.fs`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.given.get(&format!("{}.{name}", self.prefix))?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// What convoy 0.5 kept under a key, which holds where no option says otherwise.
    pub fn saved(&self, key: &str) -> Option<&Value> {
        self.saved.get(key)
    }

    /// A text that convoy 0.5 kept; what is empty it did not know.
    pub fn saved_text(&self, key: &str) -> Option<&str> {
        self.saved(key)?.as_str().filter(|text| !text.is_empty())
    }

    /// A yes or no.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>> {
        let full = format!("{}.{name}", self.prefix);
        self.get(name).map(|text| settings::boolean(&full, text)).transpose()
    }

    /// An address.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn url(&self, name: &str) -> Result<Option<Url>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let url = Url::parse(text)
            .map_err(|error| self.invalid(name, format_args!("{text:?} is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(self.invalid(name, format_args!("expected an http or https URL, found {text:?}")));
        }
        Ok(Some(url))
    }

    /// Refuses the value of an option.
    pub fn invalid(&self, name: &str, reason: impl std::fmt::Display) -> DriverError {
        DriverError::new(ErrorKind::InvalidArgument, format!("{}.{name}: {reason}", self.prefix))
    }
}

fn saved(path: &Path) -> Result<Map<String, Value>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(DriverError::io(format_args!("read {}", path.display()), &error)),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            DriverError::new(ErrorKind::DataLoss, format!("{} is damaged: {error}", path.display()))
                .hint("move it away to start with the defaults")
        }),
    }
}
