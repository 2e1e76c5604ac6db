//! Segments: the stretches a manifest is cut into, themselves stored as chunks.
//!
//! A segment holds entries of a tree, or blocks of a device, in order, and a table of the packs they refer
//! to, so it can be read alone. Where it is cut follows from its content: what did not change makes the same
//! segment as in the parent backup, which is stored once.

use convoy_tree::{Entry, FileFlags, Kind, RawBytes, RelPath, Timestamp, Xattrs};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::wire::{List, PackTable, Pay, Piece, WireChunk, WirePack, from_cbor, read_piece, to_cbor};
use crate::error::{BackupError, BackupResult};
use crate::memory::Charge;

/// Bytes of the longest path that is backed up: the path of every entry is written in full. Programs can pass
/// 4,096 bytes to the kernel at once.
pub(crate) const LONGEST_PATH: usize = 32 << 10;

/// A moment: seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(array)]
pub(crate) struct WireTime {
    #[n(0)]
    pub(crate) sec: i64,
    #[n(1)]
    pub(crate) nsec: u32,
}

impl From<Timestamp> for WireTime {
    fn from(t: Timestamp) -> Self {
        Self { sec: t.sec, nsec: t.nsec }
    }
}

/// Which inode a file was, to know at the next backup whether it is the same, unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Identity {
    #[n(0)]
    pub(crate) ino: u64,
    #[n(1)]
    pub(crate) ctime: WireTime,
    /// When the inode was made, if the file system says.
    #[n(2)]
    pub(crate) btime: Option<WireTime>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct WireXattr {
    #[n(0)]
    name: ByteVec,
    #[n(1)]
    value: ByteVec,
}

/// An entry as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map, context_bound = "Pay")]
struct WireItem {
    #[n(0)]
    path: ByteVec,
    #[n(1)]
    kind: u8,
    #[n(2)]
    mode: u16,
    #[n(3)]
    uid: u32,
    #[n(4)]
    gid: u32,
    #[n(5)]
    size: u64,
    #[n(6)]
    mtime: WireTime,
    #[n(7)]
    target: Option<ByteVec>,
    #[n(8)]
    major: Option<u32>,
    #[n(9)]
    minor: Option<u32>,
    #[n(10)]
    xattrs: Option<List<WireXattr>>,
    #[n(11)]
    chunks: Option<List<WireChunk>>,
    #[n(12)]
    identity: Option<Identity>,
    /// Readers that do not know this one and the next leave them out.
    #[n(13)]
    flags: Option<u8>,
    #[n(14)]
    project: Option<u32>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map, context_bound = "Pay")]
struct WireSegment {
    #[n(0)]
    packs: List<WirePack>,
    #[n(1)]
    items: Option<List<WireItem>>,
    #[n(2)]
    blocks: Option<List<WireChunk>>,
}

/// What an item of a tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// An entry of its own.
    Own(Kind),
    /// A further name of a file, link or device that came before.
    HardLink { first: RelPath },
    /// More chunks of the file before: one with very many is spread over several items.
    Continued,
}

/// An item of a tree's manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) path: RelPath,
    pub(crate) kind: ItemKind,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of a regular file.
    pub(crate) size: u64,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Xattrs,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) identity: Option<Identity>,
    pub(crate) flags: FileFlags,
    /// The project for quotas; 0 for none.
    pub(crate) project: u32,
}

const FILE: u8 = 0;
const DIR: u8 = 1;
const SYMLINK: u8 = 2;
const CHAR: u8 = 3;
const BLOCK: u8 = 4;
const FIFO: u8 = 5;
const SOCKET: u8 = 6;
const HARD_LINK: u8 = 7;
const CONTINUED: u8 = 8;

impl Item {
    /// An entry without its data.
    pub(crate) fn of_entry(entry: Entry) -> Self {
        Self {
            path: entry.path,
            size: if entry.kind == Kind::File { entry.size } else { 0 },
            kind: ItemKind::Own(entry.kind),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs,
            pieces: Vec::new(),
            identity: None,
            flags: entry.flags,
            project: entry.project,
        }
    }

    /// A further name of an entry that came first under another.
    pub(crate) fn hard_link(first: RelPath, entry: Entry) -> Self {
        let mut item = Self::of_entry(entry);
        (item.kind, item.size) = (ItemKind::HardLink { first }, 0);
        item.xattrs.clear();
        (item.flags, item.project) = (FileFlags::empty(), 0);
        item
    }

    /// An item that carries nothing but more pieces of the file at `path`.
    pub(crate) fn continued(path: RelPath, pieces: Vec<Piece>) -> Self {
        Self {
            path,
            kind: ItemKind::Continued,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Timestamp::default(),
            xattrs: Xattrs::new(),
            pieces,
            identity: None,
            flags: FileFlags::empty(),
            project: 0,
        }
    }

    /// The entry to make again; `None` for what is not an entry of its own.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let ItemKind::Own(kind) = &self.kind else { return None };
        Some(Entry {
            path: self.path.clone(),
            kind: kind.clone(),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            mtime: self.mtime,
            // Not kept: reading a volume is not worth remembering.
            atime: self.mtime,
            ctime: Timestamp::default(),
            btime: None,
            dev: 0,
            ino: 0,
            nlink: 1,
            xattrs: self.xattrs.clone(),
            flags: self.flags,
            project: self.project,
            unread: Vec::new(),
        })
    }

    /// About the bytes of memory it takes, without its pieces.
    pub(crate) fn weight(&self) -> usize {
        let xattrs =
            self.xattrs.iter().map(|(name, value)| name.as_bytes().len() + value.as_bytes().len() + 128);
        size_of::<Self>() + self.path.as_bytes().len() + xattrs.sum::<usize>()
    }

    pub(crate) fn is_file(&self) -> bool {
        self.kind == ItemKind::Own(Kind::File)
    }

    fn wire(&self, packs: &mut PackTable) -> WireItem {
        let (kind, target, device) = match &self.kind {
            ItemKind::Own(Kind::File) => (FILE, None, None),
            ItemKind::Own(Kind::Dir) => (DIR, None, None),
            ItemKind::Own(Kind::Symlink { target }) => (SYMLINK, Some(target.as_bytes().to_vec()), None),
            ItemKind::Own(Kind::CharDevice { major, minor }) => (CHAR, None, Some((*major, *minor))),
            ItemKind::Own(Kind::BlockDevice { major, minor }) => (BLOCK, None, Some((*major, *minor))),
            ItemKind::Own(Kind::Fifo) => (FIFO, None, None),
            ItemKind::Own(Kind::Socket) => (SOCKET, None, None),
            ItemKind::HardLink { first } => (HARD_LINK, Some(first.as_bytes().to_vec()), None),
            ItemKind::Continued => (CONTINUED, None, None),
        };
        let xattrs: Vec<_> = (self.xattrs.iter())
            .map(|(n, v)| WireXattr {
                name: n.as_bytes().to_vec().into(),
                value: v.as_bytes().to_vec().into(),
            })
            .collect();
        let chunks: Vec<_> = self.pieces.iter().map(|piece| packs.wire(piece, false)).collect();
        WireItem {
            path: self.path.as_bytes().to_vec().into(),
            kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            mtime: self.mtime.into(),
            target: target.map(Into::into),
            major: device.map(|d| d.0),
            minor: device.map(|d| d.1),
            xattrs: (!xattrs.is_empty()).then_some(List(xattrs)),
            chunks: (!chunks.is_empty()).then_some(List(chunks)),
            identity: self.identity.clone(),
            flags: (!self.flags.is_empty()).then_some(self.flags.bits()),
            project: (self.project != 0).then_some(self.project),
        }
    }

    /// Reads an item that may come from anybody.
    fn read(key: &str, packs: &[WirePack], wire: WireItem) -> BackupResult<Self> {
        let bad = |why: &dyn std::fmt::Display| BackupError::damaged(key, why);
        let path = RelPath::new(Vec::from(wire.path)).map_err(|e| bad(&e))?;
        let device = || match (wire.major, wire.minor) {
            (Some(major), Some(minor)) => Ok((major, minor)),
            _ => Err(bad(&"a device has no number")),
        };
        let target = wire.target.map(Vec::from);
        let needed = |target: Option<Vec<u8>>| target.ok_or_else(|| bad(&"a link has no target"));
        let kind = match wire.kind {
            FILE => ItemKind::Own(Kind::File),
            DIR => ItemKind::Own(Kind::Dir),
            SYMLINK => ItemKind::Own(Kind::Symlink { target: RawBytes::from(needed(target)?) }),
            CHAR => device().map(|(major, minor)| ItemKind::Own(Kind::CharDevice { major, minor }))?,
            BLOCK => device().map(|(major, minor)| ItemKind::Own(Kind::BlockDevice { major, minor }))?,
            FIFO => ItemKind::Own(Kind::Fifo),
            SOCKET => ItemKind::Own(Kind::Socket),
            HARD_LINK => ItemKind::HardLink { first: RelPath::new(needed(target)?).map_err(|e| bad(&e))? },
            CONTINUED => ItemKind::Continued,
            other => return Err(bad(&format_args!("{path} is of the unknown kind {other}"))),
        };
        if wire.mtime.nsec >= 1_000_000_000 || wire.mode > 0o7777 {
            return Err(bad(&format_args!("{path} has an impossible mode or time")));
        }
        let pieces = wire
            .chunks
            .unwrap_or_default()
            .0
            .iter()
            .map(|chunk| read_piece(key, packs, chunk))
            .collect::<Result<_, _>>()?;
        let item = Self {
            path,
            kind,
            mode: wire.mode,
            uid: wire.uid,
            gid: wire.gid,
            size: wire.size,
            mtime: Timestamp { sec: wire.mtime.sec, nsec: wire.mtime.nsec },
            xattrs: (wire.xattrs.unwrap_or_default().0.into_iter())
                .map(|x| (RawBytes::from(Vec::from(x.name)), RawBytes::from(Vec::from(x.value))))
                .collect(),
            pieces,
            identity: wire.identity,
            flags: FileFlags::from_bits_truncate(wire.flags.unwrap_or(0)),
            project: wire.project.unwrap_or(0),
        };
        let data_allowed = item.is_file() || item.kind == ItemKind::Continued;
        if !data_allowed && !item.pieces.is_empty() {
            return Err(bad(&format_args!("{} has data and is no file", item.path)));
        }
        Ok(item)
    }
}

/// The content of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Tree(Vec<Item>),
    Blocks(Vec<Piece>),
}

impl Segment {
    /// The plain bytes of the segment.
    pub(crate) fn to_bytes(&self) -> BackupResult<Vec<u8>> {
        let mut packs = PackTable::default();
        let (items, blocks) = match self {
            Self::Tree(items) => (Some(List(items.iter().map(|item| item.wire(&mut packs)).collect())), None),
            Self::Blocks(pieces) => {
                (None, Some(List(pieces.iter().map(|piece| packs.wire(piece, false)).collect())))
            }
        };
        to_cbor(&WireSegment { packs: List(packs.into_packs()), items, blocks })
    }

    /// Reads a segment that may come from anybody. The memory it takes is charged.
    pub(crate) fn parse(key: &str, bytes: &[u8], charge: &mut Charge) -> BackupResult<Self> {
        let wire: WireSegment = from_cbor(key, bytes, charge)?;
        match (wire.items, wire.blocks) {
            (Some(items), None) => {
                let items = items
                    .0
                    .into_iter()
                    .map(|item| Item::read(key, &wire.packs.0, item))
                    .collect::<Result<_, _>>()?;
                Ok(Self::Tree(items))
            }
            (None, Some(blocks)) => {
                let pieces = blocks
                    .0
                    .iter()
                    .map(|block| read_piece(key, &wire.packs.0, block))
                    .collect::<Result<_, _>>()?;
                Ok(Self::Blocks(pieces))
            }
            _ => Err(BackupError::damaged(key, "a segment is neither of a tree nor of a device")),
        }
    }

    /// All pieces in it, in order.
    pub(crate) fn pieces(&self) -> Box<dyn Iterator<Item = &Piece> + '_> {
        match self {
            Self::Tree(items) => Box::new(items.iter().flat_map(|item| &item.pieces)),
            Self::Blocks(pieces) => Box::new(pieces.iter()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::format::{ChunkLocation, ChunkRef, Encoding, PackId};
    use crate::memory::Memory;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> BackupResult<Segment> {
        Segment::parse("k", bytes, &mut Memory::new(1 << 20).charge())
    }

    pub(crate) fn any_piece() -> impl Strategy<Value = Piece> {
        (
            0..1u64 << 60,
            any::<[u8; 32]>(),
            1..1u32 << 20,
            0..5u64,
            0..3u32,
            0..1u32 << 30,
            1..1u32 << 20,
            any::<bool>(),
        )
            .prop_map(|(at, id, len, run, seq, offset, stored, zstd)| {
                let encoding = if zstd { Encoding::Zstd } else { Encoding::Raw };
                (
                    at,
                    ChunkRef {
                        id,
                        len,
                        place: ChunkLocation { pack: PackId { run, seq }, offset, stored, encoding },
                    },
                )
            })
    }

    fn any_kind() -> impl Strategy<Value = ItemKind> {
        let bytes = prop::collection::vec(1u8.., 1..20);
        prop_oneof![
            Just(ItemKind::Own(Kind::File)),
            Just(ItemKind::Own(Kind::Dir)),
            bytes.prop_map(|t| ItemKind::Own(Kind::Symlink { target: RawBytes::from(t) })),
            any::<(u32, u32)>().prop_map(|(major, minor)| ItemKind::Own(Kind::CharDevice { major, minor })),
            any::<(u32, u32)>().prop_map(|(major, minor)| ItemKind::Own(Kind::BlockDevice { major, minor })),
            Just(ItemKind::Own(Kind::Fifo)),
            Just(ItemKind::Own(Kind::Socket)),
            Just(ItemKind::HardLink { first: RelPath::new(&b"a/b"[..]).unwrap() }),
            Just(ItemKind::Continued),
        ]
    }

    fn any_item() -> impl Strategy<Value = Item> {
        let name = prop::collection::vec(prop_oneof![b'a'..=b'z', 0x80u8..], 1..9);
        let xattrs =
            prop::collection::btree_map("user\\.[a-z]{1,5}", prop::collection::vec(any::<u8>(), 0..9), 0..3);
        let pieces = prop::collection::vec(any_piece(), 0..4);
        let times = (any::<i64>(), 0..1_000_000_000u32, any::<u64>(), any::<bool>());
        (
            any_kind(),
            prop::collection::vec(name, 1..4),
            0..0o10000u16,
            any::<(u32, u32, u64)>(),
            xattrs,
            pieces,
            times,
        )
            .prop_map(
                |(kind, path, mode, (uid, gid, size), xattrs, pieces, (sec, nsec, ino, born))| {
                    let data = matches!(kind, ItemKind::Own(Kind::File) | ItemKind::Continued);
                    Item {
                        path: RelPath::new(path.join(&b'/')).unwrap(),
                        kind,
                        mode,
                        uid,
                        gid,
                        size,
                        mtime: Timestamp { sec, nsec },
                        xattrs: xattrs
                            .into_iter()
                            .map(|(k, v)| (RawBytes::from(k.into_bytes()), RawBytes::from(v)))
                            .collect(),
                        pieces: if data { pieces } else { Vec::new() },
                        identity: Some(Identity {
                            ino,
                            ctime: WireTime { sec, nsec },
                            btime: born.then_some(WireTime::default()),
                        }),
                        flags: FileFlags::from_bits_truncate(nsec.to_le_bytes()[0]),
                        project: uid / 2,
                    }
                },
            )
    }

    pub(crate) fn any_segment() -> impl Strategy<Value = Segment> {
        prop_oneof![
            prop::collection::vec(any_item(), 0..5).prop_map(Segment::Tree),
            prop::collection::vec(any_piece(), 0..9).prop_map(Segment::Blocks),
        ]
    }

    proptest! {
        #[test]
        fn any_segment_comes_back(segment in any_segment()) {
            let bytes = segment.to_bytes().unwrap();
            prop_assert_eq!(parse(&bytes).unwrap(), segment);
        }

        #[test]
        fn damage_is_an_error_or_another_segment_never_a_panic(segment in any_segment(), at: prop::sample::Index, byte: u8) {
            let mut bytes = segment.to_bytes().unwrap();
            let at = at.index(bytes.len());
            prop_assert!(parse(&bytes[..at]).is_err());
            bytes[at] = byte;
            let _ = parse(&bytes);
        }

        #[test]
        fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn hostile_paths_are_refused() {
        let mut item = Item::continued(RelPath::root(), Vec::new());
        item.kind = ItemKind::Own(Kind::File);
        for bad in ["../x", "/etc/passwd", "a/../../x", "a//b", ".", "a\0b"] {
            let mut wire = item.wire(&mut PackTable::default());
            wire.path = bad.as_bytes().to_vec().into();
            assert!(Item::read("k", &[], wire).is_err(), "{bad}");
        }
    }
}
