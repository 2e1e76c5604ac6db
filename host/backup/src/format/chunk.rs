//! Chunks: pieces of data with a name that follows from their content, and how they are stored.

use std::borrow::Cow;

use super::limits::{CHUNK_MAX, STORED_MAX};
use crate::crypt::Crypt;

/// BLAKE3 of the plain bytes, keyed in an encrypted store.
pub(crate) type ChunkId = [u8; 32];

/// A pack: the run that wrote it and its number in that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PackId {
    pub(crate) run: u64,
    pub(crate) seq: u32,
}

/// How the plain bytes of a chunk are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As they are.
    Raw,
    /// As one zstd frame.
    Zstd,
}

impl Encoding {
    pub(crate) fn to_wire(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    pub(crate) fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Where a chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkLocation {
    pub(crate) pack: PackId,
    /// Where it begins in the pack.
    pub(crate) offset: u32,
    /// Bytes in the pack.
    pub(crate) stored: u32,
    pub(crate) encoding: Encoding,
}

/// A chunk that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkRef {
    pub(crate) id: ChunkId,
    /// Length in plain bytes.
    pub(crate) len: u32,
    pub(crate) place: ChunkLocation,
}

/// Why stored bytes are not the chunk they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error("a chunk was not sealed with this key, or was changed since")]
    Sealed,
    #[error("a chunk cannot be unpacked")]
    Unpack,
    #[error("a chunk's content does not have its checksum")]
    Checksum,
    #[error("a chunk claims an impossible size")]
    Size,
}

/// Makes chunks ready to store. One per thread.
pub(crate) struct Encoder {
    crypt: Crypt,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    packed: Vec<u8>,
}

impl Encoder {
    /// `level` is zstd's; `None` stores everything as it is.
    pub(crate) fn new(crypt: Crypt, level: Option<i32>) -> std::io::Result<Self> {
        let zstd = level.map(zstd::bulk::Compressor::new).transpose()?;
        Ok(Self { crypt, zstd, packed: Vec::new() })
    }

    /// The bytes to store. What does not shrink by a thirty-second is stored as it is.
    pub(crate) fn encode<'a>(
        &'a mut self,
        id: &ChunkId,
        plain: &'a [u8],
    ) -> Result<(Cow<'a, [u8]>, Encoding), ChunkError> {
        let shrunk = match &mut self.zstd {
            Some(zstd) if plain.len() > 64 => {
                self.packed.clear();
                self.packed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
                zstd.compress_to_buffer(plain, &mut self.packed)
                    .is_ok_and(|packed| packed < plain.len() - plain.len() / 32)
            }
            _ => false,
        };
        let (bytes, encoding) =
            if shrunk { (&self.packed[..], Encoding::Zstd) } else { (plain, Encoding::Raw) };
        if self.crypt.is_clear() {
            return Ok((Cow::Borrowed(bytes), encoding));
        }
        let sealed = self.crypt.seal(bytes.to_vec(), id).map_err(|_| ChunkError::Sealed)?;
        Ok((Cow::Owned(sealed), encoding))
    }
}

/// Makes chunks what they were. One per thread.
pub(crate) struct Decoder {
    crypt: Crypt,
    zstd: zstd::bulk::Decompressor<'static>,
    opened: Vec<u8>,
    unpacked: Vec<u8>,
}

impl Decoder {
    /// Fails when there is no memory.
    pub(crate) fn new(crypt: Crypt) -> std::io::Result<Self> {
        let zstd = zstd::bulk::Decompressor::new()?;
        Ok(Self { crypt, zstd, opened: Vec::new(), unpacked: Vec::new() })
    }

    /// Gives the plain bytes of a stored chunk, and nothing but them.
    pub(crate) fn decode<'a>(
        &'a mut self,
        chunk: &ChunkRef,
        stored: &'a [u8],
    ) -> Result<&'a [u8], ChunkError> {
        let len = usize::try_from(chunk.len).map_err(|_| ChunkError::Size)?;
        if len > CHUNK_MAX || stored.len() > STORED_MAX {
            return Err(ChunkError::Size);
        }
        let bytes = if self.crypt.is_clear() {
            stored
        } else {
            self.opened = self.crypt.open(stored, &chunk.id).map_err(|_| ChunkError::Sealed)?;
            &self.opened
        };
        let plain = match chunk.place.encoding {
            Encoding::Raw => bytes,
            Encoding::Zstd => {
                if self.unpacked.len() < len {
                    self.unpacked.resize(len, 0);
                }
                let room = &mut self.unpacked[..len];
                let written = self.zstd.decompress_to_buffer(bytes, room).map_err(|_| ChunkError::Unpack)?;
                &self.unpacked[..written]
            }
        };
        if plain.len() != len || self.crypt.hash(plain) != chunk.id {
            return Err(ChunkError::Checksum);
        }
        Ok(plain)
    }
}

/// Whether all bytes are zero.
pub(crate) fn all_zero(data: &[u8]) -> bool {
    // Equal to itself shifted by one, and the first is zero: memcmp goes as fast as memory does.
    match data.split_first() {
        None => true,
        Some((first, rest)) => *first == 0 && rest == &data[..data.len() - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(crypt: &Crypt, plain: &[u8], stored: &[u8], encoding: Encoding) -> ChunkRef {
        let place = ChunkLocation {
            pack: PackId { run: 1, seq: 2 },
            offset: 0,
            stored: u32::try_from(stored.len()).unwrap(),
            encoding,
        };
        ChunkRef { id: crypt.hash(plain), len: u32::try_from(plain.len()).unwrap(), place }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(data in prop::collection::vec(any::<u8>(), 0..5000), repeat in 1usize..5, level in prop::option::of(1..4)) {
            let plain = data.repeat(repeat);
            let crypt = Crypt::default();
            let mut encoder = Encoder::new(crypt.clone(), level).unwrap();
            let mut decoder = Decoder::new(crypt.clone()).unwrap();
            // The second goes by what the first has left.
            for plain in [&plain[..], &plain[..plain.len() / 2]] {
                let (stored, encoding) = encoder.encode(&crypt.hash(plain), plain).unwrap();
                prop_assert!(stored.len() <= plain.len());
                prop_assert_eq!(decoder.decode(&chunk(&crypt, plain, &stored, encoding), &stored).unwrap(), plain);
            }
        }

        #[test]
        fn no_change_goes_unnoticed(data in prop::collection::vec(0u8..3, 100..2000), at: prop::sample::Index, bit in 0..8) {
            let crypt = Crypt::default();
            let mut encoder = Encoder::new(crypt.clone(), Some(1)).unwrap();
            let (stored, encoding) = encoder.encode(&crypt.hash(&data), &data).unwrap();
            let mut stored = stored.into_owned();
            let mut decoder = Decoder::new(crypt.clone()).unwrap();
            let whole = chunk(&crypt, &data, &stored, encoding);
            let at = at.index(stored.len());
            stored[at] ^= 1u8 << bit;
            // A bit that zstd ignores may give the same plain bytes: what counts is that others never come
            // out.
            if let Ok(plain) = decoder.decode(&whole, &stored) { prop_assert_eq!(plain, &data) }
            if let Ok(plain) = decoder.decode(&whole, &stored[..at]) { prop_assert_eq!(plain, &data) }
        }

        #[test]
        fn zeros_are_told(data in prop::collection::vec(0u8..2, 0..70)) {
            prop_assert_eq!(all_zero(&data), data.iter().all(|b| *b == 0));
        }
    }

    #[test]
    fn a_chunk_cannot_claim_more_than_it_is() {
        let crypt = Crypt::default();
        let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 1).unwrap();
        let mut claimed = chunk(&crypt, b"x", &bomb, Encoding::Zstd);
        let mut decoder = Decoder::new(crypt.clone()).unwrap();
        claimed.len = 100 << 20;
        assert_eq!(decoder.decode(&claimed, &bomb), Err(ChunkError::Size));
        claimed.len = 1 << 20;
        assert_eq!(decoder.decode(&claimed, &bomb), Err(ChunkError::Unpack));
    }
}
