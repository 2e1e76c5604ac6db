//! What the drivers of cloud block volumes share.
//!
//! A provider (EBS, DigitalOcean) implements [`Provider`]: its API calls, one by one, and where the kernel
//! shows an attached volume. [`CloudDriver`] does the rest, the same for all of them:
//!
//! - [`intent`]: what is about to be asked of the provider is written down first, so that whatever a crash, a
//!   lost answer or a failed clean-up leaves is found by its token and finished or undone; nothing paid for
//!   is forgotten.
//! - [`record`]: one JSON file a volume, as convoy 0.5 wrote it, with a few keys more.
//! - [`driver`]: the calls of the driver protocol on top; [`config`], [`settings`]: what it is told.
//! - [`batch`]: questions of many calls, asked together.
//! - [`size`]: GiB. [`device`], [`wait`]: block devices, and waiting with back-off for what takes its time.

#![allow(missing_docs, reason = "public for the tests and the drivers of this project alone")]

pub mod batch;
pub mod config;
pub mod device;
pub mod driver;
pub mod intent;
pub mod provider;
pub mod record;
pub mod settings;
pub mod size;
pub mod wait;

pub use config::{Common, Config, Options, Places};
pub use driver::CloudDriver;
pub use provider::{
    Attachment, CloudSnapshot, CloudVolume, Handle, Label, Provider, Purpose, SnapshotState, VolumeSpec,
    VolumeState,
};
pub use size::Gib;

/// An error and what caused it, in one line.
pub fn causes(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |cause| cause.source());
    sources.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
