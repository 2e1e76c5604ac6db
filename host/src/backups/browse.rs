//! What is in backups and snapshots: listed, searched, compared and read, without restoring anything.
//!
//! A tree is opened (`trees`), read on a thread that may wait, and closed whatever happens: [`Backups::in_trees`].
//! `find` goes through many; `entries` writes what is found as the API has it.

mod entries;
mod find;

use super::error::backup_error;
use super::memory::Share;
use super::service::Backups;
use super::trees::{Tree, died};
use convoy_activity::jobs::{Running, STALLED};
use convoy_backup::look::{self, Archive, Compare, tree_path};
use convoy_backup::{BackupError, BackupResult};
use convoy_client::types::{
    BrowseLine, ChangedFile, CompareTrees, DumpTree, FileEntry, ListFiles, ReadFile, TreeRef,
};
use convoy_volumes::{Error, Result};
use std::io::Write;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Takes lines of an answer; an error says that nobody wants more.
pub(crate) trait Lines<T>: FnMut(BrowseLine<T>) -> BackupResult<()> + Send + 'static {}
impl<T, F: FnMut(BrowseLine<T>) -> BackupResult<()> + Send + 'static> Lines<T> for F {}

impl Backups {
    /// Lists a directory, or everything below it.
    ///
    /// # Errors
    /// [`Error::Backup`] for a path that is not there; those of the store or the driver.
    pub(crate) async fn list_files(
        &self,
        asked: ListFiles,
        job: &Running,
        request_id: &str,
        mut lines: impl Lines<FileEntry>,
    ) -> Result<()> {
        let path = tree_path(&asked.path).map_err(backup_error)?;
        self.in_trees([&asked.tree], job, request_id, move |[tree], cancel| {
            tree.note.iter().try_for_each(|note| lines(BrowseLine::Note(note.clone())))?;
            look::list(&*tree.browse, &path, asked.recursive, cancel, &mut |node| {
                lines(BrowseLine::Entry(entries::file(&node)))
            })
        })
        .await
    }

    /// Tells what differs between two trees.
    ///
    /// # Errors
    /// As [`Self::list_files`].
    pub(crate) async fn compare_trees(
        &self,
        asked: CompareTrees,
        job: &Running,
        request_id: &str,
        mut lines: impl Lines<ChangedFile>,
    ) -> Result<()> {
        let path = tree_path(&asked.path).map_err(backup_error)?;
        self.in_trees([&asked.old, &asked.new], job, request_id, move |[old, new], cancel| {
            let notes = [old, new].into_iter().filter_map(|tree| tree.note.clone());
            notes.map(BrowseLine::Note).try_for_each(&mut lines)?;
            let one_store = !old.store.is_empty() && old.store == new.store;
            let trees = Compare { old: &*old.browse, new: &*new.browse, one_store };
            look::compare(trees, &path, cancel, &mut |change| {
                lines(BrowseLine::Entry(entries::change(&change)))
            })
        })
        .await
    }

    /// Writes the bytes of a file.
    ///
    /// # Errors
    /// As [`Self::list_files`]; what is damaged is named.
    pub(crate) async fn read_file(
        &self,
        asked: ReadFile,
        job: &Running,
        request_id: &str,
        mut out: impl Write + Send + 'static,
    ) -> Result<()> {
        let path = tree_path(&asked.path).map_err(backup_error)?;
        self.in_trees([&asked.tree], job, request_id, move |[tree], cancel| {
            look::cat(&*tree.browse, &path, &mut out, cancel)?;
            out.flush().map_err(|_| BackupError::Cancelled)
        })
        .await
    }

    /// Writes a directory or a file as an archive; answers what that cannot hold.
    ///
    /// # Errors
    /// As [`Self::list_files`]; what is damaged is named once all else is written.
    pub(crate) async fn dump_tree(
        &self,
        asked: DumpTree,
        job: &Running,
        request_id: &str,
        mut out: impl Write + Send + 'static,
    ) -> Result<Option<String>> {
        let path = tree_path(&asked.path).map_err(backup_error)?;
        let archive = match asked.format.as_str() {
            "" | "tar" => Archive::Tar,
            "zip" => Archive::Zip,
            other => {
                let text = format!("invalid format {other:?}: expected tar or zip");
                return Err(Error::InvalidRequest(text));
            }
        };
        let dumped = self.in_trees([&asked.tree], job, request_id, move |[tree], cancel| {
            let dumped = look::dump(&*tree.browse, &path, archive, &mut out, cancel);
            // What was written before an error counts too.
            out.flush().map_err(|_| BackupError::Cancelled)?;
            dumped
        });
        let left_out = dumped.await?.left_out;
        Ok((left_out.count > 0).then(|| left_out.to_string()))
    }

    /// Opens trees, runs `work` on a thread of its own, and closes them.
    async fn in_trees<const N: usize, T: Send + 'static>(
        &self,
        asked: [&TreeRef; N],
        job: &Running,
        request_id: &str,
        work: impl FnOnce([&Tree; N], &CancellationToken) -> BackupResult<T> + Send + 'static,
    ) -> Result<T> {
        let in_store = asked.iter().filter(|tree| !tree.url.is_empty()).count();
        let share = match u32::try_from(in_store) {
            Ok(0) | Err(_) => None,
            Ok(in_store) => Some(self.memory.share_of(job, in_store).await?),
        };
        let mut trees = Vec::with_capacity(N);
        let mut opened = Ok(());
        for tree in asked {
            match self.open_tree(tree, share.as_ref(), job, request_id).await {
                Ok(tree) => trees.push(tree),
                Err(error) => {
                    opened = Err(error);
                    break;
                }
            }
        }
        let result = match opened {
            Ok(()) => read(&mut trees, job, share.as_ref(), work).await,
            Err(error) => Err(error),
        };
        for tree in trees {
            tree.close(self, request_id).await;
        }
        result
    }
}

/// Runs `work` on a thread of its own. The trees are handed back, also where it panics.
async fn read<const N: usize, T: Send + 'static>(
    trees: &mut Vec<Tree>,
    job: &Running,
    share: Option<&Share>,
    work: impl FnOnce([&Tree; N], &CancellationToken) -> BackupResult<T> + Send + 'static,
) -> Result<T> {
    let (shared, cancel) = (Arc::new(std::mem::take(trees)), job.cancel());
    let (borrowed, span) = (Arc::clone(&shared), tracing::Span::current());
    let reading = tokio::task::spawn_blocking(move || {
        span.in_scope(|| {
            let all: Vec<&Tree> = borrowed.iter().collect();
            let place = all.last().map(|tree| tree.place.clone()).unwrap_or_default();
            let Ok(all) = <[&Tree; N]>::try_from(all) else { return Err(BackupError::Cancelled) };
            work(all, &cancel).map_err(|error| in_words(error, place))
        })
    });
    let done = job.attended(STALLED, reading, async {
        if let Some(share) = share {
            share.lend();
        }
    });
    let result = done.await.map_err(died).and_then(|result| result.map_err(backup_error));
    *trees = Arc::into_inner(shared).unwrap_or_default();
    result
}

/// Names the tree as people do, where a reader says where it found it.
fn in_words(error: BackupError, place: String) -> BackupError {
    match error {
        BackupError::NoPath { path, nearest, .. } => BackupError::NoPath { place, path, nearest },
        other => other,
    }
}
