//! convoy volumes on Amazon EBS.
//!
//! - [`ec2`]: the EC2 client and the runtime it runs on: every call by name, bounded, its errors classified.
//! - [`identity`]: which instance this is; [`device`]: where the kernel shows a volume; [`names`]: device
//!   names to ask for.
//! - [`tags`]: labels as tags; [`volume_type`]: types and what goes with them; [`presign`]: copies between
//!   regions.
//! - `access`: whether the credentials allow all this.
//! - `describe`: from EC2's words to those of the drivers that are alike.
//! - [`provider`]: the calls that [`convoy_driver_cloud`] makes a driver of; [`config`]: options.

mod access;
pub mod config;
mod describe;
pub mod device;
pub mod ec2;
pub mod identity;
pub mod names;
mod presign;
pub mod provider;
pub mod tags;
pub mod volume_type;

/// The driver for Amazon's EBS.
pub type Ebs = convoy_driver_cloud::CloudDriver<provider::Ec2Cloud>;

convoy_driver_sdk::export!(Ebs);
