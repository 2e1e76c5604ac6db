//! Which time stamps tell a change, and which are too young for that.
//!
//! A file whose times are the same as before was not changed since, but for this: a file system stamps with a
//! certain granularity (a tick of the kernel, a second on ext4 with small inodes, two on FAT), and what is
//! changed within the same grain as the time it was read at looks unchanged. So a stamp is trusted only if it
//! is older than the grain, by the clock that made it: the kernel's for local file systems, the server's for
//! others.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::dir::{Dir, stat_fd};
use crate::entry::Timestamp;
use crate::error::{TreeError, TreeResult};
use crate::path::RelPath;
use crate::walk::{Found, Walk, WalkOptions};

/// File systems of Linux stamp with the timer tick, which is at most so long.
const TICK_NS: u64 = 10_000_000;
/// NFS servers and network delays ask for more.
const REMOTE_MARGIN_NS: u64 = 100_000_000;
/// Where stamps are whole seconds, or two of them, as on FAT.
const COARSE_MARGIN_NS: u64 = 2_100_000_000;

/// The clock of a file system, at the moment from which on a tree may have changed.
#[derive(Clone, Copy, Debug)]
pub struct FileClock {
    moment: Timestamp,
    margin_ns: u64,
}

impl FileClock {
    /// The clock of the file system that holds `root`, for a tree that is read from now on. Waits for two
    /// ticks, so that what was written before the call can be told from what is written after it.
    ///
    /// A server's clock is not known. It is not behind the newest stamp in the tree, which is found by a
    /// walk.
    ///
    /// # Errors
    /// When `root` cannot be opened.
    pub fn now(root: &Path) -> TreeResult<Self> {
        std::thread::sleep(Duration::from_nanos(2 * TICK_NS));
        Self::frozen(root, kernel_now())
    }

    /// As [`FileClock::now`], for a tree that nobody has changed since `frozen`, by the clock of this host.
    ///
    /// # Errors
    /// When `root` cannot be opened.
    pub fn frozen(root: &Path, frozen: Timestamp) -> TreeResult<Self> {
        Self::of(&Arc::new(Dir::open(root)?), None, frozen)
    }

    /// The clock for a tree that is read from now on. `fresh` was made just now; where it is on the same file
    /// system, its time of change is the server's time.
    pub(crate) fn of(root: &Arc<Dir>, fresh: Option<&File>, now: Timestamp) -> TreeResult<Self> {
        if is_local(root) {
            return Ok(Self { moment: now, margin_ns: TICK_NS });
        }
        let remote = |moment| Self { moment, margin_ns: REMOTE_MARGIN_NS };
        if let Some(fresh) = fresh {
            let stat = stat_fd(fresh).map_err(|e| TreeError::io("read", &RelPath::root(), e))?;
            if rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor) == root.id().dev {
                return Ok(remote(stat.stx_ctime.into()));
            }
        }
        let options = WalkOptions { xattrs: false, ..WalkOptions::default() };
        let stamps = Walk::new(Arc::clone(root), options).filter_map(|found| match found {
            Ok(Found::Entry(found)) => Some(found.entry.ctime),
            // What cannot be read is told by those who need it.
            _ => None,
        });
        // Stamps from the future, of a clock that was wrong once, say nothing.
        Ok(remote(stamps.max().map_or(now, |newest| newest.min(now))))
    }

    /// Whether what was changed after the clock's moment has another stamp than this one.
    pub fn settled(&self, stamp: Timestamp) -> bool {
        let margin = if stamp.nsec == 0 { COARSE_MARGIN_NS } else { self.margin_ns };
        stamp < self.moment.minus_ns(margin)
    }
}

/// What the kernel stamps the files of local file systems with.
pub(crate) fn kernel_now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { sec: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nsec: now.subsec_nanos() }
}

/// Whether this kernel stamps the files of the file system, as far as known.
fn is_local(dir: &Dir) -> bool {
    // ext2 to ext4, xfs, btrfs, f2fs, zfs, tmpfs, overlay, FAT, exFAT, ntfs3: statfs(2).
    const LOCAL: [u64; 10] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0xf2f5_2010,
        0x2fc1_2fc1,
        0x0102_1994,
        0x794c_7630,
        0x4d44,
        0x2011_bab0,
        0x7366_746e,
    ];
    rustix::fs::fstatfs(dir).is_ok_and(|system| {
        u64::try_from(system.f_type).is_ok_and(|kind| LOCAL.contains(&(kind & 0xffff_ffff)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_trusted_when_it_is_older_than_its_grain() {
        let at = |sec, nsec| Timestamp { sec, nsec };
        let clock = FileClock { moment: at(100, 50_000_000), margin_ns: REMOTE_MARGIN_NS };
        for (stamp, trusted) in [
            (at(100, 1), false),
            (at(99, 960_000_000), false),
            (at(99, 940_000_000), true),
            (at(100, 0), false),
            (at(98, 0), false),
            (at(97, 0), true),
            (at(200, 7), false),
        ] {
            assert_eq!(clock.settled(stamp), trusted, "{stamp:?}");
        }
    }
}
