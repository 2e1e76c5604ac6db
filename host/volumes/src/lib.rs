//! The volume service: every volume and snapshot by name, who uses it, and which driver has it.
//!
//! - `service`: [`Volumes`], what Docker's calls and the admin API's come down to. Its operations: `create`,
//!   `from_snapshot`, `mount`, `remove`, `restoring`, `in_place`, `snapshot`, `kept`, `lookup`, `retain`, `space`.
//! - `driver`: one driver, ready or failed; `driver_set`: all of them, with the default one.
//! - `index`: every volume and snapshot in memory, each an [`Entry`]; `refresh`: keeps it true to the
//!   drivers;
//!   `orphans`: volumes of drivers that failed, `name_cache`: their names.
//! - `ledger`: who uses which volume; `locks`: one changing call a volume at a time.
//! - `spec`: what a create asks for, checked against what the driver knows; `names`: names that are given.
//! - `docker_rules`: what Docker's users may ask for; `policies`: what Docker's Remove does to the data of
//!   single volumes.
//! - `half_restored`: volumes whose restore in place is not finished, which nobody mounts; `alone`: whoever
//!   has a volume for itself.
//! - `error`: what can go wrong.
//!
//! Every changing operation holds its volume's lock for the call to the driver and for nothing longer: data
//! of a backup is read without it. A snapshot, which may take long, keeps nobody from mounting. No lock of
//! one volume is ever waited for while that of another is held, but for a clone, which holds that of a name
//! nobody has yet.

mod alone;
mod create;
mod docker_rules;
mod driver;
mod driver_set;
mod entry;
mod error;
mod from_snapshot;
mod half_restored;
mod in_place;
mod index;
mod kept;
mod ledger;
mod locks;
mod lookup;
mod mount;
mod name_cache;
mod names;
mod orphans;
mod policies;
mod refresh;
mod remove;
mod restoring;
mod retain;
mod service;
mod snapshot;
mod space;
mod spec;
#[cfg(test)]
mod tests;

pub use alone::Alone;
pub use docker_rules::DockerRules;
pub use driver::{CHANGE, ManagedDriver, QUICK};
pub use driver_set::DriverSet;
pub use entry::{Entry, SIZE_ENFORCED, SIZE_NOT_ENFORCED};
pub use error::{Error, Result};
pub use half_restored::{HalfRestored, HalfRestoredVolumes};
pub use index::Reservation;
pub use ledger::{BY_HAND, Ledger, LedgerError, RUN};
pub use locks::VolumeGuard;
pub use lookup::Fresh;
pub use name_cache::NameCache;
pub use names::{check_name, generated_name};
pub use policies::{DockerRemove, Policies};
pub use restoring::Restoring;
pub use service::Volumes;
pub use snapshot::Reading;
pub use spec::CreateSpec;
