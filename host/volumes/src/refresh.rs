//! Keeps the index true to the drivers: at start, after calls whose outcome is unknown, and, for drivers
//! whose volumes other hosts change too, every few seconds.

use crate::driver::{ManagedDriver, QUICK};
use crate::index::MergeReport;
use crate::ledger::ADOPTED;
use crate::service::Volumes;
use convoy_activity::events::about;
use convoy_client::types::Event;
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{Capability, ListVolumes, MountVolume, Volume};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_drivers::RequestContext;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How many volumes a driver is asked for at once.
const PAGE: u32 = 1000;

/// How often drivers are looked after.
const PERIOD: Duration = Duration::from_secs(5);

/// In how many of these rounds a driver is asked once how its storage is. That is also when it takes over
/// devices that have grown: a full pool of devicemapper lets writes wait for a minute.
const PROBE_ROUNDS: usize = 3;

impl Volumes {
    /// Asks a driver for all its volumes.
    ///
    /// # Errors
    /// The driver's; the index is as it was.
    pub(crate) async fn refresh(
        &self,
        driver: &Arc<ManagedDriver>,
        call: &RequestContext,
    ) -> Result<MergeReport, DriverError> {
        let listing = self.index.begin_listing();
        let suspected = driver.take_suspicion();
        let known = if suspected { None } else { driver.generation() };
        let listed = list(driver, known, call).await.inspect_err(|_| {
            if suspected {
                driver.suspect();
            }
        })?;
        let Some(Listing { volumes, generation }) = listed else { return Ok(MergeReport::default()) };
        if driver.can(Capability::Shared) {
            self.name_cache.keep(driver.name(), &volumes);
        }
        let merged = self.index.merge(&listing, driver, volumes, |name| self.ledger.usage(name).is_used());
        driver.set_generation(generation);
        for name in &merged.added {
            tracing::info!(volume = %name, driver = %driver.name(), "found a volume");
        }
        for name in &merged.removed {
            tracing::info!(volume = %name, driver = %driver.name(), "a volume is gone");
        }
        for name in &merged.hidden {
            tracing::warn!(volume = %name, driver = %driver.name(), "hidden: another driver has a volume of \
                that name");
        }
        Ok(merged)
    }

    /// Looks after the drivers until the task that runs it is dropped. A slow one keeps no other waiting.
    pub async fn look_after(&self) {
        futures::future::join_all(self.drivers.iter().map(|driver| self.look_after_one(driver))).await;
    }

    async fn look_after_one(&self, driver: &Arc<ManagedDriver>) {
        let mut said = None;
        for round in 0usize.. {
            tokio::time::sleep(PERIOD).await;
            let opened = driver.may_open_yet();
            if opened && !self.open_again(driver).await {
                continue;
            }
            if round % PROBE_ROUNDS == 0 || driver.silence().is_some() {
                self.probe(driver, &mut said, QUICK).await;
            }
            // Each further question would keep a thread.
            if driver.silence().is_some() {
                continue;
            }
            let call = RequestContext::new("refresh").within(QUICK);
            if (driver.is_suspect() || driver.can(Capability::Shared))
                && let Err(error) = self.refresh(driver, &call).await
            {
                tracing::warn!(driver = %driver.name(), %error, "cannot list the volumes of a driver");
                // It may be that it answers nothing: whoever waits for it is to know soon.
                if error.kind == ErrorKind::DeadlineExceeded {
                    self.probe(driver, &mut said, PERIOD).await;
                }
                continue;
            }
            if driver.is_unconfirmed() {
                if opened {
                    self.adopt_mounts(driver).await;
                }
                self.confirm_mounts(driver, &call).await;
            }
        }
    }

    /// Asks a driver how its storage is, and tells when that is not as it was `said`.
    pub(crate) async fn probe(&self, driver: &ManagedDriver, said: &mut Option<String>, patience: Duration) {
        let was_silent = driver.silence().is_some();
        let (healthy, message, silent) = match driver.probe(patience).await {
            Ok(probed) => (probed.healthy, probed.message.unwrap_or_default(), None),
            Err(error) if driver.silence().is_some() => (false, error.to_string(), Some(error)),
            Err(_) => return,
        };
        if was_silent && driver.silence().is_none() {
            tracing::info!(driver = %driver.name(), "the driver answers again");
            // Whatever was begun meanwhile was done now, or was not.
            driver.suspect();
        }
        let now = topic(healthy, &message);
        if said.replace(now.clone()).unwrap_or_else(|| topic(true, "")) != now {
            // A driver falls silent as time passes, also between two of these questions.
            if let Some(error) = silent {
                let hint = error.hint.as_deref().unwrap_or_default();
                tracing::warn!(driver = %driver.name(), %error, hint, "a driver does not answer");
            }
            let kind = if healthy && message.is_empty() { "driver.healthy" } else { "driver.warning" };
            self.events.send(Event { message, ..about(kind, driver.name(), "") });
        }
    }

    /// Tries to open a driver that could not be opened: its storage may have come back.
    async fn open_again(&self, driver: &ManagedDriver) -> bool {
        match driver.open(QUICK).await {
            Ok(_) => {
                tracing::info!(driver = %driver.name(), "the driver could be started at last");
                self.events.send(about("driver.up", driver.name(), ""));
                driver.suspect();
                driver.set_unconfirmed(true);
                true
            }
            Err(error) => {
                tracing::debug!(driver = %driver.name(), %error, "the driver still cannot be started");
                false
            }
        }
    }

    /// Reads what the drivers have, and brings the mount ledger in line with it. A slow driver keeps no other
    /// waiting. `root` is the daemon's directory.
    pub async fn load(&self, root: &Path) {
        let call = RequestContext::new("start");
        let load_one = async |driver: &Arc<ManagedDriver>| {
            if driver.failure().is_some() {
                let orphans = self.add_orphans(driver, root).await.added;
                tracing::warn!(driver = %driver.name(), volumes = ?orphans, "these volumes cannot be used");
            } else if driver.can(Capability::KnownToDocker) {
                // Docker asks its plugins before it answers, and this one answers once it has started.
                driver.suspect();
            } else if let Err(error) = self.refresh(driver, &call).await {
                tracing::error!(driver = %driver.name(), %error, "cannot list the volumes of a driver: \
                    trying again");
                driver.suspect();
            }
        };
        futures::future::join_all(self.drivers.iter().map(load_one)).await;
        self.reconcile_mounts(&call).await;
        self.tell_half_restored();
    }

    /// Brings ledger and drivers together after a start. Where there was no ledger, what is mounted was
    /// mounted by convoy 0.5. Nothing that is used is unmounted.
    pub(crate) async fn reconcile_mounts(&self, call: &RequestContext) {
        // A driver that could not be asked may have the volume.
        let unsure = |driver: &Arc<ManagedDriver>| driver.failure().is_some() || driver.is_suspect();
        if !self.drivers.iter().any(unsure) {
            for name in self.ledger.volumes().iter().filter(|name| self.index.get(name).is_none()) {
                tracing::warn!(volume = %name, "the mount ledger names a volume that is gone: forgotten");
                self.note(self.ledger.forget(name).await, name);
            }
        }
        for driver in self.drivers.iter() {
            self.adopt_mounts(driver).await;
        }
        self.end_killed_restores(call).await;
        futures::future::join_all(self.drivers.iter().map(|driver| self.confirm_mounts(driver, call))).await;
    }

    /// Takes mounts into the ledger that are not in it. What the kernel has mounted although there was a
    /// ledger, a call of this daemon's was cut off; what it has not, a record of convoy 0.5 says: a
    /// directory, which is in use until somebody ends that.
    async fn adopt_mounts(&self, driver: &Arc<ManagedDriver>) {
        for entry in self.index.all() {
            let Some(mountpoint) = entry.volume.mountpoint.as_ref() else { continue };
            let name = &entry.volume.name;
            if !Arc::ptr_eq(&entry.driver, driver) || self.ledger.mountpoint(name).is_some() {
                continue;
            }
            let claimed = self.ledger.claim(name, ADOPTED, mountpoint).await;
            self.note(claimed, name);
            if self.ledger.is_first() || !self.is_mounted(mountpoint) {
                tracing::info!(volume = %name, "took over a mounted volume");
            } else {
                // Its mount or unmount was cut off: nobody was told that it is mounted.
                self.note(self.ledger.release(name, Some(ADOPTED)).await.map(drop), name);
            }
        }
    }

    /// Whether the kernel has something mounted at a place, in the namespace that volumes are mounted in.
    fn is_mounted(&self, mountpoint: &Path) -> bool {
        match MountTable::in_namespace(self.mount_namespace.as_deref()) {
            Ok(table) => table.is_mounted(mountpoint),
            Err(error) => {
                tracing::warn!(%error, "cannot tell what is mounted: it is taken to be in use");
                false
            }
        }
    }

    /// Tells a driver which of its volumes are in use: it mounts again what was unmounted by hand, and keeps
    /// other hosts from deleting them. One that does not answer is told when it does.
    async fn confirm_mounts(&self, driver: &Arc<ManagedDriver>, call: &RequestContext) {
        driver.set_unconfirmed(false);
        for name in self.ledger.volumes() {
            let of_driver = self.index.get(&name).is_some_and(|entry| Arc::ptr_eq(&entry.driver, driver));
            if !of_driver || !self.ledger.usage(&name).is_used() {
                continue;
            }
            // Repeating a mount answers where it is.
            let request = MountVolume::new(name.clone());
            match driver.call(request, &call.within(QUICK)).await {
                Ok(mounted) if Some(&mounted.mountpoint) == self.ledger.mountpoint(&name).as_ref() => {}
                Ok(mounted) => tracing::warn!(
                    volume = %name, mountpoint = %mounted.mountpoint.display(),
                    "the volume is mounted at another place than before the start"
                ),
                Err(error) => {
                    tracing::warn!(volume = %name, %error, "cannot confirm that a volume is mounted");
                    if matches!(error.kind, ErrorKind::DeadlineExceeded | ErrorKind::Unavailable) {
                        driver.set_unconfirmed(true);
                        return;
                    }
                }
            }
        }
    }

    fn note(&self, result: crate::error::Result<()>, volume: &Name) {
        if let Err(error) = result {
            tracing::warn!(%volume, %error, "cannot correct the mount ledger");
        }
    }
}

/// What a driver says without the figures in it, which change all the time.
fn topic(healthy: bool, message: &str) -> String {
    let words: String = message.chars().filter(|letter| !letter.is_ascii_digit()).collect();
    format!("{healthy} {words}")
}

struct Listing {
    volumes: Vec<Volume>,
    generation: Option<String>,
}

/// All volumes of a driver; `None` if nothing changed since `known`.
async fn list(
    driver: &ManagedDriver,
    known: Option<String>,
    call: &RequestContext,
) -> Result<Option<Listing>, DriverError> {
    let mut volumes: Vec<Volume> = Vec::new();
    let mut generation = None;
    let mut after: Option<Name> = None;
    loop {
        let known = if after.is_none() { known.clone() } else { None };
        let request = ListVolumes::new().after(after.clone()).limit(Some(PAGE)).generation(known);
        let page = driver.call(request, &call.within(QUICK)).await?;
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
            _ if !page.more => return Ok(Some(Listing { volumes, generation })),
            Some(last) if after.as_ref().is_none_or(|after| last > *after) => after = Some(last),
            _ => {
                let text = format!("driver {} lists its volumes in circles", driver.name());
                return Err(DriverError::new(ErrorKind::Internal, text));
            }
        }
    }
}
