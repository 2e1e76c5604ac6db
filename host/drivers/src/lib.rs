//! How the host finds, loads, supervises and calls drivers.
//!
//! - [`spec`]: what a user writes (`vfs`, `process:vfs`, a path); [`search`]: where drivers are looked for;
//!   [`trust`]: which files are refused; [`commands`]: the programs a driver's package brings along.
//! - [`registry`]: from a spec to a [`DriverHandle`], by whichever carrier is installed.
//! - [`handle`]: calling a driver, the same through every carrier; [`context`]: what goes with a call.
//! - `calls`: those not answered yet, how many at once and since when; `answer`: what an answer must be.
//! - [`restart`]: when a process that ended is started again.
//! - `local` (calls in this program), `library` (shared libraries) and `process` (supervised programs): the
//!   carriers, seen by nobody else; `wait`: deadlines; `declared`: drivers that cannot do what they declare;
//!   `logs`: from a driver's log to the host's.
//! - [`status`]: what `convoy driver list` shows; [`error`]: why a driver could not be loaded.
//!
//! `jsonrpsee` logs whole messages, secrets and all, at the level `trace` of the target `jsonrpsee-client`: a
//! host that lets its users choose a log filter must switch that target off.

mod answer;
mod calls;
pub mod commands;
pub mod context;
mod declared;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod handle;
mod library;
mod local;
mod logs;
mod process;
pub mod registry;
pub mod restart;
pub mod search;
pub mod spec;
pub mod status;
pub mod trust;
mod wait;

pub use answer::broken_rule;
pub use context::RequestContext;
pub use error::LoadError;
pub use handle::DriverHandle;
pub use logs::is_indiscreet;
pub use registry::{Drivers, Installed};
pub use restart::RestartPolicy;
pub use search::SearchPath;
pub use spec::{Carrier, DriverSpec};
pub use status::{CallUnderWay, DriverHealth, DriverStatus};
