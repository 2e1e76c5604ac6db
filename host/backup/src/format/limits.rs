//! What the format allows: docs/backup-format.md gives the same numbers. A reader refuses what is beyond
//! them, before it takes memory for it.

use crate::crypt::OVERHEAD;

/// Plain bytes of a chunk.
pub(crate) const CHUNK_MAX: usize = 4 << 20;
/// Stored bytes of a chunk: it is never stored in more than it has, but for what a seal adds.
pub(crate) const STORED_MAX: usize = CHUNK_MAX + OVERHEAD;
/// Bytes of the root of a manifest as it is stored. 100 million files need about 8 MiB, a device of 64 TiB
/// about 40 MiB.
pub(crate) const ROOT_MAX: u64 = 64 << 20;
/// Bytes of its lists, unpacked.
pub(crate) const ROOT_PLAIN_MAX: usize = 256 << 20;
/// Bytes of the index of a pack, stored or unpacked: more would list more chunks than a pack holds.
pub(crate) const INDEX_MAX: usize = 64 << 20;
/// Bytes of an object of moves, stored or unpacked.
pub(crate) const MOVES_MAX: usize = 64 << 20;
/// Bytes of the record of a backup in format 1, and of what a record in format 0 has beside its blocks.
pub(crate) const RECORD_MAX: usize = 1 << 20;
/// Bytes of a record in format 0: about 110 for each 2 MiB, so this is enough for 4 TiB.
pub(crate) const RECORD_V0_MAX: u64 = 256 << 20;
/// Bytes of a text in a record: a name, a time, a key.
pub(crate) const TEXT_MAX: usize = 4 << 10;
/// Options in a record.
pub(crate) const OPTIONS_MAX: usize = 1024;
/// Bytes of the value of an option.
pub(crate) const OPTION_MAX: usize = 64 << 10;
/// Members of a record whose labels are changed: many more than convoy knows.
pub(crate) const MEMBERS_MAX: usize = 256;
/// Tags of a backup.
pub(crate) const TAGS_MAX: usize = 64;
/// Bytes of the key of a tag.
pub(crate) const TAG_KEY_MAX: usize = 63;
/// Bytes of the value of a tag.
pub(crate) const TAG_VALUE_MAX: usize = 255;
/// Bytes of the note of a backup.
pub(crate) const NOTE_MAX: usize = 4 << 10;
/// Patterns that leave something out of a backup.
pub(crate) const RULES_MAX: usize = 256;
/// Bytes of one of them.
pub(crate) const RULE_MAX: usize = 256;
/// Names of markers that leave something out.
pub(crate) const MARKERS_MAX: usize = 16;
/// Bytes of a name in a directory.
pub(crate) const NAME_MAX: usize = 255;
/// Bytes of the file in a volume that says what to leave out.
pub(crate) const IGNORE_FILE_MAX: u64 = 16 << 10;
/// Patterns in it.
pub(crate) const IGNORE_RULES_MAX: usize = 128;
/// Rules of which a record says what they left out.
pub(crate) const EXCLUDED_RULES_MAX: usize = 512;
/// Bytes of `volume.cfg` and of what it said before.
pub(crate) const CONFIG_MAX: u64 = 64 << 10;
/// How often a chunk may have moved: moves are few, so a longer chain is a circle.
pub(crate) const MOVES_CHAIN_MAX: usize = 64;
/// Bytes of a window that zstd may need to unpack something: no writer's level asks for more.
pub(crate) const WINDOW_LOG_MAX: u32 = 23;
/// Bytes of a block of a device.
pub(crate) const BLOCK_SIZES: std::ops::RangeInclusive<u32> = (4 << 10)..=(4 << 20);
/// What most objects are smaller than. No limit: where larger ones are read one after the other.
pub(crate) const SMALL_OBJECT: u64 = 64 << 10;
