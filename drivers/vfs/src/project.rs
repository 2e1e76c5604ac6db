//! Projects, where quotas are kept by them: what becomes part of a directory belongs to the directory's
//! project.
//!
//! A directory whose project is inherited (`chattr +P`) takes in only what belongs to it: a rename into it
//! fails with EXDEV otherwise. So what is prepared elsewhere is prepared in the project of where it will be.

use std::fs::File;
use std::path::Path;

use convoy_driver_sdk::tree::Project;

use crate::error::{VfsResult, io_error};

/// The project of a directory; none where it cannot be told.
pub(crate) fn of(dir: &Path) -> Project {
    File::open(dir).map(Project::of).unwrap_or_default()
}

/// Puts `dir`, which was just made, into the project that it would have inherited in `parent`.
pub(crate) fn join(dir: &Path, parent: &Path) -> VfsResult<()> {
    let project = of(parent);
    if project.inherited { give(dir, project) } else { Ok(()) }
}

/// Gives a directory a project; what is in it keeps its own.
pub(crate) fn give(dir: &Path, project: Project) -> VfsResult<()> {
    File::open(dir).and_then(|file| project.give(file)).map_err(io_error("set the project of", dir))
}
