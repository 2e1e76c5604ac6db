//! Mounts that are attached nowhere.
//!
//! Nobody can find such a mount but who has its descriptor. It goes with that descriptor: when it is closed,
//! and when this process dies. So nothing has to be unmounted, not even at the next start.

use std::os::fd::OwnedFd;

use rustix::io::Result;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

/// An option of a file system: a key, and its value if it has one.
pub(crate) type MountOption<'a> = (&'a str, Option<&'a str>);

/// Mounts a file system of this kind read-only. Nothing in it is a device or runs.
///
/// # Errors
/// Those of the kernel: `NODEV` for a file system that it does not know, `INVAL` for what is none.
pub(crate) fn mount(kind: &str, options: &[MountOption<'_>]) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_flag(&context, "ro")?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, *key, *value)?,
            None => fsconfig_set_flag(&context, *key)?,
        }
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
