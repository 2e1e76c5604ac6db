//! Restores: chooses the way that fits the backup and the target.

use std::path::Path;
use std::sync::Arc;

use convoy_objectstore::ObjectStore;
use convoy_tree::Losses;
use tokio_util::sync::CancellationToken;

use super::block_restore::{self, Device};
use super::ctx::Ctx;
use super::relocations::Relocations;
use super::root::load_root;
use super::{Engine, EngineOptions, catalog, tree_restore, trust};
use crate::error::{BackupError, BackupResult};
use crate::format::manifest::BackupKind;
use crate::layout::VolumeDir;
use crate::lock::Lock;
use crate::memory::{Charge, Memory};
use crate::progress::{Phase, Progress};
use crate::record::BackupRecord;
use crate::types::{BackupInfo, RestoreOptions, RestoreSummary, Target, Unencrypted};
use crate::v0;

/// What is known of a backup that is about to be restored, as far as it may be acted upon.
#[derive(Debug)]
pub struct TrustedInfo {
    /// What may be acted upon: options, driver, size, kind.
    pub info: BackupInfo,
    /// What of the record was left out because nobody vouches for it, in words.
    pub warnings: Vec<String>,
}

impl Engine {
    /// What a restore may act upon: as [`Engine::inspect`], but only what is believed under these options.
    ///
    /// # Errors
    /// As [`Engine::restore`], for everything that can be told before data is read.
    pub async fn vouch(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &str,
        options: &RestoreOptions,
    ) -> BackupResult<TrustedInfo> {
        let volume = VolumeDir::new(volume)?;
        let memory = self.options.memory_to_look();
        let record = BackupRecord::load(&*store, &volume, backup, &mut memory.charge()).await?;
        let crypt = trust::open(&volume, &record, options.key.as_ref(), options.unencrypted)?;
        let lives = catalog::Lives::load(&*store, &volume, &memory).await.ok();
        let mut info = catalog::info(&record, lives.as_ref());
        let ctx = Ctx::new(store, volume, crypt, Progress::new(), &CancellationToken::new(), memory);
        let mut warnings = Vec::new();
        let sealed = trust::check_record(&ctx, &record).await?;
        if let Some(root) = sealed.filter(|_| options.unencrypted != Unencrypted::Allowed) {
            if !info.options.is_empty() {
                let options: Vec<&str> = info.options.keys().map(String::as_str).collect();
                warnings.push(format!(
                    "the record of backup {backup} was made by a convoy before 0.6.0 and has no code: its options \
                     ({}) are not used, since anybody could have changed them",
                    options.join(", ")
                ));
            }
            trust::keep_what_is_sealed(&mut info, &root);
        }
        Ok(TrustedInfo { info, warnings })
    }

    /// Restores a backup. Success means that every byte was verified and is durable.
    ///
    /// When it fails, what was written into a tree target is removed again (the directory itself is the
    /// caller's); of a block target nothing can be said.
    ///
    /// # Errors
    /// [`BackupError::Losses`] if the target refused a part and that was not allowed,
    /// [`BackupError::Kind`] if the backup does not fit the target, [`BackupError::TooSmall`],
    /// [`BackupError::NotEmpty`], [`BackupError::Damaged`], [`BackupError::KeyMissing`],
    /// [`BackupError::KeyWrong`], [`BackupError::Unencrypted`], [`BackupError::NotAuthentic`],
    /// [`BackupError::Cancelled`]; what the store or the kernel says.
    #[allow(clippy::too_many_arguments)]
    pub async fn restore(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &str,
        target: Target,
        options: &RestoreOptions,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> BackupResult<RestoreSummary> {
        let volume = VolumeDir::new(volume)?;
        // Before the lock: an error about what is not there must not leave traces at a store that may not
        // even be convoy's.
        let memory = self.options.memory();
        BackupRecord::load(&*store, &volume, backup, &mut memory.charge()).await?;
        let lock = Lock::take_to_read(store.clone(), &volume, "restore", self.options.lock_times()).await?;
        let result =
            self.restore_locked(store, &volume, backup, target, options, progress, cancel, memory).await;
        if let Some(lock) = lock {
            lock.release().await;
        }
        result
    }

    #[allow(clippy::too_many_arguments)]
    async fn restore_locked(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &VolumeDir,
        backup: &str,
        target: Target,
        options: &RestoreOptions,
        progress: &Progress,
        cancel: &CancellationToken,
        memory: Arc<Memory>,
    ) -> BackupResult<RestoreSummary> {
        progress.phase(Phase::Preparing);
        let mut charge = memory.charge();
        let record = BackupRecord::load(&*store, volume, backup, &mut charge).await?;
        let crypt = trust::open(volume, &record, options.key.as_ref(), options.unencrypted)?;
        let moves = Relocations::load(&*store, volume, std::slice::from_ref(&crypt), &memory).await?;
        let lives = catalog::Lives::load(&*store, volume, &memory).await.ok();
        let info = catalog::info(&record, lives.as_ref());
        match (info.kind, &target) {
            (BackupKind::Tree, Target::Tree { path }) => check_empty(path)?,
            (BackupKind::Block, Target::Block { .. }) => {}
            (BackupKind::Tree, Target::Block { .. }) => {
                let hint = "restore it into a volume whose driver can give a directory";
                return Err(BackupError::Kind {
                    backup: info.backup,
                    found: "directory tree",
                    expected: "block device",
                    hint,
                });
            }
            (BackupKind::Block, Target::Tree { .. }) => {
                let hint = "restore it into a volume of a block driver such as devicemapper, and mount that";
                return Err(BackupError::Kind {
                    backup: info.backup,
                    found: "block device",
                    expected: "directory",
                    hint,
                });
            }
        }
        if let Some(stats) = &info.stats {
            progress.set_total(stats.bytes, stats.files);
        }
        progress.phase(Phase::Data);
        let stop = cancel.child_token();
        let _guard = stop.clone().drop_guard();
        let ctx = Ctx::new(store, volume.clone(), crypt, progress.clone(), &stop, memory);
        let work = Work {
            ctx,
            options: self.options,
            record,
            _charge: charge,
            moves,
            volume_size: info.volume_size,
            allow_losses: options.allow_losses,
        };
        let done = tokio::task::spawn_blocking(move || work.run(&target)).await;
        let summary = done.unwrap_or_else(|_| {
            Err(BackupError::Invalid("the restore was broken off by a defect: see the log".into()))
        })?;
        progress.phase(Phase::Done);
        Ok(summary)
    }
}

struct Work {
    ctx: Ctx,
    options: EngineOptions,
    record: BackupRecord,
    _charge: Charge,
    moves: Relocations,
    volume_size: u64,
    allow_losses: bool,
}

impl Work {
    fn run(&self, target: &Target) -> BackupResult<RestoreSummary> {
        let before = self.ctx.progress.snapshot().bytes_moved;
        let mut summary = match target {
            Target::Tree { path } => {
                let restored = self.tree(path).and_then(|summary| self.allow(summary));
                if restored.is_err() {
                    clear(path);
                }
                restored?
            }
            Target::Block { device, size, zeroed } => self.block(device, *size, *zeroed)?,
        };
        summary.bytes_read = self.ctx.progress.snapshot().bytes_moved - before;
        Ok(summary)
    }

    /// What the target refused is an error, unless the caller does without.
    fn allow(&self, summary: RestoreSummary) -> BackupResult<RestoreSummary> {
        if summary.losses.count == 0 || self.allow_losses {
            return Ok(summary);
        }
        Err(BackupError::Losses { backup: self.record.name.clone(), losses: summary.losses })
    }

    fn tree(&self, path: &Path) -> BackupResult<RestoreSummary> {
        let restored = if self.record.format_version == 0 {
            v0::read_file(&self.ctx, &self.record, path)?
        } else {
            let root = load_root(&self.ctx, &self.record)?;
            self.expect(root.kind, BackupKind::Tree)?;
            tree_restore::restore(&self.ctx, self.options.requests, &root, &self.moves, path)?
        };
        Ok(RestoreSummary {
            kind: BackupKind::Tree,
            files: restored.files,
            bytes: restored.bytes,
            bytes_read: 0,
            warnings: restored.finished.warnings,
            losses: restored.finished.losses,
        })
    }

    fn block(&self, path: &Path, size: u64, zeroed: bool) -> BackupResult<RestoreSummary> {
        let name = &self.record.name;
        let bytes = if self.record.format_version == 0 {
            let end =
                self.record.blocks.iter().map(|b| b.offset.saturating_add(v0::BLOCK)).max().unwrap_or(0);
            let device = Device::open(path, name, end.max(self.volume_size).max(size), zeroed)?;
            v0::read_blocks(&self.ctx, self.options.requests, &self.record, &device, size)?
        } else {
            let root = load_root(&self.ctx, &self.record)?;
            self.expect(root.kind, BackupKind::Block)?;
            if size < root.size {
                return Err(BackupError::TooSmall { backup: name.clone(), needed: root.size, found: size });
            }
            let device = Device::open(path, name, size, zeroed)?;
            block_restore::restore(&self.ctx, self.options.requests, &root, &self.moves, &device, size)?
        };
        let (warnings, losses) = (Vec::new(), Losses::default());
        Ok(RestoreSummary { kind: BackupKind::Block, files: 0, bytes, bytes_read: 0, warnings, losses })
    }

    fn expect(&self, found: BackupKind, expected: BackupKind) -> BackupResult<()> {
        if found == expected {
            return Ok(());
        }
        let key = self.ctx.volume.backup(&self.record.name)?;
        Err(BackupError::damaged(
            key,
            format_args!("it says {}, and its manifest is of a {}", expected.as_str(), found.as_str()),
        ))
    }
}

/// A stranger's file in the target would look like one of the backup's.
fn check_empty(path: &Path) -> BackupResult<()> {
    let mut entries = std::fs::read_dir(path).map_err(|e| BackupError::io("open", path.display(), e))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(BackupError::NotEmpty { path: path.display().to_string() }),
    }
}

/// Removes what a failed restore has made.
fn clear(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if let Err(error) = convoy_tree::remove_tree(&entry.path()) {
            tracing::warn!(%error, "left over from a failed restore");
        }
    }
}
