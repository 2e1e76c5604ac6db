//! Directories that are mounted once more, where nobody else sees them.
//!
//! Such a mount goes with its descriptor: when it is closed, and when the process dies.

#![allow(unsafe_code, reason = "mount_setattr has no safe call in rustix or nix")]

use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

/// The attributes of which one says when times of access are written: they are cleared before one is set.
const ATIME: u64 = 0x70;

/// The kernel's `struct mount_attr`, which neither rustix nor nix has.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Mounts a directory, with all mounts below it, with `nosuid,nodev`. They have these flags before anybody
/// sees them. Since Linux 5.12.
///
/// # Errors
/// What the kernel says.
pub fn harmless(dir: &Path) -> io::Result<OwnedFd> {
    let tree = open(dir, OpenTreeFlags::AT_RECURSIVE)?;
    let set = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    change(&tree, set, libc::AT_RECURSIVE)?;
    Ok(tree)
}

/// Mounts a directory, without the mounts below it, so that reading leaves no trace in it: read-only, and no
/// time of access is written, not even that of a link. Since Linux 5.12.
///
/// # Errors
/// What the kernel says.
pub fn untouched(dir: &Path) -> io::Result<OwnedFd> {
    let tree = open(dir, OpenTreeFlags::empty())?;
    let set = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    change(&tree, set, 0)?;
    Ok(tree)
}

/// Mounts a directory as it is, without the mounts below it: what is in it is on one mount. Since Linux 5.2.
///
/// # Errors
/// What the kernel says.
pub fn alone(dir: &Path) -> io::Result<OwnedFd> {
    open(dir, OpenTreeFlags::empty())
}

fn open(dir: &Path, further: OpenTreeFlags) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | further;
    Ok(rustix::mount::open_tree(CWD, dir, flags)?)
}

/// Sets attributes of mounts that are mounted nowhere yet.
fn change(tree: impl AsFd, set: MountAttrFlags, further: libc::c_int) -> io::Result<()> {
    let clear = if set.contains(MountAttrFlags::MOUNT_ATTR_NOATIME) { ATIME } else { 0 };
    let attributes = MountAttributes { set: u64::from(set.bits()), clear, propagation: 0, user_namespace: 0 };
    let flags = libc::AT_EMPTY_PATH | further;
    // SAFETY: the descriptor is open; the path is a C string; the structure is as large as said, and is only
    // read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
