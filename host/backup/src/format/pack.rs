//! Packs: objects of many chunks, with an index of them at the end.
//!
//! `"CVYP" version(1)`, the stored chunks one after the other, the index (CBOR, zstd, sealed in an encrypted
//! store), then 40 bytes: length of the index (4, little endian), BLAKE3 of the stored index (32), `"CVYE"`.
//! The manifest says where a chunk is; the index is for whoever has no manifest: a later run that reuses what
//! an interrupted one left.

use minicbor::{Decode, Encode};

use super::chunk::{ChunkLocation, ChunkRef, Encoding, PackId};
use super::limits::{CHUNK_MAX, INDEX_MAX};
use super::wire::{each, stored_is_possible, to_cbor};
use crate::crypt::Crypt;
use crate::error::{BackupError, BackupResult};

const MAGIC: &[u8; 5] = b"CVYP\x01";
const END: &[u8; 4] = b"CVYE";
/// Bytes after the index.
pub(crate) const FOOTER: usize = 4 + 32 + 4;

#[derive(Debug, Encode, Decode)]
#[cbor(array)]
struct WireEntry {
    #[cbor(n(0), with = "minicbor::bytes")]
    id: [u8; 32],
    #[n(1)]
    len: u32,
    #[n(2)]
    offset: u32,
    #[n(3)]
    stored: u32,
    #[n(4)]
    encoding: u8,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct WireIndex {
    #[n(0)]
    chunks: Vec<WireEntry>,
}

/// A pack being filled.
#[derive(Debug)]
pub(crate) struct PackBuilder {
    id: PackId,
    bytes: Vec<u8>,
    index: Vec<WireEntry>,
}

impl PackBuilder {
    /// A pack in this memory, whatever is in it.
    pub(crate) fn new(id: PackId, memory: Vec<u8>) -> Self {
        let mut bytes = memory;
        bytes.clear();
        bytes.extend_from_slice(MAGIC);
        Self { id, bytes, index: Vec::new() }
    }

    pub(crate) fn id(&self) -> PackId {
        self.id
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Adds a stored chunk.
    pub(crate) fn add(
        &mut self,
        id: [u8; 32],
        len: u32,
        stored: &[u8],
        encoding: Encoding,
    ) -> BackupResult<ChunkLocation> {
        let full = |_| BackupError::Invalid("a pack has grown beyond 4 GiB".into());
        let offset = u32::try_from(self.bytes.len()).map_err(full)?;
        let size = u32::try_from(stored.len()).map_err(full)?;
        self.bytes.extend_from_slice(stored);
        self.index.push(WireEntry { id, len, offset, stored: size, encoding: encoding.to_wire() });
        Ok(ChunkLocation { pack: self.id, offset, stored: size, encoding })
    }

    /// The whole object.
    pub(crate) fn finish(mut self, crypt: &Crypt) -> BackupResult<Vec<u8>> {
        let index = to_cbor(&WireIndex { chunks: self.index })?;
        let packed = zstd::bulk::compress(&index, 1)
            .map_err(|e| BackupError::Invalid(format!("an index cannot be packed: {e}")))?;
        let stored = crypt.seal(packed, &place(self.id)).map_err(|e| BackupError::Invalid(e.to_string()))?;
        let tail = with_footer(&stored)
            .ok_or_else(|| BackupError::Invalid("an index has grown beyond 4 GiB".into()))?;
        self.bytes.extend_from_slice(&tail);
        Ok(self.bytes)
    }
}

/// The most bytes that a pack of such chunks alone may have, sealed or not: what it would be after a rewrite.
pub(crate) fn size_at_most(chunks: u64, stored: u64) -> u64 {
    // An entry as CBOR: the head of the array, the id with its head, three numbers of up to 5 bytes, and the
    // encoding.
    const ENTRY: u64 = 1 + 2 + 32 + 3 * 5 + 1;
    // Beside them: magic, the heads of map and array, what zstd and a seal add to an index, the footer.
    const REST: u64 = MAGIC.len() as u64 + 12 + 128 + FOOTER as u64;
    stored.saturating_add(chunks.saturating_mul(ENTRY + ENTRY / 64)).saturating_add(REST)
}

/// A stored index with the footer behind it; `None` if it is too large for one.
pub(crate) fn with_footer(stored: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(stored.len()).ok()?.to_le_bytes();
    Some([stored, &len, blake3::hash(stored).as_bytes(), END].concat())
}

/// What an index is sealed for: it opens only as that of its pack.
fn place(id: PackId) -> Vec<u8> {
    format!("convoy pack {:016x}/{:08x}", id.run, id.seq).into_bytes()
}

/// Length of the index, from the last bytes of a pack.
pub(crate) fn index_len(key: &str, footer: &[u8]) -> BackupResult<usize> {
    let whole = footer.len() == FOOTER && footer.ends_with(END);
    let len = footer.first_chunk::<4>().filter(|_| whole).map(|len| u32::from_le_bytes(*len));
    let len = len.and_then(|len| usize::try_from(len).ok()).filter(|len| *len <= INDEX_MAX);
    len.ok_or_else(|| BackupError::damaged(key, "it does not end as a pack does"))
}

/// The index as it is stored, if it is what was written: whatever key it takes to open it.
pub(crate) fn stored_index<'t>(key: &str, tail: &'t [u8]) -> BackupResult<&'t [u8]> {
    let damaged = |why: &dyn std::fmt::Display| BackupError::damaged(key, why);
    let at = tail.len().checked_sub(FOOTER).ok_or_else(|| damaged(&"it is too short for a pack"))?;
    let (stored, footer) = tail.split_at(at);
    let len = index_len(key, footer)?;
    if len != stored.len() || footer.get(4..36) != Some(&blake3::hash(stored).as_bytes()[..]) {
        return Err(damaged(&"its index does not have its checksum"));
    }
    Ok(stored)
}

/// Reads the index, a chunk after the other: `tail` is the stored index and the footer.
pub(crate) fn read_index(
    key: &str,
    id: PackId,
    tail: &[u8],
    crypt: &Crypt,
    take: &mut dyn FnMut(ChunkRef),
) -> BackupResult<()> {
    let damaged = |why: &dyn std::fmt::Display| BackupError::damaged(key, why);
    let stored = stored_index(key, tail)?;
    let packed = crypt.open(stored, &place(id)).map_err(|e| damaged(&e))?;
    each(key, &packed, INDEX_MAX, &mut |e: WireEntry| {
        let encoding =
            Encoding::from_wire(e.encoding).ok_or_else(|| damaged(&"a chunk is stored in an unknown way"))?;
        let len = usize::try_from(e.len).unwrap_or(usize::MAX);
        if !(1..=CHUNK_MAX).contains(&len) || !stored_is_possible(e.offset, e.stored) {
            return Err(damaged(&"a chunk has an impossible size"));
        }
        let place = ChunkLocation { pack: id, offset: e.offset, stored: e.stored, encoding };
        take(ChunkRef { id: e.id, len: e.len, place });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack() -> (PackId, Vec<u8>, Vec<ChunkLocation>) {
        let id = PackId { run: 3, seq: 1 };
        let mut pack = PackBuilder::new(id, b"used before".to_vec());
        let places = vec![
            pack.add([1; 32], 3, b"abc", Encoding::Raw).unwrap(),
            pack.add([2; 32], 9, b"defg", Encoding::Zstd).unwrap(),
        ];
        (id, pack.finish(&Crypt::default()).unwrap(), places)
    }

    #[test]
    fn chunks_are_where_the_index_says() {
        let (id, bytes, places) = pack();
        let len = index_len("k", &bytes[bytes.len() - FOOTER..]).unwrap();
        let mut index = Vec::new();
        let mut learn = |chunk| index.push(chunk);
        read_index("k", id, &bytes[bytes.len() - FOOTER - len..], &Crypt::default(), &mut learn).unwrap();
        assert_eq!(index.iter().map(|c| c.place).collect::<Vec<_>>(), places);
        let second = index[1].place;
        assert_eq!(&bytes[second.offset as usize..][..second.stored as usize], b"defg");
    }

    #[test]
    fn no_pack_is_larger_than_is_said() {
        let chunk = [9; 30];
        for count in [1_u8, 2, 23, 24, 250] {
            let mut pack = PackBuilder::new(PackId { run: u64::MAX, seq: u32::MAX }, Vec::new());
            for n in 0..count {
                let id = *blake3::hash(&[n]).as_bytes();
                pack.add(id, u32::MAX, &chunk, Encoding::Zstd).unwrap();
            }
            let bytes = pack.finish(&Crypt::default()).unwrap();
            let most = size_at_most(count.into(), u64::from(count) * 30);
            let sealed = (bytes.len() + crate::crypt::OVERHEAD) as u64;
            assert!(sealed <= most && most < 3 * sealed, "{count}: {sealed}, said {most}");
        }
    }

    #[test]
    fn a_damaged_index_is_refused() {
        let (id, bytes, _) = pack();
        let len = index_len("k", &bytes[bytes.len() - FOOTER..]).unwrap();
        let tail = &bytes[bytes.len() - FOOTER - len..];
        for n in 0..tail.len() {
            let mut bad = tail.to_vec();
            bad[n] ^= 4;
            assert!(read_index("k", id, &bad, &Crypt::default(), &mut |_| ()).is_err(), "byte {n}");
            assert!(read_index("k", id, &tail[n + 1..], &Crypt::default(), &mut |_| ()).is_err());
        }
    }
}
