//! What `chattr` and project quotas know of a file.

#![allow(unsafe_code, reason = "FS_IOC_FSGETXATTR and its counterpart have no safe calls")]

use std::io;
use std::os::fd::AsFd;

use rustix::fs::StatxAttributes;
use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};
use serde::{Deserialize, Serialize};

use crate::path::RawBytes;

bitflags::bitflags! {
    /// Flags that `chattr` sets and root may give to a copy.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct FileFlags: u8 {
        /// `+i`: nothing about it can be changed.
        const IMMUTABLE = 1;
        /// `+a`: it can only become longer.
        const APPEND = 2;
        /// `+d`: `dump` leaves it out.
        const NO_DUMP = 4;
        /// `+P`, of a directory: what is made in it belongs to its project.
        const PROJECT = 8;
    }
}

impl FileFlags {
    /// As `chattr` writes them.
    pub fn letters(self) -> String {
        [(Self::IMMUTABLE, 'i'), (Self::APPEND, 'a'), (Self::NO_DUMP, 'd'), (Self::PROJECT, 'P')]
            .into_iter()
            .filter(|(flag, _)| self.contains(*flag))
            .map(|(_, letter)| letter)
            .collect()
    }
}

impl Serialize for FileFlags {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.bits().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FileFlags {
    /// Flags of a newer version are left out.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer).map(Self::from_bits_truncate)
    }
}

/// The attribute of a snapshot's file that keeps flags and project aside: a file that had them could be
/// neither linked to nor removed, and would count for the project's quota.
pub(crate) const ASIDE: &str = "trusted.convoy.flags";
/// The attribute of a snapshot's file that keeps what the original did not tell
/// ([`Entry::unread`](crate::Entry)), a line each: whoever reads the snapshot has to know. At the root it
/// keeps what was left out altogether.
pub(crate) const UNREAD: &str = "trusted.convoy.unread";
/// Bytes of [`UNREAD`]: with those of a file's own attributes they have to find room.
const UNREAD_MAX: usize = 1024;

/// The kernel's `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct FsXattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

const GET: Opcode = opcode::read::<FsXattr>(b'X', 31);
const SET: Opcode = opcode::write::<FsXattr>(b'X', 32);

/// New entries inherit the project: `FS_XFLAG_PROJINHERIT`.
const PROJECT_BIT: u32 = 0x200;
/// Each flag with its bit in `fsxattr`.
const KERNEL: [(FileFlags, u32); 4] = [
    (FileFlags::IMMUTABLE, 0x8),
    (FileFlags::APPEND, 0x10),
    (FileFlags::NO_DUMP, 0x80),
    (FileFlags::PROJECT, PROJECT_BIT),
];

fn get(fd: impl AsFd) -> io::Result<FsXattr> {
    // SAFETY: the kernel writes one `struct fsxattr`, and the opcode says how large that is.
    Ok(unsafe { ioctl(fd, Getter::<GET, FsXattr>::new()) }?)
}

fn set(fd: impl AsFd, value: FsXattr) -> io::Result<()> {
    // SAFETY: the kernel reads one `struct fsxattr`, and the opcode says how large that is.
    Ok(unsafe { ioctl(fd, Setter::<SET, FsXattr>::new(value)) }?)
}

/// A project of a file system with project quotas, as a directory passes it on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// Its number; 0 for none.
    pub id: u32,
    /// Whether what is made in the directory belongs to it, too.
    pub inherited: bool,
}

impl Project {
    /// The project of an open file or directory; none where the file system knows no projects.
    pub fn of(fd: impl AsFd) -> Self {
        get(fd).map_or(Self::default(), |found| Self {
            id: found.projid,
            inherited: flags_of(found.xflags).contains(FileFlags::PROJECT),
        })
    }

    /// Gives an open file or directory this project, if it has another.
    ///
    /// # Errors
    /// What the kernel says: only root may, and not on every file system.
    pub fn give(self, fd: impl AsFd) -> io::Result<()> {
        let found = match get(&fd) {
            Err(_) if self == Self::default() => return Ok(()),
            other => other?,
        };
        let bit = PROJECT_BIT;
        let xflags = if self.inherited { found.xflags | bit } else { found.xflags & !bit };
        if (found.projid, found.xflags) == (self.id, xflags) {
            return Ok(());
        }
        set(fd, FsXattr { projid: self.id, xflags, ..found })
    }
}

fn flags_of(xflags: u32) -> FileFlags {
    KERNEL.iter().filter(|(_, bit)| xflags & bit != 0).map(|(flag, _)| *flag).collect()
}

/// The flags that `statx` tells.
pub(crate) fn of_statx(attributes: StatxAttributes) -> FileFlags {
    let told = [
        (FileFlags::IMMUTABLE, StatxAttributes::IMMUTABLE),
        (FileFlags::APPEND, StatxAttributes::APPEND),
        (FileFlags::NO_DUMP, StatxAttributes::NODUMP),
    ];
    told.iter().filter(|(_, bit)| attributes.contains(*bit)).map(|(flag, _)| *flag).collect()
}

/// Adds flags to an open file or directory.
pub(crate) fn add(fd: impl AsFd, flags: FileFlags) -> io::Result<()> {
    let found = get(&fd)?;
    set(fd, FsXattr { xflags: found.xflags | kernel_bits(flags), ..found })
}

/// Takes flags from an open file or directory, as far as it has them and the file system knows them.
pub(crate) fn remove(fd: impl AsFd, flags: FileFlags) {
    let bits = kernel_bits(flags);
    if let Ok(found) = get(&fd)
        && found.xflags & bits != 0
    {
        // One that stays is seen by whoever compares.
        let _ = set(fd, FsXattr { xflags: found.xflags & !bits, ..found });
    }
}

fn kernel_bits(flags: FileFlags) -> u32 {
    KERNEL.iter().filter(|(flag, _)| flags.contains(*flag)).fold(0, |all, (_, bit)| all | bit)
}

/// Lines as the value of [`UNREAD`].
pub(crate) fn join_lines(lines: &[String]) -> RawBytes {
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() > UNREAD_MAX {
            text.push_str("(and more)\n");
            break;
        }
        text.push_str(&line.replace('\n', " "));
        text.push('\n');
    }
    RawBytes::from(text)
}

/// Reads what [`join_lines`] wrote.
pub(crate) fn split_lines(value: &RawBytes) -> impl Iterator<Item = String> {
    String::from_utf8_lossy(value.as_bytes()).lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Flags and project as the value of [`ASIDE`].
pub(crate) fn to_text(flags: FileFlags, project: u32) -> RawBytes {
    RawBytes::from(format!("{} {project}", flags.bits()))
}

/// Reads what [`to_text`] wrote.
pub(crate) fn from_text(value: &RawBytes) -> Option<(FileFlags, u32)> {
    let (flags, project) = std::str::from_utf8(value.as_bytes()).ok()?.split_once(' ')?;
    Some((FileFlags::from_bits_truncate(flags.parse().ok()?), project.parse().ok()?))
}
