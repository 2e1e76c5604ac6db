//! Copies of trees that end with the call that wants them.

use crate::context::Progress;
use crate::{Context, DriverError};
use convoy_tree::{CopyOptions, CopyReport, Observer, TreeError, copy_tree};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a tree was not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The call was cancelled, or its deadline passed.
    #[error(transparent)]
    Call(DriverError),
    /// Something could not be read or written.
    #[error(transparent)]
    Tree(TreeError),
}

impl CopyError {
    /// What was stopped on request was cancelled, or ran out of time: the context knows which.
    pub fn of(error: TreeError, context: &Context) -> Self {
        match (&error, context.check()) {
            (TreeError::Cancelled, Err(why)) => Self::Call(why),
            _ => Self::Tree(error),
        }
    }
}

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

/// Copies a tree to an empty directory, as [`copy_tree`] does, and tells the call how far it is. Blocks are
/// shared where the file system can. Warnings go into the log.
///
/// # Errors
/// [`CopyError`]; the directory then holds a part.
pub fn copy(
    from: &Path,
    to: &Path,
    options: CopyOptions<'_>,
    context: &Context,
) -> Result<CopyReport, CopyError> {
    let observer = ContextObserver { context, done: AtomicU64::new(0) };
    let options = CopyOptions { observer: Some(&observer), ..options };
    let report = copy_tree(from, to, &options).map_err(|error| CopyError::of(error, context))?;
    for warning in &report.warnings {
        tracing::warn!(from = %from.display(), "{warning}");
    }
    Ok(report)
}
