//! What is in backups and snapshots: listed, searched, compared and read, without restoring anything.
//!
//! A tree is opened, read on a thread that may wait, and closed whatever happens: [`Backups::in_trees`].
//! `find` goes through many; `entries` writes what is found as the API has it.

mod entries;
mod find;

use super::error::backup_error;
use super::memory::Share;
use super::secret::Secret;
use super::service::Backups;
use super::source::{self, OpenSource, Shape};
use super::store::Store;
use convoy_activity::jobs::{Running, STALLED};
use convoy_backup::look::{self, Archive, Compare, tree_path};
use convoy_backup::{BackupError, BackupInfo, BackupKind, BackupResult, Browse, RestoreOptions};
use convoy_client::types::{
    BrowseLine, ChangedFile, CompareTrees, DumpTree, FileEntry, ListFiles, ReadFile, TreeRef,
};
use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::protocol::{Capability, Snapshot, SourceKind};
use convoy_objectstore::{BackupUrl, plain_url, split};
use convoy_volumes::{Entry, Error, Reading, Result};
use std::io::Write;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Takes lines of an answer; an error says that nobody wants more.
pub(crate) trait Lines<T>: FnMut(BrowseLine<T>) -> BackupResult<()> + Send + 'static {}
impl<T, F: FnMut(BrowseLine<T>) -> BackupResult<()> + Send + 'static> Lines<T> for F {}

/// A tree that is open for reading.
struct Tree {
    browse: Arc<dyn Browse>,
    /// What people call it.
    place: String,
    /// The destination; empty for a snapshot.
    store: String,
    /// An open snapshot, and what keeps its volume from being deleted.
    held: Option<(OpenSource, Reading)>,
}

impl Tree {
    async fn close(self, backups: &Backups, request_id: &str) {
        drop(self.browse);
        if let Some((source, _reading)) = self.held {
            source.close(&backups.volumes, request_id).await;
        }
    }
}

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

    async fn open_tree(
        &self,
        asked: &TreeRef,
        share: Option<&Share>,
        job: &Running,
        request_id: &str,
    ) -> Result<Tree> {
        match share.filter(|_| !asked.url.is_empty()) {
            Some(share) => {
                let url = plain_url(&asked.url);
                self.refuse_to_look(&url)?;
                let (store, backup) = self.destinations().open_backup(&url, &asked.endpoint).await?;
                let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
                let info = self.engine.inspect(Arc::clone(&store.objects), &backup.volume, &backup.backup);
                let info =
                    info.await.map_err(|error| store.missing(error, &backup.volume, Some(&backup.backup)))?;
                let (key, unencrypted) =
                    store.key_to_read(&self.engine, secret, asked.allow_unencrypted).await?;
                let options = RestoreOptions { key, unencrypted, allow_losses: false };
                open_backup(&store, &backup, &info, &options, share, job).await
            }
            None => {
                let volume = (!asked.volume_name.is_empty()).then_some(asked.volume_name.as_str());
                let (entry, snapshot) = self.volumes.snapshot(&asked.snapshot_name, volume)?;
                self.open_snapshot(&entry, &snapshot, job, request_id).await
            }
        }
    }

    /// Opens a snapshot as a tree.
    async fn open_snapshot(
        &self,
        entry: &Entry,
        snapshot: &Snapshot,
        job: &Running,
        request_id: &str,
    ) -> Result<Tree> {
        let place = format!("snapshot {} of volume {}", snapshot.name, entry.volume.name);
        let Some(shape) = tree_shape(entry) else { return Err(block_snapshot(entry, snapshot)) };
        let reading = self.volumes.reading(&entry.volume.name);
        let call = job.call(request_id);
        let source = source::open(&self.volumes, entry, &snapshot.name, shape, None, &call).await?;
        let browse = match source.tree() {
            Some(path) => {
                let path = path.to_owned();
                let opened = tokio::task::spawn_blocking(move || convoy_backup::browse_directory(&path));
                opened.await.map_err(died).and_then(|opened| opened.map_err(backup_error))
            }
            None => Err(block_snapshot(entry, snapshot)),
        };
        match browse {
            Ok(browse) => Ok(Tree { browse, place, store: String::new(), held: Some((source, reading)) }),
            Err(error) => {
                source.close(&self.volumes, request_id).await;
                Err(error)
            }
        }
    }

    /// What a storage system keeps itself it alone can read.
    fn refuse_to_look(&self, url: &str) -> Result<()> {
        let Some(driver) = self.provider(split(url).0) else { return Ok(()) };
        Err(Error::Backup {
            kind: ErrorKind::Unsupported,
            message: format!(
                "{url} is kept by the storage system of driver {}: convoy cannot look into it",
                driver.name()
            ),
            hint: Some(
                "make a volume of it with `convoy create NAME --backup URL`, and look there once it is \
                 mounted"
                    .to_owned(),
            ),
        })
    }
}

/// How a driver is asked for a snapshot as a tree; `None` if it has none.
fn tree_shape(entry: &Entry) -> Option<Shape> {
    let driver = &entry.driver;
    let told = driver.can(Capability::ReadEither) || !driver.can(Capability::ReadTree);
    // The failure of a driver is told by the call.
    let can =
        driver.failure().is_some() || driver.can(Capability::ReadTree) || driver.can(Capability::ReadEither);
    can.then_some(Shape { kind: Some(SourceKind::Tree), told })
}

fn block_snapshot(entry: &Entry, snapshot: &Snapshot) -> Error {
    Error::Backup {
        kind: ErrorKind::Unsupported,
        message: format!(
            "snapshot {} of volume {} is of a block device: convoy cannot look into the file system on it",
            snapshot.name, entry.volume.name
        ),
        hint: Some(format!(
            "make a volume of it with `convoy snapshot clone {} NAME`, and look there once it is mounted",
            snapshot.name
        )),
    }
}

/// Opens a backup as a tree.
async fn open_backup(
    store: &Store,
    backup: &BackupUrl,
    info: &BackupInfo,
    options: &RestoreOptions,
    share: &Share,
    job: &Running,
) -> Result<Tree> {
    if info.kind == BackupKind::Block {
        return Err(Error::Backup {
            kind: ErrorKind::Unsupported,
            message: format!(
                "backup {} is of a block device: convoy cannot look into the file system on it",
                backup.backup
            ),
            hint: Some(
                "restore it into a new volume with `convoy create NAME --backup URL`, and look there once it \
                 is mounted"
                    .to_owned(),
            ),
        });
    }
    let objects = Arc::clone(&store.objects);
    let browse = share.browse(objects, &backup.volume, &backup.backup, options, &job.cancel()).await;
    let browse = browse.map_err(|error| store.missing(error, &backup.volume, Some(&backup.backup)))?;
    let place = format!("backup {} of volume {}", backup.backup, backup.volume);
    Ok(Tree { browse, place, store: store.destination.to_string(), held: None })
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

fn died(error: tokio::task::JoinError) -> Error {
    Error::Backup {
        kind: ErrorKind::Internal,
        message: format!("the daemon failed in this work: {error}"),
        hint: Some("see its log".to_owned()),
    }
}
