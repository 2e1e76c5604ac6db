//! The volume service: what Docker's calls and the admin API's come down to.
//!
//! - [`backend`]: one driver; [`set`]: all of them, with the default one.
//! - [`index`]: every volume and snapshot by name, in memory; [`refresh`]: keeps it true to the drivers.
//! - [`ledger`]: who uses which volume; [`locks`]: one changing call a volume at a time.
//! - [`spec`]: what a create asks for, checked against what the driver knows.
//! - [`create`], `from_snapshot`, `kept`, `mount`, `remove`, `snapshot`: the operations; [`lookup`]: volumes
//!   by name; [`orphans`]: of drivers that failed; [`known`]: their names.
//! - [`docker_rules`]: what Docker's users may ask for; [`retain`]: what Docker's Remove does to the data of
//!   single volumes.
//! - `space`: how full they are; [`error`]: what can go wrong.
//!
//! Every changing operation takes its volume's turn for the call to the driver and for nothing longer: data
//! of a backup is read without it. A snapshot, which may take long, keeps nobody from mounting. No turn of
//! one volume is ever waited for while that of another is held, but for a clone, which holds that of a name
//! nobody has yet.

pub mod backend;
pub mod create;
pub mod docker_rules;
pub mod error;
mod from_snapshot;
pub mod index;
mod kept;
pub mod ledger;
pub mod locks;
pub mod lookup;
mod mount;
pub mod name_cache;
pub mod orphans;
pub mod refresh;
mod remove;
pub mod retain;
pub mod set;
mod snapshot;
mod space;
pub mod spec;

pub use error::{Error, Result};

use crate::events::Events;
use convoy_driver_sdk::{DriverError, Name};
use index::Index;
use ledger::Ledger;
use locks::{Locks, PATIENCE, VolumeGuard};
use name_cache::NameCache;
use retain::Policies;
use set::DriverSet;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

/// How long a driver may take to say something: list, get, info.
pub const QUICK: Duration = Duration::from_secs(30);

/// How long a driver may take to change something. Clouds take minutes to attach; whoever waits has given up
/// by then, and what was begun is found by the next [`refresh`].
pub const CHANGE: Duration = Duration::from_secs(600);

/// The volume service.
#[derive(Debug)]
pub struct Volumes {
    /// The drivers.
    pub drivers: DriverSet,
    /// All volumes.
    pub index: Index,
    /// Who uses them.
    pub ledger: Ledger,
    /// What happens to them.
    pub events: Events,
    /// What Docker's Remove does to their data, where that was said for one of them.
    pub policies: Policies,
    /// Names of volumes, for when their driver cannot be asked.
    pub known: NameCache,
    /// Whether mounts that nobody recorded are those of convoy 0.5.
    took_over: AtomicBool,
    /// Where volumes are mounted, if not in this process's namespace.
    mount_namespace: Option<PathBuf>,
    mounting: Arc<Locks>,
    snapshotting: Arc<Locks>,
    /// Volumes whose snapshots are open for reading, and how often.
    reading: Arc<Mutex<HashMap<Name, usize>>>,
}

impl Volumes {
    /// A service of these drivers that knows no volume yet: see [`refresh`].
    pub fn new(drivers: DriverSet, ledger: Ledger, events: Events) -> Self {
        Self {
            drivers,
            index: Index::default(),
            ledger,
            events,
            policies: Policies::none(),
            known: NameCache::default(),
            took_over: AtomicBool::new(false),
            mount_namespace: None,
            mounting: Arc::default(),
            snapshotting: Arc::default(),
            reading: Arc::default(),
        }
    }

    /// With these policies.
    #[must_use]
    pub fn with_policies(self, policies: Policies) -> Self {
        Self { policies, ..self }
    }

    /// With a place for the names of volumes.
    #[must_use]
    pub fn with_known(self, known: NameCache) -> Self {
        Self { known, ..self }
    }

    /// With the namespace that volumes are mounted in.
    #[must_use]
    pub fn with_mount_namespace(self, mount_namespace: Option<PathBuf>) -> Self {
        Self { mount_namespace, ..self }
    }

    /// Waits for a volume's turn to be changed altogether: made, deleted, resized.
    ///
    /// A turn goes along with the call to the driver: it ends when the driver is done, and not when somebody
    /// no longer waits for it.
    pub(crate) async fn turn(&self, volume: &Name, what: &'static str) -> Result<VolumeGuard> {
        // In this order: while a long snapshot is waited for, mounts go on.
        let snapshotting = self.snapshotting.acquire(volume, what, PATIENCE).await?;
        let mounting = self.mounting.acquire(volume, what, PATIENCE).await?;
        Ok(VolumeGuard::both(snapshotting, mounting))
    }

    /// Waits for the turn to mount or unmount a volume, for which no snapshot of it is waited for.
    pub(crate) async fn turn_to_mount(&self, volume: &Name, what: &'static str) -> Result<VolumeGuard> {
        self.mounting.acquire(volume, what, PATIENCE).await.map(VolumeGuard::one)
    }

    /// Waits for the turn to do something with a snapshot of a volume, which may take long.
    pub(crate) async fn turn_to_snapshot(&self, volume: &Name, what: &'static str) -> Result<VolumeGuard> {
        self.snapshotting.acquire(volume, what, PATIENCE).await.map(VolumeGuard::one)
    }
}

/// Whether, after this error, the driver may have done what it was asked all the same.
pub(crate) fn is_ambiguous(error: &DriverError) -> bool {
    use convoy_driver_sdk::ErrorKind::{Cancelled, DeadlineExceeded, Internal, Unavailable};
    matches!(error.kind, Cancelled | DeadlineExceeded | Internal | Unavailable)
}

#[cfg(test)]
mod tests;
