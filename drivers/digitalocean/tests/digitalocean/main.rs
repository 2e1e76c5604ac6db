//! The driver against a DigitalOcean of our own: real HTTP, real disks, real file systems, and what goes wrong.

// The rule against panics spares tests, but not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cloud;
mod crashes;
mod faults;
mod life;
mod live;
mod schema;
mod secrets;
mod world;
