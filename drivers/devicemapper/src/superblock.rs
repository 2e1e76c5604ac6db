//! The first block of a pool's metadata device, as far as it says whether this is one.

use crate::error::{Error, Result};
use crate::sectors::Sectors;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Size of a block of metadata, in bytes.
pub const METADATA_BLOCK: u64 = 4096;
/// What the kernel can use of a metadata device: 255 index blocks of 16,320 metadata blocks each
/// (`THIN_METADATA_MAX_SECTORS`), 15.8 GiB.
pub const MAX_METADATA_BYTES: u64 = 255 * ((1 << 14) - 64) * METADATA_BLOCK;

/// `THIN_SUPERBLOCK_MAGIC`, at byte 32, little-endian.
const MAGIC: u64 = 27_022_010;
const MAGIC_AT: usize = 32;
/// The size of the pool's blocks in sectors, a little-endian 32-bit number: after checksum, flags, block
/// number (4 + 4 + 8), UUID (16), magic (8), version and time (4 + 4), transaction and held root (8 + 8), two
/// space map roots of 128 bytes, the two tree roots (8 + 8).
const BLOCK_SIZE_AT: usize = 16 + 16 + 8 + 8 + 16 + 256 + 16;

/// What a metadata device holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Superblock {
    /// Nothing: the kernel makes a new pool of it.
    Blank,
    /// A pool with blocks of this size.
    Pool { block: Sectors },
    /// Something else, which must not be overwritten.
    Foreign,
}

impl Superblock {
    /// Reads the first block of a device.
    pub fn read(device: &Path) -> Result<Self> {
        let what = || format!("read the metadata device {}", device.display());
        let mut block = vec![0; usize::try_from(METADATA_BLOCK).unwrap_or_default()];
        File::open(device)
            .and_then(|file| file.read_exact_at(&mut block, 0))
            .map_err(|source| Error::Io { what: what(), source })?;
        Ok(Self::parse(&block))
    }

    fn parse(block: &[u8]) -> Self {
        if block.iter().all(|byte| *byte == 0) {
            return Self::Blank;
        }
        let field = |at: usize, len: usize| block.get(at..at + len);
        let magic = field(MAGIC_AT, 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let size = field(BLOCK_SIZE_AT, 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        match (magic, size) {
            (Some(MAGIC), Some(sectors)) => Self::Pool { block: Sectors(sectors.into()) },
            _ => Self::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_device_a_pool_and_anything_else_are_told_apart() {
        let mut block = vec![0; 4096];
        assert_eq!(Superblock::parse(&block), Superblock::Blank);
        block[1080] = 0x53;
        assert_eq!(Superblock::parse(&block), Superblock::Foreign);
        block[MAGIC_AT..MAGIC_AT + 8].copy_from_slice(&MAGIC.to_le_bytes());
        block[BLOCK_SIZE_AT..BLOCK_SIZE_AT + 4].copy_from_slice(&128u32.to_le_bytes());
        assert_eq!(Superblock::parse(&block), Superblock::Pool { block: Sectors(128) });
        assert_eq!(Superblock::parse(&block[..64]), Superblock::Foreign);
    }
}
