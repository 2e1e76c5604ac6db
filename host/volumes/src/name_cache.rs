//! The names of volumes whose records are not on this host, as they were last listed.
//!
//! A driver whose records are on a server that does not answer cannot say what it has. So that its volumes
//! are told of as what cannot be used at the moment, and not as what is gone, their names are kept in the
//! daemon's root. They are no truth, and nothing waits for their file: it is at most as old as the last
//! refresh, and only used while the driver says nothing.

use crate::ledger::replace;
use convoy_driver_sdk::protocol::Volume;
use convoy_driver_sdk::{Name, Timestamp};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The directory, in the daemon's root.
const DIR: &str = "known-volumes";

/// What is in the file of a driver: when each of its volumes was made.
type Times = BTreeMap<Name, Timestamp>;

/// The names that are kept.
#[derive(Debug, Default)]
pub struct NameCache {
    dir: Option<PathBuf>,
    written: Mutex<HashMap<Name, Times>>,
}

impl NameCache {
    /// Those in the daemon's root.
    pub fn open(root: &Path) -> Self {
        Self { dir: Some(root.join(DIR)), written: Mutex::default() }
    }

    /// Keeps the names of what a driver has listed. Without room for them nothing is lost but the names.
    pub(crate) fn keep(&self, driver: &Name, volumes: &[Volume]) {
        let Some(path) = self.path(driver) else { return };
        let times: Times = volumes.iter().map(|volume| (volume.name.clone(), volume.created)).collect();
        let mut written = self.written.lock();
        if written.get(driver) == Some(&times) {
            return;
        }
        match write(&path, &times) {
            Ok(()) => drop(written.insert(driver.clone(), times)),
            Err(error) => tracing::debug!(%driver, %error, "cannot keep the names of a driver's volumes"),
        }
    }

    pub(crate) fn of(&self, driver: &Name) -> Vec<(Name, Timestamp)> {
        let Some(path) = self.path(driver) else { return Vec::new() };
        let times: Option<Times> =
            std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        times.unwrap_or_default().into_iter().collect()
    }

    fn path(&self, driver: &Name) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join(format!("{driver}.json")))
    }
}

fn write(path: &Path, times: &Times) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        convoy_driver_sdk::atomic::create_dir(dir, 0o700)?;
    }
    replace(path, &serde_json::to_vec(times)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_as_they_were_listed_last() {
        let dir = tempfile::tempdir().unwrap();
        let driver = Name::from_static("vfs");
        let volume =
            |name: &'static str| Volume::new(Name::from_static(name), 0, Timestamp::from_unix(1_700_000_000));
        let known = NameCache::open(dir.path());
        assert!(known.of(&driver).is_empty());
        known.keep(&driver, &[volume("vol1"), volume("vol2")]);
        known.keep(&driver, &[volume("vol2")]);
        let kept = [(Name::from_static("vol2"), Timestamp::from_unix(1_700_000_000))];
        assert_eq!(NameCache::open(dir.path()).of(&driver), kept);
        std::fs::write(dir.path().join(DIR).join("vfs.json"), "{").unwrap();
        assert!(known.of(&driver).is_empty());
        NameCache::default().keep(&driver, &[volume("vol1")]);
    }
}
