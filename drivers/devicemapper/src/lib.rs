//! The devicemapper driver: thin-provisioned block volumes, instant snapshots, backups of changed blocks
//! only.
//!
//! - [`driver`]: the trait's methods: volumes, mounts, snapshots, reading, restoring, health, and opening,
//!   which settles what a crash left.
//! - [`options`]: what the user sets; [`sectors`]: the kernel's unit; [`state`]: what is kept on disk, as
//!   convoy 0.5 wrote it; [`store`]: all records.
//! - [`journal`]: ids of thin devices, on disk before the kernel is asked.
//! - [`pool`]: the thin pool and its devices; [`superblock`]: what is on a metadata device; [`kernel`]:
//!   device-mapper itself; [`tools`], [`delta`], [`dump`]: thin-provisioning-tools and what they write.
//! - [`prepare`]: devices for a pool, for `convoy devicemapper prepare`. [`error`]: what can go wrong.

#![allow(missing_docs, reason = "public for the tests and the drivers of this project alone")]

pub mod delta;
pub mod driver;
pub mod dump;
pub mod error;
pub mod journal;
pub mod kernel;
pub mod options;
pub mod pool;
pub mod prepare;
pub mod sectors;
pub mod state;
pub mod store;
pub mod superblock;
pub mod tools;

pub use driver::DeviceMapper;

convoy_driver_sdk::export!(DeviceMapper);
