//! Extended attributes of anything, links and devices included.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::entry::Xattrs;
use crate::path::RawBytes;

/// No value and no list of names is longer (the kernel's XATTR_SIZE_MAX and XATTR_LIST_MAX).
const LONGEST: usize = 65536;

/// POSIX ACLs, of the entry and for what will be made in a directory.
pub(crate) const ACL_ACCESS: &str = "system.posix_acl_access";
pub(crate) const ACL_DEFAULT: &str = "system.posix_acl_default";

/// The names under which XFS shows root its POSIX ACLs once more. Set on another file system they would be attributes of no
/// meaning, which come back to XFS as old ACLs.
const ACL_OF_XFS: [&[u8]; 2] = [b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"];

fn kept(name: &[u8]) -> bool {
    if ACL_OF_XFS.contains(&name) {
        return false;
    }
    [&b"user."[..], b"trusted.", b"security."].iter().any(|p| name.starts_with(p))
        || name == ACL_ACCESS.as_bytes()
        || name == ACL_DEFAULT.as_bytes()
}

/// The attributes of what is at `path`, not following a link in its last component. None where the file system has none.
pub(crate) fn read(path: &Path) -> io::Result<Xattrs> {
    collect(
        |room| rustix::fs::llistxattr(path, spare_capacity(room)),
        |name, room| rustix::fs::lgetxattr(path, name, spare_capacity(room)),
    )
}

/// The attributes of what `fd` has open.
pub(crate) fn read_open(fd: impl AsFd) -> io::Result<Xattrs> {
    collect(
        |room| rustix::fs::flistxattr(&fd, spare_capacity(room)),
        |name, room| rustix::fs::fgetxattr(&fd, name, spare_capacity(room)),
    )
}

fn collect(
    list: impl FnMut(&mut Vec<u8>) -> rustix::io::Result<usize>,
    mut get: impl FnMut(&[u8], &mut Vec<u8>) -> rustix::io::Result<usize>,
) -> io::Result<Xattrs> {
    let mut names = Vec::new();
    match with_room(&mut names, list) {
        Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
        other => other?,
    }
    let mut found = Xattrs::new();
    for name in names.split(|b| *b == 0).filter(|n| kept(n)) {
        let mut value = Vec::new();
        match with_room(&mut value, |room| get(name, room)) {
            // Taken away since it was listed, or listed for us but not ours to read.
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            other => {
                other?;
                found.insert(RawBytes::from(name), RawBytes::from(value));
            }
        }
    }
    Ok(found)
}

/// Runs `fill` with a little room, and once more with all it can need.
fn with_room(
    buffer: &mut Vec<u8>,
    mut fill: impl FnMut(&mut Vec<u8>) -> rustix::io::Result<usize>,
) -> rustix::io::Result<()> {
    buffer.reserve(512);
    match fill(buffer) {
        Err(Errno::RANGE) => {
            buffer.reserve(LONGEST);
            fill(buffer)?;
        }
        other => {
            other?;
        }
    }
    Ok(())
}

/// Gives `path` (a `/proc/self/fd` link, which leads to an inode already opened and checked) the attribute.
pub(crate) fn set(path: &Path, name: &RawBytes, value: &RawBytes) -> io::Result<()> {
    Ok(rustix::fs::setxattr(path, name.as_bytes(), value.as_bytes(), XattrFlags::empty())?)
}
