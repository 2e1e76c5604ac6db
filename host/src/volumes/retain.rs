//! What becomes of a volume's data when Docker removes the volume, where that was said for the volume itself.
//!
//! A policy belongs to one volume and not to its name: it is kept with the time the volume was made, and a
//! later volume of that name has none.

use super::error::{Error, Result};
use super::index::Entry;
use super::locks::unpoisoned;
use super::{RwLock, Volumes};
use crate::call::RequestContext;
use crate::config::DockerRemove;
use convoy_driver_sdk::records::{RecordError, RecordStore};
use convoy_driver_sdk::{DriverError, Name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The directory, in the daemon's root.
const DIR: &str = "docker-remove";

/// The policy of a volume.
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
    /// None, and nowhere to keep any.
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
                    tracing::warn!(volume = %name, %error, "what Docker's Remove does to this volume cannot be read: its data is kept");
                    let record = PolicyRecord { volume_created: String::new(), policy: DockerRemove::Keep };
                    known.insert(name, record);
                }
            }
        }
        Ok(Self { store: Some(store), known: RwLock::new(known) })
    }

    /// The policy of a volume, if it has one of its own.
    pub fn of(&self, entry: &Entry) -> Option<DockerRemove> {
        let known = unpoisoned(self.known.read());
        let record = known.get(&entry.volume.name)?;
        // One that could not be read belongs to whatever volume there is.
        let same = record.volume_created.is_empty() || record.volume_created == created(entry);
        same.then_some(record.policy)
    }

    fn set(&self, entry: &Entry, policy: Option<DockerRemove>) -> Result<()> {
        let name = &entry.volume.name;
        let Some(store) = &self.store else { return Ok(()) };
        let failed = |error: RecordError| Error::from(DriverError::from(error));
        match policy {
            Some(policy) => {
                let record = PolicyRecord { volume_created: created(entry), policy };
                store.save(name, &record).map_err(failed)?;
                unpoisoned(self.known.write()).insert(name.clone(), record);
            }
            None if unpoisoned(self.known.read()).contains_key(name) => {
                store.delete(name).map_err(failed)?;
                unpoisoned(self.known.write()).remove(name);
            }
            None => {}
        }
        Ok(())
    }
}

fn created(entry: &Entry) -> String {
    entry.volume.created.to_string()
}

impl Volumes {
    /// Says what becomes of a volume's data when Docker removes it; `None`: what holds for all.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`]; a record that cannot be written.
    pub async fn retain(
        &self,
        name: &str,
        policy: Option<DockerRemove>,
        call: &RequestContext,
    ) -> Result<()> {
        let entry = self.find(name, call).await?;
        let _turn = self.turn_to_mount(&entry.volume.name, "retain").await?;
        // It may have been deleted, and another made, meanwhile.
        let entry =
            self.index.get(&entry.volume.name).ok_or_else(|| Error::VolumeNotFound(name.to_owned()))?;
        self.policies.set(&entry, policy)
    }

    /// Forgets the policy of a volume that is gone. One that stays behind is of no volume any more.
    pub(super) fn forget_policy(&self, entry: &Entry) {
        if let Err(error) = self.policies.set(entry, None) {
            tracing::warn!(volume = %entry.volume.name, %error, "cannot remove the policy of a volume that is gone");
        }
    }
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
        let known = policies.known.read().unwrap();
        let policy = |name: &str| known.iter().find(|(known, _)| known.as_str() == name).unwrap().1.policy;
        assert_eq!((policy("broken"), policy("good")), (DockerRemove::Keep, DockerRemove::Delete));
    }
}
