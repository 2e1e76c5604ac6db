//! One thing in a tree, and everything the kernel knows of it.

use std::collections::BTreeMap;

use rustix::fs::{FileType, Statx, StatxFlags, StatxTimestamp};
use serde::{Deserialize, Serialize};

use crate::flags::{self, FileFlags};
use crate::path::{RawBytes, RelPath};

/// Extended attributes by full name (`user.a`, `system.posix_acl_access`), values as the kernel gives them.
pub type Xattrs = BTreeMap<RawBytes, RawBytes>;

/// A moment of a file system's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "(i64, u32)", try_from = "(i64, u32)")]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00:00 UTC; negative before.
    pub sec: i64,
    /// Nanoseconds after `sec`, below 1,000,000,000.
    pub nsec: u32,
}

impl From<Timestamp> for (i64, u32) {
    fn from(t: Timestamp) -> Self {
        (t.sec, t.nsec)
    }
}

impl TryFrom<(i64, u32)> for Timestamp {
    type Error = String;
    fn try_from((sec, nsec): (i64, u32)) -> Result<Self, String> {
        if nsec < 1_000_000_000 {
            Ok(Self { sec, nsec })
        } else {
            Err(format!("{nsec} nanoseconds are more than a second"))
        }
    }
}

impl From<StatxTimestamp> for Timestamp {
    fn from(t: StatxTimestamp) -> Self {
        Self { sec: t.tv_sec, nsec: t.tv_nsec }
    }
}

impl Timestamp {
    /// This moment less `ns` nanoseconds (below one second's worth times `u32::MAX`).
    pub(crate) fn minus_ns(self, ns: u64) -> Self {
        let total = i128::from(self.sec) * 1_000_000_000 + i128::from(self.nsec) - i128::from(ns);
        let sec = i64::try_from(total.div_euclid(1_000_000_000)).unwrap_or(i64::MIN);
        let nsec = u32::try_from(total.rem_euclid(1_000_000_000)).unwrap_or(0);
        Self { sec, nsec }
    }
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A regular file, with contents.
    File,
    /// A directory, whose entries follow it.
    Dir,
    /// A symbolic link, which is not followed.
    Symlink {
        /// What it points to, unchecked: it is stored, never followed.
        target: RawBytes,
    },
    /// A node of a character device.
    CharDevice {
        /// The major number: which driver of the kernel.
        major: u32,
        /// The minor number: which of its devices.
        minor: u32,
    },
    /// A node of a block device.
    BlockDevice {
        /// The major number: which driver of the kernel.
        major: u32,
        /// The minor number: which of its devices.
        minor: u32,
    },
    /// A named pipe, which is not opened.
    Fifo,
    /// A socket somebody was bound to.
    Socket,
}

impl Kind {
    /// In words, for messages.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::File => "a regular file",
            Self::Dir => "a directory",
            Self::Symlink { .. } => "a symbolic link",
            Self::CharDevice { .. } => "a character device",
            Self::BlockDevice { .. } => "a block device",
            Self::Fifo => "a named pipe",
            Self::Socket => "a socket",
        }
    }
}

/// One thing in a tree.
///
/// `ctime`, `btime`, `dev`, `ino` and `nlink` say which file it was and whether it changed; they cannot be
/// given back to a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where, from the root of the tree.
    pub path: RelPath,
    /// What it is, and what only its kind has.
    pub kind: Kind,
    /// Permission bits with set-user-ID, set-group-ID and sticky: the low 12 bits of the mode.
    pub mode: u16,
    /// The number of the user that owns it.
    pub uid: u32,
    /// The number of the group that owns it.
    pub gid: u32,
    /// Bytes of a regular file; for other kinds what the file system says, to be ignored.
    pub size: u64,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last access, as far as the mount keeps it.
    pub atime: Timestamp,
    /// Last change of contents or metadata, by the kernel's clock: no program can set it.
    pub ctime: Timestamp,
    /// When the inode was made, where the file system says so. With `ino` it names a file for good: numbers
    /// are reused, and `ctime` moves whenever a name is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub btime: Option<Timestamp>,
    /// The device the inode is on.
    pub dev: u64,
    /// The number of the inode.
    pub ino: u64,
    /// How many names the inode has, on its whole file system.
    pub nlink: u32,
    /// Extended attributes and POSIX ACLs (`user.`, `trusted.`, `security.`, `system.posix_acl_*`).
    #[serde(default, skip_serializing_if = "Xattrs::is_empty")]
    pub xattrs: Xattrs,
    /// What `chattr` has set of it.
    #[serde(default, skip_serializing_if = "FileFlags::is_empty")]
    pub flags: FileFlags,
    /// The number of its project (quotas); 0 for none. Known of directories and of files that were opened.
    #[serde(default)]
    pub project: u32,
    /// What the file system could not tell of it, in words.
    #[serde(skip)]
    pub unread: Vec<String>,
}

impl Entry {
    /// An entry from what `statx` said; the target of a symbolic link and attributes are filled in by the
    /// caller.
    pub(crate) fn from_statx(path: RelPath, stat: &Statx) -> Option<Self> {
        let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
        let kind = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink { target: RawBytes::default() },
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => return None,
        };
        Some(Self {
            path,
            kind,
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            mtime: stat.stx_mtime.into(),
            atime: stat.stx_atime.into(),
            ctime: stat.stx_ctime.into(),
            btime: (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| stat.stx_btime.into()),
            dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            nlink: stat.stx_nlink,
            xattrs: Xattrs::new(),
            flags: flags::of_statx(stat.stx_attributes),
            project: 0,
            unread: Vec::new(),
        })
    }

    /// Takes over what was read of the attributes. Those in which a snapshot keeps something aside are read,
    /// and left out.
    pub(crate) fn take_xattrs(&mut self, (mut xattrs, unread): (Xattrs, Vec<String>)) {
        if let Some((flags, project)) =
            xattrs.remove(flags::ASIDE.as_bytes()).as_ref().and_then(flags::from_text)
        {
            self.flags |= flags;
            self.project = project;
        }
        if let Some(lines) = xattrs.remove(flags::UNREAD.as_bytes()) {
            self.unread.extend(flags::split_lines(&lines));
        }
        self.xattrs = xattrs;
        self.unread.extend(unread);
    }

    /// Whether this is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }

    /// Whether other names may lead to the same inode: a hard link (directories have none).
    pub fn is_linked(&self) -> bool {
        self.nlink > 1 && !self.is_dir()
    }
}
