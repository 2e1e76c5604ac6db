//! What was written, on stable storage.

#![allow(unsafe_code, reason = "sync_file_range has no safe call")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::dir::Dir;
use crate::error::{TreeError, TreeResult};

/// The file system that holds a directory, to be synced when something has been written there.
///
/// Made before the writing begins: the kernel writes back at any time, and tells a failure to those who had
/// something open when it happened, and to one of those who come later.
#[derive(Debug)]
pub struct StableStorage {
    dir: Dir,
    path: PathBuf,
}

impl StableStorage {
    /// Remembers from when on failed writes matter.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn of(path: &Path) -> TreeResult<Self> {
        Ok(Self { dir: Dir::open(path)?, path: path.to_owned() })
    }

    /// Puts everything written to the file system on stable storage (`syncfs`).
    ///
    /// # Errors
    /// When writing failed, now or since [`StableStorage::of`].
    pub fn sync(&self) -> TreeResult<()> {
        rustix::fs::syncfs(&self.dir).map_err(|e| TreeError::at("sync the file system of", &self.path, e))
    }
}

/// Lets the disk begin with what was written to a part of a file, and waits for nothing. The pages stay in
/// the cache.
///
/// That is a hint: a file system that does not take it writes at the next sync, and failures are told there.
pub(crate) fn start_writing(file: &File, at: u64, bytes: u64) {
    let (Ok(at), Ok(bytes)) = (at.try_into(), bytes.try_into()) else { return };
    // SAFETY: the call takes numbers only, and the descriptor is open as long as `file` is borrowed.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), at, bytes, libc::SYNC_FILE_RANGE_WRITE) };
}
