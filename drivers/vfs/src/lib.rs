//! convoy volumes as directories, on a local file system or on one that several hosts share (NFS).
//!
//! A volume is a directory under `vfs.path`, its record a small JSON file in `<vfs.path>/config`, so that
//! hosts which share the directory share the volumes. Snapshots are frozen directory trees beside the
//! records: files that did not change since the snapshot before are hard links to it.
//!
//! From the bottom up; a module uses only those above it in this list:
//!
//! - `error`, `layout`, `record`, `options`: what can go wrong, what is on disk, where, and what may be asked
//!   for;
//! - `project`, `quota`: which project a directory is in, and how it is kept to a size;
//! - `files`, `image`, `copy`: changes of directories, images and whole trees; `measure`: how large they are;
//! - `locks`: one change of a volume at a time; `sync`: a directory's names made durable beside other work;
//! - `parcel`, `trash`, `workspace`: what is not finished, and what is to be removed;
//! - `catalog`: which volumes there are; all calls work on it;
//! - `reconcile`: what becomes of unfinished work after a crash;
//! - `sizes`, `describe`: what a volume's size is worth, and what is told of volumes;
//! - `create`, `mount`, `resize`, `snapshots`, `open_snapshots`, `delete`, `kept`, and, with the
//!   `target` that is filled aside, `restore`, `clone` and `revert`: the calls;
//! - `shelter`: other users of the host are kept away from what containers put into volumes; `check`: what is
//!   not as it should be;
//! - [`driver`]: the [`Driver`](convoy_driver_sdk::Driver) itself.

mod catalog;
mod check;
mod clone;
mod copy;
mod create;
mod delete;
mod describe;
pub mod driver;
mod error;
mod files;
mod image;
mod kept;
mod layout;
mod locks;
mod measure;
mod mount;
mod open_snapshots;
mod options;
mod parcel;
mod project;
mod quota;
mod reconcile;
mod record;
mod resize;
mod restore;
mod revert;
mod shelter;
mod sizes;
mod snapshots;
mod sync;
mod target;
mod trash;
mod workspace;

pub use driver::VfsDriver;

convoy_driver_sdk::export!(VfsDriver);
