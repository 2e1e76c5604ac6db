//! How to test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What the driver is opened with, and how it is tested.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Options {
    pub(crate) driver: BTreeMap<String, String>,
    pub(crate) create: BTreeMap<String, String>,
    pub(crate) adopted: BTreeMap<String, String>,
    pub(crate) size: Option<u64>,
    pub(crate) cases: Vec<String>,
    pub(crate) limit: Duration,
    pub(crate) kills: u32,
    pub(crate) work: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            driver: BTreeMap::new(),
            create: BTreeMap::new(),
            adopted: BTreeMap::new(),
            size: None,
            cases: Vec::new(),
            limit: Duration::from_secs(60),
            kills: 4,
            work: None,
        }
    }
}

impl Options {
    /// An option of the driver itself (`mystore.path`).
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.driver.insert(name.into(), value.into());
        self
    }

    /// An option of every volume that is created; `{name}` in its value stands for the name of the volume.
    pub fn create_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.create.insert(name.into(), value.into());
        self
    }

    /// A create option that names a directory whose data the volume adopts, and `volume.delete` keeps. The
    /// kit makes the directory before the volume and removes it at the end; `{name}` in its path stands for
    /// the name of the volume.
    pub fn adopt(mut self, name: impl Into<String>, directory: impl Into<String>) -> Self {
        self.adopted.insert(name.into(), directory.into());
        self
    }

    /// The size of the volumes, in bytes; the driver's default if not given. Small ones make a quick run:
    /// blocks are read and written whole.
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// Runs only cases whose ids contain this, or any of several.
    pub fn case(mut self, filter: impl Into<String>) -> Self {
        self.cases.push(filter.into());
        self
    }

    /// How long a case may take; a minute if not given.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// At how many moments of each call the driver is killed; 4 if not given.
    pub fn kills(mut self, kills: u32) -> Self {
        self.kills = kills;
        self
    }

    /// Where the driver's root and the kit's files are made; the directory for temporary files if not given.
    pub fn work(mut self, directory: impl Into<PathBuf>) -> Self {
        self.work = Some(directory.into());
        self
    }

    pub(crate) fn wants(&self, id: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|filter| id.contains(filter.as_str()))
    }
}
