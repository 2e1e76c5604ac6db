//! Volumes whose restore in place was begun and is not finished: a record each, which is written before the
//! first change and removed after the last.
//!
//! Such a volume is neither as it was nor as it is to be. Nobody mounts it until the restore is repeated, a
//! snapshot takes its place, or somebody takes it as it is.

use crate::entry::Entry;
use convoy_driver_sdk::protocol::Capability;
use convoy_driver_sdk::records::{RecordError, RecordStore};
use convoy_driver_sdk::{Name, Timestamp};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The directory, in the daemon's root.
const DIR: &str = "half-restored";

/// A restore in place that is not finished.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HalfRestored {
    /// When the volume was created: a later one of that name is another. Empty where the record is damaged.
    volume_created: String,
    /// The backup's URL or the snapshot's name; empty where that is not known.
    pub source: String,
    /// The volume of the snapshot; empty for a backup.
    pub source_volume: String,
    /// The snapshot with the state of before; empty: none was made.
    pub kept: String,
    /// When it began.
    pub since: String,
}

/// The records of all such volumes.
#[derive(Debug, Default)]
pub struct HalfRestoredVolumes {
    store: Option<RecordStore<HalfRestored>>,
    known: RwLock<BTreeMap<Name, HalfRestored>>,
}

impl HalfRestoredVolumes {
    /// Those that are kept in the daemon's root. One that cannot be read is of a volume that must not be
    /// mounted either.
    ///
    /// # Errors
    /// [`RecordError`] when the directory cannot be made or read.
    pub fn open(root: &Path) -> std::result::Result<Self, RecordError> {
        let store = RecordStore::open(root.join(DIR), "", ".json")?;
        let mut known = BTreeMap::new();
        for (name, record) in store.load_all()?.records {
            let record = record.unwrap_or_else(|error| {
                tracing::warn!(volume = %name, %error, "the record of an unfinished restore cannot be read");
                HalfRestored::default()
            });
            known.insert(name, record);
        }
        Ok(Self { store: Some(store), known: RwLock::new(known) })
    }

    pub(crate) fn of(&self, entry: &Entry) -> Option<HalfRestored> {
        let known = self.known.read();
        let record = known.get(&entry.volume.name)?;
        let same = record.volume_created.is_empty() || record.volume_created == created(entry);
        same.then(|| record.clone())
    }

    /// The names of all of them, also of volumes that are gone.
    pub(crate) fn names(&self) -> Vec<Name> {
        self.known.read().keys().cloned().collect()
    }

    pub(crate) fn set(
        &self,
        name: &Name,
        record: Option<HalfRestored>,
    ) -> std::result::Result<(), RecordError> {
        let mut known = self.known.write();
        match record {
            Some(record) => {
                self.store.as_ref().map_or(Ok(()), |store| store.save(name, &record))?;
                known.insert(name.clone(), record);
            }
            None if known.contains_key(name) => {
                match self.store.as_ref().map_or(Ok(()), |store| store.delete(name)) {
                    // Removed by hand.
                    Err(RecordError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                    other => other?,
                }
                known.remove(name);
            }
            None => {}
        }
        Ok(())
    }
}

impl HalfRestored {
    /// Describes a restore into a volume that begins now. `source_volume` is of a snapshot.
    pub(crate) fn new(entry: &Entry, source: &str, source_volume: &str, kept: &str) -> Self {
        Self {
            volume_created: created(entry),
            source: source.to_owned(),
            source_volume: source_volume.to_owned(),
            kept: kept.to_owned(),
            since: Timestamp::now().to_string(),
        }
    }

    /// What is restored, in words.
    pub fn what(&self) -> String {
        match (self.source.as_str(), self.source_volume.as_str()) {
            ("", _) => "an unknown source".to_owned(),
            (source, "") => source.to_owned(),
            (source, volume) => format!("snapshot {source} of volume {volume}"),
        }
    }

    /// The ways out, as commands.
    pub fn ways_out(&self, entry: &Entry) -> String {
        let volume = &entry.volume.name;
        let mut ways = Vec::new();
        if !self.source.is_empty() {
            let of = match self.source_volume.as_str() {
                "" => String::new(),
                of => format!(" --volume {of}"),
            };
            let quote = if self.source.contains("://") { "'" } else { "" };
            ways.push(format!(
                "`convoy restore {quote}{}{quote}{of} --in-place {volume}` finishes it",
                self.source
            ));
        }
        if !self.kept.is_empty() {
            let kept = &self.kept;
            ways.push(match entry.driver.can(Capability::Revert) {
                true => format!("`convoy snapshot revert {kept} --volume {volume}` takes the volume back"),
                false => format!(
                    "`convoy restore {kept} --volume {volume} --in-place {volume}` takes the volume back"
                ),
            });
        }
        ways.push(format!("`convoy restore --accept {volume}` takes it as it is"));
        ways.join("; ")
    }
}

fn created(entry: &Entry) -> String {
    entry.volume.created.to_string()
}
