//! The data of one file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use convoy_tree::RelPath;
use tokio_util::sync::CancellationToken;

use crate::browse::{Beside, Browse};
use crate::error::{BackupError, BackupResult};
use crate::progress::Progress;

/// Bytes that are read and written at once.
pub(super) const PIECE: usize = 1 << 20;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copied {
    /// Bytes to the end of the file, holes included.
    pub(super) size: u64,
    /// Those of them that were read from the file that is there, and not from the source.
    pub(super) reused: u64,
}

/// Writes the data of `path` into `file`, which is empty, without the holes. Every piece is verified before
/// it is written. What `there` has at the same place is not fetched from a store.
pub(super) fn copy(
    source: &dyn Browse,
    path: &RelPath,
    file: &File,
    there: Option<&File>,
    progress: &Progress,
    cancel: &CancellationToken,
) -> BackupResult<Copied> {
    let data = source.open(path)?;
    let (size, mut at, mut copied, mut reused) = (data.size(), 0, 0, 0);
    // Before this place there is nothing to be found in `there` any more.
    let mut ask = 0;
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
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let found = match there.filter(|_| at >= ask) {
                Some(there) => data.beside(at, there)?,
                None => None,
            };
            let bytes = match found {
                Some(Beside::Same(bytes)) => {
                    let bytes = bytes.slice(..bytes.len().min(left));
                    reused += bytes.len() as u64;
                    bytes
                }
                other => {
                    if let Some(Beside::Other(length)) = other {
                        ask = at.saturating_add(length);
                    }
                    data.read_at(at, left.min(PIECE))?
                }
            };
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
    Ok(Copied { size, reused })
}
