//! What a host gets: a tree of files, and a Debian package of it.

pub mod deb;
pub mod tree;

use std::path::PathBuf;

/// The driver that is part of `convoy`.
const EMBEDDED: &str = "vfs";

/// The files of a driver: as a library it is quickest, the program is for `process:NAME`.
pub(crate) fn files(driver: &str) -> Vec<String> {
    let library = (driver != EMBEDDED).then(|| format!("libconvoy_driver_{driver}.so"));
    library.into_iter().chain([format!("convoy-driver-{driver}")]).collect()
}

/// The files that come with the programs: units, settings, scripts.
fn shipped() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging"))
}
