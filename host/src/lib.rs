//! The daemon of convoy: volumes for containers, behind Docker's plugin protocol and an admin API.
//!
//! - [`daemon`]: from arguments to a running daemon, and to its end.
//! - [`api`]: HTTP on the socket.
//! - [`volumes`]: the volume service; [`backups`]: their backups.
//! - [`jobs`]: what takes long; [`events`]: what happened; [`call`]: what a call to a driver carries.

pub mod api;
pub mod backups;
pub mod call;
pub mod daemon;
pub mod events;
pub mod jobs;
pub mod volumes;
