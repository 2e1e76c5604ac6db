//! Tar archives, as convoy 0.5 wrote them for snapshots and backups of directories, into a tree.
//!
//! An archive is foreign input: its names are checked ([`RelPath`]), and what it makes is made by
//! [`TreeWriter`], which follows no links.

use std::cell::Cell;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use tar::{Archive, EntryType};

use crate::entry::{Entry, Kind, Timestamp, Xattrs};
use crate::error::{TreeError, TreeResult};
use crate::flags::FileFlags;
use crate::path::{RawBytes, RelPath};
use crate::writer::TreeWriter;

/// Runs of zeros of this length become holes: such archives do not tell them from data.
const BLOCK: usize = 4096;
const BUFFER: usize = 64 * BLOCK;
/// Bytes of what stands before an entry: its headers, long names, attributes, and the map of a sparse file.
/// They are read into memory.
const HEADERS_MAX: u64 = 4 << 20;
/// Bytes that all entries of an archive have together beyond the bytes that it has: the holes of sparse
/// files, which an archive gets for nothing.
const HOLES_MAX: u64 = 16 << 40;

/// Unpacks an uncompressed tar stream (old, GNU or PAX, with sparse files and `SCHILY.xattr` attributes) into
/// `writer`, and returns the number of entries. Call [`TreeWriter::finish`] afterwards. `keep_going` is asked
/// now and then.
///
/// # Errors
/// [`TreeError::Archive`] when the stream is damaged, ends early, or names something outside the tree;
/// [`TreeError::Cancelled`] when `keep_going` said no; what the kernel says when something cannot be made.
pub fn unpack_tar(stream: impl Read, writer: &TreeWriter, keep_going: &dyn Fn() -> bool) -> TreeResult<u64> {
    each_entry(stream, keep_going, &mut |entry, _| unpack(entry, writer, keep_going))
}

/// Reads such an archive as [`unpack_tar`] does, makes nothing of it, and returns the number of entries.
///
/// # Errors
/// As [`unpack_tar`], but for what the kernel says.
pub fn check_tar(stream: impl Read, keep_going: &dyn Fn() -> bool) -> TreeResult<u64> {
    each_entry(stream, keep_going, &mut |_, _| Ok(()))
}

/// What an entry of an archive makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packed {
    /// A thing of its own. A file's size is that of its data.
    Entry(Entry),
    /// A further name of something that came before.
    HardLink {
        /// The further name.
        path: RelPath,
        /// The name that it came under.
        existing: RelPath,
    },
}

/// Where data of a file is in the uncompressed archive. What is at no such place is zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedData {
    /// Where it begins in the file.
    pub at: u64,
    /// Where it begins in the archive.
    pub stored_at: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// Reads such an archive as [`unpack_tar`] does, and instead of making what is in it tells what that is and
/// where its data are. Returns the number of entries.
///
/// # Errors
/// As [`check_tar`], and what `each` fails with.
pub fn scan_tar(
    stream: impl Read,
    keep_going: &dyn Fn() -> bool,
    each: &mut dyn FnMut(Packed, Vec<PackedData>) -> TreeResult<()>,
) -> TreeResult<u64> {
    let mut buffer = vec![0; BUFFER];
    each_entry(stream, keep_going, &mut |from, meter| match packed(from)? {
        None => Ok(()),
        Some(Packed::Entry(mut entry)) if entry.is_file() => {
            let (size, data) = locate(from, meter, &mut buffer, keep_going)?;
            entry.size = size;
            each(Packed::Entry(entry), data)
        }
        Some(other) => each(other, Vec::new()),
    })
}

/// Places of data that one file is told in at most because of its runs of zeros.
const PLACES: usize = 4096;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// The size of a file and where its data are.
fn locate(
    from: &mut impl Read,
    meter: &Meter,
    buffer: &mut [u8],
    keep_going: &dyn Fn() -> bool,
) -> TreeResult<(u64, Vec<PackedData>)> {
    let (mut at, mut places) = (0_u64, Vec::<PackedData>::new());
    loop {
        if !keep_going() {
            return Err(TreeError::Cancelled);
        }
        // Up to the end of a block, so that runs of zeros are those of `fill`.
        let whole = buffer.len() - usize::try_from(at % BLOCK as u64).unwrap_or(0);
        let stored = meter.read.get();
        let read = match from.read(buffer.get_mut(..whole).unwrap_or_default()) {
            Ok(0) => return Ok((at, places)),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(damaged(e)),
        };
        // A hole of a sparse file reads nothing of the stream.
        if meter.read.get() == stored {
            at += read as u64;
            continue;
        }
        let (mut rest, mut stored_at) = (buffer.get(..read).unwrap_or_default(), stored);
        while !rest.is_empty() {
            let to_end = BLOCK - usize::try_from(at % BLOCK as u64).unwrap_or(0);
            let (block, more) = rest.split_at(to_end.min(rest.len()));
            let length = block.len() as u64;
            if *block != ZEROS || places.len() >= PLACES {
                match places.last_mut() {
                    Some(last)
                        if last.at + last.length == at && last.stored_at + last.length == stored_at =>
                    {
                        last.length += length;
                    }
                    _ => places.push(PackedData { at, stored_at, length }),
                }
            }
            (rest, at, stored_at) = (more, at + length, stored_at + length);
        }
    }
}

/// Takes an entry, and the meter of the stream.
type TakeEntry<'a, R> = &'a mut dyn FnMut(&mut tar::Entry<'_, Metered<R>>, &Meter) -> TreeResult<()>;

/// Calls `take` with every entry, and reads to its end what that has left of it.
fn each_entry<R: Read>(stream: R, keep_going: &dyn Fn() -> bool, take: TakeEntry<'_, R>) -> TreeResult<u64> {
    let meter = Meter::default();
    let mut archive = Archive::new(Metered { stream, meter: meter.clone() });
    let mut holes = 0_u64;
    let mut count = 0;
    let mut entries = archive.entries().map_err(damaged)?;
    loop {
        if !keep_going() {
            return Err(TreeError::Cancelled);
        }
        // Until the next entry is there nothing is read but what is kept in memory.
        meter.left.set(Some(HEADERS_MAX));
        let next = entries.next();
        meter.left.set(None);
        let Some(entry) = next else { break };
        let mut entry = entry.map_err(damaged)?;
        if entry.header().entry_type().is_gnu_sparse() {
            holes = holes.saturating_add(entry.size());
            if holes > HOLES_MAX {
                return Err(TreeError::Archive(format!("its sparse files have more than {HOLES_MAX} bytes")));
            }
        }
        take(&mut entry, &meter)?;
        drain(&mut entry, keep_going)?;
        count += 1;
    }
    if count == 0 {
        return Err(TreeError::Archive("it is empty".to_owned()));
    }
    Ok(count)
}

/// Reads what is left of an entry.
fn drain(entry: &mut impl Read, keep_going: &dyn Fn() -> bool) -> TreeResult<()> {
    let mut buffer = [0; 4 * BLOCK];
    while read_full(entry, &mut buffer).map_err(damaged)? > 0 {
        if !keep_going() {
            return Err(TreeError::Cancelled);
        }
    }
    Ok(())
}

/// Counts what is read of a stream.
#[derive(Clone, Default)]
struct Meter {
    /// How many more bytes may be read; `None` for any number.
    left: Rc<Cell<Option<u64>>>,
    /// How many were read.
    read: Rc<Cell<u64>>,
}

/// A stream with a [`Meter`].
struct Metered<R> {
    stream: R,
    meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(out)?;
        self.meter.read.set(self.meter.read.get() + read as u64);
        if let Some(left) = self.meter.left.get() {
            let left = left.checked_sub(read as u64);
            let error = || io::Error::other(format!("its headers are longer than {HEADERS_MAX} bytes"));
            self.meter.left.set(Some(left.ok_or_else(error)?));
        }
        Ok(read)
    }
}

fn damaged(error: io::Error) -> TreeError {
    TreeError::Archive(error.to_string())
}

/// `./a/b/` as tar writes it, to `a/b`.
fn rel_path(bytes: &[u8]) -> TreeResult<RelPath> {
    if bytes.starts_with(b"/") {
        return Err(
            RelPath::new(bytes).map_or_else(TreeError::from, |path| TreeError::Archive(path.to_string()))
        );
    }
    let plain: Vec<_> = bytes.split(|b| *b == b'/').filter(|c| !matches!(*c, b"" | b".")).collect();
    Ok(RelPath::new(plain.join(&b'/'))?)
}

fn unpack(
    from: &mut tar::Entry<'_, impl Read>,
    writer: &TreeWriter,
    keep_going: &dyn Fn() -> bool,
) -> TreeResult<()> {
    let mut entry = match packed(from)? {
        None => return Ok(()),
        Some(Packed::HardLink { path, existing }) => return writer.hard_link(&existing, &path),
        Some(Packed::Entry(entry)) => entry,
    };
    let Some(file) = writer.create(&entry)? else { return Ok(()) };
    entry.size = fill(from, file.file(), &entry.path, keep_going)?;
    file.finish(writer, &entry)
}

/// What an entry makes; none for what only describes others. The size of a file is not known yet.
fn packed(from: &mut tar::Entry<'_, impl Read>) -> TreeResult<Option<Packed>> {
    let path = rel_path(&from.path_bytes())?;
    let header = from.header();
    let device = || -> io::Result<(u32, u32)> {
        Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
    };
    let link = || {
        let target = from.link_name_bytes().map(|name| name.into_owned());
        target.ok_or_else(|| TreeError::Archive(format!("{path} is a link to nothing")))
    };
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Dir,
        EntryType::Link => {
            let existing = rel_path(&link()?)?;
            return Ok(Some(Packed::HardLink { path, existing }));
        }
        EntryType::Symlink => Kind::Symlink { target: RawBytes::from(link()?) },
        EntryType::Char => {
            device().map(|(major, minor)| Kind::CharDevice { major, minor }).map_err(damaged)?
        }
        EntryType::Block => {
            device().map(|(major, minor)| Kind::BlockDevice { major, minor }).map_err(damaged)?
        }
        EntryType::Fifo => Kind::Fifo,
        EntryType::XGlobalHeader => return Ok(None),
        other => {
            let kind = char::from(other.as_byte()).escape_default();
            return Err(TreeError::Archive(format!("{path} is of the unknown type '{kind}'")));
        }
    };
    describe(from, path, kind).map(|entry| Some(Packed::Entry(entry)))
}

fn describe(from: &mut tar::Entry<'_, impl Read>, path: RelPath, kind: Kind) -> TreeResult<Entry> {
    let header = from.header();
    let narrow = |number: io::Result<u64>, what| {
        let number = number.map_err(damaged)?;
        u32::try_from(number)
            .map_err(|_| TreeError::Archive(format!("{path} has the impossible {what} {number}")))
    };
    let mode = narrow(header.mode().map(u64::from), "mode")? & 0o7777;
    let (uid, gid) = (narrow(header.uid(), "owner")?, narrow(header.gid(), "group")?);
    let sec = i64::try_from(header.mtime().map_err(damaged)?).unwrap_or(0);
    let mut mtime = Timestamp { sec, nsec: 0 };
    let mut xattrs = Xattrs::new();
    if let Some(extensions) = from.pax_extensions().map_err(damaged)? {
        for extension in extensions {
            let extension = extension.map_err(damaged)?;
            match extension.key_bytes() {
                b"mtime" => mtime = pax_time(extension.value_bytes()).unwrap_or(mtime),
                key => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        xattrs.insert(RawBytes::from(name), RawBytes::from(extension.value_bytes()));
                    }
                }
            }
        }
    }
    Ok(Entry {
        path,
        kind,
        mode: u16::try_from(mode).unwrap_or(0),
        uid,
        gid,
        size: 0,
        mtime,
        atime: mtime,
        ctime: mtime,
        btime: None,
        dev: 0,
        ino: 0,
        nlink: 1,
        xattrs,
        flags: FileFlags::empty(),
        project: 0,
        unread: Vec::new(),
    })
}

/// `1700000000.123`, the sign of a negative time on the seconds.
fn pax_time(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (sec, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nsec: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let whole: i64 = sec.parse().ok()?;
    if sec.starts_with('-') && nsec > 0 {
        return Some(Timestamp { sec: whole - 1, nsec: 1_000_000_000 - nsec });
    }
    Some(Timestamp { sec: whole, nsec })
}

fn fill(
    from: &mut impl Read,
    to: &std::fs::File,
    path: &RelPath,
    keep_going: &dyn Fn() -> bool,
) -> TreeResult<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    loop {
        if !keep_going() {
            return Err(TreeError::Cancelled);
        }
        let read = read_full(from, &mut buffer).map_err(damaged)?;
        let Some(data) = buffer.get(..read).filter(|data| !data.is_empty()) else { return Ok(at) };
        for block in data.chunks(BLOCK) {
            if block.iter().any(|b| *b != 0) {
                to.write_all_at(block, at).map_err(|e| TreeError::io("write", path, e))?;
            }
            at += block.len() as u64;
        }
    }
}

fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
