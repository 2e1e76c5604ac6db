//! Which chunks are known to be stored, and where: those of the parent backup, of interrupted runs, and of
//! this run.
//!
//! The index has room for so many entries; chunks beyond are stored without being remembered, which costs
//! space when they come again and nothing else.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::ctx::Ctx;
use crate::error::BackupResult;
use crate::format::{ChunkId, ChunkLocation, ChunkRef, Encoding, PackId};

const SHARDS: usize = 64;

/// Where a chunk is, in few bytes.
#[derive(Debug, Clone, Copy)]
enum Slot {
    /// A thread is storing it.
    Pending,
    At {
        /// Index into the list of packs.
        pack: u32,
        offset: u32,
        stored: u32,
        /// Plain bytes; the highest bit says that it is compressed.
        len: u32,
    },
}

const COMPRESSED: u32 = 1 << 31;

#[derive(Debug, Default)]
struct Packs {
    list: Vec<PackId>,
    numbers: HashMap<PackId, u32>,
}

#[derive(Debug, Default)]
struct Shard {
    slots: Mutex<HashMap<ChunkId, Slot>>,
    settled: Condvar,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Index {
    shards: Vec<Shard>,
    packs: Mutex<Packs>,
    room: AtomicUsize,
}

/// The answer to who wants to store a chunk.
pub(crate) enum Claim {
    /// It is stored.
    Known(ChunkRef),
    /// It is yours to store; say where with [`Index::settle`], or [`Index::give_up`].
    Yours,
}

impl Index {
    pub(crate) fn new(entries: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            packs: Mutex::default(),
            room: AtomicUsize::new(entries),
        }
    }

    fn shard(&self, id: &ChunkId) -> &Shard {
        // Ids are hashes: their first byte is as good as random.
        &self.shards[usize::from(id[0]) % SHARDS]
    }

    /// Where a chunk is, in few bytes; `None` if there is no room for one more pack.
    fn slot(&self, place: &ChunkLocation, len: u32) -> Option<Slot> {
        let mut packs = self.packs.lock();
        // A pack takes about as much as a chunk, and somebody may say that each chunk is in another.
        if !packs.numbers.contains_key(&place.pack) && !self.take_room() {
            return None;
        }
        let next = u32::try_from(packs.list.len()).unwrap_or(u32::MAX);
        let pack = *packs.numbers.entry(place.pack).or_insert(next);
        if pack == next {
            packs.list.push(place.pack);
        }
        let flag = if place.encoding == Encoding::Zstd { COMPRESSED } else { 0 };
        Some(Slot::At { pack, offset: place.offset, stored: place.stored, len: len | flag })
    }

    fn chunk(&self, id: ChunkId, slot: Slot) -> Option<ChunkRef> {
        let Slot::At { pack, offset, stored, len } = slot else { return None };
        let pack = *self.packs.lock().list.get(usize::try_from(pack).ok()?)?;
        let encoding = if len & COMPRESSED == 0 { Encoding::Raw } else { Encoding::Zstd };
        Some(ChunkRef { id, len: len & !COMPRESSED, place: ChunkLocation { pack, offset, stored, encoding } })
    }

    /// Takes one entry's room.
    fn take_room(&self) -> bool {
        self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(1)).is_ok()
    }

    /// Learns of a chunk that is stored.
    pub(crate) fn learn(&self, chunk: &ChunkRef) {
        if let Entry::Vacant(vacant) = self.shard(&chunk.id).slots.lock().entry(chunk.id)
            && self.take_room()
            && let Some(slot) = self.slot(&chunk.place, chunk.len)
        {
            vacant.insert(slot);
        }
    }

    /// Where a chunk is, if that is known.
    pub(crate) fn get(&self, id: &ChunkId) -> Option<ChunkRef> {
        let slot = self.shard(id).slots.lock().get(id).copied()?;
        self.chunk(*id, slot)
    }

    /// Asks whether a chunk must be stored. Waits while another thread is storing it.
    pub(crate) fn claim(&self, id: &ChunkId, ctx: &Ctx) -> BackupResult<Claim> {
        let shard = self.shard(id);
        let mut slots = shard.slots.lock();
        loop {
            match slots.get(id).copied() {
                Some(Slot::Pending) => {
                    ctx.check()?;
                    shard.settled.wait_for(&mut slots, Duration::from_millis(50));
                }
                Some(slot) => {
                    if let Some(chunk) = self.chunk(*id, slot) {
                        return Ok(Claim::Known(chunk));
                    }
                    slots.remove(id);
                }
                None => {
                    if self.take_room() {
                        slots.insert(*id, Slot::Pending);
                    }
                    return Ok(Claim::Yours);
                }
            }
        }
    }

    /// Says where a claimed chunk is now.
    pub(crate) fn settle(&self, chunk: &ChunkRef) {
        let shard = self.shard(&chunk.id);
        let mut slots = shard.slots.lock();
        if let Entry::Occupied(mut pending) = slots.entry(chunk.id) {
            match self.slot(&chunk.place, chunk.len) {
                Some(slot) => *pending.get_mut() = slot,
                None => drop(pending.remove()),
            }
        }
        drop(slots);
        shard.settled.notify_all();
    }

    /// Says that a claimed chunk could not be stored.
    pub(crate) fn give_up(&self, id: &ChunkId) {
        let shard = self.shard(id);
        shard.slots.lock().remove(id);
        shard.settled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_that_are_each_in_another_pack_take_no_more_room() {
        let index = Index::new(1000);
        for n in 0..10_000_u32 {
            let place = ChunkLocation {
                pack: PackId { run: 1, seq: n },
                offset: 5,
                stored: 1,
                encoding: Encoding::Raw,
            };
            index.learn(&ChunkRef { id: *blake3::hash(&n.to_le_bytes()).as_bytes(), len: 1, place });
        }
        let chunks: usize = index.shards.iter().map(|shard| shard.slots.lock().len()).sum();
        let packs = index.packs.lock().list.len();
        assert!(chunks + packs <= 1000 && chunks >= 400, "{chunks} chunks in {packs} packs");
    }
}
