//! The driver against a DigitalOcean of our own: real HTTP, real disks, real file systems, and what goes
//! wrong.

// The rule against panics spares tests, but not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cloud;
mod crashes;
mod daemon;
mod faults;
mod kit;
mod life;
mod live;
mod openapi;
mod rules;
mod secrets;

/// A droplet with a kernel, a cloud, and the driver on it.
mod world {
    pub(crate) use convoy_cloud_lab::world::{context, expect, hurried, name, options};
    pub(crate) type World = convoy_cloud_lab::world::World<crate::cloud::Cloud>;
}
