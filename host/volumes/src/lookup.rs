//! Volumes by name.

use crate::driver::{ManagedDriver, QUICK};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::service::Volumes;
use convoy_driver_sdk::protocol::{Capability, GetSnapshot, GetVolume, Snapshot};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_drivers::RequestContext;
use std::sync::Arc;
use std::time::Duration;

/// How long a name that is not in memory may be asked for at a driver that shares its volumes with other
/// hosts.
const MISS: Duration = Duration::from_secs(2);

/// A volume read afresh.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// The volume as it is known now.
    pub entry: Entry,
    /// Why it could not be read afresh: it is then as it was known.
    pub stale: Option<DriverError>,
}

impl Volumes {
    /// A volume. A name that is not in memory is asked for at the drivers that share theirs with other hosts.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], also for a text that can be no name.
    pub async fn find(&self, name: &str, call: &RequestContext) -> Result<Entry> {
        match self.index.get(name) {
            Some(entry) => Ok(entry),
            None => self.ask_for(name, |_| true, call).await,
        }
    }

    /// A volume that Docker may be told of: not one that its engine has itself.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`].
    pub async fn find_for_docker(&self, name: &str, call: &RequestContext) -> Result<Entry> {
        self.find_elsewhere(name, "", call).await
    }

    /// As [`Self::find_for_docker`], without asking a driver that is about to be asked to make the volume,
    /// and will say if it has it.
    pub(crate) async fn find_elsewhere(
        &self,
        name: &str,
        maker: &str,
        call: &RequestContext,
    ) -> Result<Entry> {
        match self.index.get(name) {
            Some(entry) if entry.is_known_to_docker() => Err(Error::VolumeNotFound(name.to_owned())),
            Some(entry) => Ok(entry),
            // Docker waits for this answer: its engine is not to be asked what it has itself.
            None => {
                let asked = |driver: &ManagedDriver| {
                    driver.name().as_str() != maker && !driver.can(Capability::KnownToDocker)
                };
                self.ask_for(name, asked, call).await
            }
        }
    }

    /// Asks those drivers for a name that share their volumes with other hosts.
    async fn ask_for(
        &self,
        name: &str,
        asked: impl Fn(&ManagedDriver) -> bool,
        call: &RequestContext,
    ) -> Result<Entry> {
        let missing = || Error::VolumeNotFound(name.to_owned());
        let name = Name::parse(name).map_err(|_| missing())?;
        // One that answers nothing is not worth waiting for: what it had when it last did is in memory.
        let others = |driver: &&Arc<ManagedDriver>| {
            driver.can(Capability::Shared) && asked(driver) && driver.silence().is_none()
        };
        for driver in self.drivers.iter().filter(others) {
            let listing = self.index.begin_listing();
            let answer = driver.call(GetVolume::new(name.clone()), &call.within(MISS)).await;
            match answer {
                Ok(volume) => {
                    self.index.add(&listing, driver, volume);
                    return self.index.get(&name).ok_or_else(missing);
                }
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(volume = %name, driver = %driver.name(), %error, "cannot ask for a \
                        volume");
                }
            }
        }
        Err(missing())
    }

    /// A volume as its driver knows it at this moment; as it was last known when the driver cannot say.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], also when the driver has lost it.
    pub async fn inspect(&self, name: &str, call: &RequestContext) -> Result<Fresh> {
        let entry = self.find(name, call).await?;
        let name = entry.volume.name.clone();
        let listing = self.index.begin_listing();
        match entry.driver.call(GetVolume::new(name.clone()), &call.within(QUICK)).await {
            Ok(volume) => {
                self.index.refresh(&listing, &entry.driver, volume);
                let entry = self.index.get(&name).ok_or(Error::VolumeNotFound(name.into()))?;
                Ok(Fresh { entry, stale: None })
            }
            Err(error) if error.kind == ErrorKind::NotFound && !self.ledger.usage(&name).is_used() => {
                self.index.forget(&listing, &name);
                Err(Error::VolumeNotFound(name.into()))
            }
            Err(error) => Ok(Fresh { entry, stale: Some(error) }),
        }
    }

    /// A snapshot as its driver knows it at this moment, and its volume.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::AmbiguousSnapshot`]; the driver's.
    pub async fn inspect_snapshot(
        &self,
        name: &str,
        volume: Option<&str>,
        call: &RequestContext,
    ) -> Result<(Entry, Snapshot)> {
        let (entry, known) = self.index.snapshot(name, volume)?;
        let request = GetSnapshot::new(entry.volume.name.clone(), known.name.clone());
        match entry.driver.call(request, &call.within(QUICK)).await {
            Ok(snapshot) => Ok((entry, snapshot)),
            Err(error) if error.kind == ErrorKind::NotFound => {
                self.index.update(&entry.volume.name, |volume| {
                    volume.snapshots.retain(|snapshot| snapshot.name != known.name);
                });
                Err(Error::SnapshotNotFound(name.to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }
}
