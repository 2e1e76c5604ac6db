//! Reads a tree: what did not change since the parent backup is taken from its manifest, what did is cut, hashed and stored.
//!
//! One thread walks, in the parent's order, and cuts large files; a worker a core reads small files, hashes, looks up and compresses; as
//! many threads as there may be requests upload; and one puts the manifest together in the order of the walk. The channel between the
//! walk and the manifest keeps order and bounds how far the walk may run ahead.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use convoy_tree::{Entry, Found, WalkEntry, WalkOptions, data_extents, walk};
use crossbeam_channel::{Receiver, Sender};
use fastcdc::v2020::FastCDC;
use tokio::sync::oneshot;

use super::behind::was_read;
use super::ctx::{Ctx, Room, Taken};
use super::links::Links;
use super::manifest_writer::ManifestWriter;
use super::segments::ParentTree;
use super::sink::{Lane, Sink};
use crate::api::SameFile;
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::{Encoder, all_zero};
use crate::format::segment::{Identity, Item, ItemKind};
use crate::format::wire::Piece;

/// A file up to this size is one chunk, read by a worker.
const SMALL: u64 = 256 << 10;
/// Bytes of a large file that are read at once.
const BUFFER: usize = 8 << 20;

/// Where a file is cut, by its size: small chunks where a change should cost little, larger ones where there would be too many of them.
fn cuts(size: u64) -> (usize, usize, usize) {
    let average = match size {
        0..=0x2_0000_0000 => 256 << 10,
        0x2_0000_0001..=0x40_0000_0000 => 1 << 20,
        _ => 2 << 20,
    };
    (average / 4, average, average * 2)
}

/// What the walk hands to the manifest, in order.
pub(crate) enum Unit {
    /// An item that is complete.
    Item(Item),
    /// A small file; its pieces come later.
    Small(Item, oneshot::Receiver<Vec<Piece>>),
    /// A large file; its pieces follow as units.
    Large(Item),
    /// A piece of the large file before; nothing comes for zeros.
    Piece(oneshot::Receiver<Option<Piece>>),
}

/// What the walk hands to the workers.
pub(crate) enum Job {
    Small(Box<WalkEntry>, Taken, oneshot::Sender<Vec<Piece>>),
    Chunk { at: u64, data: Vec<u8>, taken: Taken, done: oneshot::Sender<Option<Piece>> },
}

/// What the parts of a tree backup share.
pub(crate) struct TreeBackup<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) sink: &'a Sink<'a>,
    pub(crate) room: Arc<Room>,
    pub(crate) same: SameFile,
    /// Seconds since 1970: a file changed later may have been changed again within the same tick of the file system's clock, so that its times
    /// tell nothing. It is read again next time.
    pub(crate) settled: i64,
    pub(crate) bytes_read: AtomicU64,
}

impl TreeBackup<'_> {
    /// Walks the tree.
    pub(crate) fn walk(
        &self,
        root: &Path,
        mut parent: Option<ParentTree<'_>>,
        units: &Sender<Unit>,
        jobs: &Sender<Job>,
    ) -> BackupResult<()> {
        let mut links = Links::default();
        for found in walk(root, WalkOptions::default())? {
            self.ctx.check()?;
            let found = match found? {
                Found::Entry(found) => found,
                Found::Vanished(path) => return Err(BackupError::SourceChanged { path: path.to_string() }),
            };
            if found.mount_point {
                tracing::warn!(path = %found.entry.path, "another file system is mounted here: it is not backed up");
            }
            if let Some(first) = links.first_name(&found.entry) {
                let mut item = Item::of_entry(found.entry);
                (item.kind, item.size) = (ItemKind::HardLink { first }, 0);
                item.xattrs.clear();
                send(units, Unit::Item(item))?;
                continue;
            }
            if !found.entry.is_file() {
                send(units, Unit::Item(Item::of_entry(found.entry)))?;
                continue;
            }
            let known = match &mut parent {
                Some(parent) => {
                    parent.file(&found.entry.path)?.filter(|known| self.unchanged(known, &found.entry))
                }
                None => None,
            };
            self.file(found, known, units, jobs)?;
        }
        Ok(())
    }

    fn file(
        &self,
        found: WalkEntry,
        known: Option<Item>,
        units: &Sender<Unit>,
        jobs: &Sender<Job>,
    ) -> BackupResult<()> {
        let size = found.entry.size;
        let mut item = Item::of_entry(found.entry.clone());
        let settled = self.same == SameFile::BirthTime || found.entry.ctime.sec < self.settled;
        item.identity = settled.then(|| identity(&found.entry));
        if let Some(known) = known {
            item.pieces = known.pieces;
            self.ctx.progress.add_bytes(size);
            return send(units, Unit::Item(item));
        }
        if size == 0 {
            return send(units, Unit::Item(item));
        }
        if size <= SMALL {
            let (done, pieces) = oneshot::channel();
            send(units, Unit::Small(item, pieces))?;
            let taken = self.room.take(usize::try_from(size).unwrap_or(usize::MAX), self.ctx)?;
            return send(jobs, Job::Small(Box::new(found), taken, done));
        }
        send(units, Unit::Large(item))?;
        self.large(&found, units, jobs)
    }

    /// Reads a large file where it has data, and cuts it.
    fn large(&self, found: &WalkEntry, units: &Sender<Unit>, jobs: &Sender<Job>) -> BackupResult<()> {
        let path = &found.entry.path;
        let failed = |e| BackupError::io("read", path, e);
        let (file, opened) = found.open().map_err(failed)?;
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        let mut buffer = vec![0; BUFFER];
        for extent in data_extents(&file, 0..opened.size) {
            let extent = extent.map_err(failed)?;
            let (mut at, mut filled) = (extent.start, 0);
            // Position of the byte after what was read.
            let mut read_to = extent.start;
            while read_to < extent.end || filled > 0 {
                self.ctx.check()?;
                while filled < buffer.len() && read_to < extent.end {
                    let want = buffer
                        .len()
                        .min(filled + usize::try_from(extent.end - read_to).unwrap_or(usize::MAX));
                    let got = file.read_at(&mut buffer[filled..want], read_to).map_err(failed)?;
                    if got == 0 {
                        return Err(BackupError::SourceChanged { path: path.to_string() });
                    }
                    was_read(&file, read_to, got);
                    filled += got;
                    read_to += got as u64;
                }
                let (min, average, max) = cuts(opened.size);
                let last = read_to == extent.end;
                let mut cut = 0;
                for chunk in FastCDC::new(&buffer[..filled], min, average, max) {
                    // What the end of the buffer cut short is cut again with more behind it.
                    if !last && filled - chunk.offset < max {
                        break;
                    }
                    let end = chunk.offset + chunk.length;
                    self.chunk(at + chunk.offset as u64, &buffer[chunk.offset..end], units, jobs)?;
                    cut = end;
                }
                buffer.copy_within(cut..filled, 0);
                filled -= cut;
                at += cut as u64;
            }
        }
        let now = found.restat(&file).map_err(failed)?;
        if (now.size, now.mtime) != (found.entry.size, found.entry.mtime) {
            return Err(BackupError::SourceChanged { path: path.to_string() });
        }
        Ok(())
    }

    fn chunk(&self, at: u64, data: &[u8], units: &Sender<Unit>, jobs: &Sender<Job>) -> BackupResult<()> {
        let taken = self.room.take(data.len(), self.ctx)?;
        let (done, piece) = oneshot::channel();
        send(units, Unit::Piece(piece))?;
        send(jobs, Job::Chunk { at, data: data.to_vec(), taken, done })
    }

    /// Whether the parent's file is this one, unchanged.
    fn unchanged(&self, known: &Item, now: &Entry) -> bool {
        let Some(was) = &known.identity else { return false };
        let is = identity(now);
        let moment = match (self.same, &was.btime, &is.btime) {
            (SameFile::BirthTime, Some(was), Some(is)) => was == is,
            _ => was.ctime == is.ctime,
        };
        known.size == now.size && known.mtime == now.mtime && was.ino == is.ino && moment
    }

    /// A worker: reads, hashes, looks up, compresses.
    pub(crate) fn work(&self, jobs: &Receiver<Job>, mut encoder: Encoder) -> BackupResult<()> {
        while let Ok(job) = jobs.recv() {
            self.ctx.check()?;
            match job {
                Job::Small(found, taken, done) => {
                    let pieces = self.small(&found, &mut encoder)?;
                    drop(taken);
                    // Nobody waits only when all is ending.
                    let _ = done.send(pieces);
                }
                Job::Chunk { at, data, taken, done } => {
                    self.bytes_read.fetch_add(data.len() as u64, Relaxed);
                    let piece = if all_zero(&data) {
                        None
                    } else {
                        Some((at, self.sink.put(&mut encoder, &data, Lane::Data)?))
                    };
                    self.ctx.progress.add_bytes(data.len() as u64);
                    drop((data, taken));
                    let _ = done.send(piece);
                }
            }
        }
        Ok(())
    }

    fn small(&self, found: &WalkEntry, encoder: &mut Encoder) -> BackupResult<Vec<Piece>> {
        let path = &found.entry.path;
        let changed = || BackupError::SourceChanged { path: path.to_string() };
        let (file, opened) = found.open().map_err(|e| BackupError::io("read", path, e))?;
        if (opened.size, opened.mtime) != (found.entry.size, found.entry.mtime) {
            return Err(changed());
        }
        let mut data = Vec::with_capacity(usize::try_from(opened.size).unwrap_or(0) + 1);
        let mut reader: &File = &file;
        Read::take(&mut reader, SMALL + 1)
            .read_to_end(&mut data)
            .map_err(|e| BackupError::io("read", path, e))?;
        if data.len() as u64 != opened.size {
            return Err(changed());
        }
        self.bytes_read.fetch_add(opened.size, Relaxed);
        let pieces =
            if all_zero(&data) { Vec::new() } else { vec![(0, self.sink.put(encoder, &data, Lane::Data)?)] };
        self.ctx.progress.add_bytes(opened.size);
        Ok(pieces)
    }

    /// Puts the manifest together.
    pub(crate) fn assemble(
        &self,
        units: &Receiver<Unit>,
        writer: &mut ManifestWriter<'_>,
    ) -> BackupResult<()> {
        let mut open: Option<Item> = None;
        let mut push = |item: Item| {
            if item.is_file() {
                self.ctx.progress.add_file();
            }
            writer.item(item)
        };
        while let Ok(unit) = units.recv() {
            if !matches!(unit, Unit::Piece(_))
                && let Some(done) = open.take()
            {
                push(done)?;
            }
            match unit {
                Unit::Item(item) => push(item)?,
                Unit::Small(mut item, pieces) => {
                    item.pieces = pieces.blocking_recv().map_err(|_| BackupError::Cancelled)?;
                    push(item)?;
                }
                Unit::Large(item) => open = Some(item),
                Unit::Piece(piece) => {
                    let piece = piece.blocking_recv().map_err(|_| BackupError::Cancelled)?;
                    if let (Some(item), Some(piece)) = (&mut open, piece) {
                        item.pieces.push(piece);
                    }
                }
            }
        }
        // The walk hangs up when it is done, and also when it failed: then what came is not all.
        self.ctx.check()?;
        open.map_or(Ok(()), push)
    }
}

fn identity(entry: &Entry) -> Identity {
    Identity { ino: entry.ino, ctime: entry.ctime.into(), btime: entry.btime.map(Into::into) }
}

fn send<T>(channel: &Sender<T>, value: T) -> BackupResult<()> {
    // The other end goes only when the operation ends.
    channel.send(value).map_err(|_| BackupError::Cancelled)
}
