//! The first superblock of an ext4: whether it is whole, and the place where it says that it was last mounted.
//!
//! The tools of e2fsprogs write what they change of it a few bytes at a time, and its checksum last: one that is killed in between leaves a
//! superblock that nobody opens. What is written here is one write, which no signal cuts.

use crc::{CRC_32_ISCSI, Crc};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where it is on the device, in bytes, and how long.
const AT: u64 = 1024;
const LENGTH: usize = 1024;

/// Of the superblock, by the kernel's documentation of ext4 ("The Super Block"): `s_magic`, `s_feature_ro_compat` and of it
/// `RO_COMPAT_METADATA_CSUM`, `s_last_mounted`, `s_checksum`.
const MAGIC: (usize, [u8; 2]) = (0x38, [0x53, 0xef]);
const RO_COMPAT: usize = 0x64;
const METADATA_CSUM: u32 = 0x400;
const LAST_MOUNTED: std::ops::Range<usize> = 0x88..0x88 + 64;
const CHECKSUM: usize = 0x3fc;

/// CRC-32C; that of ext4 is not inverted at the end.
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// As it was read.
#[derive(Debug)]
pub(super) struct Superblock([u8; LENGTH]);

impl Superblock {
    /// Of what is no ext4, nor one of those before it: nothing.
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

    fn checksum(&self) -> u32 {
        !CRC32C.checksum(&self.0[..CHECKSUM])
    }

    /// Whether its checksum, if it has one, is right.
    pub(super) fn is_whole(&self) -> bool {
        self.word(RO_COMPAT) & METADATA_CSUM == 0 || self.word(CHECKSUM) == self.checksum()
    }

    /// Whether this is where it was last mounted.
    pub(super) fn was_at(&self, place: &str) -> bool {
        self.0[LAST_MOUNTED].split(|byte| *byte == 0).next() == Some(place.as_bytes())
    }

    /// Says where it was last mounted, at most 63 bytes, and makes its checksum right. On the disk when it returns.
    pub(super) fn set_place(mut self, place: &str, device: &Path) -> io::Result<()> {
        let mut field = place.bytes().take(LAST_MOUNTED.len() - 1);
        self.0[LAST_MOUNTED].fill_with(|| field.next().unwrap_or(0));
        if self.word(RO_COMPAT) & METADATA_CSUM != 0 {
            let checksum = self.checksum();
            self.0[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        }
        let file = File::options().write(true).open(device)?;
        file.write_all_at(&self.0, AT)?;
        file.sync_all()
    }
}
