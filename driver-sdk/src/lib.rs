//! What a convoy driver is written with, and the only thing it depends on.
//!
//! A driver is the control plane of one kind of storage: it creates, deletes, mounts, resizes and snapshots
//! volumes, and says where a snapshot's bytes are. It never talks to a backup store; the host moves the data.
//!
//! - [`driver`]: the [`Driver`] trait that an author implements, once, with blocking methods.
//! - [`context`]: what every call carries beside its request: deadline, cancellation, progress.
//! - [`protocol`]: the typed requests and replies; [`error`]: the closed set of errors.
//! - [`name`], [`size`], [`timestamp`]: values parsed at the edge, shared by host and drivers.
//! - [`records`], [`atomic`], [`flock`]: durable records and locks; [`mountinfo`], [`filesystem`], [`freeze`],
//!   [`command`]: mounts, file systems and external programs, never longer than the call.
//! - [`dispatch`]: from a method name and JSON to the trait and back; both carriers end here.

pub mod atomic;
pub mod command;
pub mod context;
pub mod dispatch;
pub mod driver;
pub mod error;
pub mod filesystem;
pub mod flock;
pub mod freeze;
pub mod mountinfo;
pub mod name;
pub mod protocol;
pub mod records;
pub mod size;
pub mod timestamp;

pub use context::Context;
pub use convoy_tree as tree;
pub use driver::Driver;
pub use error::{DriverError, ErrorKind, Result};
pub use name::Name;
pub use protocol::PROTOCOL_VERSION;
pub use timestamp::Timestamp;
