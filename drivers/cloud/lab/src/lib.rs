//! For the tests of the cloud drivers.
//!
//! - [`kernel`]: what a kernel shows when a cloud plugs a volume in, made of loop devices: real mkfs, mounts
//!   and data.
//! - [`http`]: servers on loopback whose answers can be delayed, replaced or lost.
//! - [`crash`]: a part of a test as a process of its own, to be killed.
//! - [`world`]: a machine of a cloud with a kernel and the driver on it, for whatever cloud.
//! - [`crashes`], [`secrets`], [`rules`], [`doctor`], [`daemon`], [`kit`]: tests that are the same for every
//!   cloud.
//!
//! Everything is cleaned up when it is dropped; loop devices go with the process even if it is killed.

#![allow(missing_docs, reason = "a lab of tests")]

pub mod crash;
pub mod crashes;
pub mod daemon;
pub mod doctor;
pub mod http;
pub mod kernel;
pub mod kit;
pub mod rules;
pub mod secrets;
pub mod world;

/// What goes wrong in a lab is for a person to read.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
