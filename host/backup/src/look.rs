//! What commands tell of trees, over [`Browse`]: the same for backups and snapshots.
//!
//! - `list`: a directory, or everything below it; `find`: what a pattern names, version by version;
//!   `compare`: what differs between two trees; `dump`: one file, or an archive (`tar`, `zip`).
//!
//! All of it blocks, hands out one thing at a time, holds little, and ends soon after it is cancelled.

use tokio_util::sync::CancellationToken;

use crate::browse::{Browse, Node, ReadAt};
use crate::error::{BackupError, BackupResult};

mod compare;
mod dump;
mod find;
mod list;
mod path;
mod tar;
mod zip;

#[cfg(test)]
mod memory;

pub use compare::{Change, Compare, compare};
pub use dump::{Archive, Dumped, Few, cat, dump};
pub use find::{Pattern, Versions, find};
pub use list::list;
pub use path::tree_path;

/// Bytes that are read of a file at once.
const PIECE: usize = 1 << 20;

/// Takes one thing after the other; an error ends the work.
pub type Each<'a, T> = &'a mut dyn FnMut(T) -> BackupResult<()>;

fn check(cancel: &CancellationToken) -> BackupResult<()> {
    if cancel.is_cancelled() { Err(BackupError::Cancelled) } else { Ok(()) }
}

/// Reads a file from its beginning to its end. Says in errors which file it is.
fn read(
    tree: &dyn Browse,
    node: &Node,
    cancel: &CancellationToken,
    each: &mut dyn FnMut(&[u8]) -> BackupResult<()>,
) -> BackupResult<()> {
    let path = &node.entry.path;
    let file = tree.open(path).map_err(|error| error.of_file(path))?;
    let mut offset = 0;
    while offset < file.size() {
        check(cancel)?;
        let piece = read_piece(&*file, offset).map_err(|error| error.of_file(path))?;
        each(&piece)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// The bytes from `offset` on, which is before the end.
fn read_piece(file: &dyn ReadAt, offset: u64) -> BackupResult<bytes::Bytes> {
    let piece = file.read_at(offset, PIECE)?;
    if piece.is_empty() {
        let found = format!("it ends after {offset} bytes of {}", file.size());
        return Err(BackupError::damaged("its data", found));
    }
    Ok(piece)
}
