//! What the kernel says of the pool: how full it is, and whether it still works.

use crate::error::{Error, Result};
use crate::superblock::METADATA_BLOCK;
use devicemapper::{ThinPoolStatus, ThinPoolStatusSummary};
use std::path::Path;

/// How much of something is in use, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    pub total: u64,
}

impl Usage {
    /// Percent in use, rounded up: 100 only when nothing is left or almost nothing.
    pub fn percent(self) -> u64 {
        let percent = u128::from(self.used) * 100;
        u64::try_from(percent.div_ceil(u128::from(self.total.max(1)))).unwrap_or(u64::MAX)
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes ({} %)", self.used, self.total, self.percent())
    }
}

/// Whether the pool works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolState {
    Good,
    /// No block is left for data: writes to new places wait or fail.
    OutOfData,
    /// Metadata can no longer be written: nothing new can be stored.
    ReadOnly,
    /// As [`PoolState::ReadOnly`], and the metadata must be checked before it is used again.
    NeedsCheck,
    /// The kernel gave it up.
    Failed,
}

impl PoolState {
    /// One word, for `info`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::OutOfData => "out-of-data-space",
            Self::ReadOnly => "read-only",
            Self::NeedsCheck => "needs-check",
            Self::Failed => "failed",
        }
    }

    /// Why nothing new can be made, and what to do.
    pub fn refusal(self, pool: &str, metadata: &Path) -> Error {
        let metadata = metadata.display();
        let repair = format!(
            "unmount its volumes, stop the daemon, remove its devices (`dmsetup remove`, the pool last), \
             copy {metadata}, then run `thin_check --clear-needs-check-flag {metadata}`; if that reports \
             damage, `thin_repair` into another device; then start the daemon again"
        );
        let (state, hint, space) = match self {
            Self::Good => ("is well", String::new(), false),
            Self::OutOfData => (
                "is full: no block is left for data",
                "enlarge the data device (the pool follows within seconds), or delete volumes and snapshots; \
                 then check the file systems of volumes that reported errors"
                    .to_owned(),
                true,
            ),
            Self::ReadOnly => ("is read-only: its metadata cannot be written (full, or I/O errors)", repair, false),
            Self::NeedsCheck => ("has metadata that must be checked before it is used again", repair, false),
            Self::Failed => ("has failed: its metadata cannot be read or written", repair, false),
        };
        Error::Pool { pool: pool.to_owned(), state: state.to_owned(), hint, space }
    }
}

/// The pool's status line, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    pub state: PoolState,
    pub data: Usage,
    pub metadata: Usage,
    pub metadata_snapshot: bool,
}

impl PoolStatus {
    /// Reads the line the kernel gives for a pool with blocks of so many bytes.
    pub fn parse(line: &str, block_bytes: u64) -> Result<Self> {
        let failed = Self {
            state: PoolState::Failed,
            data: Usage::default(),
            metadata: Usage::default(),
            metadata_snapshot: false,
        };
        // `get_status_line_fields` of the library counts fields but splits `used/total` without looking.
        let slashes = line.split_whitespace().skip(1).take(2).filter(|field| field.contains('/')).count();
        if slashes < 2 && !line.starts_with("Fail") && !line.starts_with("Error") {
            return Err(Error::Library(format!("cannot understand the pool's status {line:?}")));
        }
        let status: ThinPoolStatus = line.parse().map_err(|error| {
            Error::Library(format!("cannot understand the pool's status {line:?}: {error}"))
        })?;
        let ThinPoolStatus::Working(working) = status else { return Ok(failed) };
        let usage = &working.usage;
        Ok(Self {
            state: match (working.needs_check, working.summary) {
                (true, _) => PoolState::NeedsCheck,
                (false, ThinPoolStatusSummary::Good) => PoolState::Good,
                (false, ThinPoolStatusSummary::OutOfSpace) => PoolState::OutOfData,
                (false, ThinPoolStatusSummary::ReadOnly) => PoolState::ReadOnly,
            },
            data: Usage {
                used: usage.used_data.saturating_mul(block_bytes),
                total: usage.total_data.saturating_mul(block_bytes),
            },
            metadata: Usage {
                used: usage.used_meta.saturating_mul(METADATA_BLOCK),
                total: usage.total_meta.saturating_mul(METADATA_BLOCK),
            },
            metadata_snapshot: working.held_metadata_root.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_driver_sdk::DriverError;
    use proptest::prelude::*;

    const BLOCK: u64 = 2 << 20;

    /// Lines seen from Linux 6.1.
    #[test]
    fn states_of_the_kernel() {
        let line = "0 1652/16384 21/256 77 rw discard_passdown queue_if_no_space - 1024 ";
        let status = PoolStatus::parse(line, BLOCK).unwrap();
        assert_eq!(status.state, PoolState::Good);
        assert!(status.metadata_snapshot);
        assert_eq!(status.data, Usage { used: 21 * BLOCK, total: 256 * BLOCK });
        assert_eq!((status.data.percent(), status.metadata.percent()), (9, 11));
        for (line, state) in [
            (
                "0 9/10 256/256 - out_of_data_space discard_passdown error_if_no_space - 1024",
                PoolState::OutOfData,
            ),
            ("0 9/10 1/256 - ro no_discard_passdown queue_if_no_space - 1024", PoolState::ReadOnly),
            ("0 9/10 1/256 - ro discard_passdown queue_if_no_space needs_check 1024", PoolState::NeedsCheck),
            ("Fail", PoolState::Failed),
            ("Error", PoolState::Failed),
        ] {
            let status = PoolStatus::parse(line, BLOCK).unwrap();
            assert_eq!((status.state, status.metadata_snapshot), (state, false));
            let told = DriverError::from(state.refusal("convoy-pool", Path::new("/dev/sdb2")));
            assert!(
                told.message.starts_with("the pool convoy-pool ")
                    && told.hint.is_some_and(|hint| !hint.is_empty())
            );
        }
        assert_eq!(Usage { used: 0, total: 0 }.percent(), 0);
    }

    proptest! {
        #[test]
        fn any_line_is_understood_or_refused(line in "[ -~]{0,80}") {
            let _ = PoolStatus::parse(&line, BLOCK);
        }

        #[test]
        fn any_numbers_are_understood(used in any::<u64>(), total in any::<u64>()) {
            let line = format!("0 {used}/{total} {used}/{total} - rw discard_passdown queue_if_no_space - 8");
            let status = PoolStatus::parse(&line, BLOCK).unwrap();
            let _ = status.data.percent();
        }
    }
}
