//! What is common to the CBOR structures of the format: references to chunks with packs by number in a table.

use std::collections::HashMap;
use std::io::Read;

use minicbor::{Decode, Encode};

use super::limits::{CHUNK_MAX, STORED_MAX, WINDOW_LOG_MAX};
use super::{ChunkLocation, ChunkRef, Encoding, PackId};
use crate::error::{BackupError, BackupResult};
use crate::memory::Charge;

/// Pays for memory before it is taken.
pub(crate) trait Pay {
    /// Whether there was as much.
    fn pay(&mut self, bytes: usize) -> bool;
}

impl Pay for Charge {
    fn pay(&mut self, bytes: usize) -> bool {
        self.take(bytes)
    }
}

/// Writers pay nothing.
impl Pay for () {
    fn pay(&mut self, _bytes: usize) -> bool {
        true
    }
}

/// A list as it is on the wire. Its length is believed only as far as there are bytes, and is paid for before
/// it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'b, C: Pay, T: Decode<'b, C>> Decode<'b, C> for List<T> {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let error = minicbor::decode::Error::message;
        let left = d.input().len().saturating_sub(d.position());
        let count = d.array()?.and_then(|count| usize::try_from(count).ok());
        let count =
            count.filter(|count| *count <= left).ok_or_else(|| error("a list without a proper length"))?;
        // Readers make something of it that takes as much again, and a little for what it points to.
        if !ctx.pay(count.saturating_mul(2 * size_of::<T>() + 64)) {
            return Err(error("a list that takes too much memory"));
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(T::decode(d, ctx)?);
        }
        Ok(Self(list))
    }
}

impl<C, T: Encode<C>> Encode<C> for List<T> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        self.0.encode(e, ctx)
    }
}

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
    /// Length in plain bytes.
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
        let ChunkLocation { pack, offset, stored, encoding } = chunk.place;
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

/// Whether a chunk can be stored like this, in any pack.
pub(crate) fn stored_is_possible(offset: u32, stored: u32) -> bool {
    let size = usize::try_from(stored).is_ok_and(|stored| (1..=STORED_MAX).contains(&stored));
    size && offset.checked_add(stored).is_some()
}

/// Reads a reference that may come from anybody.
pub(crate) fn read_piece(key: &str, packs: &[WirePack], wire: &WireChunk) -> BackupResult<Piece> {
    read_piece_in(key, usize::try_from(wire.pack).ok().and_then(|n| packs.get(n)), wire)
}

/// The same, with the pack that it names.
pub(crate) fn read_piece_in(key: &str, pack: Option<&WirePack>, wire: &WireChunk) -> BackupResult<Piece> {
    let bad = |why: &str| BackupError::damaged(key, why);
    let pack = pack.ok_or_else(|| bad("a chunk names a pack that is not in the table"))?;
    let encoding =
        Encoding::from_wire(wire.encoding).ok_or_else(|| bad("a chunk is stored in an unknown way"))?;
    if wire.len == 0 || usize::try_from(wire.len).map_or(true, |len| len > CHUNK_MAX) {
        return Err(bad("a chunk has an impossible size"));
    }
    if wire.at.checked_add(wire.len.into()).is_none() || !stored_is_possible(wire.offset, wire.stored) {
        return Err(bad("a chunk lies beyond the end of everything"));
    }
    let place = ChunkLocation {
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

/// Whether CBOR says how long everything in it is, as writers do. To pass over what does not takes memory for
/// each level of it.
fn definite(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&head) = bytes.get(at) {
        let (kind, short) = (head >> 5, head & 31);
        let argument = match short {
            0..=23 => 0,
            24..=27 => 1 << (short - 24),
            _ => return false,
        };
        let Some(argument) = bytes.get(at + 1..at + 1 + argument) else { return false };
        at += 1 + argument.len();
        // Of bytes and texts the argument is how many follow.
        if matches!(kind, 2 | 3) {
            let length = argument.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            let length = if argument.is_empty() { short.into() } else { length };
            let Some(end) = usize::try_from(length).ok().and_then(|length| at.checked_add(length)) else {
                return false;
            };
            at = end;
        }
    }
    at == bytes.len()
}

/// A value from CBOR that is exactly it. The memory it takes is charged.
pub(crate) fn from_cbor<T: for<'b> Decode<'b, Charge>>(
    key: &str,
    bytes: &[u8],
    charge: &mut Charge,
) -> BackupResult<T> {
    if !definite(bytes) {
        return Err(BackupError::damaged(key, "it is not written as convoy writes"));
    }
    // All texts in it together.
    charge.add(key, bytes.len())?;
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder
        .decode_with(charge)
        .map_err(|e| if charge.refused() { charge.refusal(key) } else { BackupError::damaged(key, e) })?;
    if decoder.position() == bytes.len() {
        Ok(value)
    } else {
        Err(BackupError::damaged(key, "there is something after its end"))
    }
}

/// Unpacks a zstd frame of at most `limit` plain bytes, which are charged.
pub(crate) fn unpack(key: &str, packed: &[u8], limit: usize, charge: &mut Charge) -> BackupResult<Vec<u8>> {
    let too_large = || BackupError::damaged(key, "it unpacks to more than it can be");
    // Every writer that has all the bytes says how many they are.
    let said = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    let size = match said.map(usize::try_from) {
        Some(Ok(size)) if size <= limit => size,
        Some(_) => return Err(too_large()),
        None => limit.min(charge.memory().left() / 4),
    };
    // Without a size the bytes may be moved to more memory again and again as they come.
    charge.add(key, if said.is_some() { size } else { size.saturating_mul(3) })?;
    let mut plain = Vec::with_capacity(if said.is_some() { size } else { 0 });
    let read = plain_of(key, packed)?.take(size as u64 + 1).read_to_end(&mut plain);
    read.map_err(|e| BackupError::damaged(key, e))?;
    if plain.len() > size { Err(too_large()) } else { Ok(plain) }
}

/// What was packed, to read it without having it all in memory.
fn plain_of<'b>(key: &str, packed: &'b [u8]) -> BackupResult<impl Read + use<'b>> {
    let damaged = |e| BackupError::damaged(key, e);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(damaged)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(damaged)?;
    Ok(decoder)
}

/// Bytes that no element of a list read by [`each`] has.
const ELEMENT_MAX: usize = 128;

/// Reads `{0: [element, ...]}` from a zstd frame of at most `limit` plain bytes, one element after the other:
/// such lists may be larger than the memory there is.
pub(crate) fn each<T: for<'b> Decode<'b, ()>>(
    key: &str,
    packed: &[u8],
    limit: usize,
    take: &mut dyn FnMut(T) -> BackupResult<()>,
) -> BackupResult<()> {
    let damaged = |why: &dyn std::fmt::Display| BackupError::damaged(key, why);
    let mut plain = plain_of(key, packed)?.take(limit as u64 + 1);
    let (mut buffer, mut at, mut passed, mut left) = (Vec::new(), 0, 0, None);
    loop {
        if buffer.len() - at < ELEMENT_MAX {
            buffer.drain(..at);
            passed += at;
            at = 0;
            let more = (64 << 10) - buffer.len() as u64;
            plain.by_ref().take(more).read_to_end(&mut buffer).map_err(|e| damaged(&e))?;
            if passed + buffer.len() > limit {
                return Err(damaged(&"it unpacks to more than it can be"));
            }
        }
        let mut decoder = minicbor::Decoder::new(buffer.get(at..).unwrap_or_default());
        match &mut left {
            Some(0) if at == buffer.len() => return Ok(()),
            Some(0) => return Err(damaged(&"there is something after its end")),
            Some(left) => {
                *left -= 1;
                let element = decoder.decode().map_err(|e| damaged(&e))?;
                at += decoder.position();
                take(element)?;
            }
            None => {
                let head = (decoder.map(), decoder.u32(), decoder.array());
                let (Ok(Some(1)), Ok(0), Ok(Some(count))) = head else {
                    return Err(damaged(&"it does not begin with its list"));
                };
                at += decoder.position();
                left = Some(count);
            }
        }
    }
}
