//! Keeps other users of the host away from what containers put into volumes.
//!
//! Root in a container can leave a program in its volume that runs as root whoever starts it (set-user-ID),
//! or the node of a disk. Where nobody but root gets into `vfs.path`, nobody else on the host can use them:
//! that is how it is made, and how Docker keeps its own volumes. A directory that was there before and that
//! others can enter is left as it is, but mounted on itself with `nosuid,nodev`. Docker mounts a volume by
//! itself into its container, so containers need no way through.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use convoy_driver_sdk::detached;
use convoy_driver_sdk::mountinfo::MountTable;
use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use rustix::fs::CWD;
use rustix::mount::MoveMountFlags;

use crate::error::{VfsError, VfsResult, io_error};

/// Mounts `vfs.path` on itself if others could use what is in it; gives what to tell of that.
///
/// # Errors
/// [`VfsError::Reachable`] where the kernel does not do that.
pub(crate) fn take(path: &Path) -> VfsResult<Option<String>> {
    let path = &fs::canonicalize(path).map_err(io_error("find", path))?;
    if !is_reachable(path, path)? {
        return Ok(None);
    }
    if let Err(error) = mount_on_itself(path) {
        tracing::warn!(path = %path.display(), %error, "cannot mount vfs.path on itself with nosuid,nodev");
    }
    refuse_reachable(path, path)?;
    let path = path.display();
    Ok(Some(format!(
        "every user of this host can enter {path}: it is mounted on itself with nosuid,nodev, so set-user-ID \
         programs and devices in volumes have no effect; to do without, `chmod 0700 {path}`, `umount {path}` \
         and start convoy again"
    )))
}

/// Refuses data that others could use.
///
/// # Errors
/// [`VfsError::Reachable`].
pub(crate) fn refuse_reachable(dir: &Path, data: &Path) -> VfsResult<()> {
    if is_reachable(dir, data)? {
        return Err(VfsError::Reachable { dir: dir.to_owned(), data: data.to_owned() });
    }
    Ok(())
}

/// Whether a user of this host who is not root can use set-user-ID programs or devices in `data`: whether
/// `dir`, through which it is reached, and all directories above it let others through, and the mount of it,
/// or one below it, has not both of `nosuid` and `nodev`. The paths have no links.
pub(crate) fn is_reachable(dir: &Path, data: &Path) -> VfsResult<bool> {
    for above in dir.ancestors() {
        if is_closed(above).map_err(io_error("look at", above))? {
            return Ok(false);
        }
    }
    let harmless = FsFlags::ST_NOSUID | FsFlags::ST_NODEV;
    let table = MountTable::read()?;
    for place in [data].into_iter().chain(table.under(data).map(|mount| mount.mountpoint.as_path())) {
        match statvfs(place) {
            Ok(found) if found.flags().contains(harmless) => {}
            // Unmounted since.
            Err(Errno::ENOENT) if place != data => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(io_error("look at", place)(error)),
        }
    }
    Ok(false)
}

/// Whether root alone can pass a directory.
fn is_closed(dir: &Path) -> io::Result<bool> {
    let found = fs::metadata(dir)?;
    // Where nobody of the group may pass, an access list lets nobody else pass either.
    let group = found.mode() & 0o010 != 0 && (found.gid() != 0 || has_access_list(dir));
    Ok(found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o001 == 0 && !group)
}

fn has_access_list(dir: &Path) -> bool {
    rustix::fs::getxattr(dir, "system.posix_acl_access", &mut [0_u8; 0]).is_ok()
}

/// Mounts a directory, with all mounts below it, on itself. The mounts have their flags before anybody sees
/// them, in this mount namespace or in those that get a copy. Since Linux 5.12.
fn mount_on_itself(dir: &Path) -> io::Result<()> {
    let tree = detached::harmless(dir)?;
    rustix::mount::move_mount(&tree, "", CWD, dir, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}
