//! Shows what is in backups and snapshots as file systems.
//!
//! - [`browse_device`] reads the files on the device of a snapshot; [`browse_image`] those in the image of a
//!   device, as a backup of blocks has it. The kernel mounts the file system, attached nowhere.
//!
//! Inside: `image` serves an image as a file through FUSE; `loop_device` makes a device of that file;
//! `detached` mounts without a mountpoint; `files` puts them together.

mod detached;
mod files;
mod image;
mod loop_device;

pub use files::{MountError, browse_device, browse_image};
