//! How many different chunks there are, in bounded memory.
//!
//! Ids are hashes: their first eight bytes tell any two apart. Where there is no memory for all of them, only
//! those are kept that begin with so many zero bits, a random share of all of them, which stands for the rest.

use std::sync::Arc;

use crate::format::ChunkId;
use crate::memory::{Charge, Memory};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct DistinctChunks {
    /// The beginnings of ids; the same may be there several times.
    ids: Vec<u64>,
    /// Those kept begin with so many zero bits.
    zeros: u32,
    most: usize,
    _charge: Charge,
}

impl DistinctChunks {
    /// Takes a quarter of the memory, and no more than half of what is left.
    pub(super) fn new(memory: &Arc<Memory>) -> Self {
        let mut charge = memory.charge();
        let bytes = (memory.all() / 4).min(memory.left() / 2);
        let most = if charge.take(bytes) { bytes / size_of::<u64>() } else { 0 };
        Self::with_room(most, charge)
    }

    fn with_room(ids: usize, charge: Charge) -> Self {
        // What is not used takes no memory.
        let most = ids.max(1024);
        Self { ids: Vec::with_capacity(most), zeros: 0, most, _charge: charge }
    }

    pub(super) fn add(&mut self, id: &ChunkId) {
        let [a, b, c, d, e, f, g, h, ..] = *id;
        let short = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        if short.leading_zeros() < self.zeros {
            return;
        }
        self.ids.push(short);
        if self.ids.len() >= self.most {
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        self.ids.sort_unstable();
        self.ids.dedup();
        while self.ids.len() > self.most / 2 && self.zeros < u64::BITS {
            self.zeros += 1;
            self.ids.retain(|id| id.leading_zeros() >= self.zeros);
        }
    }

    /// How many there were, and whether all of them were counted.
    pub(super) fn count(mut self) -> (u64, bool) {
        self.ids.sort_unstable();
        self.ids.dedup();
        let all = (self.ids.len() as u128) << self.zeros;
        (u64::try_from(all).unwrap_or(u64::MAX), self.zeros == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(room: usize, ids: impl IntoIterator<Item = ChunkId>) -> (u64, bool) {
        let mut chunks = DistinctChunks::with_room(room, Memory::new(0).charge());
        ids.into_iter().for_each(|id| chunks.add(&id));
        assert!(chunks.ids.capacity() < 2 * room, "{}", chunks.ids.capacity());
        chunks.count()
    }

    fn id(number: u32) -> ChunkId {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    #[test]
    fn what_there_is_memory_for_is_counted_exactly() {
        let twice = (0..5000).chain(2000..7000).map(id);
        assert_eq!(counted(20_000, twice), (7000, true));
        // The same ones again and again make no estimate of it.
        let often = (0..50).flat_map(|_| (0..4000).map(id));
        assert_eq!(counted(20_000, often), (4000, true));
        assert_eq!(counted(1024, []), (0, true));
    }

    #[test]
    fn more_than_that_is_estimated_closely_whatever_the_order() {
        let (count, exact) = counted(20_000, (0..1_000_000).chain(0..300_000).map(id));
        assert!(!exact && count.abs_diff(1_000_000) < 50_000, "{count}");
    }

    #[test]
    fn ids_that_somebody_made_up_take_no_more_memory() {
        let made_up = (0..100_000_u64).map(|number| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(number % 3000).to_be_bytes());
            id
        });
        counted(2048, made_up);
    }
}
