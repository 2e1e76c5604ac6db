//! convoy volumes as directories, on a local file system or on one that several hosts share (NFS).
//!
//! A volume is a directory under `vfs.path`, its record a small JSON file in `<vfs.path>/config`, so that
//! hosts which share the directory share the volumes. Snapshots are frozen directory trees beside the
//! records: files that did not change since the snapshot before are hard links to it.
//!
//! - [`driver`]: the [`Driver`](convoy_driver_sdk::Driver) itself;
//! - `volumes`, `snapshots`, `restore`: its calls;
//! - `kept`: what deletes by reference kept; `measure`: how large that is;
//! - `thaw`: volumes made of snapshots, and volumes that go back to one; `check`: what is not as it should
//!   be;
//! - `record`, `layout`, `options`: what is on disk, where, and what may be asked for;
//! - `sizes`, `quota`: volumes are kept to their size where the file system can; `project`: which project
//!   they are in;
//! - `shelter`: other users of the host are kept away from what containers put into volumes;
//! - `locks`: one change of a volume at a time; `sync`: a directory's names made durable beside other work;
//! - `workspace`: the place for what is not finished, and what becomes of it after a crash; `trash`: what is
//!   to be removed.

mod check;
pub mod driver;
mod error;
mod kept;
mod layout;
mod listing;
mod locks;
mod measure;
mod options;
mod project;
mod quota;
mod record;
mod restore;
mod shelter;
mod sizes;
mod snapshots;
mod sync;
mod thaw;
mod trash;
mod volumes;
mod workspace;

pub use driver::VfsDriver;

convoy_driver_sdk::export!(VfsDriver);
