//! The state behind the index's lock.

use crate::driver::ManagedDriver;
use crate::entry::Entry;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::protocol::Volume;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Volumes, the snapshots they have, and the names that are taken for what is being made.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) volumes: BTreeMap<Name, Entry>,
    /// The volumes that have a snapshot of that name: one, unless the records were made by others.
    pub(super) snapshots: HashMap<Name, BTreeSet<Name>>,
    reserved: HashSet<Name>,
    /// How many changes there were.
    now: u64,
    /// When volumes were removed; kept only while a listing is being made.
    removed: HashMap<Name, u64>,
    listings: usize,
}

impl State {
    pub(super) fn put(&mut self, driver: &Arc<ManagedDriver>, volume: Volume) -> Entry {
        self.unlink_snapshots(&volume.name);
        self.now += 1;
        for snapshot in &volume.snapshots {
            self.snapshots.entry(snapshot.name.clone()).or_default().insert(volume.name.clone());
        }
        let name = volume.name.clone();
        let entry = Entry { driver: Arc::clone(driver), volume: Arc::new(volume), changed: self.now };
        self.volumes.insert(name, entry.clone());
        entry
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Entry> {
        self.unlink_snapshots(name);
        let (name, entry) = self.volumes.remove_entry(name)?;
        self.now += 1;
        if self.listings > 0 {
            self.removed.insert(name, self.now);
        }
        Some(entry)
    }

    fn unlink_snapshots(&mut self, volume: &str) {
        let Some(entry) = self.volumes.get(volume) else { return };
        for snapshot in &entry.volume.snapshots {
            if let Some(owners) = self.snapshots.get_mut(&snapshot.name) {
                owners.remove(volume);
                if owners.is_empty() {
                    self.snapshots.remove(&snapshot.name);
                }
            }
        }
    }

    pub(super) fn reserve(&mut self, name: &Name) -> bool {
        self.reserved.insert(name.clone())
    }

    pub(super) fn release(&mut self, name: &Name) {
        self.reserved.remove(name);
    }

    pub(super) fn begin_listing(&mut self) -> u64 {
        self.listings += 1;
        self.now
    }

    pub(super) fn end_listing(&mut self) {
        self.listings = self.listings.saturating_sub(1);
        if self.listings == 0 {
            self.removed.clear();
        }
    }

    /// Whether a name that is not in the index is being made, or was removed after a listing was begun.
    pub(super) fn is_busy_since(&self, name: &Name, since: u64) -> bool {
        self.reserved.contains(name) || self.removed.get(name).is_some_and(|removed| *removed > since)
    }
}
