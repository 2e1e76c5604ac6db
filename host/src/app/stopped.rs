//! Containers that were stopped for a while: a record of them for each volume, written before the first is
//! stopped and removed once all run again.

use crate::docker::VolumeUser;
use convoy_driver_sdk::records::{RecordError, RecordStore};
use convoy_driver_sdk::{DriverError, Name, Timestamp};
use convoy_volumes::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The directory, in the daemon's root.
const DIR: &str = "stopped-containers";

/// Containers that are to run again, in the order in which they are started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct StoppedContainers {
    pub(crate) containers: Vec<VolumeUser>,
    /// When the first was stopped.
    since: String,
}

/// The records of stopped containers, by the volume that they were stopped for.
#[derive(Debug)]
pub struct Stopped(RecordStore<StoppedContainers>);

impl Stopped {
    /// Opens the records in the daemon's root.
    ///
    /// # Errors
    /// [`RecordError`] when the directory cannot be made or read.
    pub fn open(root: &Path) -> std::result::Result<Self, RecordError> {
        Ok(Self(RecordStore::open(root.join(DIR), "", ".json")?))
    }

    /// What was stopped for a volume.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub(super) fn of(&self, volume: &Name) -> Result<Vec<VolumeUser>> {
        Ok(self
            .0
            .load(volume)
            .map_err(DriverError::from)?
            .map(|record| record.containers)
            .unwrap_or_default())
    }

    /// Notes, durably, containers that are about to be stopped, beside those that are noted already.
    ///
    /// # Errors
    /// A record that cannot be read or written: then none may be stopped.
    pub(super) fn add(&self, volume: &Name, containers: &[VolumeUser]) -> Result<()> {
        let mut all = self.of(volume)?;
        let more = containers.iter().filter(|one| !all.iter().any(|other| other.id == one.id));
        let more: Vec<VolumeUser> = more.cloned().collect();
        all.extend(more);
        self.set(volume, all)
    }

    /// Notes which ones are still to be started; none: forgets the record.
    ///
    /// # Errors
    /// A record that cannot be written.
    pub(super) fn set(&self, volume: &Name, containers: Vec<VolumeUser>) -> Result<()> {
        let done = match containers.is_empty() {
            true => self.0.load(volume).and_then(|found| found.map_or(Ok(()), |_| self.0.delete(volume))),
            false => {
                self.0.save(volume, &StoppedContainers { containers, since: Timestamp::now().to_string() })
            }
        };
        Ok(done.map_err(DriverError::from)?)
    }

    /// Everything that is noted, by volume; a record that cannot be read with the reason.
    ///
    /// # Errors
    /// [`RecordError`] when the directory cannot be read.
    pub(crate) fn all(&self) -> Result<Vec<(Name, std::result::Result<StoppedContainers, String>)>> {
        let listing = self.0.load_all().map_err(DriverError::from)?;
        let one = |(name, record): (Name, std::result::Result<_, RecordError>)| {
            (name, record.map_err(|error| error.to_string()))
        };
        Ok(listing.records.into_iter().map(one).collect())
    }
}

/// Names of containers, for people.
pub(crate) fn names(containers: &[VolumeUser]) -> String {
    containers.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stopped_is_known_until_all_of_it_was_started() {
        let root = tempfile::tempdir().unwrap();
        let user =
            |id: &str| VolumeUser { id: id.to_owned(), name: format!("{id}-1"), ..VolumeUser::default() };
        let volume = Name::from_static("data");
        Stopped::open(root.path()).unwrap().add(&volume, &[user("db"), user("web")]).unwrap();
        // The daemon was killed, and another stop follows.
        let stopped = Stopped::open(root.path()).unwrap();
        stopped.add(&volume, &[user("web"), user("more")]).unwrap();
        assert_eq!(names(&stopped.of(&volume).unwrap()), "db-1, web-1, more-1");
        assert_eq!(stopped.all().unwrap().len(), 1);
        stopped.set(&volume, vec![user("more")]).unwrap();
        assert_eq!(names(&stopped.of(&volume).unwrap()), "more-1");
        stopped.set(&volume, Vec::new()).unwrap();
        stopped.set(&volume, Vec::new()).unwrap();
        assert!(stopped.all().unwrap().is_empty());
    }
}
