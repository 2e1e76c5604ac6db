//! Puts the records of an archive in the order of a walk: an archive has them in whatever order its
//! directories had. So much is sorted in memory; what is more goes to a file in sorted runs, which are merged.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::sync::Arc;

use super::record::{Record, broken};
use super::scratch::Scratch;
use crate::error::BackupResult;
use crate::memory::{Charge, Memory};

/// Bytes of records that are sorted in memory.
pub(super) const BATCH: usize = 8 << 20;
/// Bytes that are read of a run, and written, at once.
const PIECE: usize = 16 << 10;
const WRITTEN: usize = 1 << 20;

/// Writes a record behind others: its length, and its bytes.
pub(super) fn frame(record: &Record, to: &mut Vec<u8>) -> BackupResult<()> {
    let bytes = record.encode()?;
    let length = u32::try_from(bytes.len()).map_err(broken)?;
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(&bytes);
    Ok(())
}

/// See the [module](self).
pub(super) struct Sorter {
    room: PathBuf,
    memory: Arc<Memory>,
    batch: Vec<Record>,
    weight: usize,
    most: usize,
    file: Option<Scratch>,
    runs: Vec<std::ops::Range<u64>>,
}

impl Sorter {
    /// Sorts `most` bytes in memory.
    pub(super) fn new(room: PathBuf, memory: Arc<Memory>, most: usize) -> Self {
        Self { room, memory, batch: Vec::new(), weight: 0, most, file: None, runs: Vec::new() }
    }

    /// Takes one record.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn add(&mut self, record: Record) -> BackupResult<()> {
        self.weight += record.weight();
        self.batch.push(record);
        if self.weight >= self.most { self.spill() } else { Ok(()) }
    }

    /// Whether all of it is in memory.
    pub(super) fn is_small(&self) -> bool {
        self.runs.is_empty()
    }

    fn spill(&mut self) -> BackupResult<()> {
        let mut batch = std::mem::take(&mut self.batch);
        self.weight = 0;
        batch.sort_by(order);
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(Scratch::new(&self.room)?),
        };
        let (begin, mut bytes) = (file.end(), Vec::new());
        for record in &batch {
            frame(record, &mut bytes)?;
            if bytes.len() >= WRITTEN {
                file.append(&bytes)?;
                bytes.clear();
            }
        }
        file.append(&bytes)?;
        self.runs.push(begin..file.end());
        Ok(())
    }

    /// Hands out all records in order, those of one path in the order in which they came.
    ///
    /// # Errors
    /// Those of the file, of a memory that is too small for so many runs, and of `take`.
    pub(super) fn finish(mut self, take: &mut dyn FnMut(Record) -> BackupResult<()>) -> BackupResult<()> {
        if !self.runs.is_empty() {
            self.spill()?;
        }
        let Some(file) = &self.file else {
            self.batch.sort_by(order);
            return self.batch.into_iter().try_for_each(take);
        };
        let mut heap = BinaryHeap::new();
        for run in &self.runs {
            let charge = self.memory.charge();
            let run = Run { at: run.start, end: run.end, bytes: Vec::new(), from: 0, charge };
            heap.extend(run.next(file)?);
        }
        while let Some(Reverse(Head { record, run })) = heap.pop() {
            take(record)?;
            heap.extend(run.next(file)?);
        }
        Ok(())
    }
}

fn order(one: &Record, other: &Record) -> Ordering {
    (&one.entry.path, one.number).cmp(&(&other.entry.path, other.number))
}

/// A sorted run that is being read.
struct Run {
    /// What is not read yet.
    at: u64,
    end: u64,
    bytes: Vec<u8>,
    /// Where the next record begins in `bytes`.
    from: usize,
    charge: Charge,
}

/// The first record of what is left of a run.
struct Head {
    record: Record,
    run: Run,
}

impl Run {
    /// So many bytes from where the next record begins.
    fn peek(&mut self, file: &Scratch, length: usize) -> BackupResult<&[u8]> {
        let have = self.bytes.len() - self.from;
        if have < length {
            self.bytes.drain(..self.from);
            self.from = 0;
            let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
            let more = (length - have).max(PIECE).min(left);
            self.bytes.resize(have + more, 0);
            file.read(self.at, self.bytes.get_mut(have..).unwrap_or_default())?;
            self.at += more as u64;
        }
        self.bytes.get(self.from..self.from + length).ok_or_else(|| broken("it ends early"))
    }

    fn next(mut self, file: &Scratch) -> BackupResult<Option<Reverse<Head>>> {
        if self.from == self.bytes.len() && self.at == self.end {
            return Ok(None);
        }
        let length = self.peek(file, 4)?.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length));
        let length = usize::try_from(length).map_err(broken)?;
        self.charge.clear();
        self.charge.add("the index of the archive", PIECE.max(length) + 2 * length)?;
        let record = Record::decode(self.peek(file, 4 + length)?.get(4..).unwrap_or_default())?;
        self.from += 4 + length;
        Ok(Some(Reverse(Head { record, run: self })))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        order(&self.record, &other.record)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::any_record;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_are_merged_as_one_sort_would(
            records in prop::collection::vec(any_record(), 0..60),
            most in prop_oneof![Just(1), Just(2000), Just(1 << 20)],
        ) {
            let room = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(room.path().to_owned(), Memory::new(64 << 20), most);
            let mut expected = records.clone();
            expected.sort_by(order);
            for record in records {
                sorter.add(record).unwrap();
            }
            let mut sorted = Vec::new();
            sorter.finish(&mut |record| { sorted.push(record); Ok(()) }).unwrap();
            let key = |record: &Record| (record.entry.path.clone(), record.number);
            prop_assert_eq!(
                sorted.iter().map(key).collect::<Vec<_>>(),
                expected.iter().map(key).collect::<Vec<_>>()
            );
        }
    }
}
