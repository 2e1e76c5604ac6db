//! What becomes of a volume's data when Docker removes the volume, where that was said for the volume itself.
//!
//! A policy belongs to one volume and not to its name: it is kept with the time the volume was made, and a
//! later volume of that name has none.

use crate::entry::Entry;
use crate::error::{Error, Result};
use convoy_driver_sdk::records::{RecordError, RecordStore};
use convoy_driver_sdk::{DriverError, Name};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The directory, in the daemon's root.
const DIR: &str = "docker-remove";

/// What becomes of a volume's data when Docker removes the volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DockerRemove {
    /// It is kept, as by convoy 0.5.
    #[default]
    Keep,
    /// Its data and its snapshots are deleted.
    Delete,
}

impl std::fmt::Display for DockerRemove {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep => "keep",
            Self::Delete => "delete",
        })
    }
}

impl std::str::FromStr for DockerRemove {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "keep" => Ok(Self::Keep),
            "delete" => Ok(Self::Delete),
            _ => Err("expected keep or delete".to_owned()),
        }
    }
}

/// The policy of a volume, as it is in its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyRecord {
    volume_created: String,
    policy: DockerRemove,
}

/// The policies that were said for volumes themselves.
#[derive(Debug)]
pub struct Policies {
    store: Option<RecordStore<PolicyRecord>>,
    known: RwLock<BTreeMap<Name, PolicyRecord>>,
}

impl Policies {
    /// Creates policies of which there are none, and that are kept nowhere.
    pub fn none() -> Self {
        Self { store: None, known: RwLock::default() }
    }

    /// Those that are kept in the daemon's root. One that cannot be read is as if it said to keep the data.
    ///
    /// # Errors
    /// [`RecordError`] when the directory cannot be made or read.
    pub fn open(root: &Path) -> std::result::Result<Self, RecordError> {
        let store = RecordStore::open(root.join(DIR), "", ".json")?;
        let mut known = BTreeMap::new();
        for (name, record) in store.load_all()?.records {
            match record {
                Ok(record) => drop(known.insert(name, record)),
                Err(error) => {
                    tracing::warn!(volume = %name, %error, "what Docker's Remove does to this volume cannot \
                                                            be read: its data is kept");
                    let record = PolicyRecord { volume_created: String::new(), policy: DockerRemove::Keep };
                    known.insert(name, record);
                }
            }
        }
        Ok(Self { store: Some(store), known: RwLock::new(known) })
    }

    /// Finds the policy of a volume, if it has one of its own.
    pub fn of(&self, entry: &Entry) -> Option<DockerRemove> {
        let known = self.known.read();
        let record = known.get(&entry.volume.name)?;
        // One that could not be read belongs to whatever volume there is.
        let same = record.volume_created.is_empty() || record.volume_created == created(entry);
        same.then_some(record.policy)
    }

    pub(crate) fn set(&self, entry: &Entry, policy: Option<DockerRemove>) -> Result<()> {
        let name = &entry.volume.name;
        let Some(store) = &self.store else { return Ok(()) };
        let failed = |error: RecordError| Error::from(DriverError::from(error));
        match policy {
            Some(policy) => {
                let record = PolicyRecord { volume_created: created(entry), policy };
                store.save(name, &record).map_err(failed)?;
                self.known.write().insert(name.clone(), record);
            }
            None if self.known.read().contains_key(name) => {
                store.delete(name).map_err(failed)?;
                self.known.write().remove(name);
            }
            None => {}
        }
        Ok(())
    }
}

fn created(entry: &Entry) -> String {
    entry.volume.created.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cannot_be_read_keeps_data() {
        let root = tempfile::tempdir().unwrap();
        drop(Policies::open(root.path()).unwrap());
        std::fs::write(root.path().join(DIR).join("broken.json"), "{").unwrap();
        std::fs::write(root.path().join(DIR).join("good.json"), r#"{"VolumeCreated":"x","Policy":"delete"}"#)
            .unwrap();
        let policies = Policies::open(root.path()).unwrap();
        let known = policies.known.read();
        let policy = |name: &str| known.iter().find(|(known, _)| known.as_str() == name).unwrap().1.policy;
        assert_eq!((policy("broken"), policy("good")), (DockerRemove::Keep, DockerRemove::Delete));
    }
}
