//! Extended attributes of anything, links and devices included.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::entry::Xattrs;
use crate::error::gone;
use crate::path::RawBytes;

/// No value and no list of names is longer (the kernel's XATTR_SIZE_MAX and XATTR_LIST_MAX).
const LONGEST: usize = 65536;

/// With so many free bytes a file system is not full: no value is larger.
const ROOM: u64 = 1 << 20;

/// POSIX ACLs, of the entry and for what will be made in a directory.
pub(crate) const ACL_ACCESS: &str = "system.posix_acl_access";
pub(crate) const ACL_DEFAULT: &str = "system.posix_acl_default";

/// What is asked for by name where a list cannot be had: it decides who may do what.
const KNOWN: [&str; 4] = [ACL_ACCESS, ACL_DEFAULT, "security.capability", "security.selinux"];

/// The names under which XFS shows root its POSIX ACLs once more. Set on another file system they would be
/// attributes of no meaning, which come back to XFS as old ACLs.
const ACL_OF_XFS: [&[u8]; 2] = [b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"];

/// The mark of a directory that [`crate::TreeEditor`] made and did not finish. It is not of the tree.
pub(crate) const UNFINISHED: &str = "trusted.convoy.unfinished";

fn kept(name: &[u8]) -> bool {
    if name == UNFINISHED.as_bytes() || ACL_OF_XFS.contains(&name) {
        return false;
    }
    [&b"user."[..], b"trusted.", b"security."].iter().any(|p| name.starts_with(p))
        || name == ACL_ACCESS.as_bytes()
        || name == ACL_DEFAULT.as_bytes()
}

/// Attributes, and what could not be read of them, in words.
pub(crate) type Found = (Xattrs, Vec<String>);

/// The attributes of what is at `path`, not following a link in its last component. None where the file
/// system has none.
///
/// An attribute that cannot be read is left out.
///
/// # Errors
/// When there is nothing at `path` any more.
pub(crate) fn read(path: &Path) -> io::Result<Found> {
    collect(
        |room| rustix::fs::llistxattr(path, spare_capacity(room)),
        |name, room| rustix::fs::lgetxattr(path, name, spare_capacity(room)),
    )
}

/// As [`read`], of what `fd` has open.
pub(crate) fn read_open(fd: impl AsFd) -> io::Result<Found> {
    collect(
        |room| rustix::fs::flistxattr(&fd, spare_capacity(room)),
        |name, room| rustix::fs::fgetxattr(&fd, name, spare_capacity(room)),
    )
}

fn collect(
    list: impl FnMut(&mut Vec<u8>) -> rustix::io::Result<usize>,
    mut get: impl FnMut(&[u8], &mut Vec<u8>) -> rustix::io::Result<usize>,
) -> io::Result<Found> {
    let mut names = Vec::new();
    let mut unread = Vec::new();
    match with_room(&mut names, list) {
        Err(Errno::NOTSUP) => return Ok(Found::default()),
        Err(e) if gone(&e.into()) => return Err(e.into()),
        Err(e) => {
            unread.push(match e {
                Errno::TOOBIG => {
                    "it has more extended attributes than the kernel lists (64 KiB of names)".to_owned()
                }
                e => format!("its extended attributes cannot be listed: {}", io::Error::from(e)),
            });
            names = KNOWN.join("\0").into_bytes();
        }
        Ok(()) => {}
    }
    let mut found = Xattrs::new();
    for name in names.split(|b| *b == 0).filter(|n| kept(n)) {
        let mut value = Vec::new();
        match with_room(&mut value, |room| get(name, room)) {
            // Taken away since it was listed, or listed for us but not ours to read.
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(e) if gone(&e.into()) => return Err(e.into()),
            Err(e) => {
                let name = RawBytes::from(name);
                unread.push(format!("its attribute {name} cannot be read: {}", io::Error::from(e)));
            }
            Ok(()) => drop(found.insert(RawBytes::from(name), RawBytes::from(value))),
        }
    }
    Ok((found, unread))
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

/// Whether a file system has no room for this attribute, though it has room: each has its own limit for those
/// of one file.
pub(crate) fn too_large(fd_path: &Path, error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOSPC)
        && rustix::fs::statvfs(fd_path).is_ok_and(|space| {
            space.f_bavail.saturating_mul(space.f_frsize) > ROOM && (space.f_files == 0 || space.f_ffree > 0)
        })
}
