//! Backups: of which driver or store an URL speaks, and what goes where.
//!
//! - `service`: [`Backups`], its state; `calls`: from a request to the driver or store that its `url` names.
//! - `engine`: backups in a store, made by the backup engine of what a driver hands over (`source`);
//!   `restore`: the way back, `parts` of parts into a volume that is there, `in_place` of a
//!   whole volume; `browse`: a look into backups and
//!   snapshots, opened by `trees`; `provider`: backups that a storage system keeps itself.
//! - `store`: from URLs to stores; `nearest`: what was meant by a wrong URL; `error`: what a store or the engine
//!   failed to do; `keys`: who may open encrypted backups, with a `secret`; `labels`: tags, notes and pins;
//!   `shown`: what the API tells of a backup; `stats`: what backups are in all, and what they take.
//! - `reader`: the backups at a destination for a program that is no daemon.
//! - `memory`: how much memory all work may use; `progress`: how far it is.
//! - `last`: the last backup of each volume; `seen`: whether a store was put back to an older state.

mod browse;
mod calls;
mod engine;
mod error;
mod in_place;
mod keys;
mod labels;
mod last;
mod memory;
mod nearest;
mod parts;
mod progress;
mod provider;
mod reader;
mod restore;
mod secret;
mod seen;
mod service;
mod shown;
mod source;
mod stats;
mod store;
mod trees;

pub(crate) use error::backup_error as shown_error;
pub use in_place::Ready;
pub use last::Last;
pub(crate) use provider::own_destination;
pub(crate) use reader::{AskedReader, Reader};
pub use service::Backups;
pub(crate) use shown::{PINNED, said};
