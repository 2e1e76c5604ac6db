//! The data of a file or a device, as pieces that lie somewhere in it.

use std::fmt::Debug;
use std::fs::File;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::chunks::{Chunks, TOGETHER};
use super::manifest::Parsed;
use super::{Beside, READ_MAX, ReadAt};
use crate::engine::fetch::STRETCH;
use crate::error::{BackupError, BackupResult};
use crate::format::ChunkRef;
use crate::format::limits::CHUNK_MAX;
use crate::format::wire::Piece;

/// So much was read one after the other when the next stretch is fetched before it is asked for.
const AHEAD_AFTER: u64 = 1 << 20;
/// Bytes of a hole that one call gives.
const HOLE: usize = 1 << 20;

/// What a hole reads as.
static ZEROS: [u8; HOLE] = [0; HOLE];

/// Zeros, at most so many.
pub(super) fn zeros(length: u64) -> Bytes {
    let length = usize::try_from(length).map_or(HOLE, |length| length.min(HOLE));
    Bytes::from_static(ZEROS.get(..length).unwrap_or(&ZEROS))
}

/// Parts of the pieces, each in a segment that is read when it is needed. They are in order.
pub(super) trait Parts: Debug + Send + Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// Where a part begins: no piece of it is before, and no piece of those before it is behind.
    fn start(&self, number: usize) -> u64;

    /// The pieces of a part.
    ///
    /// # Errors
    /// Those of the store, and of a manifest that is damaged.
    fn load(&self, number: usize) -> BackupResult<Pieces>;
}

/// The pieces of a part, in order.
#[derive(Debug, Clone)]
pub(super) struct Pieces {
    pub(super) parsed: Arc<Parsed>,
    pub(super) item: usize,
}

impl Deref for Pieces {
    type Target = [Piece];

    fn deref(&self) -> &[Piece] {
        self.parsed.pieces(self.item)
    }
}

/// The first byte behind a piece.
fn end((at, chunk): &Piece) -> u64 {
    at.saturating_add(chunk.len.into())
}

/// How the data is being read.
#[derive(Debug, Default)]
struct Reading {
    /// Where the last read ended, and how many bytes were read one after the other until there.
    next: u64,
    run: u64,
    /// What is being fetched before it is asked for, and to where.
    ahead: Option<JoinHandle<()>>,
    ahead_to: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Data {
    pub(super) chunks: Arc<Chunks>,
    pub(super) parts: Box<dyn Parts>,
    pub(super) size: u64,
    /// The file or the device, as errors name it.
    pub(super) name: String,
    /// Where the files behind this one are, if they are likely to be read next.
    following: Option<Following>,
    reading: Mutex<Reading>,
}

/// The items behind a file.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) parsed: Arc<Parsed>,
    /// The item that is the file's.
    pub(super) item: usize,
}

impl Following {
    fn chunks(&self) -> impl Iterator<Item = ChunkRef> + '_ {
        let items = self.parsed.items().get(self.item + 1..).unwrap_or_default();
        items.iter().flat_map(|item| &item.pieces).map(|(_, chunk)| *chunk)
    }
}

impl Data {
    pub(super) fn new(chunks: Arc<Chunks>, parts: Box<dyn Parts>, size: u64, name: String) -> Self {
        Self { chunks, parts, size, name, following: None, reading: Mutex::default() }
    }

    /// Takes the data of files behind this one along when its end is fetched.
    pub(super) fn and(self, following: Option<Following>) -> Self {
        Self { following, ..self }
    }

    /// The pieces of the part in which the first piece that ends behind `offset` is, and its number there.
    fn find(&self, offset: u64) -> BackupResult<Option<(Pieces, usize)>> {
        let (mut low, mut high) = (0, self.parts.count());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.parts.start(middle) <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        for number in low.saturating_sub(1)..self.parts.count() {
            let pieces = self.parts.load(number)?;
            let index = pieces.partition_point(|piece| end(piece) <= offset);
            if index < pieces.len() {
                return Ok(Some((pieces, index)));
            }
        }
        Ok(None)
    }

    /// Says which file it is that cannot be read.
    fn named(&self, error: BackupError) -> BackupError {
        match error {
            BackupError::Damaged { key, why } => {
                BackupError::Damaged { key: format!("{} ({key})", self.name), why }
            }
            other => other,
        }
    }

    /// Notes a read, and says how many bytes behind it are worth fetching with it.
    fn window(&self, offset: u64, length: usize) -> u64 {
        let mut reading = self.reading.lock();
        reading.run = if reading.next == offset { reading.run } else { 0 };
        if reading.run == 0 {
            reading.ahead_to = 0;
        }
        let window = reading.run.saturating_mul(2).min(STRETCH);
        reading.run = reading.run.saturating_add(length as u64);
        reading.next = offset.saturating_add(length as u64);
        window
    }

    /// Fetches the next stretch in the background, if it was not yet and nothing is under way.
    fn fetch_ahead(&self, pieces: &[Piece], behind: u64) {
        let mut reading = self.reading.lock();
        let busy = reading.ahead.as_ref().is_some_and(|ahead| !ahead.is_finished());
        if reading.run < AHEAD_AFTER || busy || reading.ahead_to > behind.saturating_add(STRETCH / 2) {
            return;
        }
        let from = behind.max(reading.ahead_to);
        let first = pieces.partition_point(|(at, _)| *at < from);
        let rest = pieces.get(first..).unwrap_or_default();
        // As many as one request can read.
        let mut stored = 0;
        let wanted: Vec<ChunkRef> = (rest.iter())
            .map(|(_, chunk)| *chunk)
            .take(TOGETHER)
            .take_while(|chunk| {
                stored += u64::from(chunk.place.stored);
                stored <= STRETCH
            })
            .collect();
        reading.ahead_to = rest.get(wanted.len()).or(rest.last()).map_or(from, |(at, _)| *at);
        if !wanted.is_empty() {
            reading.ahead = Some(self.chunks.ahead(wanted));
        }
    }
}

/// Reads all of `bytes` from there, if there are so many.
fn read_whole(there: &File, bytes: &mut [u8], offset: u64) -> bool {
    there.read_exact_at(bytes, offset).is_ok()
}

impl ReadAt for Data {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, length: usize) -> BackupResult<Bytes> {
        let length = super::clamp(self.size, offset, length.min(READ_MAX));
        if length == 0 {
            return Ok(Bytes::new());
        }
        let found = self.find(offset)?;
        let piece = found.as_ref().and_then(|(pieces, index)| pieces.get(*index..)?.split_first());
        let data = piece.map_or(self.size, |((at, _), _)| *at);
        if data > offset {
            // A hole, up to the next data or the end.
            let hole = zeros((data - offset).min(length as u64));
            self.window(offset, hole.len());
            return Ok(hole);
        }
        let (Some(((at, chunk), rest)), Some((pieces, _))) = (piece, &found) else {
            return Ok(Bytes::new());
        };
        let behind = offset.saturating_add(length as u64);
        // A call gives what is left of one chunk at most: the next goes on from there.
        let given = usize::try_from(end(&(*at, *chunk)) - offset).map_or(length, |left| left.min(length));
        let reach = behind.saturating_add(self.window(offset, given));
        let following = self.following.as_ref().filter(|_| reach >= self.size);
        let mut next = (rest.iter().take_while(|(at, _)| *at < reach).map(|(_, chunk)| *chunk))
            .chain(following.into_iter().flat_map(Following::chunks));
        let bytes = self.chunks.get(chunk, &mut next).map_err(|error| self.named(error))?;
        self.fetch_ahead(pieces, reach);
        let from = usize::try_from(offset - at).unwrap_or(usize::MAX);
        let to = from.saturating_add(length).min(bytes.len());
        if from >= to {
            return Err(BackupError::damaged(&self.name, "a chunk claims an impossible size"));
        }
        Ok(bytes.slice(from..to))
    }

    fn next_data(&self, offset: u64) -> BackupResult<Option<Range<u64>>> {
        if offset >= self.size {
            return Ok(None);
        }
        let Some((pieces, index)) = self.find(offset)? else { return Ok(None) };
        let Some(((at, chunk), rest)) = pieces.get(index..).and_then(<[Piece]>::split_first) else {
            return Ok(None);
        };
        let mut to = end(&(*at, *chunk));
        for piece in rest {
            if piece.0 != to {
                break;
            }
            to = end(piece);
        }
        Ok(Some(offset.max(*at)..to))
    }

    fn beside(&self, offset: u64, there: &File) -> BackupResult<Option<Beside>> {
        if offset >= self.size {
            return Ok(None);
        }
        let found = self.find(offset)?;
        let piece = found.as_ref().and_then(|(pieces, index)| pieces.get(*index));
        let data = piece.map_or(self.size, |(at, _)| (*at).min(self.size));
        if data > offset {
            let hole = zeros(data - offset);
            let mut bytes = vec![0; hole.len()];
            let same = read_whole(there, &mut bytes, offset) && bytes == hole;
            return Ok(Some(if same { Beside::Same(hole) } else { Beside::Other(data - offset) }));
        }
        let Some((at, chunk)) = piece else { return Ok(None) };
        let other = Ok(Some(Beside::Other(end(&(*at, *chunk)).saturating_sub(offset).max(1))));
        let length = usize::try_from(chunk.len).unwrap_or(usize::MAX);
        // Only a whole chunk has a name. A longer one, or one for which no memory is left, is read instead.
        let mut charge = self.chunks.ctx.memory.charge();
        if *at != offset || length == 0 || length > CHUNK_MAX || !charge.take(length) {
            return other;
        }
        let mut bytes = vec![0; length];
        if read_whole(there, &mut bytes, offset) && self.chunks.ctx.crypt.hash(&bytes) == chunk.id {
            return Ok(Some(Beside::Same(Bytes::from(bytes))));
        }
        other
    }
}
