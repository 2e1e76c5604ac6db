//! What is in an archive, in the order of a walk: records in blocks, in memory or in a file, and in memory
//! the first path of each block.

use std::collections::HashMap;
use std::sync::Arc;

use convoy_tree::RelPath;
use parking_lot::Mutex;

use super::super::Node;
use super::record::{Record, broken};
use super::scratch::Scratch;
use super::sort::frame;
use crate::error::{BackupError, BackupResult};
use crate::memory::{Charge, Memory};

/// Bytes at which a block is closed.
const BLOCK: usize = 64 << 10;
/// Memory for a block that is not read, beside its first path.
const CLOSED: usize = 96;
/// What errors call it.
const NAME: &str = "the index of the archive";

/// Where the blocks are.
#[derive(Debug)]
pub(super) enum Blocks {
    Memory(Vec<u8>),
    File(Scratch),
}

/// A block that is not read.
#[derive(Debug)]
struct Closed {
    first: RelPath,
    at: u64,
    length: usize,
}

/// A block that was read.
#[derive(Debug)]
struct Block {
    records: Vec<Record>,
    weight: usize,
    _charge: Charge,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Index {
    blocks: Blocks,
    closed: Vec<Closed>,
    /// The first name of each file with several, by the one that the archive has it under.
    firsts: HashMap<RelPath, RelPath>,
    /// Blocks that were read, the one that was used last at the end.
    open: Mutex<Vec<(usize, Arc<Block>)>>,
    /// Bytes of them that are kept.
    kept: usize,
    memory: Arc<Memory>,
    _charges: [Charge; 2],
}

/// A record, with the block it is in.
#[derive(Debug, Clone)]
pub(super) struct Place {
    number: usize,
    index: usize,
    block: Arc<Block>,
}

impl Place {
    pub(super) fn record(&self) -> Option<&Record> {
        self.block.records.get(self.index)
    }
}

/// Writes an index.
pub(super) struct Writer {
    blocks: Blocks,
    closed: Vec<Closed>,
    at: u64,
    first: Option<RelPath>,
    bytes: Vec<u8>,
    charge: Charge,
}

impl Writer {
    pub(super) fn new(blocks: Blocks, charge: Charge) -> Self {
        Self { blocks, closed: Vec::new(), at: 0, first: None, bytes: Vec::new(), charge }
    }

    /// Adds a record, which is behind all others.
    ///
    /// # Errors
    /// Those of the file, and of a memory that is too small.
    pub(super) fn add(&mut self, record: &Record) -> BackupResult<()> {
        self.first.get_or_insert_with(|| record.entry.path.clone());
        frame(record, &mut self.bytes)?;
        if self.bytes.len() >= BLOCK { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> BackupResult<()> {
        let Some(first) = self.first.take() else { return Ok(()) };
        let length = self.bytes.len();
        let in_memory = match &mut self.blocks {
            Blocks::Memory(bytes) => {
                bytes.extend_from_slice(&self.bytes);
                length
            }
            Blocks::File(file) => {
                file.append(&self.bytes)?;
                0
            }
        };
        self.charge.add(NAME, CLOSED + first.as_bytes().len() + 2 * in_memory)?;
        self.closed.push(Closed { first, at: self.at, length });
        self.at += length as u64;
        self.bytes.clear();
        Ok(())
    }

    /// Ends it. `kept` bytes of what is read of it are kept.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(super) fn finish(
        mut self,
        firsts: (HashMap<RelPath, RelPath>, Charge),
        memory: Arc<Memory>,
        kept: usize,
    ) -> BackupResult<Index> {
        self.close()?;
        let Self { blocks, closed, charge, .. } = self;
        let (firsts, of_firsts) = firsts;
        let _charges = [charge, of_firsts];
        Ok(Index { blocks, closed, firsts, open: Mutex::default(), kept, memory, _charges })
    }
}

impl Index {
    fn block(&self, number: usize) -> BackupResult<Option<Arc<Block>>> {
        let mut open = self.open.lock();
        if let Some(at) = open.iter().rposition(|(other, _)| *other == number) {
            let found = open.remove(at);
            open.push(found.clone());
            return Ok(Some(found.1));
        }
        let Some(closed) = self.closed.get(number) else { return Ok(None) };
        let block = match self.read(closed) {
            Err(BackupError::Memory { .. }) => {
                open.clear();
                self.read(closed)
            }
            other => other,
        };
        let block = Arc::new(block?);
        open.push((number, Arc::clone(&block)));
        let mut weight: usize = open.iter().map(|(_, block)| block.weight).sum();
        while weight > self.kept && open.len() > 1 {
            weight -= open.remove(0).1.weight;
        }
        Ok(Some(block))
    }

    fn read(&self, closed: &Closed) -> BackupResult<Block> {
        let mut charge = self.memory.charge();
        charge.add(NAME, closed.length)?;
        let from_file;
        let mut rest: &[u8] = match &self.blocks {
            Blocks::Memory(bytes) => {
                let at = usize::try_from(closed.at).unwrap_or(usize::MAX);
                bytes.get(at..at.saturating_add(closed.length)).unwrap_or_default()
            }
            Blocks::File(file) => {
                let mut bytes = vec![0; closed.length];
                file.read(closed.at, &mut bytes)?;
                from_file = bytes;
                &from_file
            }
        };
        let (mut records, mut weight) = (Vec::new(), 0);
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).map_err(broken)?;
            let bytes = more.get(..length).ok_or_else(|| broken("it ends early"))?;
            let record = Record::decode(bytes)?;
            weight += record.weight();
            charge.add(NAME, record.weight())?;
            records.push(record);
            rest = more.get(length..).unwrap_or_default();
        }
        Ok(Block { records, weight, _charge: charge })
    }

    fn place(&self, number: usize) -> BackupResult<Option<Place>> {
        Ok(self.block(number)?.map(|block| Place { number, index: 0, block }))
    }

    /// The first record that is not `before`, which holds for all up to one and for none from there on.
    pub(super) fn first_not(&self, before: &dyn Fn(&RelPath) -> bool) -> BackupResult<Option<Place>> {
        let behind = self.closed.partition_point(|closed| before(&closed.first));
        if let Some(number) = behind.checked_sub(1)
            && let Some(block) = self.block(number)?
        {
            let index = block.records.partition_point(|record| before(&record.entry.path));
            if index < block.records.len() {
                return Ok(Some(Place { number, index, block }));
            }
        }
        self.place(behind)
    }

    /// The record at exactly this path.
    pub(super) fn find(&self, path: &RelPath) -> BackupResult<Option<Place>> {
        let found = self.first_not(&|other| other < path)?;
        Ok(found.filter(|place| place.record().is_some_and(|record| record.entry.path == *path)))
    }

    /// The next one.
    pub(super) fn next(&self, place: &Place) -> BackupResult<Option<Place>> {
        if place.index + 1 < place.block.records.len() {
            return Ok(Some(Place { index: place.index + 1, ..place.clone() }));
        }
        self.place(place.number + 1)
    }

    pub(super) fn record<'a>(&self, place: &'a Place) -> BackupResult<&'a Record> {
        place.record().ok_or_else(|| broken("a record is missing"))
    }

    /// The record that has the metadata and the data of a further name; none for what is no such name.
    pub(super) fn head(&self, record: &Record) -> BackupResult<Option<Place>> {
        let Some(head) = &record.head else { return Ok(None) };
        self.find(head)?.map(Some).ok_or_else(|| broken("the file of a further name is missing"))
    }

    /// What a record tells.
    pub(super) fn node(&self, record: &Record) -> BackupResult<Node> {
        let path = &record.entry.path;
        let first = self.firsts.get(record.head.as_ref().unwrap_or(path));
        let head = self.head(record)?;
        let entry = match &head {
            Some(head) => &self.record(head)?.entry,
            None => &record.entry,
        };
        let mut entry = entry.clone();
        entry.path = path.clone();
        Ok(Node { entry, first_name: first.filter(|first| *first != path).cloned(), content: None })
    }
}
