//! Puts what was made in its place, and says what was done.

use std::io;

use convoy_objectstore::StoreError;
use convoy_tree::{Draft, Place, Placing, RelPath, TreeError};

use super::policy::Step;
use super::restorer::Restorer;
use super::{Action, Change, FAILURES};
use crate::error::{BackupError, BackupResult};

impl Restorer<'_> {
    /// Puts a draft in its place, and answers the new name of what made way.
    pub(super) fn put(
        &mut self,
        place: &Place,
        name: &[u8],
        draft: Draft,
        step: Step,
    ) -> BackupResult<Option<RelPath>> {
        let cancel = self.cancel;
        let mut aside = None;
        // What is protected is replaced only where nobody else could have a reason for that.
        let step = match step {
            Step::Over if self.alone => {
                place.unlock_at(name);
                step
            }
            Step::OverEmpty if self.alone => Step::OverFull,
            other => other,
        };
        let how = match step {
            Step::Over => Placing::Over,
            Step::OverEmpty => {
                place.remove_empty_dir(name)?;
                Placing::New
            }
            Step::OverFull => {
                place.remove(name, &|| !cancel.is_cancelled())?;
                Placing::New
            }
            Step::Aside => {
                aside = place.move_aside(name, &self.options.suffix)?;
                Placing::New
            }
            _ => Placing::New,
        };
        match draft.place(name, how) {
            Ok(()) => Ok(aside),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(BackupError::Invalid(
                "somebody put something there meanwhile, which stays: run it again".to_owned(),
            )),
            Err(e) => Err(BackupError::io("put in its place", place.path().shown(), e)),
        }
    }

    /// The new name of what would make way.
    pub(super) fn would_put(
        &self,
        place: Option<&Place>,
        name: &[u8],
        step: Step,
    ) -> BackupResult<Option<RelPath>> {
        match (step, place) {
            (Step::Aside, Some(place)) => Ok(Some(place.name_aside(name, &self.options.suffix)?)),
            _ => Ok(None),
        }
    }

    /// Counts and tells something.
    pub(super) fn tell(
        &mut self,
        action: Action,
        kind: &'static str,
        path: &RelPath,
        bytes: u64,
        other: Option<RelPath>,
        why: String,
    ) -> BackupResult<()> {
        self.summary.count(action);
        (self.told)(&Change { action, kind, path: path.clone(), bytes, other, why })
    }

    /// Notes that something could not be restored; everything else may.
    ///
    /// # Errors
    /// The same, if nothing else can be restored either.
    pub(super) fn failed(
        &mut self,
        path: &RelPath,
        kind: &'static str,
        error: BackupError,
    ) -> BackupResult<()> {
        if is_fatal(&error) {
            return Err(error);
        }
        let why = error.to_string();
        if self.summary.failures.len() < FAILURES {
            self.summary.failures.push((path.clone(), why.clone()));
        }
        self.tell(Action::Fail, kind, path, 0, None, why)
    }
}

pub(super) fn action(step: Step) -> Action {
    match step {
        Step::Over | Step::OverEmpty | Step::OverFull => Action::Replace,
        Step::Aside => Action::Rename,
        _ => Action::Create,
    }
}

pub(super) fn gone(path: &RelPath) -> BackupError {
    BackupError::Invalid(format!("/{path}: its directory is no longer there"))
}

/// Whether nothing else can be restored either.
fn is_fatal(error: &BackupError) -> bool {
    let kernel = |e: &io::Error| {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        matches!(e.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
    };
    match error {
        BackupError::Cancelled
        | BackupError::LockLost { .. }
        | BackupError::KeyMissing { .. }
        | BackupError::KeyWrong
        | BackupError::Memory { .. } => true,
        BackupError::Tree(TreeError::Cancelled) => true,
        BackupError::Tree(error) => error.io_error().is_some_and(kernel),
        BackupError::Io { source, .. } => kernel(source),
        BackupError::Store(error) => !matches!(
            error,
            StoreError::NotFound { .. } | StoreError::Truncated { .. } | StoreError::TooLarge { .. }
        ),
        _ => false,
    }
}
