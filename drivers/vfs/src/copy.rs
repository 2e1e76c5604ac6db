//! Copies of trees, into snapshots and out of them, which end with the call that wants them.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use convoy_driver_sdk::Context;
use convoy_driver_sdk::copies::{self, CopyError};
use convoy_driver_sdk::tree::{CopyOptions, CopyReport, TreeWriter, unpack_tar};
use flate2::bufread::MultiGzDecoder;

use crate::error::{VfsResult, io_error, refuse_losses};

/// Copies a tree to an empty directory. Blocks are shared where the file system can.
pub(crate) fn copy(
    from: &Path,
    to: &Path,
    options: CopyOptions<'_>,
    context: &Context,
) -> VfsResult<CopyReport> {
    Ok(copies::copy(from, to, options, context)?)
}

/// Copies the data of a snapshot, a tree or an archive of 0.5, to an empty directory, whole.
pub(crate) fn copy_out(from: &Path, is_tree: bool, to: &Path, context: &Context) -> VfsResult<()> {
    if is_tree {
        refuse_losses(copy(from, to, CopyOptions::default(), context)?.losses)
    } else {
        unpack(from, to, context)
    }
}

/// Unpacks a snapshot of 0.5 into an empty directory.
pub(crate) fn unpack(archive: &Path, tree: &Path, context: &Context) -> VfsResult<()> {
    let writer = TreeWriter::new(tree)?;
    let file = File::open(archive).map_err(io_error("open", archive))?;
    let tar = MultiGzDecoder::new(BufReader::with_capacity(1 << 18, file));
    unpack_tar(tar, &writer, &|| context.check().is_ok()).map_err(|e| CopyError::of(e, context))?;
    refuse_losses(writer.finish()?.losses)
}
