//! The service: what it is made of, and what it answers from memory.

use crate::alone::Others;
use crate::driver_set::DriverSet;
use crate::entry::Entry;
use crate::error::Result;
use crate::half_restored::HalfRestoredVolumes;
use crate::index::{Index, Reservation};
use crate::ledger::Ledger;
use crate::locks::{Locks, PATIENCE, VolumeGuard};
use crate::name_cache::NameCache;
use crate::policies::{DockerRemove, Policies};
use convoy_activity::events::Events;
use convoy_client::types::DriverCall;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::protocol::Snapshot;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The volumes of a daemon, their snapshots, who uses them, and their drivers.
#[derive(Debug)]
#[must_use]
pub struct Volumes {
    pub(crate) drivers: DriverSet,
    pub(crate) index: Index,
    pub(crate) ledger: Ledger,
    pub(crate) events: Events,
    pub(crate) policies: Policies,
    pub(crate) name_cache: NameCache,
    /// Where volumes are mounted, if not in this process's namespace.
    pub(crate) mount_namespace: Option<PathBuf>,
    mounting: Arc<Locks>,
    snapshotting: Arc<Locks>,
    /// Volumes whose snapshots are open for reading, and how often.
    pub(crate) reading: Arc<Mutex<HashMap<Name, usize>>>,
    /// Volumes that are being restored into, and what others may do meanwhile.
    pub(crate) restoring: Arc<Mutex<HashMap<Name, Others>>>,
    pub(crate) half_restored: HalfRestoredVolumes,
}

impl Volumes {
    /// Creates a service of `drivers` that knows no volume before [`Self::load`].
    pub fn new(drivers: DriverSet, ledger: Ledger, events: Events) -> Self {
        Self {
            drivers,
            index: Index::default(),
            ledger,
            events,
            policies: Policies::none(),
            name_cache: NameCache::default(),
            mount_namespace: None,
            mounting: Arc::default(),
            snapshotting: Arc::default(),
            reading: Arc::default(),
            restoring: Arc::default(),
            half_restored: HalfRestoredVolumes::default(),
        }
    }

    /// Keeps what Docker's Remove does to single volumes in `policies`.
    pub fn with_policies(self, policies: Policies) -> Self {
        Self { policies, ..self }
    }

    /// Keeps which volumes are half restored in `half_restored`.
    pub fn with_half_restored(self, half_restored: HalfRestoredVolumes) -> Self {
        Self { half_restored, ..self }
    }

    /// Keeps the names of volumes in `name_cache`, for when their driver cannot be asked.
    pub fn with_name_cache(self, name_cache: NameCache) -> Self {
        Self { name_cache, ..self }
    }

    /// Sets the namespace that volumes are mounted in; `None`: that of this process.
    pub fn with_mount_namespace(self, mount_namespace: Option<PathBuf>) -> Self {
        Self { mount_namespace, ..self }
    }

    /// Gives the drivers, the default one among them.
    pub fn drivers(&self) -> &DriverSet {
        &self.drivers
    }

    /// Finds a volume in memory.
    pub fn get(&self, name: &str) -> Option<Entry> {
        self.index.get(name)
    }

    /// Calls `visit` with each volume, sorted by name, without copying them.
    pub fn each(&self, visit: impl FnMut(&Entry)) {
        self.index.each(visit);
    }

    /// Copies all volumes, sorted by name.
    pub fn all(&self) -> Vec<Entry> {
        self.index.all()
    }

    /// Counts the volumes in memory.
    pub fn count(&self) -> usize {
        self.index.len()
    }

    /// Finds a snapshot in memory, and its volume, which is needed only when several have one of that name.
    ///
    /// # Errors
    /// [`SnapshotNotFound`](crate::Error::SnapshotNotFound),
    /// [`SnapshotOfAnother`](crate::Error::SnapshotOfAnother),
    /// [`AmbiguousSnapshot`](crate::Error::AmbiguousSnapshot).
    pub fn snapshot(&self, name: &str, volume: Option<&str>) -> Result<(Entry, Snapshot)> {
        self.index.snapshot(name, volume)
    }

    /// Takes a name for a volume that is about to be made. One of many that try at once succeeds.
    ///
    /// # Errors
    /// [`VolumeExists`](crate::Error::VolumeExists), [`BeingCreated`](crate::Error::BeingCreated),
    /// [`NameOfSnapshot`](crate::Error::NameOfSnapshot).
    pub fn reserve(&self, name: &Name) -> Result<Reservation> {
        self.index.reserve_volume(name)
    }

    /// Says where a volume is mounted, or is still to be unmounted; `None` when it is not.
    pub fn mountpoint(&self, name: &str) -> Option<PathBuf> {
        self.ledger.mountpoint(name)
    }

    /// Whether somebody uses a volume.
    pub fn is_used(&self, name: &str) -> bool {
        self.ledger.usage(name).is_used()
    }

    /// Says what Docker's Remove does to a volume's data, where that was said for the volume itself.
    pub fn policy(&self, entry: &Entry) -> Option<DockerRemove> {
        self.policies.of(entry)
    }

    /// Lists the calls that drivers have not answered, with the driver of each.
    pub fn calls_under_way(&self) -> Vec<(Name, DriverCall)> {
        let of = |driver: &Arc<crate::driver::ManagedDriver>| {
            let name = driver.name().clone();
            driver.under_way().into_iter().map(move |call| (name.clone(), call)).collect::<Vec<_>>()
        };
        self.drivers.iter().flat_map(of).collect()
    }

    /// Closes the drivers and the ledger. Calls that run have `drain` to come to an end.
    pub async fn close(&self, drain: Duration) {
        futures::future::join_all(self.drivers.iter().map(|driver| driver.stop(drain))).await;
        self.ledger.close();
    }

    /// Waits for the lock of a volume that is to be changed altogether: made, deleted, resized. `what` is
    /// what others are told while they wait.
    ///
    /// The lock goes along with the call to the driver: it ends when the driver is done, and not when
    /// somebody
    /// no longer waits for it.
    ///
    /// # Errors
    /// [`Busy`](crate::Error::Busy).
    pub async fn lock(&self, volume: &Name, what: &'static str) -> Result<VolumeGuard> {
        // In this order: while a long snapshot is waited for, mounts go on.
        let snapshotting = self.snapshotting.acquire(volume, what, PATIENCE).await?;
        let mounting = self.mounting.acquire(volume, what, PATIENCE).await?;
        Ok(VolumeGuard::new([snapshotting, mounting]))
    }

    /// Waits for the locks of a volume that is cloned: of its snapshots, and of the new volume's name, which
    /// nobody else wants since it is only reserved.
    pub(crate) async fn lock_to_clone(&self, name: &Name, source: &Name) -> Result<VolumeGuard> {
        Ok(VolumeGuard::new([
            self.snapshotting.acquire(name, "create", PATIENCE).await?,
            self.mounting.acquire(name, "create", PATIENCE).await?,
            self.snapshotting.acquire(source, "snapshot clone", PATIENCE).await?,
        ]))
    }

    /// Waits for the lock to mount or unmount a volume, for which no snapshot of it is waited for.
    pub(crate) async fn lock_to_mount(&self, volume: &Name, what: &'static str) -> Result<VolumeGuard> {
        Ok(VolumeGuard::new([self.mounting.acquire(volume, what, PATIENCE).await?]))
    }

    /// Waits for the lock to do something with a snapshot of a volume, which may take long.
    ///
    /// # Errors
    /// [`Busy`](crate::Error::Busy).
    pub async fn lock_to_snapshot(&self, volume: &Name, what: &'static str) -> Result<VolumeGuard> {
        Ok(VolumeGuard::new([self.snapshotting.acquire(volume, what, PATIENCE).await?]))
    }
}
