//! Directories and files: made, and moved durably whatever flags and project they have.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use convoy_driver_sdk::atomic;
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::tree::lift_flags;

use crate::error::{VfsError, VfsResult, io_error};
use crate::options::CreateOptions;
use crate::project;

/// Whether anything, be it a broken link, has that name.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Makes an empty directory for root alone, whose parent exists.
pub(crate) fn make_dir(path: &Path) -> VfsResult<()> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(io_error("make the directory", path))
}

/// Makes a directory for root alone and those above it, durably, where they are missing.
pub(crate) fn make_dirs(path: &Path) -> VfsResult<()> {
    atomic::create_dir(path, 0o700).map_err(io_error("make the directory", path))
}

pub(crate) fn sync_dir(path: &Path) -> VfsResult<()> {
    atomic::sync_dir(path).map_err(io_error("sync the directory", path))
}

/// Gives a volume's directory the owner and permissions that were asked for, durably.
pub(crate) fn set_owner(path: &Path, options: &CreateOptions) -> VfsResult<()> {
    if !options.changes_directory() {
        return Ok(());
    }
    let change = || {
        if options.uid.is_some() || options.gid.is_some() {
            std::os::unix::fs::chown(path, options.uid, options.gid)?;
        }
        if let Some(mode) = options.mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        File::open(path)?.sync_all()
    };
    change().map_err(io_error("set the owner and mode of", path))
}

pub(crate) fn rename(from: &Path, to: &Path) -> VfsResult<()> {
    fs::rename(from, to).map_err(io_error("move", from))
}

/// Renames a directory, also one that is immutable or append-only, or a read-only subvolume, if root may
/// change that.
pub(crate) fn rename_lifting(from: &Path, to: &Path) -> io::Result<()> {
    lifting(from, || fs::rename(from, to))
}

/// Does something to a directory, and once more without the flags that may keep root from it.
pub(crate) fn lifting(dir: &Path, change: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match change() {
        Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            let own = fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir());
            if own && lift_flags(dir).is_ok_and(|lifted| lifted) { change() } else { Err(e) }
        }
        other => other,
    }
}

/// Renames, durably, and makes the directory to rename into.
pub(crate) fn place(from: &Path, to: &Path) -> VfsResult<()> {
    let Some(dir) = to.parent() else { return Ok(()) };
    make_dirs(dir)?;
    let moved = match rename_lifting(from, to) {
        // Another project has to be that of the directory, if that is what it was.
        Err(e) if e.kind() == ErrorKind::CrossesDevices && project::of(dir).inherited => {
            project::join(from, dir)?;
            rename_lifting(from, to)
        }
        other => other,
    };
    moved.map_err(io_error("move", from))?;
    sync_dir(dir)
}

/// Refuses a directory inside which something is mounted.
pub(crate) fn refuse_mounts(dir: &Path) -> VfsResult<()> {
    // The mount table has paths without links.
    let real = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    match MountTable::read()?.under(&real).next() {
        Some(mount) => Err(VfsError::MountedInside(mount.mountpoint.clone())),
        None => Ok(()),
    }
}
