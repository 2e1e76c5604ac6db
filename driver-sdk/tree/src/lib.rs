//! Directory trees with every bit of their metadata.
//!
//! What a backup, a snapshot and a restore of a directory volume share:
//!
//! - [`Entry`]: one thing in a tree, with owner, mode, times in nanoseconds, extended attributes and ACLs; it
//!   can be serialised, and its [`RelPath`] cannot point outside a tree, whoever wrote it;
//! - [`walk`]: a tree in a fixed order, parents first, safe on a tree that changes underneath;
//! - [`Dir::look`]: one thing in a tree, with the same care, and the names in one directory;
//! - [`data_extents`] and [`copy_contents`]: file contents without their holes;
//! - [`FileClock`]: which time stamps tell whether a file has changed;
//! - [`TreeWriter`]: makes entries below a root, and gives directories their times last;
//! - [`TreeEditor`]: changes a tree that others use meanwhile, each entry at once and whole;
//! - [`copy_tree`]: a whole tree in parallel, with hard links to an earlier copy for what did not change;
//! - `unpack_tar`, `check_tar` and `scan_tar` (feature `tar`): a tar archive into a [`TreeWriter`], or read
//!   without being kept, or told with the places of its data;
//! - [`remove_tree`]: removes a tree and nothing else, of any depth, in bounded memory;
//! - [`StableStorage`]: puts what was written on stable storage.
//!
//! Everything works relative to open directories, one path component at a time and never through a symbolic
//! link: a container that is root inside its volume cannot make the walker leave it. `/proc` must be mounted.
//!
//! Depth costs one name a level, and [`limits`] says how much of a tree is read: a tree that grows while it
//! is read ends.

mod clock;
mod contents;
mod copy;
mod dir;
mod edit;
mod entry;
mod error;
mod extents;
mod flags;
mod index;
mod lease;
mod lift;
pub mod limits;
mod look;
mod path;
mod path_set;
mod remove;
mod stable;
mod stack;
#[cfg(feature = "tar")]
mod untar;
mod walk;
mod writer;
mod xattr;

pub use clock::FileClock;
pub use contents::{Copied, CopyMethod, ReflinkHint, copy_contents};
pub use copy::{CopyOptions, CopyReport, Observer, Previous, copy_tree};
pub use dir::{Dir, NodeId};
pub use edit::{Draft, Place, Placing, TreeEditor, is_draft};
pub use entry::{Entry, Kind, Timestamp, Xattrs};
pub use error::{TreeError, TreeResult};
pub use extents::{DataExtents, data_extents};
pub use flags::{FileFlags, Project};
pub use lease::wait_for_lease;
pub use lift::lift_flags;
pub use look::{Listing, Look};
pub use path::{PathError, RawBytes, RelPath};
pub use path_set::{PathKey, PathSet};
pub use remove::{remove_tree, remove_tree_while};
pub use stable::StableStorage;
#[cfg(feature = "tar")]
pub use untar::{Packed, PackedData, check_tar, scan_tar, unpack_tar};
pub use walk::{Found, Walk, WalkEntry, WalkOptions, is_refused, walk};
pub use writer::{Finished, Losses, NewFile, TreeWriter};
