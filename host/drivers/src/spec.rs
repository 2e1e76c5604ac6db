//! What a user writes to choose a driver.

use crate::LoadError;
use convoy_driver_sdk::Name;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How a driver is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// A shared library, in this program: the least latency.
    Library,
    /// A program of its own: the most isolation.
    Process,
    /// Compiled into this program.
    Builtin,
}

impl Carrier {
    /// As in a spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Process => "process",
            Self::Builtin => "builtin",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A driver by name, by name and carrier, or by file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverSpec {
    /// `vfs`, `process:vfs`: looked for.
    Named {
        /// The name of the driver.
        name: Name,
        /// The only carrier to take; `None` for whichever is installed.
        carrier: Option<Carrier>,
    },
    /// `/opt/x/convoy-driver-x`, `library:/opt/x/libconvoy_driver_x.so`: taken as it is.
    File {
        /// The absolute path of its file.
        path: PathBuf,
        /// A library or a process.
        carrier: Carrier,
    },
}

impl DriverSpec {
    /// A driver by its name alone.
    pub fn named(name: Name) -> Self {
        Self::Named { name, carrier: None }
    }

    /// The name it must answer to; of a file only if the file is named as drivers are.
    pub fn name(&self) -> Option<Name> {
        match self {
            Self::Named { name, .. } => Some(name.clone()),
            Self::File { path, .. } => name_of_file(path).map(|(name, _)| name),
        }
    }
}

impl fmt::Display for DriverSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { name, carrier: None } => write!(f, "{name}"),
            Self::Named { name, carrier: Some(carrier) } => write!(f, "{carrier}:{name}"),
            Self::File { path, carrier } => write!(f, "{carrier}:{}", path.display()),
        }
    }
}

impl FromStr for DriverSpec {
    type Err = LoadError;

    fn from_str(text: &str) -> Result<Self, LoadError> {
        let refused = |reason: &str| LoadError::BadSpec { text: text.to_owned(), reason: reason.to_owned() };
        let (carrier, rest) = match text.split_once(':') {
            Some(("library", rest)) => (Some(Carrier::Library), rest),
            Some(("process", rest)) => (Some(Carrier::Process), rest),
            Some(("builtin", rest)) => (Some(Carrier::Builtin), rest),
            Some((other, _)) if !other.contains('/') => {
                return Err(refused(&format!("expected library:, process: or builtin:, found {other}:")));
            }
            _ => (None, text),
        };
        if !rest.contains('/') {
            let name = Name::parse(rest).map_err(|error| refused(&error.to_string()))?;
            return Ok(Self::Named { name, carrier });
        }
        let path = PathBuf::from(rest);
        if !path.is_absolute() {
            return Err(refused("expected a name or an absolute path"));
        }
        let is_library = path.extension().is_some_and(|extension| extension == "so");
        match carrier {
            Some(Carrier::Builtin) => Err(refused("a driver in a file is not built in")),
            Some(carrier) => Ok(Self::File { path, carrier }),
            None if is_library => Ok(Self::File { path, carrier: Carrier::Library }),
            None => Ok(Self::File { path, carrier: Carrier::Process }),
        }
    }
}

/// The file name of a driver. Cargo writes `_` for `-` in the names of libraries.
pub(crate) fn file_name(name: &Name, carrier: Carrier) -> Option<String> {
    match carrier {
        Carrier::Library => Some(format!("libconvoy_driver_{}.so", name.replace('-', "_"))),
        Carrier::Process => Some(format!("convoy-driver-{name}")),
        Carrier::Builtin => None,
    }
}

/// The driver that a file is, by its name. A library's name may have lost its dashes.
pub(crate) fn name_of_file(path: &Path) -> Option<(Name, Carrier)> {
    let file = path.file_name()?.to_str()?;
    if let Some(name) = file.strip_prefix("libconvoy_driver_").and_then(|rest| rest.strip_suffix(".so")) {
        return Some((Name::parse(name).ok()?, Carrier::Library));
    }
    let name = file.strip_prefix("convoy-driver-")?;
    Some((Name::parse(name).ok()?, Carrier::Process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_read_back_as_they_are_written() {
        for text in
            ["vfs", "library:vfs", "process:my-store", "builtin:vfs", "process:/opt/x", "library:/a/b.so"]
        {
            assert_eq!(text.parse::<DriverSpec>().unwrap().to_string(), text);
        }
        let guessed: DriverSpec = "/opt/libconvoy_driver_x1.so".parse().unwrap();
        assert_eq!(guessed.to_string(), "library:/opt/libconvoy_driver_x1.so");
        assert_eq!(guessed.name().unwrap().as_str(), "x1");
        assert_eq!("/opt/convoy-driver-x1".parse::<DriverSpec>().unwrap().name().unwrap().as_str(), "x1");
        assert_eq!("/opt/anything".parse::<DriverSpec>().unwrap().name(), None);
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        for (bad, expected) in [
            ("", "invalid name"),
            ("proces:vfs", "expected library:"),
            ("../vfs", "absolute path"),
            ("library:", "invalid name"),
            ("builtin:/opt/x", "not built in"),
        ] {
            let error = bad.parse::<DriverSpec>().unwrap_err().to_string();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }
}
