//! The contents of one file into another: shared where the file system can, without holes in any case.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::dir::stat_fd;
use crate::extents::data_extents;
use crate::stable::start_writing;

/// Below this size reading and writing is quicker than asking for a copy in the kernel.
const SMALL: u64 = 64 * 1024;
const BUFFER: usize = 256 * 1024;
/// One kernel call copies at most this much, so that stopping is noticed, and the disk begins with what was
/// copied while copying goes on.
const STRETCH: u64 = 8 * 1024 * 1024;

/// Remembers that a pair of file systems cannot share blocks, so that it is tried once and not for every
/// file.
#[derive(Debug, Default)]
pub struct ReflinkHint {
    impossible: AtomicBool,
}

/// How contents were copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMethod {
    /// Blocks are shared (`FICLONE`): no data was moved.
    Reflink,
    /// The bytes were copied.
    Copy,
}

/// How much [`copy_contents`] copied, and by what means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The means that was used.
    pub method: CopyMethod,
    /// Bytes of data moved; 0 for a reflink, and without the holes.
    pub bytes: u64,
}

/// Makes the contents of `to` those of `from`: blocks shared where the file system can, else copied without
/// their holes. `to` must be empty. `keep_going` is asked now and then.
///
/// A file that changes meanwhile is copied as far as it goes: compare `ctime` before and after.
///
/// # Errors
/// What the kernel says, and `Interrupted` when `keep_going` said no.
pub fn copy_contents(
    from: &File,
    to: &File,
    hint: &ReflinkHint,
    keep_going: &dyn Fn() -> bool,
) -> io::Result<Copied> {
    let stat = stat_fd(from)?;
    let size = stat.stx_size;
    if size == 0 {
        return Ok(Copied { method: CopyMethod::Copy, bytes: 0 });
    }
    if !hint.impossible.load(Ordering::Relaxed) {
        match rustix::fs::ioctl_ficlone(to, from) {
            Ok(()) => return Ok(Copied { method: CopyMethod::Reflink, bytes: 0 }),
            Err(Errno::NOTSUP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS) => {
                hint.impossible.store(true, Ordering::Relaxed);
            }
            // This file cannot be shared, another may: swap files and files with other attributes are refused
            // one by one.
            Err(Errno::INVAL | Errno::TXTBSY | Errno::PERM | Errno::BADF | Errno::AGAIN) => {}
            Err(other) => return Err(other.into()),
        }
    }
    let mut copier = Copier { from, to, keep_going, buffer: Vec::new(), in_kernel: size > SMALL, bytes: 0 };
    // As many blocks as bytes: no holes to look for.
    if stat.stx_blocks.saturating_mul(512) >= size {
        copier.copy(0..size)?;
    } else {
        for extent in data_extents(from, 0..size) {
            copier.copy(extent?)?;
        }
    }
    if stat_fd(to)?.stx_size != size {
        to.set_len(size)?;
    }
    Ok(Copied { method: CopyMethod::Copy, bytes: copier.bytes })
}

struct Copier<'a> {
    from: &'a File,
    to: &'a File,
    keep_going: &'a dyn Fn() -> bool,
    buffer: Vec<u8>,
    in_kernel: bool,
    bytes: u64,
}

impl Copier<'_> {
    fn copy(&mut self, range: Range<u64>) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            if !(self.keep_going)() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let moved = self.stretch(at, (range.end - at).min(STRETCH))?;
            if moved == 0 {
                // The file has become shorter.
                return Ok(());
            }
            at += moved;
            self.bytes += moved;
        }
        Ok(())
    }

    fn stretch(&mut self, at: u64, len: u64) -> io::Result<u64> {
        if self.in_kernel {
            let (mut from, mut to) = (at, at);
            let wanted = usize::try_from(len).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(self.from, Some(&mut from), self.to, Some(&mut to), wanted) {
                Ok(moved) => {
                    let moved = moved as u64;
                    // Several small ones are better written together, by the sync.
                    if moved > BUFFER as u64 {
                        start_writing(self.to, at, moved);
                    }
                    return Ok(moved);
                }
                Err(
                    Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::PERM | Errno::TXTBSY,
                ) => {
                    self.in_kernel = false;
                }
                Err(other) => return Err(other.into()),
            }
        }
        let wanted = usize::try_from(len).unwrap_or(BUFFER).min(BUFFER);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let buffer = self.buffer.get_mut(..wanted).unwrap_or_default();
        let read = loop {
            match self.from.read_at(buffer, at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.to.write_all_at(buffer.get(..read).unwrap_or_default(), at)?;
        Ok(read as u64)
    }
}
