//! Whether what is there is what the source has.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use convoy_tree::{Entry, FileFlags, Kind, WalkEntry};
use tokio_util::sync::CancellationToken;

use super::Existing;
use super::copy::PIECE;
use crate::browse::{Beside, Browse, ReadAt};
use crate::error::{BackupError, BackupResult};

/// What `chattr` sets that a restore gives back.
pub(super) const FLAGS: FileFlags = FileFlags::IMMUTABLE.union(FileFlags::APPEND).union(FileFlags::NO_DUMP);

/// Whether two entries have the same metadata, times of access apart.
pub(super) fn same_metadata(one: &Entry, other: &Entry) -> bool {
    let link = matches!(one.kind, Kind::Symlink { .. });
    one.kind == other.kind
        && (link || one.mode == other.mode)
        && (one.uid, one.gid) == (other.uid, other.gid)
        && (!one.is_file() || one.size == other.size)
        && one.mtime == other.mtime
        && one.xattrs == other.xattrs
        && (link || one.flags & FLAGS == other.flags & FLAGS)
}

/// Whether `there`, no directory, is what the source has. What would be replaced is compared byte by byte;
/// what would be kept in any case by size and time.
pub(super) fn is_same(
    source: &dyn Browse,
    entry: &Entry,
    there: &WalkEntry,
    existing: Existing,
    cancel: &CancellationToken,
) -> BackupResult<bool> {
    let present = &there.entry;
    if matches!(existing, Existing::Keep | Existing::Newer) {
        let sized = !entry.is_file() || entry.size == present.size;
        return Ok(entry.kind == present.kind && sized && entry.mtime == present.mtime);
    }
    if !same_metadata(entry, present) {
        return Ok(false);
    }
    has_same_data(source, entry, there, cancel)
}

/// Whether `there`, which is of the same kind, has the data of `entry`.
pub(super) fn has_same_data(
    source: &dyn Browse,
    entry: &Entry,
    there: &WalkEntry,
    cancel: &CancellationToken,
) -> BackupResult<bool> {
    if !entry.is_file() || (entry.size == 0 && there.entry.size == 0) {
        return Ok(true);
    }
    if entry.size != there.entry.size {
        return Ok(false);
    }
    // What cannot be read any more is not the same.
    let Ok((file, _)) = there.open() else { return Ok(false) };
    same_data(&*source.open(&entry.path)?, &file, cancel)
}

/// Whether a file has the same bytes. Of a backup nothing is fetched: the names of its chunks tell.
fn same_data(source: &dyn ReadAt, file: &File, cancel: &CancellationToken) -> BackupResult<bool> {
    let (size, mut at) = (source.size(), 0);
    let mut buffer = vec![0; PIECE];
    while at < size {
        if cancel.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        match source.beside(at, file)? {
            Some(Beside::Same(bytes)) if !bytes.is_empty() => {
                at += bytes.len() as u64;
                continue;
            }
            Some(_) => return Ok(false),
            None => {}
        }
        let bytes = source.read_at(at, PIECE)?;
        let read = buffer.get_mut(..bytes.len()).unwrap_or_default();
        match file.read_exact_at(read, at) {
            Ok(()) if read == &bytes[..] && !bytes.is_empty() => at += bytes.len() as u64,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}
