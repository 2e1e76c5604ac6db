//! The kernel's calls for quotas of directories: projects of ext4 and XFS, subvolumes of btrfs.

#![allow(unsafe_code, reason = "neither rustix nor nix has quotactl_fd or the ioctls of btrfs")]

use std::ffi::{OsStr, c_void};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use nix::libc;
use rustix::ioctl::{Getter, Opcode, Setter, Updater, ioctl, opcode};

/// What a directory holds, and the most that it may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) bytes: u64,
    /// Files and directories; 0 where it is not told.
    pub(super) files: u64,
    /// Bytes; `None`: no limit.
    pub(super) limit: Option<u64>,
}

/// `PRJQUOTA`: the quotas of projects.
const PROJECTS: libc::c_int = 2;
/// `Q_XGETQSTAT`, and of its flags the one that says that limits of projects are in force.
const GET_STATE: libc::c_int = 0x5805;
const IN_FORCE: u16 = 1 << 5;
/// The kernel counts limits in these bytes.
const UNIT: u64 = 1024;

/// `data` has to be what the command reads or writes.
unsafe fn quotactl(fd: impl AsFd, command: libc::c_int, id: u32, data: *mut c_void) -> io::Result<()> {
    let command = (command << 8) | PROJECTS;
    // SAFETY: the descriptor is open, and the caller vouches for `data`.
    let done = unsafe { libc::syscall(libc::SYS_quotactl_fd, fd.as_fd().as_raw_fd(), command, id, data) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the file system of an open file keeps projects to their limits. Since Linux 5.14.
pub(super) fn projects_are_limited(fd: impl AsFd) -> io::Result<bool> {
    // `struct fs_quota_stat` has 80 bytes; the flags are its second 16 bits.
    let mut state = [0_u16; 64];
    // SAFETY: the kernel writes a structure that is smaller than this.
    let found = unsafe { quotactl(fd, GET_STATE, 0, state.as_mut_ptr().cast()) };
    match found {
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) || e.raw_os_error() == Some(libc::EINVAL) => {
            Ok(false)
        }
        other => other.map(|()| state[1] & IN_FORCE != 0),
    }
}

/// What the files of a project take.
pub(super) fn project_usage(fd: impl AsFd, id: u32) -> io::Result<Usage> {
    // SAFETY: zeros are a value of this structure of numbers.
    let mut found: libc::dqblk = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `struct if_dqblk`, which this is.
    let told = unsafe { quotactl(fd, libc::Q_GETQUOTA, id, (&raw mut found).cast()) };
    match told {
        // XFS knows a project only once it has been used.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Usage::default()),
        other => other?,
    }
    let limit = Some(found.dqb_bhardlimit.saturating_mul(UNIT)).filter(|limit| *limit > 0);
    Ok(Usage { bytes: found.dqb_curspace, files: found.dqb_curinodes, limit })
}

/// Limits a project to so many bytes, or to nothing.
pub(super) fn limit_project(fd: impl AsFd, id: u32, limit: Option<u64>) -> io::Result<()> {
    // SAFETY: zeros are a value of this structure of numbers.
    let mut wanted: libc::dqblk = unsafe { std::mem::zeroed() };
    wanted.dqb_bhardlimit = limit.unwrap_or(0) / UNIT;
    wanted.dqb_valid = libc::QIF_BLIMITS;
    // SAFETY: the kernel reads one `struct if_dqblk`, which this is.
    unsafe { quotactl(fd, libc::Q_SETQUOTA, id, (&raw mut wanted).cast()) }
}

/// The group of btrfs's ioctls.
const BTRFS: u8 = 0x94;
/// The inode number of a subvolume's root directory.
const SUBVOLUME_ROOT: u64 = 256;
/// `BTRFS_QGROUP_LIMIT_MAX_RFER`: the limit of what a subvolume refers to.
const REFERENCED: u64 = 1;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct NewSubvolume {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct Lookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct GroupLimit {
    group: u64,
    flags: u64,
    most_referenced: u64,
    rest: [u64; 3],
}

/// `struct btrfs_ioctl_qgroup_create_args`.
#[repr(C)]
struct GroupChange {
    create: u64,
    group: u64,
}

const CREATE_SUBVOLUME: Opcode = opcode::write::<NewSubvolume>(BTRFS, 14);
const LOOK_UP: Opcode = opcode::read_write::<Lookup>(BTRFS, 18);
const DESCRIBE: Opcode = opcode::read::<[u8; 1024]>(BTRFS, 31);
const CHANGE_GROUP: Opcode = opcode::write::<GroupChange>(BTRFS, 42);
/// The kernel reads it, whatever its number says.
const LIMIT_GROUP: Opcode = opcode::read::<GroupLimit>(BTRFS, 43);

/// Makes an empty subvolume in an open directory.
pub(super) fn create_subvolume(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    let mut asked = NewSubvolume { fd: 0, name: [0; 4088] };
    let name = name.as_bytes();
    // The last byte stays zero.
    let room = asked.name.get_mut(..name.len()).filter(|_| name.len() < 256);
    room.ok_or(io::ErrorKind::InvalidFilename)?.copy_from_slice(name);
    // SAFETY: the kernel reads one `struct btrfs_ioctl_vol_args`, whose name ends with a zero.
    Ok(unsafe { ioctl(parent, Setter::<CREATE_SUBVOLUME, _>::new(asked)) }?)
}

/// Whether an open directory is the root of a subvolume.
pub(super) fn is_subvolume(dir: &File) -> io::Result<bool> {
    Ok(dir.metadata()?.ino() == SUBVOLUME_ROOT)
}

/// Where the kernel tells of the quota groups of an open directory's file system; there while quotas are on.
pub(super) fn groups_of(dir: impl AsFd) -> io::Result<PathBuf> {
    // SAFETY: the kernel writes one `struct btrfs_ioctl_fs_info_args`, which has 1024 bytes.
    let told = unsafe { ioctl(dir, Getter::<DESCRIBE, [u8; 1024]>::new()) }?;
    let hex = |range: std::ops::Range<usize>| -> String {
        told[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let id = [hex(16..20), hex(20..22), hex(22..24), hex(24..26), hex(26..32)].join("-");
    Ok(PathBuf::from(format!("/sys/fs/btrfs/{id}/qgroups")))
}

/// The number of the subvolume of an open directory.
fn subvolume(dir: impl AsFd) -> io::Result<u64> {
    let mut asked = Lookup { tree: 0, object: SUBVOLUME_ROOT, name: [0; 4080] };
    // SAFETY: the kernel reads and writes one `struct btrfs_ioctl_ino_lookup_args`.
    unsafe { ioctl(dir, Updater::<LOOK_UP, _>::new(&mut asked)) }?;
    Ok(asked.tree)
}

pub(super) fn subvolume_usage(dir: &File) -> io::Result<Usage> {
    let group = groups_of(dir)?.join(format!("0_{}", subvolume(dir)?));
    let figure = |name: &str| -> io::Result<u64> {
        let text = fs::read_to_string(group.join(name))?;
        text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
    };
    let limited = figure("limit_flags")? & REFERENCED != 0;
    let limit = limited.then(|| figure("max_referenced")).transpose()?;
    Ok(Usage { bytes: figure("referenced")?, files: 0, limit })
}

/// Limits the subvolume of an open directory to so many bytes, or to nothing.
pub(super) fn limit_subvolume(dir: impl AsFd, limit: Option<u64>) -> io::Result<()> {
    // Of no group: that of the subvolume. The highest number: no limit.
    let most = limit.unwrap_or(u64::MAX);
    let asked = GroupLimit { group: 0, flags: REFERENCED, most_referenced: most, rest: [0; 3] };
    // SAFETY: the kernel reads one `struct btrfs_ioctl_qgroup_limit_args`.
    Ok(unsafe { ioctl(dir, Setter::<LIMIT_GROUP, _>::new(asked)) }?)
}

/// Removes the group of a subvolume that is about to be removed. Newer kernels refuse, and do it by
/// themselves.
pub(super) fn remove_group(dir: impl AsFd + Copy) -> io::Result<()> {
    let asked = GroupChange { create: 0, group: subvolume(dir)? };
    // SAFETY: the kernel reads one `struct btrfs_ioctl_qgroup_create_args`.
    Ok(unsafe { ioctl(dir, Setter::<CHANGE_GROUP, _>::new(asked)) }?)
}
