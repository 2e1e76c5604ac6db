//! The data of one file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use convoy_tree::RelPath;
use tokio_util::sync::CancellationToken;

use crate::browse::Browse;
use crate::error::{BackupError, BackupResult};
use crate::progress::Progress;

/// Bytes that are read and written at once.
pub(super) const PIECE: usize = 1 << 20;

/// Writes the data of `path` into `file`, which is empty, without the holes. Every piece is verified before
/// it is written. Answers how many bytes there are to the end of it, holes included.
pub(super) fn copy(
    source: &dyn Browse,
    path: &RelPath,
    file: &File,
    progress: &Progress,
    cancel: &CancellationToken,
) -> BackupResult<u64> {
    let data = source.open(path)?;
    let (size, mut at, mut copied) = (data.size(), 0, 0);
    while let Some(range) = data.next_data(at)? {
        let end = range.end.min(size);
        at = range.start.max(at);
        if at >= end {
            break;
        }
        while at < end {
            if cancel.is_cancelled() {
                return Err(BackupError::Cancelled);
            }
            let wanted = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let bytes = data.read_at(at, wanted)?;
            if bytes.is_empty() {
                return Err(BackupError::SourceChanged { path: path.shown() });
            }
            file.write_all_at(&bytes, at).map_err(|e| BackupError::io("write", path.shown(), e))?;
            progress.add_bytes(bytes.len() as u64);
            at += bytes.len() as u64;
            copied += bytes.len() as u64;
        }
    }
    progress.add_bytes(size.saturating_sub(copied));
    Ok(size)
}
