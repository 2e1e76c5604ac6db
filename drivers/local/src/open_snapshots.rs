//! Snapshots that are being read.

use std::collections::HashMap;

use convoy_driver_sdk::protocol::{OpenSnapshot, OpenedSnapshot, SameFile, SourceLocation};
use convoy_driver_sdk::{Name, handle};
use parking_lot::Mutex;

use crate::catalog::{Catalog, tree_of};
use crate::error::{LocalError, LocalResult};

/// A volume without a record has no snapshots.
pub(crate) fn no_snapshot(error: LocalError, volume: &Name, snapshot: &Name) -> LocalError {
    match error {
        LocalError::NoVolume(_) => {
            LocalError::NoSnapshot { volume: volume.clone(), snapshot: snapshot.clone() }
        }
        other => other,
    }
}

/// Snapshots that are being read.
#[derive(Debug, Default)]
pub(crate) struct OpenSnapshots {
    readers: Mutex<HashMap<String, (Name, Name)>>,
}

impl OpenSnapshots {
    /// Keeps a snapshot from being deleted until the handle is closed.
    pub(crate) fn hold(&self, volume: &Name, snapshot: &Name) -> LocalResult<String> {
        let handle = handle::random()?;
        self.readers.lock().insert(handle.clone(), (volume.clone(), snapshot.clone()));
        Ok(handle)
    }

    pub(crate) fn open(&self, catalog: &Catalog, request: &OpenSnapshot) -> LocalResult<OpenedSnapshot> {
        let OpenSnapshot { volume, snapshot, .. } = request;
        let record = catalog.load_record(volume).map_err(|error| no_snapshot(error, volume, snapshot))?;
        // First, so that nobody deletes it meanwhile.
        let handle = self.hold(volume, snapshot)?;
        match tree_of(&record, snapshot) {
            Ok(tree) => Ok(OpenedSnapshot::new(handle, SourceLocation::tree(tree, SameFile::BirthTime))),
            Err(error) => {
                self.close(&handle);
                Err(error)
            }
        }
    }

    /// Closes a snapshot; an unknown handle is fine.
    pub(crate) fn close(&self, handle: &str) {
        self.readers.lock().remove(handle);
    }

    /// Refuses a snapshot that is being read.
    pub(crate) fn refuse(&self, volume: &Name, snapshot: &Name) -> LocalResult<()> {
        let is_read = self.readers.lock().values().any(|(of, read)| of == volume && read == snapshot);
        match is_read {
            true => Err(LocalError::SnapshotOpen { volume: volume.clone(), snapshot: snapshot.clone() }),
            false => Ok(()),
        }
    }

    /// Refuses a volume of which any snapshot is being read.
    pub(crate) fn refuse_any(&self, volume: &Name) -> LocalResult<()> {
        match self.readers.lock().values().find(|(of, _)| of == volume) {
            Some((_, snapshot)) => {
                Err(LocalError::SnapshotOpen { volume: volume.clone(), snapshot: snapshot.clone() })
            }
            None => Ok(()),
        }
    }
}
