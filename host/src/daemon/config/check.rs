//! `convoy config check`: what a daemon would say of a file, without one.

use super::file::File;
use super::merge::merge;
use super::setting::Layers;
use super::{ConfigError, FILE, root};
use convoy_cli::args::DaemonArgs;
use std::path::Path;

/// Checks a file and says that all is well.
///
/// Driver options are not checked by name: only a daemon that has loaded the drivers knows them.
///
/// # Errors
/// What is wrong, with the line.
pub fn check_file(path: &Path) -> Result<String, ConfigError> {
    let file = File::read(path)?;
    let args = DaemonArgs::default();
    let layers = Layers { args: &args, file: &file };
    let root = root(layers);
    merge(&root.join(FILE), &root, None, layers)?;
    Ok(format!("{}: {} settings, all well", path.display(), file.values().count()))
}
