//! Shows what is in backups and snapshots as file systems.
//!
//! - [`browse_device`] reads the files on the device of a snapshot; [`browse_image`] those in the image of a
//!   device, as a backup of blocks has it. The kernel mounts the file system, attached nowhere.
//! - [`View`] is all backups of a destination as one tree; [`serve_view`] serves it to the kernel, mounted at a
//!   [`Mountpoint`]. [`Keeper`] and [`Kept`] are the two processes of `convoy backup mount`: one has the rights,
//!   the other reads the store.
//!
//! Inside: `image` serves an image as a file through FUSE; `loop_device` makes a device of that file;
//! `detached` mounts without a mountpoint; `files` puts them together. `view` finds what is at a path, `tree`
//! answers the kernel.

mod detached;
mod files;
mod image;
mod keeper;
mod loop_device;
mod mountpoint;
mod tree;
mod view;

pub use files::{MountError, browse_device, browse_image};
pub use keeper::{Keeper, KeeperError, Kept, give_up_rights, pair};
pub use mountpoint::{Attached, Mountpoint, MountpointError};
pub use tree::{InUse, Served, serve as serve_view};
pub use view::{Cursor, Found, Listed, OPEN_MOST, OpenFile, Page, Place, Same, Shelf, View, target};
