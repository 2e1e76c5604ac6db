//! What is common to the CBOR structures of the format: references to chunks with packs by number in a table.

use std::collections::HashMap;
use std::io::Read;

use minicbor::{Decode, Encode};

use super::{ChunkRef, Encoding, PackId, Place};
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::CHUNK_MAX;

/// A pack in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct WirePack {
    #[n(0)]
    pub(crate) run: u64,
    #[n(1)]
    pub(crate) seq: u32,
    /// Stored bytes that are in use; 0 where nobody counts them.
    #[n(2)]
    pub(crate) used: u64,
}

/// A reference to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct WireChunk {
    /// Where the chunk belongs in the file or device, in bytes.
    #[n(0)]
    pub(crate) at: u64,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) id: [u8; 32],
    /// Plain bytes.
    #[n(2)]
    pub(crate) len: u32,
    /// Index into the table of packs.
    #[n(3)]
    pub(crate) pack: u32,
    #[n(4)]
    pub(crate) offset: u32,
    #[n(5)]
    pub(crate) stored: u32,
    #[n(6)]
    pub(crate) encoding: u8,
}

/// A piece of a file or device: where it belongs, and the chunk.
pub(crate) type Piece = (u64, ChunkRef);

/// Builds a table of packs.
#[derive(Debug, Default)]
pub(crate) struct PackTable {
    packs: Vec<WirePack>,
    index: HashMap<PackId, u32>,
}

impl PackTable {
    /// The number of a pack; it is added when new. `bytes` are counted as used.
    pub(crate) fn number(&mut self, pack: PackId, bytes: u32) -> u32 {
        let packs = &mut self.packs;
        let number = *self.index.entry(pack).or_insert_with(|| {
            packs.push(WirePack { run: pack.run, seq: pack.seq, used: 0 });
            u32::try_from(packs.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(entry) = usize::try_from(number).ok().and_then(|n| packs.get_mut(n)) {
            entry.used = entry.used.saturating_add(bytes.into());
        }
        number
    }

    /// A piece as it is written. `counted` says whether the table counts used bytes.
    pub(crate) fn wire(&mut self, (at, chunk): &Piece, counted: bool) -> WireChunk {
        let Place { pack, offset, stored, encoding } = chunk.place;
        let pack = self.number(pack, if counted { stored } else { 0 });
        WireChunk {
            at: *at,
            id: chunk.id,
            len: chunk.len,
            pack,
            offset,
            stored,
            encoding: encoding.to_wire(),
        }
    }

    pub(crate) fn into_packs(self) -> Vec<WirePack> {
        self.packs
    }
}

/// Reads a reference that may come from anybody.
pub(crate) fn read_piece(key: &str, packs: &[WirePack], wire: &WireChunk) -> BackupResult<Piece> {
    let bad = |why: &str| BackupError::damaged(key, why);
    let pack = usize::try_from(wire.pack)
        .ok()
        .and_then(|n| packs.get(n))
        .ok_or_else(|| bad("a chunk names a pack that is not in the table"))?;
    let encoding =
        Encoding::from_wire(wire.encoding).ok_or_else(|| bad("a chunk is stored in an unknown way"))?;
    if wire.len == 0 || usize::try_from(wire.len).map_or(true, |len| len > CHUNK_MAX) {
        return Err(bad("a chunk has an impossible size"));
    }
    if wire.at.checked_add(wire.len.into()).is_none() || wire.offset.checked_add(wire.stored).is_none() {
        return Err(bad("a chunk lies beyond the end of everything"));
    }
    let place = Place {
        pack: PackId { run: pack.run, seq: pack.seq },
        offset: wire.offset,
        stored: wire.stored,
        encoding,
    };
    Ok((wire.at, ChunkRef { id: wire.id, len: wire.len, place }))
}

/// CBOR of a value.
pub(crate) fn to_cbor<T: Encode<()>>(value: &T) -> BackupResult<Vec<u8>> {
    minicbor::to_vec(value).map_err(|e| BackupError::Invalid(format!("a manifest cannot be written: {e}")))
}

/// A value from CBOR that is exactly it.
pub(crate) fn from_cbor<T: for<'b> Decode<'b, ()>>(key: &str, bytes: &[u8]) -> BackupResult<T> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|e| BackupError::damaged(key, e))?;
    if decoder.position() == bytes.len() {
        Ok(value)
    } else {
        Err(BackupError::damaged(key, "there is something after its end"))
    }
}

/// Unpacks a zstd frame of at most `limit` plain bytes, taking memory only as it is needed.
pub(crate) fn unpack(key: &str, packed: &[u8], limit: usize) -> BackupResult<Vec<u8>> {
    let mut plain = Vec::new();
    let decoder =
        zstd::stream::read::Decoder::with_buffer(packed).map_err(|e| BackupError::damaged(key, e))?;
    decoder.take(limit as u64 + 1).read_to_end(&mut plain).map_err(|e| BackupError::damaged(key, e))?;
    if plain.len() > limit {
        Err(BackupError::damaged(key, "it unpacks to more than it can be"))
    } else {
        Ok(plain)
    }
}
