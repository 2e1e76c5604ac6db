//! The daemon of convoy: volumes for containers, behind Docker's plugin protocol and an admin API.
//!
//! - [`daemon`]: from arguments to a running daemon, and to its end.
//! - [`config`]: the settings, given and saved.
//! - [`api`]: HTTP on the socket.
//! - [`volumes`]: the volume service; [`backups`]: their backups; [`schedules`]: those that are made by
//!   themselves.
//! - [`jobs`]: what takes long; [`events`]: what happened; [`metrics`]: what is counted; [`doctor`]: what is
//!   wrong; [`call`]: what a call to a driver carries.

pub mod api;
pub mod backups;
pub mod call;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod events;
pub mod jobs;
pub mod metrics;
pub mod schedules;
pub mod volumes;
