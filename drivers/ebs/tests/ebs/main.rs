//! The driver against EC2 as moto serves it, with what moto lacks put before it: real disks behind the
//! volumes, the checks it does not make, and what goes wrong.

// The rule against panics spares tests, but not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod aws;
mod crashes;
mod daemon;
mod faults;
mod kit;
mod life;
mod live;
mod metadata;
mod moto;
mod policy;
mod rules;
mod schema;
mod secrets;

/// An instance with a kernel, EC2, and the driver on it.
mod world {
    pub(crate) use convoy_cloud_lab::world::{context, expect, hurried, name, options};
    pub(crate) type World = convoy_cloud_lab::world::World<crate::aws::Aws>;
}
