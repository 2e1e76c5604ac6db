//! The root of a manifest: an object of its own, which lists the segments and the packs of a backup.
//!
//! `"CVYM" version(1)`, the length of the table of packs (4 bytes, little endian), the table (CBOR, zstd),
//! then the rest (CBOR, zstd, sealed in an encrypted store). The table is never sealed: who deletes garbage
//! must know what is in use, and need not have the key. The record of the backup has the checksum of the
//! whole.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::limits::{BLOCK_SIZES, ROOT_PLAIN_MAX};
use super::wire::{
    List, PackTable, Pay, Piece, WireChunk, WirePack, each, from_cbor, read_piece_in, to_cbor, unpack,
};
use crate::crypt::Crypt;
use crate::error::{BackupError, BackupResult};
use crate::memory::Charge;

const MAGIC: &[u8; 4] = b"CVYM";
const VERSION: u8 = 1;

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
#[cbor(map, context_bound = "Pay")]
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
    segments: List<WireChunk>,
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
    /// The segments in order. Where a piece "belongs" is its number for a tree and the first byte it covers
    /// for a device.
    pub(crate) segments: Vec<Piece>,
}

impl Root {
    /// What every manifest begins with.
    pub(crate) const HEAD: &[u8] = &[MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], VERSION];

    /// The object to store. `packs` has counted what the data uses; the segments are added here.
    pub(crate) fn to_bytes(&self, mut packs: PackTable, crypt: &Crypt) -> BackupResult<Vec<u8>> {
        let segments = List(self.segments.iter().map(|piece| packs.wire(piece, true)).collect());
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

    /// The table of packs and the rest, as they are stored.
    fn split<'b>(key: &str, bytes: &'b [u8]) -> BackupResult<(&'b [u8], &'b [u8])> {
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
        rest.split_at_checked(len).ok_or_else(|| damaged(&"it is too short for its table of packs"))
    }

    /// The packs a manifest needs, for which no key is needed, with the stored bytes it uses there. They are
    /// as many as the backup is large, and therefore read one by one.
    pub(crate) fn each_pack(
        key: &str,
        bytes: &[u8],
        take: &mut dyn FnMut(WirePack) -> BackupResult<()>,
    ) -> BackupResult<()> {
        each(key, Self::split(key, bytes)?.0, ROOT_PLAIN_MAX, take)
    }

    /// Reads a root, which must be of this backup. The memory it takes is charged.
    pub(crate) fn parse(
        key: &str,
        bytes: &[u8],
        volume: &str,
        backup: &str,
        crypt: &Crypt,
        charge: &mut Charge,
    ) -> BackupResult<Self> {
        let damaged = |why: &dyn std::fmt::Display| BackupError::damaged(key, why);
        let (_, sealed) = Self::split(key, bytes)?;
        charge.add(key, sealed.len())?;
        let packed = crypt.open(sealed, &place(volume, backup)).map_err(|e| damaged(&e))?;
        let plain = unpack(key, &packed, ROOT_PLAIN_MAX, charge)?;
        let wire: WireRoot = from_cbor(key, &plain, charge)?;
        drop((packed, plain));
        charge.keep(wire.segments.0.len().saturating_mul(2 * size_of::<WireChunk>()));
        if wire.volume != volume || wire.backup != backup {
            return Err(damaged(&format_args!(
                "it belongs to backup {} of volume {}",
                wire.backup, wire.volume
            )));
        }
        let kind = match wire.kind {
            0 => BackupKind::Tree,
            1 if BLOCK_SIZES.contains(&wire.block_size) => BackupKind::Block,
            _ => return Err(damaged(&"it is neither of a tree nor of a device")),
        };
        let segments = Self::read_segments(key, bytes, &wire.segments.0, charge)?;
        charge.keep(segments.len().saturating_mul(size_of::<Piece>()));
        Ok(Self {
            kind,
            volume: wire.volume,
            backup: wire.backup,
            size: wire.size,
            block_size: wire.block_size,
            hard_links: wire.hard_links,
            record_code: wire.record_code.unwrap_or_default(),
            segments,
        })
    }

    /// The segments, each of which there is once: to read one again and again would never end.
    fn read_segments(
        key: &str,
        bytes: &[u8],
        wire: &[WireChunk],
        charge: &mut Charge,
    ) -> BackupResult<Vec<Piece>> {
        charge.add(key, wire.len().saturating_mul(2 * size_of::<(u32, Option<WirePack>)>()))?;
        let mut packs: BTreeMap<u32, Option<WirePack>> =
            wire.iter().map(|chunk| (chunk.pack, None)).collect();
        let mut number = 0_u32;
        Self::each_pack(key, bytes, &mut |pack| {
            if let Some(wanted) = packs.get_mut(&number) {
                *wanted = Some(pack);
            }
            number = number.saturating_add(1);
            Ok(())
        })?;
        let pack = |chunk: &WireChunk| packs.get(&chunk.pack).and_then(Option::as_ref);
        let segments: Vec<Piece> =
            wire.iter().map(|chunk| read_piece_in(key, pack(chunk), chunk)).collect::<Result<_, _>>()?;
        charge.add(key, wire.len().saturating_mul(32))?;
        let mut ids: Vec<_> = wire.iter().map(|chunk| chunk.id).collect();
        ids.sort_unstable();
        if !ids.is_sorted_by(|a, b| a < b) || !segments.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(BackupError::damaged(key, "it names a segment twice, or not in order"));
        }
        Ok(segments)
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
    use crate::memory::Memory;

    /// The manifest as convoy wrote it before records had codes. Needs the key.
    pub(crate) fn without_code(bytes: &[u8], volume: &str, backup: &str, crypt: &Crypt) -> Vec<u8> {
        let mut charge = Memory::new(1 << 20).charge();
        let (_, sealed) = Root::split("k", bytes).unwrap();
        let packed = crypt.open(sealed, &place(volume, backup)).unwrap();
        let plain = unpack("k", &packed, ROOT_PLAIN_MAX, &mut charge).unwrap();
        let mut wire: WireRoot = from_cbor("k", &plain, &mut charge).unwrap();
        assert_eq!(wire.record_code.take(), Some(true));
        let packed = zstd::bulk::compress(&to_cbor(&wire).unwrap(), 3).unwrap();
        let table = bytes.len() - sealed.len();
        [&bytes[..table], &crypt.seal(packed, &place(volume, backup)).unwrap()].concat()
    }

    /// The manifest with a table that names one of its packs in the place of all. Needs no key.
    pub(crate) fn with_one_pack(bytes: &[u8], number: usize) -> Vec<u8> {
        let mut packs = Vec::new();
        Root::each_pack("k", bytes, &mut |pack| {
            packs.push(pack);
            Ok(())
        })
        .unwrap();
        let packs = packs.iter().map(|_| packs[number]).collect();
        let table = zstd::bulk::compress(&to_cbor(&WirePacks { packs }).unwrap(), 3).unwrap();
        let length = u32::try_from(table.len()).unwrap().to_le_bytes();
        [Root::HEAD, &length, &table, Root::split("k", bytes).unwrap().1].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::segment::tests::any_piece;
    use crate::memory::Memory;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_root_comes_back_and_damage_is_noticed(mut segments in prop::collection::vec(any_piece(), 0..6), at: prop::sample::Index) {
            segments.sort_by_key(|(at, _)| *at);
            let root = Root {
                kind: BackupKind::Block, volume: "vol".into(), backup: "bak".into(), size: 77, block_size: 4096, hard_links: false,
                record_code: true, segments,
            };
            let (crypt, mut charge) = (Crypt::default(), Memory::new(1 << 20).charge());
            let bytes = root.to_bytes(PackTable::default(), &crypt).unwrap();
            let read = Root::parse("k", &bytes, "vol", "bak", &crypt, &mut charge).unwrap();
            prop_assert_eq!(&read.segments, &root.segments);
            prop_assert!(read.record_code);
            prop_assert!(Root::parse("k", &bytes, "vol", "other", &crypt, &mut charge).is_err());
            let at = at.index(bytes.len());
            prop_assert!(Root::parse("k", &bytes[..at], "vol", "bak", &crypt, &mut charge).is_err());
            let mut newer = bytes.clone();
            newer[4] = 2;
            let newer = Root::parse("k", &newer, "vol", "bak", &crypt, &mut charge);
            let refused = matches!(newer, Err(BackupError::Version { found: 2, .. }));
            prop_assert!(refused);
        }
    }
}
