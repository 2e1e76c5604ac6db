//! Docker's engine, over its socket.
//!
//! - `client`: questions and commands; `users`: the containers that use a volume, stopped and started, in the
//!   `order` of their Compose project; `tail`: the end of what a command prints.

mod client;
mod order;
mod tail;
mod users;

pub(crate) use client::{Docker, DockerError, Labels};
#[cfg(test)]
pub(crate) use tail::TAIL_BYTES;
pub(crate) use tail::Tail;
pub(crate) use users::{MountSource, VolumeUser};
