//! The engine: what the calls of the public API have in common.

pub(crate) mod backup;
pub(crate) mod block_backup;
pub(crate) mod block_restore;
pub(crate) mod catalog;
pub(crate) mod ctx;
pub(crate) mod delete;
pub(crate) mod fetch;
#[cfg(test)]
mod hostile;
pub(crate) mod index;
pub(crate) mod labels;
pub(crate) mod large;
pub(crate) mod links;
pub(crate) mod live;
pub(crate) mod manifest_writer;
pub(crate) mod packer;
pub(crate) mod page_cache;
pub(crate) mod prune;
pub(crate) mod recheck;
pub(crate) mod relocations;
pub(crate) mod restore;
pub(crate) mod root;
pub(crate) mod runs;
pub(crate) mod scan;
pub(crate) mod segments;
pub(crate) mod stats;
pub(crate) mod tree_backup;
pub(crate) mod tree_restore;
pub(crate) mod trust;
pub(crate) mod verify;
pub(crate) mod warnings;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::lock::LockTimes;
use crate::memory::Memory;

/// How much of the machine the engine may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Bytes of memory one operation may use for data and indexes; at least 48 MiB are. Beside that come
    /// about 20 MiB, in a tree whose files all have several names (a snapshot made of hard links) 70 bytes for
    /// each of them, and what the store says of itself: lists of packs and segments, moves, records of blocks.
    /// For that no more than half of these bytes is taken, and all of them by what lists, checks or prunes:
    /// an operation that needs more fails.
    pub memory: u64,
    /// Threads that hash and compress.
    pub workers: usize,
    /// Requests at the store at the same time.
    pub requests: usize,
    /// How long an operation waits for others that exclude it.
    pub lock_wait: Duration,
    /// After how long the lock of somebody who died is void.
    pub lock_ttl: Duration,
}

impl Default for EngineOptions {
    /// 128 MiB, a worker a core, 4 requests (8 with more than 4 cores), 10 seconds, 5 minutes.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            memory: 128 << 20,
            workers: cores,
            requests: if cores > 4 { 8 } else { 4 },
            lock_wait: Duration::from_secs(10),
            lock_ttl: Duration::from_secs(300),
        }
    }
}

/// How the memory of an operation is divided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Plain bytes of chunks on their way.
    pub(crate) chunks: usize,
    /// Bytes at which a pack is closed.
    pub(crate) pack: usize,
    /// Entries of the index of known chunks.
    pub(crate) index: usize,
}

/// Bytes that an entry of the index takes, with the room a hash table leaves.
const INDEX_ENTRY: usize = 80;

impl EngineOptions {
    fn bytes(&self) -> usize {
        usize::try_from(self.memory).unwrap_or(usize::MAX).max(48 << 20)
    }

    /// The memory of an operation that moves data for what the store says.
    pub(crate) fn memory(&self) -> Arc<Memory> {
        Memory::new(self.bytes() / 2)
    }

    /// The memory of an operation that lists, checks or prunes: it has few data on their way.
    pub(crate) fn memory_to_look(&self) -> Arc<Memory> {
        Memory::new(self.bytes())
    }

    pub(crate) fn lock_times(&self) -> LockTimes {
        LockTimes { wait: self.lock_wait, ttl: self.lock_ttl }
    }

    /// A third for packs, of which every request holds one and two are being filled; a third for the index; a
    /// quarter for chunks; the rest for manifests and buffers.
    pub(crate) fn budget(&self) -> Budget {
        let memory = self.bytes();
        let pack = (memory / 3 / (self.requests.max(1) + 3)).clamp(4 << 20, 32 << 20);
        Budget { chunks: (memory / 4).max(12 << 20), pack, index: memory / 3 / INDEX_ENTRY }
    }
}

/// The backup engine. Cheap to make and to clone; holds nothing between calls.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    pub(crate) options: EngineOptions,
    room: Option<Arc<Path>>,
}

impl Engine {
    /// An engine with these limits for each operation.
    #[must_use]
    pub fn new(options: EngineOptions) -> Self {
        Self { options, room: None }
    }

    /// Has files without a name, for what is too much for memory, made in this directory and not in that of
    /// temporary files. Each takes at most half of what is free there.
    #[must_use]
    pub fn with_room(self, room: Arc<Path>) -> Self {
        Self { room: Some(room), ..self }
    }

    pub(crate) fn room(&self) -> PathBuf {
        self.room.as_deref().map_or_else(std::env::temp_dir, Path::to_owned)
    }
}
