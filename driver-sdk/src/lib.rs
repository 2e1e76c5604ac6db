//! What a convoy driver is written with, and the only thing it depends on.
//!
//! A driver is the control plane of one kind of storage: it creates, deletes, mounts, resizes and snapshots
//! volumes, and says where a snapshot's bytes are. It never talks to a backup store; the host moves the data.
//!
//! - [`driver`]: the [`Driver`] trait that an author implements, once, with blocking methods.
//! - [`context`]: what every call carries beside its request: deadline, cancellation, progress.
//! - [`protocol`]: the typed requests and replies; [`error`]: the closed set of errors.
//! - [`name`], [`size`], [`timestamp`]: values parsed at the edge, shared by host and drivers.
//! - [`options`]: refusing what a user mistyped; [`records`], [`atomic`], [`flock`]: durable records and locks;
//!   [`mountinfo`], [`filesystem`], [`freeze`], [`command`]: mounts, file systems and external programs, never
//!   longer than the call; [`reflink`], [`mapping`]: files that share their blocks, and what of them differs.
//! - [`dispatch`]: from a method name and JSON to the trait and back; both carriers end here.
//! - [`export`] makes a shared library of a driver (feature `library`), [`process`] an executable (feature
//!   `process`); [`wire`]: what the carriers add to the messages.

pub mod atomic;
pub mod command;
pub mod context;
pub mod dispatch;
pub mod driver;
pub mod error;
pub mod filesystem;
pub mod flock;
pub mod freeze;
#[cfg(feature = "library")]
pub mod library;
#[cfg(any(feature = "library", feature = "process"))]
mod logging;
pub mod mapping;
pub mod mountinfo;
pub mod name;
pub mod options;
#[cfg(feature = "process")]
pub mod process;
pub mod protocol;
pub mod records;
pub mod reflink;
pub mod size;
pub mod timestamp;
pub mod wire;

pub use context::Context;
pub use convoy_tree as tree;
pub use driver::Driver;
pub use error::{DriverError, ErrorKind, Result};
pub use name::Name;
pub use protocol::PROTOCOL_VERSION;
pub use timestamp::Timestamp;

/// Exports a driver as a shared library that the host can load.
///
/// Once in a crate whose `crate-type` has `cdylib`. The file keeps the name that cargo gives it,
/// `libconvoy_driver_<name>.so`: the exported symbol has the name of the crate in it.
///
/// ```ignore
/// convoy_driver_sdk::export!(MyDriver);
/// ```
#[cfg(feature = "library")]
#[macro_export]
macro_rules! export {
    ($driver:ty) => {
        const _: () = {
            #[unsafe(export_name = concat!("convoy_driver_root_", env!("CARGO_CRATE_NAME")))]
            static HEADER: $crate::library::LibHeader = $crate::library::header::<$driver>();
        };
    };
}

/// Without the feature `library` there is nothing to export.
#[cfg(not(feature = "library"))]
#[macro_export]
macro_rules! export {
    ($driver:ty) => {};
}
