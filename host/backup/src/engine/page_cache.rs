//! Keeping what moves once out of the page cache.
//!
//! A backup reads and a restore writes many gigabytes that nobody asks for again soon. Left alone, they push
//! out of the cache what containers work with, and what a restore wrote waits in memory for one long flush at
//! its end. So pages are let go of while it goes on: `POSIX_FADV_DONTNEED` drops clean pages and begins to
//! write dirty ones, which a later call drops.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// After so many bytes written pages are let go of.
const STEP: u64 = 32 << 20;

/// A file that is written once, by any number of threads.
#[derive(Debug, Default)]
pub(crate) struct WriteCounter(AtomicU64);

impl WriteCounter {
    /// Notes bytes that were written.
    pub(crate) fn add(&self, file: &File, bytes: usize) {
        let bytes = bytes as u64;
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before / STEP != (before + bytes) / STEP {
            let_go(file, 0, 0);
        }
    }
}

/// Lets go of what was read, and of nothing that the kernel has read ahead.
pub(crate) fn was_read(file: &File, at: u64, bytes: usize) {
    if bytes > 0 {
        let_go(file, at, bytes as u64);
    }
}

/// Lets go of bytes; 0 for all that follow. That is advice: with a file system that does not take it nothing
/// is lost.
fn let_go(file: &File, at: u64, bytes: u64) {
    let (Ok(at), Ok(bytes)) = (at.try_into(), bytes.try_into()) else { return };
    let _ = posix_fadvise(file, at, bytes, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}
