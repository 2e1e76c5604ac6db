//! Writes a device again. Every block is verified before it is written; what the backup does not have becomes
//! zero.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{FallocateFlags, fallocate};

use super::ctx::Ctx;
use super::fetch::{Want, fetch};
use super::page_cache::WriteCounter;
use super::relocations::Relocations;
use super::segments::{Blocks, Segments};
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::all_zero;
use crate::format::manifest::Root;
use crate::progress::Phase;

/// Bytes that are read at once to see whether they are zero already.
const LOOK: usize = 1 << 20;

/// A device being written.
pub(crate) struct Device {
    file: File,
    name: String,
    zeroed: bool,
    written: WriteCounter,
}

impl Device {
    /// Opens a device of at least `needed` bytes.
    pub(crate) fn open(path: &Path, backup: &str, needed: u64, zeroed: bool) -> BackupResult<Self> {
        use std::io::{Seek, SeekFrom};
        let name = path.display().to_string();
        let failed = |e| BackupError::io("write", &name, e);
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let found = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if found < needed {
            return Err(BackupError::TooSmall { backup: backup.to_owned(), needed, found });
        }
        Ok(Self { file, name, zeroed, written: WriteCounter::default() })
    }

    pub(crate) fn write(&self, at: u64, data: &[u8]) -> BackupResult<()> {
        self.file.write_all_at(data, at).map_err(|e| BackupError::io("write", &self.name, e))?;
        self.written.add(&self.file, data.len());
        Ok(())
    }

    /// Makes a range read as zeros, without taking space where that is possible.
    pub(crate) fn zero(&self, ctx: &Ctx, from: u64, to: u64) -> BackupResult<()> {
        if self.zeroed || from >= to {
            return Ok(());
        }
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // The kernel promises that a punched hole reads as zeros, or refuses.
        if let (Ok(start), Ok(length)) = (from.try_into(), (to - from).try_into())
            && fallocate(&self.file, hole, start, length).is_ok()
        {
            return Ok(());
        }
        let mut look = vec![0; LOOK];
        let mut at = from;
        while at < to {
            ctx.check()?;
            let len = usize::try_from(to - at).unwrap_or(LOOK).min(LOOK);
            let part = &mut look[..len];
            self.file.read_exact_at(part, at).map_err(|e| BackupError::io("read", &self.name, e))?;
            if !all_zero(part) {
                part.fill(0);
                self.write(at, part)?;
            }
            at += len as u64;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self) -> BackupResult<()> {
        self.file.sync_all().map_err(|e| BackupError::io("sync", &self.name, e))
    }
}

/// Restores into a device, durably. Gives the bytes written.
pub(crate) fn restore(
    ctx: &Ctx,
    requests: usize,
    root: &Root,
    moves: &Relocations,
    device: &Device,
    size: u64,
) -> BackupResult<u64> {
    let bytes = AtomicU64::new(0);
    let mut end = 0;
    let wants = Blocks::new(Segments::new(ctx, moves, root)?, root.size).map(|piece| {
        let (at, chunk) = piece?;
        let next = at.saturating_add(chunk.len.into());
        device.zero(ctx, end, at)?;
        end = next;
        Ok(Want { chunk, purpose: at, weight: 0 })
    });
    fetch(ctx, requests, wants, &|at: u64, _, data| {
        let data = data?;
        device.write(at, data)?;
        bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        ctx.progress.add_bytes(data.len() as u64);
        Ok(())
    })?;
    device.zero(ctx, end, size)?;
    ctx.progress.phase(Phase::Finishing);
    device.sync()?;
    Ok(bytes.into_inner())
}
