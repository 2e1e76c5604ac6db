//! The data of an archive: a second reading of it, which goes only as far as what was asked for, into a file
//! without a name. What is read must be what was checked in the first reading.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;

use super::super::held::Held;
use super::scratch::Scratch;
use crate::engine::ctx::Ctx;
use crate::error::{BackupError, BackupResult};
use crate::memory::Charge;
use crate::record::BackupRecord;
use crate::v0::{self, ArchiveStream};

/// Bytes of the unpacked archive that are compared, and kept, at once.
const PIECE: usize = 1 << 20;

/// What each piece of an unpacked archive is.
#[derive(Debug)]
pub(super) struct Sums {
    sums: Vec<blake3::Hash>,
    hasher: blake3::Hasher,
    filled: usize,
    charge: Charge,
}

impl Sums {
    pub(super) fn new(charge: Charge) -> Self {
        Self { sums: Vec::new(), hasher: blake3::Hasher::new(), filled: 0, charge }
    }

    pub(super) fn add(&mut self, archive: &str, mut bytes: &[u8]) -> BackupResult<()> {
        while !bytes.is_empty() {
            let (these, rest) = bytes.split_at(bytes.len().min(PIECE - self.filled));
            self.hasher.update(these);
            self.filled += these.len();
            bytes = rest;
            if self.filled == PIECE {
                self.finish(archive)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, archive: &str) -> BackupResult<()> {
        if self.filled > 0 {
            // A list that grows is moved.
            self.charge.add(archive, 3 * size_of::<blake3::Hash>())?;
            self.sums.push(self.hasher.finalize());
            self.hasher.reset();
            self.filled = 0;
        }
        Ok(())
    }
}

/// See the [module](self).
pub(super) struct Spool {
    ctx: Ctx,
    held: Held,
    record: BackupRecord,
    _charge: Charge,
    sums: Sums,
    room: PathBuf,
    state: Mutex<State>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("backup", &self.record.name).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// What was read, from the beginning of the unpacked archive.
    file: Option<Scratch>,
    /// Where the reading is, if it goes on.
    stream: Option<(String, ArchiveStream)>,
    piece: Vec<u8>,
}

impl Spool {
    pub(super) fn new(
        ctx: Ctx,
        held: Held,
        record: BackupRecord,
        charge: Charge,
        sums: Sums,
        room: &Path,
    ) -> Self {
        let state = Mutex::default();
        Self { ctx, held, record, _charge: charge, sums, room: room.to_owned(), state }
    }

    /// A charge of nothing yet.
    pub(super) fn charge(&self) -> Charge {
        self.ctx.memory.charge()
    }

    /// So many bytes of the unpacked archive.
    ///
    /// # Errors
    /// [`BackupError::Damaged`] where they are not what they were; [`BackupError::NoRoom`]; those of the store.
    pub(super) fn read(&self, at: u64, length: u64) -> BackupResult<Bytes> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut state = self.state.lock();
        let reached = self.reach(&mut state, at.saturating_add(length));
        reached.map_err(|error| self.held.explain(error))?;
        if let Some(file) = &state.file {
            file.read(at, &mut bytes)?;
        }
        Ok(bytes.into())
    }

    /// Reads on until so many bytes are in the file.
    fn reach(&self, state: &mut State, end: u64) -> BackupResult<()> {
        let file = match &mut state.file {
            Some(file) => file,
            none => none.insert(Scratch::new(&self.room)?),
        };
        while file.end() < end {
            self.ctx.check()?;
            let (key, mut stream) = match state.stream.take() {
                Some(open) => open,
                None => self.open(file.end())?,
            };
            state.piece.clear();
            let read = (&mut stream).take(PIECE as u64).read_to_end(&mut state.piece);
            if let Err(error) = read {
                self.ctx.check()?;
                return Err(v0::explain_archive(&key, &mut stream, error));
            }
            let number = usize::try_from(file.end()).unwrap_or(usize::MAX) / PIECE;
            if self.sums.sums.get(number) != Some(&blake3::hash(&state.piece)) {
                return Err(BackupError::damaged(key, "it is not what it was when it was checked"));
            }
            file.append(&state.piece)?;
            state.stream = Some((key, stream));
        }
        Ok(())
    }

    /// Opens the archive once more, behind what is in the file.
    fn open(&self, behind: u64) -> BackupResult<(String, ArchiveStream)> {
        let (key, mut stream) = v0::open_archive(&self.ctx, &self.record)?;
        if let Err(error) = std::io::copy(&mut (&mut stream).take(behind), &mut std::io::sink()) {
            self.ctx.check()?;
            return Err(v0::explain_archive(&key, &mut stream, error));
        }
        Ok((key, stream))
    }
}
