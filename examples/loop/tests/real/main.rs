//! The driver on real XFS and btrfs; run as root.
#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod copies;
mod crash;
mod data;
mod life;
mod maps;
mod support;
