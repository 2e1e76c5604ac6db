//! The volumes and bind mounts that a Docker engine has itself, as volumes of convoy.
//!
//! Nothing is moved and nothing is mounted: a volume is the directory that Docker gives its containers. The
//! engine is asked over its socket what there is; nothing that it answers is believed. Snapshots are frozen
//! trees in a directory of the driver, as those of vfs.
//!
//! From the bottom up; a module uses only those above it in this list:
//!
//! - `error`, `options`, `record`: what can go wrong, what may be asked for, what is on disk;
//! - `http`, `engine`: questions to Docker, and their answers;
//! - `paths`: which directories of the host may be volumes, how they are opened, and what they are called;
//! - `source`: which volumes the answers speak of, and what is left out;
//! - `trash`, `vault`: what is being removed; where snapshots are, and what is not finished;
//! - `catalog`: engines, records and vaults; all calls work on them;
//! - `settle`: what becomes of unfinished work after a crash; `view`: what is known of volumes;
//! - `open_snapshots`, `snapshots`, `volumes`, `target`, `restore`, `check`: the calls;
//! - [`driver`]: the [`Driver`](convoy_driver_sdk::Driver) itself.

mod catalog;
mod check;
pub mod driver;
mod engine;
mod error;
mod http;
mod open_snapshots;
mod options;
mod paths;
mod record;
mod restore;
mod settle;
mod snapshots;
mod source;
mod target;
mod trash;
mod vault;
mod view;
mod volumes;

pub use driver::LocalDriver;

convoy_driver_sdk::export!(LocalDriver);
