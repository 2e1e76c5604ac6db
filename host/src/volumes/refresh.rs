//! Keeps the index true to the drivers: at start, after calls whose outcome is unknown, and, for drivers whose
//! volumes other hosts change too, every few seconds.

use super::backend::Backend;
use super::index::Merged;
use super::ledger::ADOPTED;
use super::{CHANGE, QUICK, Volumes, within};
use convoy_driver_sdk::context::Context;
use convoy_driver_sdk::protocol::{Capability, ListVolumes, MountVolume, Volume};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use std::sync::Arc;
use std::time::Duration;

/// How many volumes a driver is asked for at once.
const PAGE: u32 = 1000;

/// How often drivers are looked after.
const PERIOD: Duration = Duration::from_secs(5);

impl Volumes {
    /// Asks a driver for all its volumes.
    ///
    /// # Errors
    /// The driver's; the index is as it was.
    pub async fn refresh(&self, driver: &Arc<Backend>, context: &Context) -> Result<Merged, DriverError> {
        let listing = self.index.begin_listing();
        let suspected = driver.take_suspicion();
        let known = if suspected { None } else { driver.generation() };
        let listed = list(driver, known, context).await.inspect_err(|_| {
            if suspected {
                driver.suspect();
            }
        })?;
        let Some(Listed { volumes, generation }) = listed else { return Ok(Merged::default()) };
        let merged = self.index.merge(&listing, driver, volumes, |name| self.ledger.usage(name).is_used());
        driver.set_generation(generation);
        for name in &merged.added {
            tracing::info!(volume = %name, driver = %driver.name(), "found a volume");
        }
        for name in &merged.removed {
            tracing::info!(volume = %name, driver = %driver.name(), "a volume is gone");
        }
        for name in &merged.hidden {
            tracing::warn!(volume = %name, driver = %driver.name(), "hidden: another driver has a volume of that name");
        }
        Ok(merged)
    }

    /// Looks after the drivers until the task that runs it is dropped.
    pub async fn look_after(&self) {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tick.tick().await;
        loop {
            tick.tick().await;
            // One slow driver does not keep the others waiting.
            let due =
                self.drivers.iter().filter(|driver| driver.is_suspect() || driver.can(Capability::Shared));
            futures::future::join_all(due.map(|driver| async move {
                let context = within(&Context::new("refresh"), QUICK);
                if let Err(error) = self.refresh(driver, &context).await {
                    tracing::warn!(driver = %driver.name(), %error, "cannot list the volumes of a driver");
                }
            }))
            .await;
        }
    }

    /// Brings ledger and drivers together after a start. `first` says that there was no ledger: what is mounted was
    /// mounted by convoy 0.5. Nothing that is used is unmounted.
    pub async fn reconcile_mounts(&self, first: bool, context: &Context) {
        for name in self.ledger.volumes() {
            match self.index.get(&name) {
                Some(entry) if self.ledger.usage(&name).is_used() => {
                    // Repeating a mount answers where it is; it also makes good for one taken away by hand.
                    let request = MountVolume { name: name.clone(), mountpoint: None };
                    match entry.driver.call(request, &within(context, CHANGE)).await {
                        Ok(mounted)
                            if Some(&mounted.mountpoint) == self.ledger.mountpoint(&name).as_ref() => {}
                        Ok(mounted) => tracing::warn!(
                            volume = %name, mountpoint = %mounted.mountpoint.display(),
                            "the volume is mounted at another place than before the start"
                        ),
                        Err(error) => {
                            tracing::warn!(volume = %name, %error, "cannot confirm that a volume is mounted")
                        }
                    }
                }
                Some(_) => {}
                None if self.drivers.iter().any(|driver| driver.failure().is_some()) => {}
                None => {
                    tracing::warn!(volume = %name, "the mount ledger names a volume that is gone: forgotten");
                    self.note(self.ledger.forget(&name).await, &name);
                }
            }
        }
        for entry in self.index.all() {
            let Some(mountpoint) = entry.volume.mountpoint.as_ref() else { continue };
            let name = &entry.volume.name;
            if self.ledger.mountpoint(name).is_some() {
                continue;
            }
            let claimed = self.ledger.claim(name, ADOPTED, mountpoint).await;
            self.note(claimed, name);
            if first {
                tracing::info!(volume = %name, "took over a mounted volume");
            } else {
                // Its mount or unmount was cut off: nobody was told that it is mounted.
                self.note(self.ledger.release(name, Some(ADOPTED)).await.map(drop), name);
            }
        }
    }

    fn note(&self, result: super::Result<()>, volume: &Name) {
        if let Err(error) = result {
            tracing::warn!(%volume, %error, "cannot correct the mount ledger");
        }
    }
}

struct Listed {
    volumes: Vec<Volume>,
    generation: Option<String>,
}

/// All volumes of a driver; `None` if nothing changed since `known`.
async fn list(
    driver: &Backend,
    known: Option<String>,
    context: &Context,
) -> Result<Option<Listed>, DriverError> {
    let mut volumes: Vec<Volume> = Vec::new();
    let mut generation = None;
    let mut after: Option<Name> = None;
    loop {
        let known = if after.is_none() { known.clone() } else { None };
        let request = ListVolumes { after: after.clone(), limit: Some(PAGE), generation: known };
        let page = driver.call(request, &within(context, QUICK)).await?;
        if page.unchanged {
            return Ok(None);
        }
        for warning in &page.warnings {
            tracing::warn!(driver = %driver.name(), warning, "a driver could not list everything");
        }
        if after.is_none() {
            generation = page.generation;
        } else if page.generation != generation {
            // Something changed between two pages: the next refresh reads everything again.
            generation = None;
        }
        let last = page.volumes.iter().map(|volume| &volume.name).max().cloned();
        volumes.extend(page.volumes);
        match last {
            _ if !page.more => return Ok(Some(Listed { volumes, generation })),
            Some(last) if after.as_ref().is_none_or(|after| last > *after) => after = Some(last),
            _ => {
                let text = format!("driver {} lists its volumes in circles", driver.name());
                return Err(DriverError::new(ErrorKind::Internal, text));
            }
        }
    }
}
