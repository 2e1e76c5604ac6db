//! One thing in an archive, as the index keeps it.

use convoy_tree::{Entry, FileFlags, Kind, PackedData, RawBytes, RelPath, Timestamp};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::error::{BackupError, BackupResult};
use crate::format::wire::to_cbor;

/// Memory for one beside its bytes.
const OVERHEAD: usize = 64;

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// What it is. Of a further name of something only the path counts.
    pub(super) entry: Entry,
    /// The name under which the archive has it, where this is a further one.
    pub(super) head: Option<RelPath>,
    /// How many came before it in the archive.
    pub(super) number: u64,
    /// Where its data are.
    pub(super) data: Vec<PackedData>,
}

/// A record as it is written. Nobody but its writer reads it.
#[derive(Encode, Decode)]
#[cbor(array)]
struct WireRecord {
    #[n(0)]
    number: u64,
    #[n(1)]
    path: ByteVec,
    #[n(2)]
    kind: u8,
    #[n(3)]
    mode: u16,
    #[n(4)]
    uid: u32,
    #[n(5)]
    gid: u32,
    #[n(6)]
    size: u64,
    #[n(7)]
    sec: i64,
    #[n(8)]
    nsec: u32,
    /// Of a link, or of a further name.
    #[n(9)]
    target: ByteVec,
    #[n(10)]
    major: u32,
    #[n(11)]
    minor: u32,
    #[n(12)]
    xattrs: Vec<(ByteVec, ByteVec)>,
    #[n(13)]
    data: Vec<(u64, u64, u64)>,
}

const FILE: u8 = 0;
const DIR: u8 = 1;
const SYMLINK: u8 = 2;
const CHAR: u8 = 3;
const BLOCK: u8 = 4;
const FIFO: u8 = 5;
const SOCKET: u8 = 6;
const FURTHER: u8 = 7;

fn bytes(bytes: &[u8]) -> ByteVec {
    bytes.to_vec().into()
}

impl Record {
    /// A further name of what the archive has under `head`.
    pub(super) fn further(path: RelPath, head: RelPath, number: u64) -> Self {
        Self { entry: entry(path, Kind::File), head: Some(head), number, data: Vec::new() }
    }

    /// A root that no archive describes.
    pub(super) fn root() -> Self {
        let entry = Entry { mode: 0o755, ..entry(RelPath::root(), Kind::Dir) };
        Self { entry, head: None, number: 0, data: Vec::new() }
    }

    /// About the bytes of memory it takes.
    pub(super) fn weight(&self) -> usize {
        let xattrs = self.entry.xattrs.iter();
        let xattrs = xattrs.map(|(name, value)| name.as_bytes().len() + value.as_bytes().len() + 128);
        let target = match &self.entry.kind {
            Kind::Symlink { target } => target.as_bytes().len(),
            _ => self.head.as_ref().map_or(0, |head| head.as_bytes().len()),
        };
        let path = self.entry.path.as_bytes().len();
        size_of::<Self>() + OVERHEAD + path + target + xattrs.sum::<usize>() + size_of_val(&*self.data)
    }

    /// The bytes to keep.
    pub(super) fn encode(&self) -> BackupResult<Vec<u8>> {
        let entry = &self.entry;
        let (kind, target, (major, minor)) = match (&self.head, &entry.kind) {
            (Some(head), _) => (FURTHER, head.as_bytes(), (0, 0)),
            (None, Kind::File) => (FILE, &[][..], (0, 0)),
            (None, Kind::Dir) => (DIR, &[][..], (0, 0)),
            (None, Kind::Symlink { target }) => (SYMLINK, target.as_bytes(), (0, 0)),
            (None, Kind::CharDevice { major, minor }) => (CHAR, &[][..], (*major, *minor)),
            (None, Kind::BlockDevice { major, minor }) => (BLOCK, &[][..], (*major, *minor)),
            (None, Kind::Fifo) => (FIFO, &[][..], (0, 0)),
            (None, Kind::Socket) => (SOCKET, &[][..], (0, 0)),
        };
        let xattrs = entry.xattrs.iter();
        to_cbor(&WireRecord {
            number: self.number,
            path: bytes(entry.path.as_bytes()),
            kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            sec: entry.mtime.sec,
            nsec: entry.mtime.nsec,
            target: bytes(target),
            major,
            minor,
            xattrs: xattrs.map(|(name, value)| (bytes(name.as_bytes()), bytes(value.as_bytes()))).collect(),
            data: self.data.iter().map(|data| (data.at, data.stored_at, data.length)).collect(),
        })
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// If the file that it is kept in was damaged.
    pub(super) fn decode(bytes: &[u8]) -> BackupResult<Self> {
        let wire: WireRecord = minicbor::decode(bytes).map_err(broken)?;
        let path = RelPath::new(Vec::from(wire.path)).map_err(broken)?;
        let target = Vec::from(wire.target);
        let (major, minor) = (wire.major, wire.minor);
        let kind = match wire.kind {
            FURTHER => {
                let head = RelPath::new(target).map_err(broken)?;
                return Ok(Self::further(path, head, wire.number));
            }
            FILE => Kind::File,
            DIR => Kind::Dir,
            SYMLINK => Kind::Symlink { target: RawBytes::from(target) },
            CHAR => Kind::CharDevice { major, minor },
            BLOCK => Kind::BlockDevice { major, minor },
            FIFO => Kind::Fifo,
            SOCKET => Kind::Socket,
            other => return Err(broken(format!("it has the unknown kind {other}"))),
        };
        let mtime = Timestamp { sec: wire.sec, nsec: wire.nsec };
        let raw = |bytes: ByteVec| RawBytes::from(Vec::from(bytes));
        let entry = Entry {
            mode: wire.mode,
            uid: wire.uid,
            gid: wire.gid,
            size: wire.size,
            mtime,
            atime: mtime,
            xattrs: wire.xattrs.into_iter().map(|(name, value)| (raw(name), raw(value))).collect(),
            ..entry(path, kind)
        };
        let data = wire.data.into_iter();
        let data = data.map(|(at, stored_at, length)| PackedData { at, stored_at, length }).collect();
        Ok(Self { entry, head: None, number: wire.number, data })
    }
}

/// What the index in a file says cannot be.
pub(super) fn broken(why: impl std::fmt::Display) -> BackupError {
    BackupError::damaged("the index of the archive", why)
}

/// An entry of which nothing is known but what it is.
fn entry(path: RelPath, kind: Kind) -> Entry {
    let never = Timestamp::default();
    Entry {
        path,
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: never,
        atime: never,
        ctime: never,
        btime: None,
        dev: 0,
        ino: 0,
        nlink: 1,
        xattrs: Default::default(),
        flags: FileFlags::empty(),
        project: 0,
        unread: Vec::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn any_record() -> impl Strategy<Value = Record> {
        let kind = prop_oneof![
            Just(Kind::File),
            Just(Kind::Dir),
            Just(Kind::Fifo),
            Just(Kind::Symlink { target: RawBytes::from(&b"a\xff"[..]) }),
            Just(Kind::CharDevice { major: 1, minor: 9 }),
            Just(Kind::BlockDevice { major: 8, minor: 1 }),
        ];
        let path = prop::collection::vec("[a-c]{1,2}", 1..5);
        let places = prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..3);
        (path, kind, any::<(u16, u32, u64, i64)>(), any::<bool>(), places).prop_map(
            |(path, kind, (mode, uid, number, sec), further, places)| {
                let path = RelPath::new(path.join("/")).unwrap();
                if further {
                    return Record::further(path, RelPath::new("x/y").unwrap(), number);
                }
                let mtime = Timestamp { sec, nsec: 5 };
                let mut entry = Entry { mode, uid, mtime, atime: mtime, ..entry(path, kind) };
                entry.xattrs.insert("user.a".into(), RawBytes::from(&b"\0\xff"[..]));
                let data = places.into_iter();
                let data = data.map(|(at, stored_at, length)| PackedData { at, stored_at, length });
                Record { entry, head: None, number, data: data.collect() }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(record in any_record()) {
            prop_assert_eq!(Record::decode(&record.encode().unwrap()).unwrap(), record);
        }
    }
}
