//! All volumes and snapshots by name, in memory: what List, Get and Path are answered from.
//!
//! The drivers' records are the truth; this is a copy that every change passes through. A listing read from a
//! driver takes time, so each entry remembers when it was last changed here: [`Index::merge`] lets a listing
//! correct only what has not changed since the listing was begun.

mod names;
mod reservation;

pub use reservation::Reservation;

use crate::driver::ManagedDriver;
use crate::entry::Entry;
use crate::error::{Error, Result};
use convoy_driver_sdk::Name;
use convoy_driver_sdk::protocol::{Snapshot, Volume};
use names::State;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

#[derive(Debug, Default)]
pub(crate) struct Index {
    state: Arc<RwLock<State>>,
    released: Arc<Notify>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MergeReport {
    pub(crate) added: Vec<Name>,
    pub(crate) removed: Vec<Name>,
    /// Volumes left out since another driver has one of that name.
    pub(crate) hidden: Vec<Name>,
}

/// A listing being made: begin before the driver is asked, end with [`Index::merge`].
#[derive(Debug)]
pub(crate) struct Listing {
    since: u64,
    state: Arc<RwLock<State>>,
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.state.write().end_listing();
    }
}

impl Index {
    pub(crate) fn get(&self, name: &str) -> Option<Entry> {
        self.state.read().volumes.get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Entry> {
        self.state.read().volumes.values().cloned().collect()
    }

    /// Calls `visit` with each volume, sorted by name, without copying them.
    pub(crate) fn each(&self, mut visit: impl FnMut(&Entry)) {
        self.state.read().volumes.values().for_each(&mut visit);
    }

    pub(crate) fn len(&self) -> usize {
        self.state.read().volumes.len()
    }

    /// A snapshot by name, and its volume. `volume` is needed only when several have one of that name.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::SnapshotOfAnother`], [`Error::AmbiguousSnapshot`].
    pub(crate) fn snapshot(&self, name: &str, volume: Option<&str>) -> Result<(Entry, Snapshot)> {
        let state = self.state.read();
        let missing = || match volume {
            Some(volume) => Error::SnapshotOfAnother { snapshot: name.to_owned(), volume: volume.to_owned() },
            None => Error::SnapshotNotFound(name.to_owned()),
        };
        let volumes = state.snapshots.get(name).ok_or_else(missing)?;
        let owner = match volume {
            Some(volume) => volumes.get(volume).ok_or_else(missing)?,
            None if volumes.len() > 1 => {
                let volumes = volumes.iter().map(ToString::to_string).collect();
                return Err(Error::AmbiguousSnapshot { snapshot: name.to_owned(), volumes });
            }
            None => volumes.first().ok_or_else(missing)?,
        };
        let entry = state.volumes.get(owner).ok_or_else(missing)?;
        let found = entry.volume.snapshots.iter().find(|snapshot| *snapshot.name == *name);
        Ok((entry.clone(), found.ok_or_else(missing)?.clone()))
    }

    /// Takes a name for a volume that is about to be made. One of many that try at once succeeds.
    ///
    /// # Errors
    /// [`Error::VolumeExists`], [`Error::BeingCreated`], [`Error::NameOfSnapshot`].
    pub(crate) fn reserve_volume(&self, name: &Name) -> Result<Reservation> {
        let mut state = self.state.write();
        if state.volumes.contains_key(name) {
            return Err(Error::VolumeExists(name.clone()));
        }
        if state.snapshots.contains_key(name) {
            return Err(Error::NameOfSnapshot(name.clone()));
        }
        if !state.reserve(name) {
            return Err(Error::BeingCreated(name.clone()));
        }
        Ok(self.reservation(name))
    }

    /// Takes a name for a snapshot that is about to be made.
    ///
    /// # Errors
    /// [`Error::SnapshotExists`].
    pub(crate) fn reserve_snapshot(&self, name: &Name) -> Result<Reservation> {
        let mut state = self.state.write();
        if state.volumes.contains_key(name) || state.snapshots.contains_key(name) || !state.reserve(name) {
            return Err(Error::SnapshotExists(name.clone()));
        }
        Ok(self.reservation(name))
    }

    fn reservation(&self, name: &Name) -> Reservation {
        Reservation::new(Arc::clone(&self.state), Arc::clone(&self.released), name)
    }

    /// Completes when any name that is taken now is given up.
    pub(crate) fn released(&self) -> OwnedNotified {
        Arc::clone(&self.released).notified_owned()
    }

    /// Puts a volume in, or replaces what is known of it.
    pub(crate) fn put(&self, driver: &Arc<ManagedDriver>, volume: Volume) -> Entry {
        self.state.write().put(driver, volume)
    }

    /// Changes what is known of a volume, if it is known.
    pub(crate) fn update(&self, name: &str, change: impl FnOnce(&mut Volume)) {
        let mut state = self.state.write();
        let Some(entry) = state.volumes.get(name).cloned() else { return };
        let mut volume = (*entry.volume).clone();
        change(&mut volume);
        state.put(&entry.driver, volume);
    }

    pub(crate) fn remove(&self, name: &str) -> Option<Entry> {
        self.state.write().remove(name)
    }

    pub(crate) fn begin_listing(&self) -> Listing {
        let since = self.state.write().begin_listing();
        Listing { since, state: Arc::clone(&self.state) }
    }

    /// Takes over one volume that was read while a listing was open, unless its name was taken or given up
    /// meanwhile.
    pub(crate) fn add(&self, listing: &Listing, driver: &Arc<ManagedDriver>, volume: Volume) {
        let mut state = self.state.write();
        if !state.volumes.contains_key(&volume.name) && !state.is_busy_since(&volume.name, listing.since) {
            state.put(driver, volume);
        }
    }

    /// Takes over a known volume that was read while a listing was open, unless it was changed meanwhile.
    pub(crate) fn refresh(&self, listing: &Listing, driver: &Arc<ManagedDriver>, volume: Volume) {
        let mut state = self.state.write();
        let unchanged = |entry: &Entry| entry.changed <= listing.since && *entry.volume != volume;
        if state.volumes.get(&volume.name).is_some_and(unchanged) {
            state.put(driver, volume);
        }
    }

    /// Takes a volume out that was found gone while a listing was open, unless it was changed meanwhile.
    pub(crate) fn forget(&self, listing: &Listing, name: &str) {
        let mut state = self.state.write();
        if state.volumes.get(name).is_some_and(|entry| entry.changed <= listing.since) {
            state.remove(name);
        }
    }

    /// Takes over a complete listing of a driver. Volumes that `keep` names stay although they are gone.
    pub(crate) fn merge(
        &self,
        listing: &Listing,
        driver: &Arc<ManagedDriver>,
        volumes: Vec<Volume>,
        keep: impl Fn(&Name) -> bool,
    ) -> MergeReport {
        let mut state = self.state.write();
        let mut merged = MergeReport::default();
        let listed: BTreeMap<Name, Volume> =
            volumes.into_iter().map(|volume| (volume.name.clone(), volume)).collect();
        let gone: Vec<Name> = state
            .volumes
            .iter()
            .filter(|(name, entry)| {
                Arc::ptr_eq(&entry.driver, driver)
                    && entry.changed <= listing.since
                    && !listed.contains_key(*name)
                    && !keep(name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            state.remove(&name);
            merged.removed.push(name);
        }
        for (name, volume) in listed {
            match state.volumes.get(&name) {
                Some(entry) if !Arc::ptr_eq(&entry.driver, driver) => merged.hidden.push(name),
                Some(entry) if entry.changed > listing.since || *entry.volume == volume => {}
                Some(_) => drop(state.put(driver, volume)),
                None if state.is_busy_since(&name, listing.since) => {}
                None => {
                    state.put(driver, volume);
                    merged.added.push(name);
                }
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests;
