//! What keeps even root from removing something: immutable and append-only files, and read-only subvolumes of
//! btrfs.

#![allow(unsafe_code, reason = "the ioctls of btrfs have no safe calls")]

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FileType, IFlags};
use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};

use crate::dir::{Dir, stat_fd};
use crate::error::TreeResult;

/// The inode of the root directory of every subvolume of btrfs, and of few other directories anywhere.
pub(crate) const SUBVOLUME_ROOT: u64 = 256;
const BTRFS: u64 = 0x9123_683e;
const SUBVOL_GETFLAGS: Opcode = opcode::read::<u64>(0x94, 25);
const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(0x94, 26);
const SUBVOL_READ_ONLY: u64 = 2;

/// Takes from the directory at `path`, itself and not what is in it, what keeps it from being renamed or
/// removed (`chattr +i`, `+a`, a read-only subvolume). Whether anything was taken.
///
/// # Errors
/// When it cannot be opened as a directory.
pub fn lift_flags(path: &Path) -> TreeResult<bool> {
    Ok(lift(&Dir::open(path)?))
}

/// Makes what `fd` has open, a directory or a regular file, one that root can change. Whether that was needed
/// and done.
pub(crate) fn lift(fd: impl AsFd) -> bool {
    let locked = IFlags::IMMUTABLE | IFlags::APPEND;
    let lifted = rustix::fs::ioctl_getflags(&fd).is_ok_and(|flags| {
        flags.intersects(locked) && rustix::fs::ioctl_setflags(&fd, flags.difference(locked)).is_ok()
    });
    lifted | make_writable(fd)
}

/// Makes a read-only subvolume writable, if `fd` is the root of one.
fn make_writable(fd: impl AsFd) -> bool {
    let subvolume = stat_fd(&fd).is_ok_and(|stat| {
        stat.stx_ino == SUBVOLUME_ROOT
            && FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory
    }) && rustix::fs::fstatfs(&fd)
        .is_ok_and(|system| u64::try_from(system.f_type).is_ok_and(|kind| kind & 0xffff_ffff == BTRFS));
    if !subvolume {
        return false;
    }
    // SAFETY: this call writes 64 bits of flags, and nothing else, and is only made on btrfs.
    let flags = unsafe { ioctl(&fd, Getter::<SUBVOL_GETFLAGS, u64>::new()) };
    flags.is_ok_and(|flags| {
        let writable = flags & !SUBVOL_READ_ONLY;
        // SAFETY: this call reads 64 bits of flags, and nothing else, and is only made on btrfs.
        flags != writable && unsafe { ioctl(&fd, Setter::<SUBVOL_SETFLAGS, u64>::new(writable)) }.is_ok()
    })
}
