//! The first superblock of an ext4, as far as it is read here. It is written by `debugfs` alone.

use crc::{CRC_32_ISCSI, Crc};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where it is on the device, and how long it is, in bytes.
const AT: u64 = 1024;
const LENGTH: usize = 1024;

/// Fields, by the kernel's documentation of ext4 ("The Super Block"): `s_first_data_block`,
/// `s_log_block_size`, `s_blocks_per_group`, `s_wtime`, `s_magic`, `s_feature_ro_compat` and in
/// it `RO_COMPAT_METADATA_CSUM`, `s_last_mounted`, `s_checksum`.
const FIRST_BLOCK: usize = 0x14;
const LOG_BLOCK_SIZE: usize = 0x18;
const BLOCKS_PER_GROUP: usize = 0x20;
const WRITTEN: usize = 0x30;
const MAGIC: (usize, [u8; 2]) = (0x38, [0x53, 0xef]);
const RO_COMPAT: usize = 0x64;
const METADATA_CSUM: u32 = 0x400;
const LAST_MOUNTED: std::ops::Range<usize> = 0x88..0x88 + 64;
const CHECKSUM: usize = 0x3fc;

/// CRC-32C; that of ext4 is not inverted at the end.
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

#[derive(Debug)]
pub(super) struct Superblock([u8; LENGTH]);

impl Superblock {
    /// Reads it; `None` where there is no ext2, ext3 or ext4.
    pub(super) fn read(device: &Path) -> io::Result<Option<Self>> {
        let mut bytes = [0; LENGTH];
        match File::open(device)?.read_exact_at(&mut bytes, AT) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            done => done?,
        }
        Ok((bytes[MAGIC.0..][..2] == MAGIC.1).then_some(Self(bytes)))
    }

    fn word(&self, at: usize) -> u32 {
        self.0[at..at + 4].iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
    }

    /// Whether its checksum, if it has one, is right.
    pub(super) fn is_whole(&self) -> bool {
        let has_none = self.word(RO_COMPAT) & METADATA_CSUM == 0;
        has_none || self.word(CHECKSUM) == !CRC32C.checksum(&self.0[..CHECKSUM])
    }

    /// When it was written last, in seconds since 1970.
    pub(super) fn written(&self) -> u32 {
        self.word(WRITTEN)
    }

    /// Where the superblock of the second group is, if there is one, as a number of blocks; and how large a
    /// block is, in bytes. Neither changes when the file system grows.
    pub(super) fn second(&self) -> (u64, u64) {
        let block = u64::from(self.word(FIRST_BLOCK)) + u64::from(self.word(BLOCKS_PER_GROUP));
        (block, 1024 << self.word(LOG_BLOCK_SIZE).min(6))
    }

    /// Where the file system was mounted last.
    pub(super) fn last_mounted(&self) -> &[u8] {
        self.0[LAST_MOUNTED].split(|byte| *byte == 0).next().unwrap_or_default()
    }
}
