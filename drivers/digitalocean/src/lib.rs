//! convoy volumes on DigitalOcean block storage.
//!
//! - [`api`]: the HTTP client: token, retries, rate limits, paging, errors; [`model`]: what it carries.
//! - [`metadata`]: which droplet this is; [`device`]: where the kernel shows a volume.
//! - [`names`]: convoy's names in DigitalOcean's alphabet, and back.
//! - [`provider`]: the calls that [`convoy_driver_cloud`] makes a driver of; [`config`]: options.

pub mod api;
pub mod config;
pub mod device;
pub mod metadata;
pub mod model;
pub mod names;
pub mod provider;

/// The driver for DigitalOcean's block storage.
pub type DigitalOcean = convoy_driver_cloud::CloudDriver<provider::DigitalOceanCloud>;

convoy_driver_sdk::export!(DigitalOcean);
