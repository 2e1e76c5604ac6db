//! The metadata of an entry as FUSE has it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use convoy_tree::{Entry, Kind, Timestamp};
use fuser::{FileAttr, FileType, INodeNo};

/// What an entry is.
pub(super) fn kind(entry: &Entry) -> FileType {
    match &entry.kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink { .. } => FileType::Symlink,
        Kind::CharDevice { .. } => FileType::CharDevice,
        Kind::BlockDevice { .. } => FileType::BlockDevice,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

/// All that `stat` tells.
pub(super) fn attributes(entry: &Entry, number: INodeNo) -> FileAttr {
    let (size, rdev) = match &entry.kind {
        Kind::File => (entry.size, 0),
        Kind::Symlink { target } => (target.as_bytes().len() as u64, 0),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => (0, device(*major, *minor)),
        Kind::Dir | Kind::Fifo | Kind::Socket => (0, 0),
    };
    // One block fewer than a file without holes has: programs that copy files look for holes only then, and
    // where they are is told exactly.
    let blocks = if entry.is_file() { (size / 512).saturating_sub(1) } else { 0 };
    FileAttr {
        ino: number,
        size,
        blocks,
        atime: time(entry.atime),
        mtime: time(entry.mtime),
        ctime: time(entry.ctime),
        crtime: time(entry.btime.unwrap_or(entry.ctime)),
        kind: kind(entry),
        perm: entry.mode,
        nlink: entry.nlink.max(1),
        uid: entry.uid,
        gid: entry.gid,
        rdev,
        blksize: 128 << 10,
        flags: 0,
    }
}

/// As `new_encode_dev` of the kernel writes it.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

fn time(time: Timestamp) -> SystemTime {
    let nanos = Duration::from_nanos(time.nsec.into());
    let seconds = Duration::from_secs(time.sec.unsigned_abs());
    let whole = if time.sec < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_told_to_the_nanosecond() {
        let at = |sec, nsec| time(Timestamp { sec, nsec });
        assert_eq!(at(0, 5), UNIX_EPOCH + Duration::from_nanos(5));
        assert_eq!(at(-1, 999_999_999), UNIX_EPOCH - Duration::from_nanos(1));
        assert_eq!(at(-3, 0), UNIX_EPOCH - Duration::from_secs(3));
        assert_eq!(at(i64::MIN, 0), at(i64::MIN, 0));
        assert_eq!(at(i64::MAX, 999_999_999), at(i64::MAX, 999_999_999));
    }

    #[test]
    fn numbers_of_devices_are_those_of_the_kernel() {
        assert_eq!(device(8, 1), 0x801);
        assert_eq!(device(0xfff, 0xf_ffff), 0xffff_ffff);
    }
}
