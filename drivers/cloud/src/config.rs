//! What a driver is told when it is opened: options, and beneath them what convoy 0.5 kept of its first
//! start.

use crate::size::Gib;
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::{DriverError, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;
use url::Url;

/// Everything a driver is told; `T` is the provider's own part.
#[derive(Debug, Clone)]
pub struct Config<T> {
    pub common: Common,
    pub places: Places,
    pub own: T,
}

/// How volumes are made when nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    pub default_size: Gib,
    pub fs: FsKind,
    /// Whether a mounted file system is frozen for every snapshot, asked for or not.
    pub freeze: bool,
    /// Options of every mount of a volume, as after `mount -o`.
    pub mount_options: String,
}

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

/// The options of an open by their short names; what is empty is not given.
#[derive(Debug)]
pub struct Options<'a> {
    pub(crate) prefix: &'static str,
    pub(crate) given: &'a BTreeMap<String, String>,
    pub(crate) saved: Map<String, Value>,
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

    pub fn boolean(&self, name: &str) -> Result<Option<bool>> {
        let full = format!("{}.{name}", self.prefix);
        self.get(name).map(|text| boolean(&full, text)).transpose()
    }

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
        DriverError::invalid(format!("{}.{name}: {reason}", self.prefix))
    }
}

pub fn boolean(name: &str, text: &str) -> Result<bool> {
    match text {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" | "" => Ok(false),
        _ => Err(DriverError::invalid(format!("invalid value {text:?} of {name}: expected true or false"))),
    }
}
