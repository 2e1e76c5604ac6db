//! What a host gets: a tree of files, and a Debian package of it.

pub mod deb;
pub mod tree;

use std::path::PathBuf;

/// The files that come with the programs: units, settings, scripts.
fn shipped() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging"))
}
