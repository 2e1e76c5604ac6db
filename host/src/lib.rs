//! The daemon of convoy: volumes for containers, behind Docker's plugin protocol and an admin API.
//!
//! A module uses those below it and none above; a test in `tests.rs` holds it to that. From the top:
//!
//! - [`daemon`]: from arguments to a running daemon, and to its end.
//! - [`api`]: HTTP on the socket.
//! - [`doctor`]: what is wrong; [`scrape`]: metrics that are looked up.
//! - [`app`]: the services together.
//! - [`reload`]: the settings read again; [`show`]: `backup mount` and `backup serve`, without a daemon.
//! - [`schedules`]: snapshots and backups that are made by themselves.
//! - [`backups`]: copies of volumes in stores.
//! - [`config`]: the settings, given and saved.
//! - `docker`: Docker's engine, over its socket.
//! - [`listen`]: connections; [`logging`]: the log; [`notify`]: what systemd is told.
//!
//! Below them are crates of their own: `convoy_volumes`, the volume service, and `convoy_activity`, jobs,
//! events
//! and counters.

pub mod api;
pub mod app;
pub mod backups;
pub mod config;
pub mod daemon;
mod docker;
pub mod doctor;
pub mod listen;
pub mod logging;
pub mod notify;
pub mod reload;
pub mod schedules;
pub mod scrape;
pub mod show;
#[cfg(test)]
mod tests;
