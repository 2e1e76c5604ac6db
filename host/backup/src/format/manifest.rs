//! The root of a manifest: an object of its own, which lists the segments and the packs of a backup.
//!
//! `"CVYM" version(1)`, the length of the table of packs (4 bytes, little endian), the table (CBOR, zstd), then the rest (CBOR, zstd, sealed in an
//! encrypted store). The table is never sealed: who deletes garbage must know what is in use, and need not have the key. The record of
//! the backup has the checksum of the whole.

use minicbor::{Decode, Encode};

use super::wire::{PackTable, Piece, WireChunk, WirePack, from_cbor, read_piece, to_cbor, unpack};
use crate::crypt::Crypt;
use crate::error::{BackupError, BackupResult};

const MAGIC: &[u8; 4] = b"CVYM";
const VERSION: u8 = 1;
/// Enough for 64 TiB; a larger one is not a manifest.
pub(crate) const ROOT_MAX: usize = 256 << 20;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackupKind {
    /// A directory tree.
    Tree,
    /// The blocks of a device.
    Block,
}

impl BackupKind {
    /// `tree` or `block`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Block => "block",
        }
    }
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct WireRoot {
    #[n(0)]
    kind: u8,
    #[n(1)]
    volume: String,
    #[n(2)]
    backup: String,
    /// Bytes of the device; 0 for a tree.
    #[n(3)]
    size: u64,
    /// Bytes of a block; 0 for a tree.
    #[n(4)]
    block_size: u32,
    /// Whether any item is a hard link.
    #[n(5)]
    hard_links: bool,
    #[n(6)]
    segments: Vec<WireChunk>,
    /// Whether the backup's record ends in a code: then one without it was tampered with.
    #[n(7)]
    record_code: Option<bool>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct WirePacks {
    #[n(0)]
    packs: Vec<WirePack>,
}

/// The root of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) kind: BackupKind,
    pub(crate) volume: String,
    pub(crate) backup: String,
    pub(crate) size: u64,
    pub(crate) block_size: u32,
    pub(crate) hard_links: bool,
    /// Whether the backup's record ends in a code.
    pub(crate) record_code: bool,
    /// Every pack the backup needs, with the stored bytes it uses there.
    pub(crate) packs: Vec<WirePack>,
    /// The segments in order. Where a piece "belongs" is its number for a tree and the first byte it covers for a device.
    pub(crate) segments: Vec<Piece>,
}

impl Root {
    /// What every manifest begins with.
    pub(crate) const HEAD: &[u8] = &[MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], VERSION];

    /// The object to store. `packs` has counted what the data uses; the segments are added here.
    pub(crate) fn to_bytes(&self, mut packs: PackTable, crypt: &Crypt) -> BackupResult<Vec<u8>> {
        let segments = self.segments.iter().map(|piece| packs.wire(piece, true)).collect();
        let wire = WireRoot {
            kind: match self.kind {
                BackupKind::Tree => 0,
                BackupKind::Block => 1,
            },
            volume: self.volume.clone(),
            backup: self.backup.clone(),
            size: self.size,
            block_size: self.block_size,
            hard_links: self.hard_links,
            segments,
            record_code: self.record_code.then_some(true),
        };
        let invalid =
            |e: &dyn std::fmt::Display| BackupError::Invalid(format!("a manifest cannot be written: {e}"));
        let table = to_cbor(&WirePacks { packs: packs.into_packs() })?;
        let table = zstd::bulk::compress(&table, 3).map_err(|e| invalid(&e))?;
        let packed = zstd::bulk::compress(&to_cbor(&wire)?, 3).map_err(|e| invalid(&e))?;
        let sealed = crypt.seal(packed, &place(&self.volume, &self.backup)).map_err(|e| invalid(&e))?;
        let mut bytes = Vec::with_capacity(sealed.len() + table.len() + 9);
        bytes.extend_from_slice(Self::HEAD);
        bytes.extend_from_slice(&u32::try_from(table.len()).map_err(|e| invalid(&e))?.to_le_bytes());
        bytes.extend_from_slice(&table);
        bytes.extend_from_slice(&sealed);
        Ok(bytes)
    }

    /// The packs a manifest needs, for which no key is needed; and the rest.
    pub(crate) fn parse_packs<'b>(key: &str, bytes: &'b [u8]) -> BackupResult<(Vec<WirePack>, &'b [u8])> {
        let damaged = |why: &dyn std::fmt::Display| BackupError::damaged(key, why);
        let (head, rest) =
            bytes.split_first_chunk::<5>().ok_or_else(|| damaged(&"it is too short for a manifest"))?;
        if !head.starts_with(MAGIC) {
            return Err(damaged(&"it does not begin as a manifest does"));
        }
        if head[4] != VERSION {
            return Err(BackupError::Version {
                key: key.to_owned(),
                found: head[4].into(),
                known: VERSION.into(),
            });
        }
        let (len, rest) =
            rest.split_first_chunk::<4>().ok_or_else(|| damaged(&"it is too short for a manifest"))?;
        let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let (table, sealed) =
            rest.split_at_checked(len).ok_or_else(|| damaged(&"it is too short for its table of packs"))?;
        let table: WirePacks = from_cbor(key, &unpack(key, table, ROOT_MAX)?)?;
        Ok((table.packs, sealed))
    }

    /// Reads a root, which must be of this backup.
    pub(crate) fn parse(
        key: &str,
        bytes: &[u8],
        volume: &str,
        backup: &str,
        crypt: &Crypt,
    ) -> BackupResult<Self> {
        let damaged = |why: &dyn std::fmt::Display| BackupError::damaged(key, why);
        let (packs, sealed) = Self::parse_packs(key, bytes)?;
        let packed = crypt.open(sealed, &place(volume, backup)).map_err(|e| damaged(&e))?;
        let plain = unpack(key, &packed, ROOT_MAX)?;
        let wire: WireRoot = from_cbor(key, &plain)?;
        if wire.volume != volume || wire.backup != backup {
            return Err(damaged(&format_args!(
                "it belongs to backup {} of volume {}",
                wire.backup, wire.volume
            )));
        }
        let kind = match wire.kind {
            0 => BackupKind::Tree,
            1 if wire.block_size > 0 => BackupKind::Block,
            _ => return Err(damaged(&"it is neither of a tree nor of a device")),
        };
        let segments = wire.segments.iter().map(|s| read_piece(key, &packs, s)).collect::<Result<_, _>>()?;
        Ok(Self {
            kind,
            volume: wire.volume,
            backup: wire.backup,
            size: wire.size,
            block_size: wire.block_size,
            hard_links: wire.hard_links,
            record_code: wire.record_code.unwrap_or_default(),
            packs,
            segments,
        })
    }
}

/// What a root is sealed for.
fn place(volume: &str, backup: &str) -> Vec<u8> {
    format!("convoy manifest {volume}/{backup}").into_bytes()
}

/// What others could make of a manifest.
#[cfg(test)]
pub(crate) mod forged {
    use super::*;

    /// The manifest as convoy wrote it before records had codes. Needs the key.
    pub(crate) fn without_code(bytes: &[u8], volume: &str, backup: &str, crypt: &Crypt) -> Vec<u8> {
        let (_, sealed) = Root::parse_packs("k", bytes).unwrap();
        let packed = crypt.open(sealed, &place(volume, backup)).unwrap();
        let mut wire: WireRoot = from_cbor("k", &unpack("k", &packed, ROOT_MAX).unwrap()).unwrap();
        assert_eq!(wire.record_code.take(), Some(true));
        let packed = zstd::bulk::compress(&to_cbor(&wire).unwrap(), 3).unwrap();
        let table = bytes.len() - sealed.len();
        [&bytes[..table], &crypt.seal(packed, &place(volume, backup)).unwrap()].concat()
    }

    /// The manifest with a table that names one of its packs in the place of all. Needs no key.
    pub(crate) fn with_one_pack(bytes: &[u8], number: usize) -> Vec<u8> {
        let (packs, sealed) = Root::parse_packs("k", bytes).unwrap();
        let packs = packs.iter().map(|_| packs[number]).collect();
        let table = zstd::bulk::compress(&to_cbor(&WirePacks { packs }).unwrap(), 3).unwrap();
        let length = u32::try_from(table.len()).unwrap().to_le_bytes();
        [Root::HEAD, &length, &table, sealed].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::segment::tests::any_piece;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_root_comes_back_and_damage_is_noticed(segments in prop::collection::vec(any_piece(), 0..6), at: prop::sample::Index) {
            let root = Root {
                kind: BackupKind::Block, volume: "vol".into(), backup: "bak".into(), size: 77, block_size: 4096, hard_links: false, record_code: true,
                packs: Vec::new(), segments,
            };
            let crypt = Crypt::default();
            let bytes = root.to_bytes(PackTable::default(), &crypt).unwrap();
            let read = Root::parse("k", &bytes, "vol", "bak", &crypt).unwrap();
            prop_assert_eq!(&read.segments, &root.segments);
            prop_assert!(read.record_code);
            prop_assert!(Root::parse("k", &bytes, "vol", "other", &crypt).is_err());
            let at = at.index(bytes.len());
            prop_assert!(Root::parse("k", &bytes[..at], "vol", "bak", &crypt).is_err());
            let mut newer = bytes.clone();
            newer[4] = 2;
            let newer = Root::parse("k", &newer, "vol", "bak", &crypt);
            let refused = matches!(newer, Err(BackupError::Version { found: 2, .. }));
            prop_assert!(refused);
        }
    }
}
