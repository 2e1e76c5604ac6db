//! Opens what is in a backup or a snapshot as one tree of files.
//!
//! A directory tree is read as it is. A device is read by the kernel, which mounts the file system on it where
//! nobody else sees it (`convoy-mount`).

use super::error::{backup_error, mount_error};
use super::memory::Share;
use super::progress::watched;
use super::secret::Secret;
use super::service::Backups;
use super::source::{self, OpenSource, Shape};
use super::store::Store;
use convoy_activity::jobs::Running;
use convoy_backup::{BackupInfo, BackupKind, Browse, Progress, RestoreOptions, Source};
use convoy_client::types::TreeRef;
use convoy_driver_sdk::protocol::{Capability, Snapshot, SourceKind};
use convoy_driver_sdk::{Context, ErrorKind};
use convoy_objectstore::{BackupUrl, plain_url, split};
use convoy_volumes::{Entry, Error, Reading, Result};
use std::sync::Arc;

/// A tree that is open for reading, to be closed with [`Tree::close`].
pub(super) struct Tree {
    pub(super) browse: Arc<dyn Browse>,
    /// What people call it.
    pub(super) place: String,
    /// The destination; empty for a snapshot.
    pub(super) store: String,
    /// What else people should know of it.
    pub(super) note: Option<String>,
    /// An open snapshot, and what keeps its volume from being deleted.
    held: Option<(OpenSource, Reading)>,
}

impl Tree {
    /// Closes it. Nobody may read from it any more: a driver cannot let go of a device that is mounted.
    pub(super) async fn close(self, backups: &Backups, request_id: &str) {
        drop(self.browse);
        if let Some((source, _reading)) = self.held {
            source.close(&backups.volumes, request_id).await;
        }
    }
}

impl Backups {
    /// Opens the backup or the snapshot that is asked for.
    ///
    /// # Errors
    /// Those of the store or the driver; for a device, that no file system is on it, or that the kernel does
    /// not mount it.
    pub(super) async fn open_tree(
        &self,
        asked: &TreeRef,
        share: Option<&Share>,
        job: &Running,
        request_id: &str,
    ) -> Result<Tree> {
        let Some(share) = share.filter(|_| !asked.url.is_empty()) else {
            let volume = (!asked.volume_name.is_empty()).then_some(asked.volume_name.as_str());
            let (entry, snapshot) = self.volumes.snapshot(&asked.snapshot_name, volume)?;
            return self.open_snapshot(&entry, &snapshot, job, request_id).await;
        };
        let url = plain_url(&asked.url);
        self.refuse_to_look(&url)?;
        let (store, backup) = self.destinations().open_backup(&url, &asked.endpoint).await?;
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        let info = self.engine.inspect(Arc::clone(&store.objects), &backup.volume, &backup.backup);
        let info = info.await.map_err(|error| store.missing(error, &backup.volume, Some(&backup.backup)))?;
        let (key, unencrypted) = store.key_to_read(&self.engine, secret, asked.allow_unencrypted).await?;
        let options = RestoreOptions { key, unencrypted, allow_losses: true };
        let tree = open_backup(&store, &backup, &info, &options, share, job).await?;
        if let Some(older) = self.notice(&store, options.key.as_ref(), &backup.volume).await {
            tracing::warn!(volume = backup.volume, older, "there may have been newer backups");
        }
        Ok(tree)
    }

    /// Opens a snapshot.
    pub(super) async fn open_snapshot(
        &self,
        entry: &Entry,
        snapshot: &Snapshot,
        job: &Running,
        request_id: &str,
    ) -> Result<Tree> {
        let place = format!("snapshot {} of volume {}", snapshot.name, entry.volume.name);
        let reading = self.volumes.reading(&entry.volume.name);
        let call = job.call(request_id);
        let shape = shape_to_look(entry);
        let source = source::open(&self.volumes, entry, &snapshot.name, shape, None, &call).await?;
        let (found, context) = (source.source(&call), Context::new(request_id));
        let opened = tokio::task::spawn_blocking(move || match found {
            Source::Tree { path, .. } => convoy_backup::browse_directory(&path).map_err(backup_error),
            Source::Block { device, .. } => {
                convoy_mount::browse_device(&device, &context).map_err(mount_error)
            }
        });
        match opened.await.map_err(died).flatten() {
            Ok(browse) => {
                let (store, note, held) = (String::new(), None, Some((source, reading)));
                Ok(Tree { browse, place, store, note, held })
            }
            Err(error) => {
                source.close(&self.volumes, request_id).await;
                Err(error)
            }
        }
    }

    /// What a storage system keeps itself it alone can read.
    pub(super) fn refuse_to_look(&self, url: &str) -> Result<()> {
        let Some(driver) = self.provider(split(url).0) else { return Ok(()) };
        Err(Error::Backup {
            kind: ErrorKind::Unsupported,
            message: format!(
                "{url} is kept by the storage system of driver {}: convoy cannot look into it",
                driver.name()
            ),
            hint: Some(
                "make a volume of it with `convoy create NAME --backup URL`, and look there once it is mounted"
                    .to_owned(),
            ),
        })
    }
}

/// How a driver is asked for a snapshot to look into: as a tree, where it has the choice.
fn shape_to_look(entry: &Entry) -> Shape {
    if entry.driver.can(Capability::ReadEither) {
        return Shape { kind: Some(SourceKind::Tree), told: true };
    }
    Shape { kind: None, told: false }
}

/// Opens a backup.
pub(super) async fn open_backup(
    store: &Store,
    backup: &BackupUrl,
    info: &BackupInfo,
    options: &RestoreOptions,
    share: &Share,
    job: &Running,
) -> Result<Tree> {
    let (objects, cancel) = (Arc::clone(&store.objects), job.cancel());
    let missing = |error| store.missing(error, &backup.volume, Some(&backup.backup));
    let (volume, name) = (&backup.volume, &backup.backup);
    let browse = match info.kind {
        BackupKind::Tree => {
            let progress = Progress::new();
            let browse = Box::pin(share.browse_watched(objects, volume, name, options, &progress, &cancel));
            let browse = if is_archive(info) {
                watched(job, share, &progress, "reading the whole archive", browse).await
            } else {
                browse.await
            };
            browse.map_err(missing)?
        }
        BackupKind::Block => {
            let image = share.open_image(objects, volume, name, options, &cancel).await;
            let (image, context) = (image.map_err(missing)?, Context::new(job.id()));
            let mounted = tokio::task::spawn_blocking(move || convoy_mount::browse_image(image, &context));
            mounted.await.map_err(died)?.map_err(mount_error)?
        }
    };
    let place = format!("backup {name} of volume {volume}");
    let note = is_archive(info)
        .then(|| format!("{place} is one archive of convoy 0.5: all of it was read to look into it"));
    Ok(Tree { browse, place, store: store.destination.to_string(), note, held: None })
}

/// Whether a backup is one compressed archive, in which nothing is found without reading all of it.
fn is_archive(info: &BackupInfo) -> bool {
    info.kind == BackupKind::Tree && info.format == 0
}

/// Says that a thread of this work has died.
pub(super) fn died(error: tokio::task::JoinError) -> Error {
    Error::Backup {
        kind: ErrorKind::Internal,
        message: format!("the daemon failed in this work: {error}"),
        hint: Some("see its log".to_owned()),
    }
}
