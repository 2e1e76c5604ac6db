//! All volumes and snapshots by name, in memory: what List, Get and Path are answered from.
//!
//! The drivers' records are the truth; this is a copy that every change passes through. A listing read from a
//! driver takes time, so each entry remembers when it was last changed here: [`Index::merge`] lets a listing
//! correct only what has not changed since the listing was begun.

mod names;
mod reservation;

pub use reservation::Reservation;

use super::backend::ManagedDriver;
use super::error::{Error, Result};
use super::locks::unpoisoned;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::protocol::{Snapshot, Volume};
use names::State;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// A volume and the driver that keeps it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The driver.
    pub driver: Arc<ManagedDriver>,
    /// What it said last.
    pub volume: Arc<Volume>,
    /// The moment of the last change, counted in changes of the index.
    changed: u64,
}

/// The index.
#[derive(Debug, Default)]
pub struct Index {
    state: Arc<RwLock<State>>,
    released: Arc<Notify>,
}

/// What a listing changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Volumes that were not known.
    pub added: Vec<Name>,
    /// Volumes that are gone.
    pub removed: Vec<Name>,
    /// Volumes left out since another driver has one of that name.
    pub hidden: Vec<Name>,
}

/// A listing being made: begin before the driver is asked, end with [`Index::merge`].
#[derive(Debug)]
pub struct Listing {
    since: u64,
    state: Arc<RwLock<State>>,
}

impl Drop for Listing {
    fn drop(&mut self) {
        unpoisoned(self.state.write()).end_listing();
    }
}

impl Index {
    /// A volume by name.
    pub fn get(&self, name: &str) -> Option<Entry> {
        unpoisoned(self.state.read()).volumes.get(name).cloned()
    }

    /// All volumes, sorted by name.
    pub fn all(&self) -> Vec<Entry> {
        unpoisoned(self.state.read()).volumes.values().cloned().collect()
    }

    /// Calls `visit` with each volume, sorted by name, without copying them.
    pub fn each(&self, mut visit: impl FnMut(&Entry)) {
        unpoisoned(self.state.read()).volumes.values().for_each(&mut visit);
    }

    /// How many volumes there are.
    pub fn len(&self) -> usize {
        unpoisoned(self.state.read()).volumes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A snapshot by name, and its volume. `volume` is needed only when several have one of that name.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::SnapshotOfAnother`], [`Error::AmbiguousSnapshot`].
    pub fn snapshot(&self, name: &str, volume: Option<&str>) -> Result<(Entry, Snapshot)> {
        let state = unpoisoned(self.state.read());
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
    pub fn reserve_volume(&self, name: &Name) -> Result<Reservation> {
        let mut state = unpoisoned(self.state.write());
        if state.volumes.contains_key(name) {
            return Err(Error::VolumeExists(name.clone()));
        }
        if state.snapshots.contains_key(name) {
            return Err(Error::NameOfSnapshot(name.clone()));
        }
        if !state.reserve(name) {
            return Err(Error::BeingCreated(name.clone()));
        }
        Ok(Reservation::new(self, name))
    }

    /// Takes a name for a snapshot that is about to be made.
    ///
    /// # Errors
    /// [`Error::SnapshotExists`].
    pub fn reserve_snapshot(&self, name: &Name) -> Result<Reservation> {
        let mut state = unpoisoned(self.state.write());
        if state.volumes.contains_key(name) || state.snapshots.contains_key(name) || !state.reserve(name) {
            return Err(Error::SnapshotExists(name.clone()));
        }
        Ok(Reservation::new(self, name))
    }

    /// Completes when any name that is taken now is given up.
    pub fn released(&self) -> OwnedNotified {
        Arc::clone(&self.released).notified_owned()
    }

    /// Puts a volume in, or replaces what is known of it.
    pub fn put(&self, driver: &Arc<ManagedDriver>, volume: Volume) -> Entry {
        unpoisoned(self.state.write()).put(driver, volume)
    }

    /// Changes what is known of a volume, if it is known.
    pub fn update(&self, name: &str, change: impl FnOnce(&mut Volume)) {
        let mut state = unpoisoned(self.state.write());
        let Some(entry) = state.volumes.get(name).cloned() else { return };
        let mut volume = (*entry.volume).clone();
        change(&mut volume);
        state.put(&entry.driver, volume);
    }

    /// Takes a volume out, with its snapshots.
    pub fn remove(&self, name: &str) -> Option<Entry> {
        unpoisoned(self.state.write()).remove(name)
    }

    /// Begins a listing of a driver.
    pub fn begin_listing(&self) -> Listing {
        let since = unpoisoned(self.state.write()).begin_listing();
        Listing { since, state: Arc::clone(&self.state) }
    }

    /// Takes over one volume that was read while a listing was open, unless its name was taken or given up meanwhile.
    pub fn add(&self, listing: &Listing, driver: &Arc<ManagedDriver>, volume: Volume) {
        let mut state = unpoisoned(self.state.write());
        if !state.volumes.contains_key(&volume.name) && !state.is_busy_since(&volume.name, listing.since) {
            state.put(driver, volume);
        }
    }

    /// Takes over a known volume that was read while a listing was open, unless it was changed meanwhile.
    pub fn refresh(&self, listing: &Listing, driver: &Arc<ManagedDriver>, volume: Volume) {
        let mut state = unpoisoned(self.state.write());
        let unchanged = |entry: &Entry| entry.changed <= listing.since && *entry.volume != volume;
        if state.volumes.get(&volume.name).is_some_and(unchanged) {
            state.put(driver, volume);
        }
    }

    /// Takes a volume out that was found gone while a listing was open, unless it was changed meanwhile.
    pub fn forget(&self, listing: &Listing, name: &str) {
        let mut state = unpoisoned(self.state.write());
        if state.volumes.get(name).is_some_and(|entry| entry.changed <= listing.since) {
            state.remove(name);
        }
    }

    /// Takes over a complete listing of a driver. Volumes that `keep` names stay although they are gone.
    pub fn merge(
        &self,
        listing: &Listing,
        driver: &Arc<ManagedDriver>,
        volumes: Vec<Volume>,
        keep: impl Fn(&Name) -> bool,
    ) -> Merged {
        let mut state = unpoisoned(self.state.write());
        let mut merged = Merged::default();
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
