//! Tests a driver against the rules of `docs/driver-protocol.md`: with real data, concurrent calls, and
//! `kill -9` in the midst of them.
//!
//! `convoy driver test` runs it from the command line; in an author's own tests it is one line:
//!
//! ```no_run
//! let options = convoy_driver_kit::Options::default().option("mystore.path", "/srv/test");
//! convoy_driver_kit::run("target/debug/convoy-driver-mystore", &options).unwrap().assert_passed();
//! ```
//!
//! Cases are chosen by the capabilities that the driver declares. Each checks one or more numbered rules; a
//! failure says which rule was broken, quotes it, and says what was expected and what was found.
//!
//! A driver is best tested through both carriers: the crash cases need the process, since a library that is
//! killed takes the kit along.
//!
//! The kit calls the driver by the host's own loader and carriers (`convoy-drivers`), so that what passes
//! here is what the daemon can use. That is the one crate of the host that it needs.
//!
//! - [`rules`]: what a driver is held to; [`report`]: what came out, for people, for machines and for CI.
//! - `subject`: the driver under test and calls to it; `raw`: the same over its socket, byte by byte.
//! - `pattern`: files that are hard to keep; `image`: the bytes of block snapshots; `leaks`: what the kernel
//!   holds.
//! - `scratch`: directories that do not outlive their owner for long.
//! - `cases`: the cases, by topic; `runner`: runs them, each with a time limit.

mod cases;
mod check;
mod image;
mod leaks;
mod options;
mod pattern;
mod raw;
pub mod report;
pub mod rules;
mod runner;
mod scratch;
mod subject;

pub use cases::list;
pub use options::Options;
pub use report::{CaseReport, Report, Verdict};
pub use runner::{KitError, run, run_watched, run_with};
pub use scratch::Scratch;
