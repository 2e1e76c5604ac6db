//! Snapshots: made, deleted, and held open for reading.

use crate::driver::CHANGE;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::service::Volumes;
use convoy_activity::events::about;
use convoy_client::types::Event;
use convoy_driver_sdk::protocol::{Capability, CreateSnapshot, DeleteSnapshot, Snapshot};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_drivers::RequestContext;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// A volume that is being read; it cannot be deleted meanwhile.
#[derive(Debug)]
pub struct Reading {
    volume: Name,
    all: Arc<Mutex<HashMap<Name, usize>>>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        match all.get_mut(&self.volume) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(all.remove(&self.volume)),
        }
    }
}

impl Volumes {
    /// Keeps the present state of a volume. It may take as long as it takes: the call cancels it.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], [`Error::SnapshotExists`], [`Error::Unsupported`], [`Error::HalfRestored`];
    /// the driver's.
    pub async fn create_snapshot(
        &self,
        volume: &str,
        name: &Name,
        freeze: bool,
        call: &RequestContext,
    ) -> Result<(Entry, Snapshot)> {
        let entry = self.find(volume, call).await?;
        let driver = &entry.driver;
        let volume = &entry.volume.name;
        if driver.failure().is_none() {
            let unsupported = |what| Err(Error::Unsupported { driver: driver.name().clone(), what });
            if !driver.can(Capability::Snapshots) {
                return unsupported("snapshots");
            }
            if freeze && !driver.can(Capability::Freeze) {
                return unsupported("freezing a volume for a snapshot");
            }
        }
        // It would be taken for a state that somebody wanted, also by schedules.
        self.refuse_if_half_restored(&entry)?;
        let _reservation = self.index.reserve_snapshot(name)?;
        let guard = self.lock_to_snapshot(volume, "snapshot create").await?;
        let request = CreateSnapshot::new(volume.clone(), name.clone()).freeze(freeze);
        let snapshot = driver.change(request, call, &guard).await.map_err(|error| {
            // A driver that has one of that name, of which the index does not know, is asked again.
            if error.kind == ErrorKind::AlreadyExists {
                driver.suspect();
            }
            Error::from(error)
        })?;
        if snapshot.name != *name || snapshot.volume != *volume {
            driver.suspect();
            let text =
                format!("driver {} made snapshot {} when asked for {name}", driver.name(), snapshot.name);
            return Err(DriverError::new(ErrorKind::Internal, text).into());
        }
        self.index.update(volume, |volume| {
            volume.snapshots.retain(|other| other.name != snapshot.name);
            volume.snapshots.push(snapshot.clone());
        });
        self.tell("snapshot.create", &entry, name);
        Ok((entry, snapshot))
    }

    /// Deletes a snapshot.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::AmbiguousSnapshot`]; the driver's.
    pub async fn delete_snapshot(
        &self,
        name: &str,
        volume: Option<&str>,
        call: &RequestContext,
    ) -> Result<()> {
        let (entry, _) = self.index.snapshot(name, volume)?;
        let volume = entry.volume.name.clone();
        let guard = self.lock_to_snapshot(&volume, "snapshot delete").await?;
        let (entry, snapshot) = self.index.snapshot(name, Some(&volume))?;
        let request = DeleteSnapshot::new(volume.clone(), snapshot.name.clone());
        match entry.driver.change(request, &call.within(CHANGE), &guard).await {
            Ok(_) => {}
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        self.index.update(&volume, |volume| volume.snapshots.retain(|other| other.name != snapshot.name));
        self.tell("snapshot.delete", &entry, &snapshot.name);
        Ok(())
    }

    /// Keeps a volume from being deleted while a snapshot of it is read.
    pub fn reading(&self, volume: &Name) -> Reading {
        *self.reading.lock().entry(volume.clone()).or_default() += 1;
        Reading { volume: volume.clone(), all: Arc::clone(&self.reading) }
    }

    fn tell(&self, kind: &str, entry: &Entry, snapshot: &Name) {
        let event = about(kind, entry.driver.name(), &entry.volume.name);
        self.events.send(Event { snapshot: snapshot.to_string(), ..event });
    }
}
