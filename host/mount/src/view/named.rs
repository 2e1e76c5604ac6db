//! The metadata of what is in no backup: directories and links that a view adds.

use std::time::{SystemTime, UNIX_EPOCH};

use convoy_tree::{Entry, FileFlags, Kind, RelPath, Timestamp, Xattrs};

/// A directory that everybody may enter.
pub(super) fn directory(made: SystemTime) -> Entry {
    entry(Kind::Dir, 0o555, 0, made)
}

/// A symbolic link.
pub(super) fn link(target: &str, made: SystemTime) -> Entry {
    let target = target.as_bytes().to_vec().into();
    entry(Kind::Symlink { target }, 0o777, 0, made)
}

/// The image of a device, which only its owner reads, as a device.
pub(super) fn image(size: u64, made: SystemTime) -> Entry {
    entry(Kind::File, 0o400, size, made)
}

fn entry(kind: Kind, mode: u16, size: u64, made: SystemTime) -> Entry {
    let since = made.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time =
        Timestamp { sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nsec: since.subsec_nanos() };
    Entry {
        path: RelPath::root(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        size,
        mtime: time,
        atime: time,
        ctime: time,
        btime: None,
        dev: 0,
        ino: 0,
        nlink: 1,
        xattrs: Xattrs::new(),
        flags: FileFlags::empty(),
        project: 0,
        unread: Vec::new(),
    }
}
