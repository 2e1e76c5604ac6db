//! Copies of trees, into snapshots and out of them, which end with the call that wants them.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use convoy_driver_sdk::Context;
use convoy_driver_sdk::context::Progress;
use convoy_driver_sdk::tree::{
    CopyOptions, CopyReport, Observer, TreeError, TreeWriter, copy_tree, unpack_tar,
};
use flate2::bufread::MultiGzDecoder;

use crate::error::{VfsError, VfsResult, io_error, refuse_losses};

/// Shows a call's context to a copy.
struct ContextObserver<'a> {
    context: &'a Context,
    done: AtomicU64,
}

impl Observer for ContextObserver<'_> {
    fn advanced(&self, entries: u64, _bytes: u64) {
        let done = self.done.fetch_add(entries, Ordering::Relaxed) + entries;
        if done.is_multiple_of(1000) {
            self.context.progress(Progress::new(done, "files"));
        }
    }

    fn stop(&self) -> bool {
        self.context.check().is_err()
    }
}

/// A copy that was stopped on request was cancelled, or ran out of time: the context knows which.
fn explain(error: TreeError, context: &Context) -> VfsError {
    match (&error, context.check()) {
        (TreeError::Cancelled, Err(why)) => why.into(),
        _ => error.into(),
    }
}

/// Copies a tree to an empty directory. Blocks are shared where the file system can.
pub(crate) fn copy(
    from: &Path,
    to: &Path,
    options: CopyOptions<'_>,
    context: &Context,
) -> VfsResult<CopyReport> {
    let observer = ContextObserver { context, done: AtomicU64::new(0) };
    let options = CopyOptions { observer: Some(&observer), ..options };
    let report = copy_tree(from, to, &options).map_err(|e| explain(e, context))?;
    for warning in &report.warnings {
        tracing::warn!(from = %from.display(), "{warning}");
    }
    Ok(report)
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
    unpack_tar(tar, &writer, &|| context.check().is_ok()).map_err(|e| explain(e, context))?;
    refuse_losses(writer.finish()?.losses)
}
