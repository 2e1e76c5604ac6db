//! What reads the bytes of a store, for the fuzz targets in `fuzz/`: they are another workspace and see only
//! what is public. No part of the interface.
//!
//! Checksums and compression stand before the readers, and no fuzzer gets past a checksum by chance. So bytes
//! go to the readers both as they are and wrapped as a writer would have wrapped them.

use std::collections::HashMap;

use crate::browse::walk_bytes;
use crate::crypt::Crypt;
use crate::engine::relocations::{self, Relocations};
use crate::format::chunk::{ChunkLocation, ChunkRef, Decoder, Encoding, PackId};
use crate::format::manifest::Root;
use crate::format::pack::{FOOTER, index_len, read_index, with_footer};
use crate::format::segment::Segment;
use crate::format::wire::unpack;
use crate::memory::{Charge, Memory};
use crate::record::{BackupRecord, VolumeConfig};
use crate::v0::blocks::unzip;

const PACK: PackId = PackId { run: 1, seq: 1 };

/// Memory as an operation has it.
fn charge() -> Charge {
    Memory::new(64 << 20).charge()
}

fn packed(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 1).unwrap_or_default()
}

/// Records of both formats: whether one was read.
///
/// # Panics
/// When what was read cannot be written and read again.
pub fn record(bytes: &[u8]) -> bool {
    let config = serde_json::from_slice::<VolumeConfig>(bytes).is_ok();
    let Ok(record) = BackupRecord::parse("fuzz", bytes, &mut charge()) else { return config };
    let again = record.to_bytes().map(|bytes| BackupRecord::parse("fuzz", &bytes, &mut charge()));
    assert!(matches!(again, Ok(Ok(_))), "what was written is read");
    true
}

/// A manifest: as stored, and by its two parts, of which the first has as many bytes as the first byte says.
pub fn manifest(bytes: &[u8]) -> bool {
    let crypt = Crypt::default();
    let read = |bytes: &[u8]| {
        let packs = Root::each_pack("fuzz", bytes, &mut |_| Ok(())).is_ok();
        Root::parse("fuzz", bytes, "vol1", "b-1", &crypt, &mut charge()).is_ok() && packs
    };
    let Some((length, rest)) = bytes.split_first() else { return false };
    let (table, root) = rest.split_at(usize::from(*length).min(rest.len()));
    let table = packed(table);
    let length = u32::try_from(table.len()).unwrap_or(u32::MAX).to_le_bytes();
    let whole = [Root::HEAD, &length, &table, &packed(root)].concat();
    let stored = read(bytes);
    read(&whole) || stored
}

/// A segment of a manifest.
///
/// # Panics
/// When what was read is written and read again as something else.
pub fn segment(bytes: &[u8]) -> bool {
    let Ok(segment) = Segment::parse("fuzz", bytes, &mut charge()) else { return false };
    if let Ok(again) = segment.to_bytes() {
        assert_eq!(
            Segment::parse("fuzz", &again, &mut charge()).ok(),
            Some(segment),
            "what was written is read"
        );
    }
    true
}

/// The index of a pack: as stored, and as a writer would have stored it.
pub fn pack(bytes: &[u8]) -> bool {
    let crypt = Crypt::default();
    let stored = read_index("fuzz", PACK, bytes, &crypt, &mut |_| ()).is_ok();
    let _ = bytes.last_chunk::<FOOTER>().map(|footer| index_len("fuzz", footer));
    let wrapped = with_footer(&packed(bytes)).unwrap_or_default();
    read_index("fuzz", PACK, &wrapped, &crypt, &mut |_| ()).is_ok() || stored
}

/// Where chunks went that `prune` has moved.
pub fn moves(bytes: &[u8]) -> bool {
    let crypt = Crypt::default();
    let read = |bytes: &[u8]| -> Option<HashMap<_, _>> {
        Relocations::parse("fuzz", PACK, bytes, &crypt, &mut charge()).ok().flatten()
    };
    let stored = read(bytes).is_some();
    read(&[&relocations::MAGIC[..], &[0], &packed(bytes)].concat()).is_some() || stored
}

/// A chunk: as stored, of the length that the first two bytes say.
///
/// # Panics
/// When it gives other bytes than those with its hash.
pub fn chunk(bytes: &[u8]) -> bool {
    let crypt = Crypt::default();
    let Some((length, stored)) = bytes.split_first_chunk::<2>() else { return false };
    let length = u16::from_le_bytes(*length);
    let right = zstd::bulk::decompress(stored, usize::from(length)).unwrap_or_default();
    let Ok(mut decoder) = Decoder::new(crypt.clone()) else { return false };
    let mut read = false;
    for (encoding, id) in
        [(Encoding::Zstd, crypt.hash(&right)), (Encoding::Raw, crypt.hash(stored)), (Encoding::Zstd, [0; 32])]
    {
        let size = u32::try_from(stored.len()).unwrap_or(u32::MAX);
        let place = ChunkLocation { pack: PACK, offset: 0, stored: size, encoding };
        if let Ok(plain) = decoder.decode(&ChunkRef { id, len: length.into(), place }, stored) {
            assert!(crypt.hash(plain) == id && plain.len() == usize::from(length), "other bytes");
            read = true;
        }
    }
    let _ = unpack("fuzz", stored, length.into(), &mut charge());
    read
}

/// A block of 0.5.
///
/// # Panics
/// When it gives more bytes than a block has, and one to tell.
pub fn old_block(bytes: &[u8]) -> bool {
    let Ok(plain) = unzip(bytes) else { return false };
    assert!(plain.len() <= (2 << 20) + 1, "{} bytes", plain.len());
    true
}

/// An archive of 0.5, uncompressed: what a reader tells of it, path by path, without data. It is sorted in
/// memory, and in runs of which most have one entry; both must tell the same.
///
/// # Panics
/// When they do not.
pub fn archive(bytes: &[u8], room: &std::path::Path) -> Option<Vec<convoy_tree::Entry>> {
    let [whole, runs] = [8 << 20, 500].map(|batch| walk_bytes(bytes, room, batch).ok());
    // Very many runs take more memory than there is.
    if let Some(runs) = runs {
        assert_eq!(whole.as_ref(), Some(&runs), "sorted in another way");
    }
    Some(whole?.into_iter().map(|node| node.entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::segment::tests::any_segment;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_writers_write_is_read(segment_of in any_segment()) {
            prop_assert!(segment(&segment_of.to_bytes().unwrap()));
        }

        #[test]
        fn no_bytes_are_too_bad(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for read in [record, manifest, segment, pack, moves, chunk, old_block] {
                read(&bytes);
            }
        }
    }

    #[test]
    fn records_of_0_5_and_chunks_are_read() {
        let dir = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/vfs-store/convoy-objectstore/volumes/we/b!/web!"
        );
        let read = |path: &str| std::fs::read(format!("{dir}/{path}")).unwrap();
        assert!(record(&read("volume.cfg")));
        assert!(record(&read("backups/backup_backup-d25370b24de8426c.cfg")));
        assert!(!record(b"{}{}"));
        let plain = b"a chunk a chunk a chunk a chunk";
        let length = u16::try_from(plain.len()).unwrap().to_le_bytes();
        assert!(chunk(&[&length[..], &packed(plain)].concat()));
        assert!(old_block(&read("BackupFiles/backup-d25370b24de8426c.bak")));
    }
}
