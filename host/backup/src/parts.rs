//! Restores parts of a tree into a directory that others use.
//!
//! - `selection`: which parts; `compare`: whether something is there already; `policy`: what is done with it.
//! - `restorer`: a restore from its beginning to its end; `node`: one thing of the source beside what is in
//!   its place; `put`: into its place; `batch`: files that are written at once and put in place together;
//!   `copy`: the data of one file; `links`: further names of files; `extras`: what the source has not.
//!
//! A dry run takes the same decisions in the same order, and differs in that nothing is done.

mod batch;
mod compare;
mod copy;
mod extras;
mod links;
mod node;
mod policy;
mod put;
mod restorer;
mod selection;

use std::os::fd::OwnedFd;

use convoy_tree::{Dir, RelPath};
use tokio_util::sync::CancellationToken;

use crate::browse::Browse;
use crate::error::{BackupError, BackupResult};
use crate::progress::Progress;

pub use selection::{Selection, find_path, path_in_tree};

/// So many failures are kept word by word.
const FAILURES: usize = 1000;

/// What is done with something that is there already, and is not what the source has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays as it is.
    #[default]
    Keep,
    /// The source's takes its place. A directory that is not empty makes way for something else only if
    /// what the source has not is to be deleted anyway ([`PartsOptions::delete_extra`]).
    Replace,
    /// It gets another name: its own, and [`PartsOptions::suffix`].
    Rename,
    /// As [`Self::Replace`] if the source's was changed later, else as [`Self::Keep`].
    Newer,
}

/// How parts are restored.
#[derive(Debug, Clone)]
pub struct PartsOptions {
    /// Which parts.
    pub selection: Selection,
    /// The directory in the target that stands for the root of the source; made if it is missing.
    pub at: RelPath,
    /// What is done with what is there already.
    pub existing: Existing,
    /// Delete, in the directories that are restored, what the source has not and no pattern excludes.
    pub delete_extra: bool,
    /// Tell what would be done, and do nothing.
    pub dry_run: bool,
    /// What the name of something ends in that made way ([`Existing::Rename`]).
    pub suffix: String,
}

/// What was done with one thing, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Nothing was there, and it was made.
    Create,
    /// It took the place of what was there.
    Replace,
    /// It took the place of what was there, which has another name now.
    Rename,
    /// What was there got owner, mode, attributes and times: a directory; in place also a file whose data
    /// is that of the source.
    Update,
    /// What was there stays.
    Keep,
    /// What was there was deleted, with everything below it.
    Delete,
    /// It could not be restored.
    Fail,
}

impl Action {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Rename => "rename",
            Self::Update => "update",
            Self::Keep => "keep",
            Self::Delete => "delete",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub action: Action,
    /// What is restored, kept or deleted: "a regular file".
    pub kind: &'static str,
    /// Where, from the root of the target.
    pub path: RelPath,
    /// Bytes of a file that is restored.
    pub bytes: u64,
    /// The other name: of what made way, or of what it is a hard link to.
    pub other: Option<RelPath>,
    /// Why, where that is not plain.
    pub why: String,
}

/// Takes each change as it is done, or would be. An error ends the restore.
pub type Told<'a> = &'a mut dyn FnMut(&Change) -> BackupResult<()>;

/// What became of a restore of parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartsSummary {
    /// What was made where nothing was.
    pub created: u64,
    /// What took the place of something.
    pub replaced: u64,
    /// What took the place of something that has another name now.
    pub renamed: u64,
    /// What was there and got its metadata alone: directories; in place also files.
    pub updated: u64,
    /// What was there, is not as in the source, and stays.
    pub kept: u64,
    /// What was there as the source has it.
    pub same: u64,
    /// What was deleted; with a directory goes everything below it.
    pub deleted: u64,
    /// What a pattern excluded; what is below it does not count.
    pub excluded: u64,
    /// Regular files that were written.
    pub files: u64,
    /// Bytes that they have.
    pub bytes: u64,
    /// Those of them that came from the files whose place they took, and not from the source.
    pub reused: u64,
    /// What could not be restored.
    pub failed: u64,
    /// The first of them: path in the target, and why.
    pub failures: Vec<(RelPath, String)>,
    /// What the file system refused of what was restored.
    pub losses: convoy_tree::Losses,
    /// What a user should know.
    pub warnings: Vec<String>,
}

impl PartsSummary {
    fn count(&mut self, action: Action) {
        let counter = match action {
            Action::Create => &mut self.created,
            Action::Replace => &mut self.replaced,
            Action::Rename => &mut self.renamed,
            Action::Update => &mut self.updated,
            Action::Keep => &mut self.kept,
            Action::Delete => &mut self.deleted,
            Action::Fail => &mut self.failed,
        };
        *counter += 1;
    }
}

/// Restores parts of `source` into the directory that `target` has open, which others may use meanwhile: they
/// see each file as it was or whole. Success means that everything that is not among the failures was
/// verified and is durable.
///
/// What is in its place stays when the restore is cancelled or fails. Repeating it is safe at any time, also
/// after it was killed; the repetition removes what was left unfinished. Two at a time in one target would
/// take each other's for that.
///
/// # Errors
/// [`BackupError::NoPath`] for a path that the source has not, [`BackupError::Invalid`] for what cannot be
/// done, in both cases before anything is changed; [`BackupError::Cancelled`]; a store that fails, a target
/// that is full. What is wrong with one thing is among the failures of the summary.
pub fn restore_parts(
    source: &dyn Browse,
    target: OwnedFd,
    options: &PartsOptions,
    told: Told<'_>,
    progress: &Progress,
    cancel: &CancellationToken,
) -> BackupResult<PartsSummary> {
    let root = Dir::try_from(target).map_err(|e| BackupError::io("open", "the target", e))?;
    restorer::run(source, root, options, None, told, progress, cancel)
}

/// Called once, when everything that can be checked before was, and before anything is changed. An error
/// ends the work.
pub type Begins<'a> = &'a mut dyn FnMut() -> BackupResult<()>;

/// Makes the directory that `target` has open exactly what `source` is, and writes only what differs: what
/// the source has not is deleted, files of the same data that differ otherwise get their metadata, and of a
/// file of which a part differs, the rest is not fetched again. Nobody else may use the directory: unlike
/// [`restore_parts`], this goes over what is protected (`chattr +i`), and gives files their metadata where
/// they are.
///
/// Killed at any time and repeated it comes to the same end. With `dry_run` nothing is done, and `begins` is
/// not called.
///
/// # Errors
/// As [`restore_parts`]. What is wrong with one thing is among the failures of the summary; then nothing was
/// deleted, and the directory is not what the source is.
pub fn restore_in_place(
    source: &dyn Browse,
    target: OwnedFd,
    dry_run: bool,
    begins: Begins<'_>,
    told: Told<'_>,
    progress: &Progress,
    cancel: &CancellationToken,
) -> BackupResult<PartsSummary> {
    let root = Dir::try_from(target).map_err(|e| BackupError::io("open", "the target", e))?;
    let options = PartsOptions {
        selection: Selection::new(Vec::new(), &[])?,
        at: RelPath::root(),
        existing: Existing::Replace,
        delete_extra: true,
        dry_run,
        suffix: String::new(),
    };
    restorer::run(source, root, &options, Some(begins), told, progress, cancel)
}
