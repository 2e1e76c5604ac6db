//! What a convoy driver is written with, and the only thing it depends on.
//!
//! A driver is the control plane of one kind of storage: it creates, deletes, mounts, resizes and snapshots
//! volumes, and says where a snapshot's bytes are. It never talks to a backup store; the host moves the data.
//!
//! - [`driver`]: the [`Driver`] trait that an author implements, once, with blocking methods.
//! - [`context`]: what every call carries beside its request: deadline, cancellation, progress.
//! - [`protocol`]: the typed requests and replies; [`error`]: the closed set of errors.
//! - [`name`], [`size`], [`timestamp`]: values parsed at the edge, shared by host and drivers.
//! - [`options`]: refusing what a user mistyped; [`secret`]: files of keys and tokens; [`records`],
//!   [`atomic`], [`flock`]: durable records and locks;
//!   [`mountinfo`], [`filesystem`], [`freeze`], [`command`]: mounts, file systems and external programs,
//!   never longer than the call; [`reflink`], [`mapping`]: files that share their blocks, and what of them
//!   differs.
//! - `schema` (feature `schema`): the JSON Schema of every message; `schema/` holds it for every minor
//!   version.
//! - [`dispatch`]: from a method name and JSON to the trait and back; both carriers end here.
//! - [`export`] makes a shared library of a driver (feature `library`), [`process`] an executable (feature
//!   `process`); [`wire`]: what the carriers add to the messages.
//!
//! A driver that keeps its volumes in memory, called as both carriers call it:
//!
//! ```
//! use convoy_driver_sdk::dispatch::{Dispatch, Dispatcher};
//! use convoy_driver_sdk::protocol::*;
//! use convoy_driver_sdk::{Context, Driver, DriverError, ErrorKind, Name, Result, Timestamp};
//! use std::collections::BTreeMap;
//! use std::sync::Mutex;
//!
//! struct Memory {
//!     volumes: Mutex<BTreeMap<Name, Volume>>,
//! }
//!
//! fn missing(name: &Name) -> DriverError {
//!     DriverError::not_found(format!("there is no volume {name}")).hint("see convoy list")
//! }
//!
//! impl Driver for Memory {
//!     fn describe() -> Description {
//!         Description::new("memory", env!("CARGO_PKG_VERSION"), "volumes that are forgotten")
//!     }
//!
//!     fn open(request: Open, _: &Context) -> Result<(Self, Opened)> {
//!         convoy_driver_sdk::options::check(&[], &request.options)?;
//!         Ok((Self { volumes: Mutex::default() }, Opened::default()))
//!     }
//!
//!     fn create_volume(&self, request: CreateVolume, _: &Context) -> Result<Volume> {
//!         let mut volumes = self.volumes.lock().unwrap();
//!         if volumes.contains_key(&request.name) {
//!             return Err(DriverError::already_exists(format!("{} exists already", request.name)));
//!         }
//!         let size = request.size.unwrap_or(0);
//!         let volume = Volume::new(request.name.clone(), size, Timestamp::now());
//!         volumes.insert(request.name, volume.clone());
//!         Ok(volume)
//!     }
//!
//!     fn delete_volume(&self, request: DeleteVolume, _: &Context) -> Result<()> {
//!         self.volumes.lock().unwrap().remove(&request.name).map(drop).ok_or_else(|| missing(&request.name))
//!     }
//!
//!     fn mount_volume(&self, request: MountVolume, _: &Context) -> Result<Mounted> {
//!         Err(DriverError::unsupported(format_args!("mounting {}", request.name)))
//!     }
//!
//!     fn unmount_volume(&self, _: UnmountVolume, _: &Context) -> Result<()> {
//!         Ok(())
//!     }
//!
//!     fn list_volumes(&self, request: ListVolumes, _: &Context) -> Result<ListedVolumes> {
//!         let volumes = self.volumes.lock().unwrap();
//!         let (volumes, more) = request.page(volumes.values().cloned());
//!         Ok(ListedVolumes::new(volumes).more(more))
//!     }
//!
//!     fn get_volume(&self, request: GetVolume, _: &Context) -> Result<Volume> {
//!         self.volumes.lock().unwrap().get(&request.name).cloned().ok_or_else(|| missing(&request.name))
//!     }
//! }
//!
//! let driver = Dispatcher::<Memory>::new();
//! let context = Context::new("example");
//! driver.dispatch("driver.open", br#"{"root": "/nowhere"}"#, &context)?;
//! driver.dispatch("volume.create", br#"{"name": "vol1"}"#, &context)?;
//! let listed = driver.dispatch("volume.list", b"{}", &context)?;
//! assert!(String::from_utf8(listed).unwrap().contains("vol1"));
//! let request = br#"{"volume": "vol1", "snapshot": "s1"}"#;
//! let error = driver.dispatch("snapshot.create", request, &context).unwrap_err();
//! assert_eq!(error.kind, ErrorKind::Unsupported);
//! # Ok::<(), DriverError>(())
//! ```

pub mod atomic;
pub mod command;
pub mod context;
pub mod copies;
pub mod detached;
pub mod dispatch;
pub mod driver;
pub mod error;
pub mod filesystem;
pub mod flock;
pub mod freeze;
pub mod handle;
// Not in the documentation: the traits of `abi_stable` would fill the page of every type. What crosses the
// boundary is in the protocol document ("The ABI of a library").
#[cfg(all(feature = "library", not(doc)))]
pub mod library;
#[cfg(any(feature = "library", feature = "process"))]
mod logging;
pub mod mapping;
mod message;
pub mod mountinfo;
pub mod name;
pub mod options;
#[cfg(feature = "process")]
pub mod process;
pub mod protocol;
pub mod records;
pub mod reflink;
pub mod restores;
#[cfg(feature = "schema")]
pub mod schema;
pub mod secret;
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
