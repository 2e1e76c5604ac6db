//! Opens a backup to be read in part.

use std::path::PathBuf;
use std::sync::Arc;

use convoy_objectstore::ObjectStore;
use tokio_util::sync::CancellationToken;

use super::archive::Archive;
use super::chunks::Chunks;
use super::held::Held;
use super::image::{OldImage, image};
use super::manifest::Manifest;
use super::tree::Tree;
use super::{Browse, ReadAt};
use crate::engine::ctx::Ctx;
use crate::engine::relocations::Relocations;
use crate::engine::root::load_root;
use crate::engine::{Engine, catalog, trust};
use crate::error::{BackupError, BackupResult};
use crate::format::manifest::BackupKind;
use crate::layout::VolumeDir;
use crate::lock::Lock;
use crate::memory::{Charge, Memory};
use crate::progress::Progress;
use crate::record::BackupRecord;
use crate::types::RestoreOptions;

/// The least that is kept of what was read, in bytes.
const CACHE_MIN: usize = 12 << 20;

/// A record that is believed, and what is needed to read what it is of.
struct Opened {
    ctx: Ctx,
    held: Held,
    record: BackupRecord,
    charge: Charge,
    moves: Relocations,
    kind: BackupKind,
    volume_size: u64,
    /// Bytes for each of: chunks that are kept, segments that are kept, what is on its way.
    share: usize,
}

impl Engine {
    /// Opens the backup of a tree to look into it. Nothing is read yet but its record, the moves and the root
    /// of its manifest; what is read later is verified, and kept in the engine's memory as long as there is
    /// room.
    ///
    /// The reader holds the shared lock of the volume, as a restore does: backups go on beside it, deletions
    /// and `prune` wait or give up. A task on this runtime renews the lock until the reader, and everything
    /// that was opened with it, is dropped; if that fails for too long, what cannot be read any more is told
    /// as [`BackupError::LockLost`]. `cancel` ends all calls with [`BackupError::Cancelled`].
    ///
    /// An archive of convoy 0.5 is read once from its beginning to its end, and checked, before this answers:
    /// `progress` tells how far that is, in bytes of the archive as it is stored. Its data, once some is asked
    /// for, go to a file without a name (see [`Engine::with_room`]).
    ///
    /// # Errors
    /// [`BackupError::NotBrowsable`] for a backup of a device ([`Engine::open_image`] reads it); else as
    /// [`Engine::restore`], for everything that can be told before data is read.
    pub async fn browse_watched(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &str,
        options: &RestoreOptions,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> BackupResult<Arc<dyn Browse>> {
        let opened = self.open_to_read(store, volume, backup, options, progress, cancel).await?;
        if opened.kind == BackupKind::Block {
            let hint = "it has no files of its own; read it as one image";
            return Err(BackupError::NotBrowsable {
                backup: opened.record.name,
                found: "of a block device",
                hint,
            });
        }
        if opened.record.format_version == 0 {
            return Ok(Arc::new(opened.archive(self.room()).await?));
        }
        Ok(Arc::new(Tree::new(opened.manifest().await?)))
    }

    /// [`Engine::browse_watched`], where nobody watches.
    ///
    /// # Errors
    /// Those of [`Engine::browse_watched`].
    pub async fn browse(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &str,
        options: &RestoreOptions,
        cancel: &CancellationToken,
    ) -> BackupResult<Arc<dyn Browse>> {
        self.browse_watched(store, volume, backup, options, &Progress::new(), cancel).await
    }

    /// Opens the backup of a device to read it from anywhere, also one of convoy 0.5. What the backup does
    /// not have is zeros. Memory and lock are as for [`Engine::browse`].
    ///
    /// # Errors
    /// [`BackupError::NotBrowsable`] for a backup of a tree; else as [`Engine::browse`].
    pub async fn open_image(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &str,
        options: &RestoreOptions,
        cancel: &CancellationToken,
    ) -> BackupResult<Arc<dyn ReadAt>> {
        let progress = Progress::new();
        let opened = self.open_to_read(store, volume, backup, options, &progress, cancel).await?;
        if opened.kind == BackupKind::Tree {
            let hint = "it is no image of a device; look at its files";
            return Err(BackupError::NotBrowsable {
                backup: opened.record.name,
                found: "of a directory tree",
                hint,
            });
        }
        if opened.record.format_version > 0 {
            return Ok(Arc::new(image(opened.manifest().await?)));
        }
        let Opened { ctx, held, record, charge, volume_size, share, .. } = opened;
        Ok(Arc::new(OldImage::new(ctx, held, record, charge, volume_size, share)?))
    }

    async fn open_to_read(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &str,
        options: &RestoreOptions,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> BackupResult<Opened> {
        let volume = VolumeDir::new(volume)?;
        // Before the lock, as a restore does: what is not there leaves no traces.
        let memory = self.options.memory_to_look();
        BackupRecord::load(&*store, &volume, backup, &mut memory.charge()).await?;
        let lock = Lock::take_to_read(store.clone(), &volume, "reading", self.options.lock_times()).await?;
        let loaded = Self::load_to_read(&store, &volume, backup, options, &memory).await;
        let (record, charge, moves, crypt, info) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                if let Some(lock) = lock {
                    lock.release().await;
                }
                return Err(error);
            }
        };
        let stop = cancel.child_token();
        let share = memory.all() / 4;
        let ctx = Ctx::new(store, volume, crypt, progress.clone(), &stop, memory);
        let held = Held::new(lock, ctx.runtime().clone(), stop.drop_guard());
        let (kind, volume_size) = (info.kind, info.volume_size);
        Ok(Opened { ctx, held, record, charge, moves, kind, volume_size, share: share.max(CACHE_MIN) })
    }

    async fn load_to_read(
        store: &Arc<dyn ObjectStore>,
        volume: &VolumeDir,
        backup: &str,
        options: &RestoreOptions,
        memory: &Arc<Memory>,
    ) -> BackupResult<(BackupRecord, Charge, Relocations, crate::crypt::Crypt, crate::types::BackupInfo)>
    {
        let mut charge = memory.charge();
        let record = BackupRecord::load(&**store, volume, backup, &mut charge).await?;
        let crypt = trust::open(volume, &record, options.key.as_ref(), options.unencrypted)?;
        let moves = Relocations::load(&**store, volume, std::slice::from_ref(&crypt), memory).await?;
        let lives = catalog::Lives::load(&**store, volume, memory).await.ok();
        let info = catalog::info(&record, lives.as_ref());
        Ok((record, charge, moves, crypt, info))
    }
}

impl Opened {
    /// Reads an archive of convoy 0.5.
    async fn archive(self, room: PathBuf) -> BackupResult<Archive> {
        let Self { ctx, held, record, charge, share, .. } = self;
        let reading =
            tokio::task::spawn_blocking(move || Archive::open(ctx, held, record, charge, &room, share));
        reading.await.unwrap_or(Err(BackupError::Cancelled))
    }

    /// Loads the root of the manifest.
    async fn manifest(self) -> BackupResult<Manifest> {
        let Self { ctx, held, record, charge, moves, kind, share, .. } = self;
        let reader = ctx.clone();
        let loading = tokio::task::spawn_blocking(move || {
            // The record's memory until the root is there, which has all that is needed.
            let _charge = charge;
            let root = load_root(&reader, &record)?;
            if root.kind == kind {
                return Ok(root);
            }
            let key = reader.volume.backup(&record.name)?;
            let (says, is) = (kind.as_str(), root.kind.as_str());
            Err(BackupError::damaged(key, format_args!("it says {says}, and its manifest is of a {is}")))
        });
        let root = loading.await.unwrap_or(Err(BackupError::Cancelled))?;
        Ok(Manifest::new(Arc::new(Chunks::new(ctx, held, share, share)), moves, root, share))
    }
}
