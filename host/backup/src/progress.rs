//! How far long work has come: counters that anybody may read while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not begun: waiting for a lock, reading the parent backup.
    Preparing,
    /// Data is read, stored or written.
    Data,
    /// Writing the manifest and the record, or giving directories their metadata and syncing.
    Finishing,
    /// Nothing is left to do.
    Done,
}

impl Phase {
    /// In a word, for machines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Data => "data",
            Self::Finishing => "finishing",
            Self::Done => "done",
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    phase: AtomicU8,
    bytes_total: AtomicU64,
    bytes_done: AtomicU64,
    files_total: AtomicU64,
    files_done: AtomicU64,
    bytes_moved: AtomicU64,
}

/// A handle on the counters of one piece of work; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    counters: Arc<Counters>,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgressSnapshot {
    /// What is being done.
    pub phase: Phase,
    /// Bytes there are to do, as far as known: it may grow, and is 0 while nothing is known.
    pub bytes_total: u64,
    /// Bytes done, unchanged ones included.
    pub bytes_done: u64,
    /// Files there are to do, as far as known; 0 for devices.
    pub files_total: u64,
    /// Files that were read or written.
    pub files_done: u64,
    /// Bytes that went to the store (backup) or came from it.
    pub bytes_moved: u64,
}

impl Progress {
    /// New counters, at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> ProgressSnapshot {
        let c = &self.counters;
        let phase = match c.phase.load(Relaxed) {
            0 => Phase::Preparing,
            1 => Phase::Data,
            2 => Phase::Finishing,
            _ => Phase::Done,
        };
        let (bytes_done, files_done) = (c.bytes_done.load(Relaxed), c.files_done.load(Relaxed));
        ProgressSnapshot {
            phase,
            bytes_total: c.bytes_total.load(Relaxed).max(bytes_done),
            bytes_done,
            files_total: c.files_total.load(Relaxed).max(files_done),
            files_done,
            bytes_moved: c.bytes_moved.load(Relaxed),
        }
    }

    pub(crate) fn phase(&self, phase: Phase) {
        let number = match phase {
            Phase::Preparing => 0,
            Phase::Data => 1,
            Phase::Finishing => 2,
            Phase::Done => 3,
        };
        self.counters.phase.store(number, Relaxed);
    }

    pub(crate) fn set_total(&self, bytes: u64, files: u64) {
        self.counters.bytes_total.store(bytes, Relaxed);
        self.counters.files_total.store(files, Relaxed);
    }

    pub(crate) fn add_total(&self, bytes: u64, files: u64) {
        self.counters.bytes_total.fetch_add(bytes, Relaxed);
        self.counters.files_total.fetch_add(files, Relaxed);
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.counters.bytes_done.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn add_file(&self) {
        self.counters.files_done.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_moved(&self, bytes: u64) {
        self.counters.bytes_moved.fetch_add(bytes, Relaxed);
    }
}
