//! Reads a device where it matters.
//!
//! One thread goes through the extents and the parent's manifest side by side: blocks outside changed extents
//! are taken from the parent without being read, the others are handed to the workers, which read, look for
//! zeros, hash and store.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use convoy_tree::data_extents;
use crossbeam_channel::{Receiver, Sender};
use futures::StreamExt;
use tokio::sync::oneshot;

use super::ctx::{ByteBudget, BytePermit, Ctx, send};
use super::manifest_writer::ManifestWriter;
use super::packer::{Lane, Packer};
use super::page_cache::was_read;
use super::segments::Blocks;
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::{Encoder, all_zero};
use crate::format::wire::Piece;
use crate::types::{ExtentStream, Extents, SourceExtent};

/// The sizes of blocks that there are. A parent that has others is not built on: its blocks could be of a
/// byte each.
pub(crate) const BLOCK_SIZES: [u32; 3] = [256 << 10, 1 << 20, 2 << 20];

/// The size of a block for a device of so many bytes: small where a change should cost little, larger where
/// there would be too many.
pub(crate) fn block_size(device: u64) -> u32 {
    match device {
        0..=0x10_0000_0000 => BLOCK_SIZES[0],
        0x10_0000_0001..=0x100_0000_0000 => BLOCK_SIZES[1],
        _ => BLOCK_SIZES[2],
    }
}

/// What goes to the manifest, in order.
pub(crate) enum Unit {
    /// A block of the parent.
    Known(Piece),
    /// A block being read; nothing comes for zeros.
    Read(oneshot::Receiver<Option<Piece>>),
}

/// A block to read.
pub(crate) struct Job {
    at: u64,
    len: usize,
    taken: BytePermit,
    done: oneshot::Sender<Option<Piece>>,
}

/// What the parts of a block backup share.
pub(crate) struct BlockBackup<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) packer: &'a Packer<'a>,
    pub(crate) budget: Arc<ByteBudget>,
    pub(crate) file: File,
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) block: u64,
    pub(crate) bytes_read: AtomicU64,
}

/// Opens a device and checks that it is as large as it is said to be.
pub(crate) fn open(path: &Path, size: u64) -> BackupResult<File> {
    use std::io::{Seek, SeekFrom};
    let failed = |e| BackupError::io("read", path.display(), e);
    let mut file = File::open(path).map_err(failed)?;
    let found = file.seek(SeekFrom::End(0)).map_err(failed)?;
    if found < size {
        return Err(BackupError::Invalid(format!(
            "{} has {found} bytes, the driver says {size}: it is not the snapshot",
            path.display()
        )));
    }
    Ok(file)
}

/// Where a regular file used as a device has data; `None` for a real device, of which the kernel does not
/// tell.
pub(crate) fn data_of_file(file: &File, name: &str, size: u64) -> BackupResult<Option<ExtentStream>> {
    let failed = |e| BackupError::io("read", name, e);
    if !file.metadata().map_err(failed)?.is_file() {
        return Ok(None);
    }
    let extent = |data: std::ops::Range<u64>| SourceExtent {
        offset: data.start,
        length: data.end - data.start,
        discarded: false,
    };
    let found = data_extents(file, 0..size)
        .map(|data| data.map(extent))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    Ok(Some(futures::stream::iter(found.into_iter().map(Ok)).boxed()))
}

/// Goes through extents, joined to whole blocks.
pub(crate) struct Stretches<'a> {
    ctx: &'a Ctx,
    extents: Option<ExtentStream>,
    /// Read, and not given out because the next may touch it.
    held: Option<(u64, u64)>,
    block: u64,
    size: u64,
    last: u64,
}

impl<'a> Stretches<'a> {
    /// `None` is all of the device.
    pub(crate) fn new(ctx: &'a Ctx, extents: Option<ExtentStream>, block: u64, size: u64) -> Self {
        let all = extents.is_none() && size > 0;
        Self { ctx, extents, held: all.then_some((0, size)), block, size, last: 0 }
    }

    fn next_extent(&mut self) -> BackupResult<Option<SourceExtent>> {
        let Some(extents) = &mut self.extents else { return Ok(None) };
        let next = self.ctx.call(async { extents.next().await.transpose().map_err(BackupError::Invalid) })?;
        let Some(extent) = next else {
            self.extents = None;
            return Ok(None);
        };
        if extent.offset < self.last {
            return Err(BackupError::Invalid("the driver gives extents out of order".into()));
        }
        self.last = extent.offset;
        Ok(Some(extent))
    }

    /// The next stretch of whole blocks to read: first byte, byte after the last.
    pub(crate) fn next(&mut self) -> BackupResult<Option<(u64, u64)>> {
        loop {
            let Some(extent) = self.next_extent()? else { return Ok(self.held.take()) };
            let start = extent.offset / self.block * self.block;
            let end = extent.offset.saturating_add(extent.length).min(self.size);
            let end = end.div_ceil(self.block).saturating_mul(self.block).min(self.size);
            if extent.length == 0 || start >= end {
                continue;
            }
            match &mut self.held {
                Some(held) if start <= held.1 => held.1 = held.1.max(end),
                held => {
                    if let Some(ready) = held.replace((start, end)) {
                        return Ok(Some(ready));
                    }
                }
            }
        }
    }
}

impl BlockBackup<'_> {
    /// Goes through the device.
    pub(crate) fn plan(
        &self,
        extents: Extents,
        parent: Option<Blocks<'_>>,
        units: &Sender<Unit>,
        jobs: &Sender<Job>,
    ) -> BackupResult<()> {
        let (stream, mut parent) = match extents {
            Extents::All => (data_of_file(&self.file, &self.name, self.size)?, None),
            Extents::InUse(stream) => (Some(stream), None),
            Extents::Changed { extents, .. } => (Some(extents), parent),
        };
        let mut stretches = Stretches::new(self.ctx, stream, self.block, self.size);
        let mut waiting: Option<Piece> = None;
        loop {
            let stretch = stretches.next()?;
            let until = stretch.map_or(self.size, |(start, _)| start);
            // The parent's blocks up to here are unchanged; those within the stretch are replaced.
            let resume = stretch.map_or(self.size, |(_, end)| end);
            if let Some(blocks) = &mut parent {
                loop {
                    let piece = match waiting.take() {
                        Some(piece) => piece,
                        None => match blocks.next() {
                            Some(piece) => piece?,
                            None => break,
                        },
                    };
                    if piece.0 >= resume {
                        waiting = Some(piece);
                        break;
                    }
                    let end = piece.0 + u64::from(piece.1.len);
                    if piece.0 < until && end <= self.size {
                        self.ctx.progress.add_bytes(piece.1.len.into());
                        send(units, Unit::Known(piece))?;
                    } else if piece.0 < until && piece.0 < self.size {
                        // The device was made smaller, in the middle of this block.
                        self.stretch(piece.0, self.size, units, jobs)?;
                    }
                }
            }
            let Some((start, end)) = stretch else { return Ok(()) };
            self.ctx.progress.add_total(end - start, 0);
            self.stretch(start, end, units, jobs)?;
        }
    }

    fn stretch(&self, start: u64, end: u64, units: &Sender<Unit>, jobs: &Sender<Job>) -> BackupResult<()> {
        let mut at = start;
        while at < end {
            self.ctx.check()?;
            let len = usize::try_from(self.block.min(end - at)).unwrap_or(usize::MAX);
            let taken = self.budget.take(len, self.ctx)?;
            let (done, piece) = oneshot::channel();
            send(units, Unit::Read(piece))?;
            send(jobs, Job { at, len, taken, done })?;
            at += len as u64;
        }
        Ok(())
    }

    /// Reads, hashes and stores blocks until there are no more jobs.
    pub(crate) fn work(&self, jobs: &Receiver<Job>, mut encoder: Encoder) -> BackupResult<()> {
        let mut data = Vec::new();
        while let Ok(Job { at, len, taken, done }) = jobs.recv() {
            self.ctx.check()?;
            data.resize(len, 0);
            self.file.read_exact_at(&mut data, at).map_err(|e| BackupError::io("read", &self.name, e))?;
            was_read(&self.file, at, len);
            self.bytes_read.fetch_add(len as u64, Relaxed);
            let piece = match all_zero(&data) {
                true => None,
                false => Some((at, self.packer.put(&mut encoder, &data, Lane::Data)?)),
            };
            self.ctx.progress.add_bytes(len as u64);
            drop(taken);
            // Nobody waits only when all is ending.
            let _ = done.send(piece);
        }
        Ok(())
    }

    /// Puts the manifest together.
    pub(crate) fn assemble(
        &self,
        units: &Receiver<Unit>,
        writer: &mut ManifestWriter<'_>,
    ) -> BackupResult<()> {
        while let Ok(unit) = units.recv() {
            match unit {
                Unit::Known(piece) => writer.block(piece)?,
                Unit::Read(piece) => {
                    if let Some(piece) = piece.blocking_recv().map_err(|_| BackupError::Cancelled)? {
                        writer.block(piece)?;
                    }
                }
            }
        }
        self.ctx.check()
    }
}
