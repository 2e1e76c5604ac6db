//! A directory as one tar.gz: `BackupFiles/<backup>.bak`.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use convoy_objectstore::StoreError;
use convoy_tree::{
    Entry, Found, Kind, Packed, PackedData, StableStorage, TreeError, TreeWriter, WalkEntry, WalkOptions,
    check_tar, scan_tar, unpack_tar, walk,
};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::engine::ctx::Ctx;
use crate::engine::links::Links;
use crate::engine::tree_restore::TreeReport;
use crate::engine::warnings::Warnings;
use crate::error::{BackupError, BackupResult};
use crate::format::segment::LONGEST_PATH;
use crate::progress::Phase;
use crate::record::{BackupRecord, BackupStats};

/// Bytes sent or asked for at once.
const PART: usize = 4 << 20;

/// The key of a backup's file. Its record could name any object: only one of this volume's files is believed.
pub(crate) fn file_key(ctx: &Ctx, record: &BackupRecord, path: &str) -> BackupResult<String> {
    let inside = path.strip_prefix(&ctx.volume.v0_files()).is_some_and(|name| !name.contains('/'));
    if inside && convoy_objectstore::check_key(path).is_ok() {
        return Ok(path.to_owned());
    }
    let key = ctx.volume.backup(&record.name)?;
    Err(BackupError::damaged(
        key,
        format_args!("it names {path:?} as its file, which is not one of this volume's"),
    ))
}

/// Reads an object from its beginning to its end, a part ahead.
pub(crate) struct ObjectReader {
    ctx: Ctx,
    key: String,
    size: u64,
    asked: u64,
    ahead: Option<JoinHandle<Result<Bytes, StoreError>>>,
    current: Bytes,
    /// Whether the progress is that of this object.
    counted: bool,
    /// Why it could not be read, which a reader of what is in it tells as one text among others.
    failure: Option<BackupError>,
}

impl ObjectReader {
    fn open(ctx: &Ctx, key: String, counted: bool) -> BackupResult<Self> {
        let size = ctx.call(ctx.store.head(&key))?.size;
        let (asked, ahead, current) = (0, None, Bytes::new());
        Ok(Self { ctx: ctx.clone(), key, size, asked, ahead, current, counted, failure: None })
    }

    fn ask(&mut self) {
        if self.ahead.is_none() && self.asked < self.size {
            let end = (self.asked + PART as u64).min(self.size);
            self.ahead = Some(self.ctx.read_ahead(self.key.clone(), self.asked..end));
            self.asked = end;
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            self.ask();
            let Some(ahead) = self.ahead.take() else { return Ok(0) };
            self.current = match self.ctx.wait_for(ahead) {
                Ok(current) => current,
                Err(error) => {
                    let text = io::Error::other(error.to_string());
                    self.failure = Some(error);
                    return Err(text);
                }
            };
            let read = self.current.len() as u64;
            self.ctx.progress.add_moved(read);
            if self.counted {
                self.ctx.progress.add_bytes(read);
            }
            self.ask();
        }
        let len = out.len().min(self.current.len());
        let part = self.current.split_to(len);
        out[..len].copy_from_slice(&part);
        Ok(len)
    }
}

/// Counts what passes.
struct CountingReader<'a, R> {
    inner: R,
    ctx: &'a Ctx,
    bytes: &'a AtomicU64,
}

impl<R: Read> Read for CountingReader<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(out)?;
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        self.ctx.progress.add_bytes(len as u64);
        Ok(len)
    }
}

/// The archive of a backup, unpacked as it is read.
pub(crate) type ArchiveStream = MultiGzDecoder<ObjectReader>;

/// Opens the archive of a backup from its beginning; gives its key, too.
pub(crate) fn open(ctx: &Ctx, record: &BackupRecord) -> BackupResult<(String, ArchiveStream)> {
    open_counted(ctx, record, false)
}

/// The same; if it is `counted`, the progress is that of the object, of which the first part is read here.
fn open_counted(ctx: &Ctx, record: &BackupRecord, counted: bool) -> BackupResult<(String, ArchiveStream)> {
    let path = record.v0_file().unwrap_or_default();
    let key = file_key(ctx, record, path)?;
    let reader = ObjectReader::open(ctx, key.clone(), counted)?;
    Ok((key, MultiGzDecoder::new(reader)))
}

/// Why an archive could not be read to its end: the store, or what is in it.
pub(crate) fn explain(key: &str, stream: &mut ArchiveStream, why: impl std::fmt::Display) -> BackupError {
    match stream.get_mut().failure.take() {
        Some(BackupError::Store(error @ (StoreError::NotFound { .. } | StoreError::Truncated { .. }))) => {
            BackupError::damaged(key, error)
        }
        Some(error) => error,
        None => BackupError::damaged(key, why),
    }
}

/// Reads an archive once, from its beginning to its end. Hands `each` what is in it, and `seen` all bytes of
/// it, unpacked, in order.
pub(crate) fn scan_file(
    ctx: &Ctx,
    record: &BackupRecord,
    each: &mut dyn FnMut(Packed, Vec<PackedData>) -> BackupResult<()>,
    seen: &mut dyn FnMut(&[u8]) -> BackupResult<()>,
) -> BackupResult<()> {
    let (key, mut stream) = open_counted(ctx, record, true)?;
    ctx.progress.set_total(stream.get_ref().size, 0);
    ctx.progress.phase(Phase::Data);
    // What fails in here and is not the archive's fault.
    let mut refused = None;
    let mut watched = SeenReader { stream: &mut stream, seen, refused: None };
    let scanned = scan_tar(&mut watched, &|| ctx.check().is_ok(), &mut |packed, data| {
        each(packed, data).map_err(|error| {
            refused = Some(error);
            TreeError::Cancelled
        })
    });
    let scanned = match scanned {
        // Behind the end of the archive, so that the checksum at the very end is compared.
        Ok(_) => io::copy(&mut watched, &mut io::sink()).map(drop).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let refused = watched.refused.take().or(refused);
    ctx.check()?;
    match (refused, scanned) {
        (Some(error), _) => Err(error),
        (None, Err(why)) => Err(explain(&key, &mut stream, why)),
        (None, Ok(())) => Ok(()),
    }
}

/// Shows what is read.
struct SeenReader<'a> {
    stream: &'a mut ArchiveStream,
    seen: &'a mut dyn FnMut(&[u8]) -> BackupResult<()>,
    refused: Option<BackupError>,
}

impl Read for SeenReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.stream.read(out)?;
        if let Err(error) = (self.seen)(out.get(..len).unwrap_or_default()) {
            let text = io::Error::other(error.to_string());
            self.refused = Some(error);
            return Err(text);
        }
        Ok(len)
    }
}

/// Reads what is behind the end of the archive, so that the checksum at the very end is compared.
fn drain(key: &str, stream: &mut impl Read) -> BackupResult<()> {
    io::copy(stream, &mut io::sink()).map_err(|e| BackupError::damaged(key, e)).map(|_| ())
}

/// Unpacks the file into an empty directory, durably.
pub(crate) fn read_file(ctx: &Ctx, record: &BackupRecord, target: &Path) -> BackupResult<TreeReport> {
    let bytes = AtomicU64::new(0);
    let (key, stream) = open(ctx, record)?;
    let mut stream = CountingReader { inner: stream, ctx, bytes: &bytes };
    let storage = StableStorage::of(target)?;
    let writer = TreeWriter::new(target)?;
    let unpacked = unpack_tar(&mut stream, &writer, &|| ctx.check().is_ok());
    ctx.check()?;
    let entries = unpacked.map_err(|e| {
        if matches!(e, convoy_tree::TreeError::Archive { .. }) {
            BackupError::damaged(&key, e)
        } else {
            e.into()
        }
    })?;
    drain(&key, &mut stream)?;
    ctx.progress.phase(Phase::Finishing);
    let finished = writer.finish()?;
    storage.sync()?;
    Ok(TreeReport { files: entries, bytes: bytes.into_inner(), finished })
}

/// Reads the file and the archive in it, and keeps nothing.
pub(crate) fn check_file(ctx: &Ctx, record: &BackupRecord) -> BackupResult<()> {
    let bytes = AtomicU64::new(0);
    let (key, stream) = open(ctx, record)?;
    let mut stream = CountingReader { inner: stream, ctx, bytes: &bytes };
    let checked = check_tar(&mut stream, &|| ctx.check().is_ok());
    ctx.check()?;
    checked.map_err(|e| BackupError::damaged(&key, e))?;
    drain(&key, &mut stream)
}

/// Hands what is written to the upload.
struct Upload {
    parts: mpsc::Sender<Result<Bytes, StoreError>>,
    waiting: BytesMut,
    sent: Arc<AtomicU64>,
}

impl Upload {
    fn send(&mut self) -> io::Result<()> {
        let part = self.waiting.split().freeze();
        self.sent.fetch_add(part.len() as u64, Ordering::Relaxed);
        self.parts.blocking_send(Ok(part)).map_err(|_| io::Error::other("the upload has ended"))
    }
}

impl Write for Upload {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(data);
        if self.waiting.len() >= PART {
            self.send()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a tree as 0.5 did. What that form cannot keep is lost: holes, attributes, sockets, parts of
/// seconds.
pub(crate) async fn write_file(
    ctx: &Ctx,
    path: &Path,
    backup: &str,
) -> BackupResult<(BackupStats, Vec<String>)> {
    let (parts, received) = mpsc::channel(2);
    let stream = futures::stream::unfold(received, |mut received| async move {
        received.recv().await.map(|part| (part, received))
    });
    let key = ctx.volume.v0_file(backup);
    let (packer, root): (Ctx, PathBuf) = (ctx.clone(), path.to_owned());
    let sent = Arc::new(AtomicU64::new(0));
    let upload = Upload { parts: parts.clone(), waiting: BytesMut::new(), sent: sent.clone() };
    let packing = tokio::task::spawn_blocking(move || {
        let packed = pack(&packer, &root, upload);
        if packed.is_err() {
            // Without this the upload would take what came for the whole.
            let broken = StoreError::Refused {
                op: "write",
                key: String::new(),
                detail: "the source could not be read".into(),
            };
            let _ = parts.blocking_send(Err(broken));
        }
        packed
    });
    let stored = ctx.store.put_stream(&key, stream.boxed()).await;
    let packed = packing.await.unwrap_or_else(|_| {
        Err(BackupError::Invalid("the backup was broken off by a defect: see the log".into()))
    });
    // The reason why the source could not be read says more than that the upload was broken off.
    let (mut stats, warnings) = match (packed, stored) {
        (Ok(packed), Ok(_)) => packed,
        (Ok(_), Err(error)) => return Err(error.into()),
        (Err(error), Ok(_)) => return Err(error),
        (Err(error), Err(upload)) => {
            let by_upload = matches!(&error, BackupError::Io { what, .. } if what == "the archive");
            return Err(if by_upload { upload.into() } else { error });
        }
    };
    stats.bytes_added = sent.load(Ordering::Relaxed);
    ctx.progress.add_moved(stats.bytes_added);
    Ok((stats, warnings))
}

fn pack(ctx: &Ctx, root: &Path, upload: Upload) -> BackupResult<(BackupStats, Vec<String>)> {
    let mut stats = BackupStats::default();
    let warnings = Warnings::default();
    let mut archive = tar::Builder::new(GzEncoder::new(upload, Compression::new(6)));
    let failed = |e| BackupError::io("write", "the archive", e);
    let mut links = Links::default();
    for found in
        walk(root, WalkOptions { xattrs: false, longest_path: LONGEST_PATH, ..WalkOptions::default() })?
    {
        ctx.check()?;
        let found = match found? {
            Found::Entry(found) => found,
            Found::Vanished(path) => return Err(BackupError::SourceChanged { path: path.shown() }),
            Found::Refused { path, error } => {
                warnings.say(format!("{}: left out, since it cannot be read: {error}", path.shown()));
                continue;
            }
        };
        warnings.say_unread(&found.entry);
        let name = Path::new(".").join(found.entry.path.as_path());
        let mut header = header(&found.entry);
        if let Some(first) = links.first_name(&found.entry) {
            header.set_entry_type(tar::EntryType::Link);
            archive.append_link(&mut header, &name, Path::new(".").join(first.as_path())).map_err(failed)?;
            continue;
        }
        match &found.entry.kind {
            // What is mounted there is not of the volume.
            Kind::File if found.mount_point => {
                append(&mut archive, header, tar::EntryType::Regular, &name, None)?
            }
            Kind::File => {
                file(&mut archive, &mut header, &name, &found)?;
                stats.files += 1;
                stats.bytes += found.entry.size;
                ctx.progress.add_file();
                ctx.progress.add_bytes(found.entry.size);
            }
            Kind::Symlink { target } => {
                use std::os::unix::ffi::OsStrExt;
                header.set_entry_type(tar::EntryType::Symlink);
                let target = std::ffi::OsStr::from_bytes(target.as_bytes());
                archive.append_link(&mut header, &name, target).map_err(failed)?;
            }
            Kind::Dir => append(&mut archive, header, tar::EntryType::Directory, &name, None)?,
            Kind::Fifo => append(&mut archive, header, tar::EntryType::Fifo, &name, None)?,
            Kind::CharDevice { major, minor } => {
                append(&mut archive, header, tar::EntryType::Char, &name, Some((*major, *minor)))?
            }
            Kind::BlockDevice { major, minor } => {
                append(&mut archive, header, tar::EntryType::Block, &name, Some((*major, *minor)))?
            }
            Kind::Socket => {
                warnings.say(format!("{}: a socket cannot be in a backup of this form", found.entry.path));
            }
        }
    }
    let mut upload = archive.into_inner().and_then(GzEncoder::finish).map_err(failed)?;
    upload.send().map_err(failed)?;
    stats.bytes_read = stats.bytes;
    let (count, warnings) = warnings.into_inner();
    stats.warnings = count;
    Ok((stats, warnings))
}

fn header(entry: &Entry) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode.into());
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(u64::try_from(entry.mtime.sec).unwrap_or(0));
    header.set_size(0);
    header
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    mut header: tar::Header,
    kind: tar::EntryType,
    name: &Path,
    device: Option<(u32, u32)>,
) -> BackupResult<()> {
    let failed = |e| BackupError::io("write", "the archive", e);
    header.set_entry_type(kind);
    if let Some((major, minor)) = device {
        header.set_device_major(major).and_then(|()| header.set_device_minor(minor)).map_err(failed)?;
    }
    archive.append_data(&mut header, name, io::empty()).map_err(failed)
}

fn file<W: Write>(
    archive: &mut tar::Builder<W>,
    header: &mut tar::Header,
    name: &Path,
    found: &WalkEntry,
) -> BackupResult<()> {
    let path = &found.entry.path;
    let (file, opened) = found.open().map_err(|e| BackupError::io("read", path, e))?;
    let changed = || BackupError::SourceChanged { path: path.shown() };
    if (opened.size, opened.mtime) != (found.entry.size, found.entry.mtime) {
        return Err(changed());
    }
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(opened.size);
    let copied = AtomicU64::new(0);
    let counted = CountingFile { file: &file, copied: &copied };
    archive
        .append_data(header, name, counted.take(opened.size))
        .map_err(|e| BackupError::io("write", "the archive", e))?;
    let now = found.restat(&file).map_err(|e| BackupError::io("read", path, e))?;
    let same = (now.size, now.mtime) == (opened.size, opened.mtime) && copied.into_inner() == opened.size;
    if same { Ok(()) } else { Err(changed()) }
}

/// Counts, so that a file that ended early is noticed.
struct CountingFile<'a> {
    file: &'a std::fs::File,
    copied: &'a AtomicU64,
}

impl Read for CountingFile<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read(out)?;
        self.copied.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}
