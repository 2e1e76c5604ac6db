//! Shows what is in backups and snapshots as file systems.
//!
//! - [`browse_device`] reads the files on the device of a snapshot; [`browse_image`] those in the image of a
//!   device, as a backup of blocks has it. The kernel mounts the file system, where nobody else sees it.
//!
//! Inside: `image` serves an image as a file through FUSE; `private` is the mount namespace in which it is
//! mounted, and how a file system is mounted without changing it.

mod image;
mod private;

pub use private::{MountError, browse_device, browse_image};
