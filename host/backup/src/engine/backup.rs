//! Makes backups: order of writes, parent, record. What is read and how is in `tree_backup` and
//! `block_backup`.
//!
//! Order: mark of the run, packs, manifest, `volume.cfg`, record, the mark is removed. Before the record
//! nothing refers to what was written, and the mark tells the next run where it is.

mod work;

use std::sync::Arc;
use std::time::Instant;

use convoy_objectstore::{ObjectStore, PutOutcome, StoreError};
use tokio_util::sync::CancellationToken;

use super::ctx::Ctx;
use super::index::Index;
use super::manifest_writer::ManifestParts;
use super::relocations::Relocations;
use super::root::{LoadedRoot, load_root};
use super::{Engine, EngineOptions, runs, trust};
use crate::crypt::Crypt;
use crate::error::{BackupError, BackupResult};
use crate::exclude::Excluded;
use crate::format::manifest::{BackupKind, Root};
use crate::layout::VolumeDir;
use crate::lock::{Lock, LockMode};
use crate::memory::{Charge, Memory};
use crate::progress::{Phase, Progress};
use crate::record::{
    BackupRecord, BackupStats, FORMAT_VERSION, ManifestRef, PLACEHOLDER, V0Block, V0File, VolumeConfig,
};
use crate::types::{BackupMeta, BackupOptions, BackupSummary, Extents, Format, ParentInfo, Source};
use crate::{timestamp, v0};
use work::Work;

/// The parent backup, as it was found.
#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) record: BackupRecord,
    /// Of a backup in the new format.
    pub(crate) root: Option<Arc<LoadedRoot>>,
    /// Whether its snapshot may be taken for the base of what changed. Of an encrypted backup whose record
    /// has no code anybody could have changed it, and what changed before the named snapshot would be
    /// missing.
    pub(crate) vouched: bool,
    _charge: Charge,
}

/// What there is of a volume before a backup.
#[derive(Debug, Default)]
struct Chain {
    parent: Option<Parent>,
    /// The highest sequence among the backups that were looked at.
    sequence: u64,
}

/// A backup about to be made: the volume is locked against deletions and the parent is chosen.
#[derive(Debug)]
pub struct Preparation {
    options: EngineOptions,
    backup: BackupOptions,
    store: Arc<dyn ObjectStore>,
    volume: VolumeDir,
    lock: Lock,
    chain: Chain,
    moves: Relocations,
    memory: Arc<Memory>,
}

/// What was written, before the record.
struct BackupContents {
    written: ManifestParts,
    added: u64,
    read: u64,
    kind: BackupKind,
    size: u64,
    block_size: u32,
    /// What is not in it: how much, and the first of it.
    warnings: (u64, Vec<String>),
    /// What rules left out.
    excluded: Excluded,
}

impl Engine {
    /// Locks the volume at this store against deletions and chooses the backup to build on.
    ///
    /// # Errors
    /// [`BackupError::Busy`] while something is being deleted; [`BackupError::WouldBePlain`]; what the store
    /// says.
    pub async fn prepare(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &BackupOptions,
    ) -> BackupResult<Preparation> {
        let volume = VolumeDir::new(volume)?;
        let lock =
            Lock::take(store.clone(), &volume, LockMode::Shared, "backup", self.options.lock_times()).await?;
        let crypt = Crypt::new(backup.key.clone());
        if backup.format == Format::V0 && !crypt.is_clear() {
            return Err(BackupError::Invalid(
                "the format of 0.5 knows no encryption: leave away the key or the format".into(),
            ));
        }
        backup.exclude.check()?;
        match (backup.exclude.is_empty(), backup.format, backup.kind) {
            (false, Format::V0, _) => return Err(BackupError::RulesInV0),
            (false, _, Some(BackupKind::Block)) => return Err(BackupError::RulesForBlocks),
            _ => {}
        }
        if crypt.is_clear() && !backup.allow_plain && self.has_keys(store.clone()).await? {
            return Err(BackupError::WouldBePlain { place: "this destination".to_owned() });
        }
        let memory = self.options.memory();
        let moves = Relocations::load(&*store, &volume, std::slice::from_ref(&crypt), &memory).await?;
        let chain = if backup.incremental {
            find_parent(&store, &volume, &crypt, backup, &memory).await?
        } else {
            Chain::default()
        };
        let (options, backup) = (self.options, backup.clone());
        Ok(Preparation { options, backup, store, volume, lock, chain, moves, memory })
    }

    /// Makes a backup: [`Engine::prepare`] and [`Preparation::run`] in one, for sources that need not know
    /// the parent.
    ///
    /// # Errors
    /// As both.
    pub async fn backup(
        &self,
        store: Arc<dyn ObjectStore>,
        meta: BackupMeta,
        source: Source,
        options: &BackupOptions,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> BackupResult<BackupSummary> {
        self.prepare(store, &meta.volume, options).await?.run(meta, source, progress, cancel).await
    }
}

/// The newest backup that can be built on. The hint in `volume.cfg` is tried first.
async fn find_parent(
    store: &Arc<dyn ObjectStore>,
    volume: &VolumeDir,
    crypt: &Crypt,
    backup: &BackupOptions,
    memory: &Arc<Memory>,
) -> BackupResult<Chain> {
    let format = backup.format;
    let config = match VolumeConfig::load(&**store, volume).await {
        Ok(config) => Some(config),
        Err(e) if e.not_found() => None,
        Err(error) => {
            tracing::warn!(%error, "volume.cfg is passed over");
            None
        }
    };
    let fits = |record: &BackupRecord| match format {
        Format::V0 => record.format_version == 0 && !record.blocks.is_empty(),
        Format::V1 => {
            record.format_version == FORMAT_VERSION
                && record.key_id.as_deref() == crypt.key_id()
                && backup.kind.is_none_or(|kind| record.kind.as_deref() == Some(kind.as_str()))
        }
    };
    let hint = config
        .map(|c| if format == Format::V0 { c.last_backup_name } else { c.last_backup })
        .filter(|n| !n.is_empty());
    // Forged ones are passed over: a backup is made of what is in the volume, not of what stands in the
    // store.
    let authentic = |record: &BackupRecord| {
        let checked = crypt.key().map_or(Ok(()), |key| trust::check_code(volume, record, key));
        checked.inspect_err(|error| tracing::warn!(%error, "this backup is not built on")).is_ok()
    };
    let vouched = |record: &BackupRecord| crypt.is_clear() || record.code.is_some();
    let mut sequence = 0;
    let mut candidates = Vec::new();
    let mut listed = memory.charge();
    if let Some(name) = hint
        && let Ok(record) = BackupRecord::load(&**store, volume, &name, &mut memory.charge()).await
        && fits(&record)
        && authentic(&record)
    {
        sequence = if vouched(&record) { record.sequence } else { 0 };
        candidates.push((None, name));
    } else {
        super::catalog::records(&**store, volume, memory, &mut |name, record| {
            let Ok(record) = record else { return Ok(()) };
            if crypt.is_clear() && !backup.allow_plain && record.is_encrypted() {
                let place = format!("volume {} at this destination", volume.name());
                return Err(BackupError::WouldBePlain { place });
            }
            if fits(&record) && authentic(&record) {
                if vouched(&record) {
                    sequence = sequence.max(record.sequence);
                }
                listed.add(volume.dir(), 2 * size_of::<(Option<jiff::Timestamp>, String)>() + name.len())?;
                candidates.push((timestamp::parse(&record.created_time), name));
            }
            Ok(())
        })
        .await?;
        candidates.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
    }
    let chain = |parent| Chain { parent, sequence };
    for (_, name) in candidates {
        let mut charge = memory.charge();
        let Ok(record) = BackupRecord::load(&**store, volume, &name, &mut charge).await else { continue };
        // It may be another by now.
        if !fits(&record) || !authentic(&record) {
            continue;
        }
        if format == Format::V0 {
            return Ok(chain(Some(Parent { record, root: None, vouched: true, _charge: charge })));
        }
        let ctx = Ctx::new(
            store.clone(),
            volume.clone(),
            crypt.clone(),
            Progress::new(),
            &CancellationToken::new(),
            Arc::clone(memory),
        );
        let loaded = tokio::task::spawn_blocking(move || (load_root(&ctx, &record), record)).await;
        match loaded {
            Ok((Ok(root), record)) => {
                let vouched = vouched(&record);
                let root = Some(Arc::new(root));
                return Ok(chain(Some(Parent { record, root, vouched, _charge: charge })));
            }
            Ok((
                Err(
                    error @ (BackupError::Damaged { .. }
                    | BackupError::NotAuthentic { .. }
                    | BackupError::Memory { .. }
                    | BackupError::Store(StoreError::NotFound { .. })),
                ),
                record,
            )) => {
                tracing::warn!(backup = record.name, %error, "this backup cannot be built on");
            }
            Ok((Err(error), _)) => return Err(error),
            Err(_) => return Err(BackupError::Cancelled),
        }
    }
    Ok(chain(None))
}

impl Preparation {
    /// The backup that unchanged data is taken from. A driver that knows what changed since its snapshot can
    /// say so: [`Extents::Changed`]. `None` too when everything is to be read again
    /// ([`BackupOptions::recheck`]).
    #[must_use]
    pub fn parent(&self) -> Option<ParentInfo> {
        let record = self.base()?;
        Some(ParentInfo { backup: record.name.clone(), snapshot: record.snapshot_name.clone() })
    }

    /// The record whose snapshot may be the base of what changed.
    fn base(&self) -> Option<&BackupRecord> {
        let parent = self.chain.parent.as_ref().filter(|parent| parent.vouched && !self.backup.recheck)?;
        Some(&parent.record)
    }

    /// Makes the backup. When this fails, or is dropped or cancelled, there is no such backup, and what was
    /// stored for it is used by the next or removed by `prune`.
    ///
    /// # Errors
    /// [`BackupError::Exists`], [`BackupError::Cancelled`], [`BackupError::SourceChanged`], what the store or
    /// the source says.
    pub async fn run(
        self,
        meta: BackupMeta,
        source: Source,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> BackupResult<BackupSummary> {
        let started = Instant::now();
        let record_key = self.volume.backup(&meta.backup)?;
        if meta.volume != self.volume.name() || !convoy_objectstore::has_name_form(&meta.backup) {
            return Err(BackupError::Invalid(format!(
                "the backup was prepared for volume {}, not {}",
                self.volume.name(),
                meta.volume
            )));
        }
        meta.labels.check()?;
        // Where it was not known before.
        if source.kind() == BackupKind::Block && !self.backup.exclude.is_empty() {
            return Err(BackupError::RulesForBlocks);
        }
        let exists = || BackupError::Exists { backup: meta.backup.clone(), volume: meta.volume.clone() };
        match self.store.head(&record_key).await {
            Ok(_) => return Err(exists()),
            Err(e) if e.not_found() => {}
            Err(e) => return Err(e.into()),
        }
        // A future that is dropped stops its threads.
        let stop = cancel.child_token();
        let _guard = stop.clone().drop_guard();

        let mut record = new_record(&meta);
        if self.backup.key.is_some() {
            record.sequence = self.chain.sequence.max(self.backup.after).saturating_add(1);
        }
        let parent = self.chain.parent.as_ref().map(|p| p.record.name.clone());
        let run: Option<u64> = (self.backup.format == Format::V1).then(rand::random);
        let (kind, mut stats, warnings) = match run {
            None => self.store_v0(&meta, source, &mut record, progress, &stop).await?,
            Some(run) => self.store_v1(&meta, source, &mut record, run, progress, &stop).await?,
        };
        progress.phase(Phase::Finishing);
        if cancel.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        stats.millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        record.stats = Some(stats.clone());
        self.refresh_config(&meta, run.is_some().then_some(meta.backup.as_str()), None).await?;
        self.lock.check()?;
        let bytes = match &self.backup.key {
            Some(key) => record.seal(key)?,
            None => record.to_bytes()?,
        };
        if self.store.put_if_absent(&record_key, bytes).await? == PutOutcome::Exists {
            return Err(exists());
        }
        // From here on the backup is visible; a deletion that saw our lock expire may not have known of it.
        if let Err(lost) = self.lock.confirm().await {
            self.store.delete(&[record_key]).await?;
            return Err(lost);
        }
        match run {
            Some(run) => self.forget(&[self.volume.run(run)]).await,
            None if kind == BackupKind::Block => self.refresh_config(&meta, None, Some(&meta.backup)).await?,
            None => {}
        }
        self.lock.release().await;
        progress.phase(Phase::Done);
        let (sequence, excluded) = (record.sequence, record.excluded);
        Ok(BackupSummary { backup: meta.backup, kind, parent, stats, sequence, excluded, warnings })
    }

    /// Removes what is of no use any more; that it stays harms nobody.
    async fn forget(&self, keys: &[String]) {
        if let Err(error) = self.store.delete(keys).await {
            tracing::warn!(?keys, %error, "left over after a backup; prune removes it");
        }
    }

    /// Brings `volume.cfg` up to date, keeping what earlier backups have from it.
    async fn refresh_config(
        &self,
        meta: &BackupMeta,
        v1: Option<&str>,
        v0: Option<&str>,
    ) -> BackupResult<()> {
        let mut config = VolumeConfig {
            name: meta.volume.clone(),
            driver: meta.driver.clone(),
            size: meta.volume_size,
            created_time: meta.volume_created.clone(),
            last_backup_name: String::new(),
            last_backup: String::new(),
        };
        let before = match VolumeConfig::load(&*self.store, &self.volume).await {
            Ok(before) => Some(before),
            Err(BackupError::Damaged { .. }) => None,
            Err(e) if e.not_found() => None,
            Err(e) => return Err(e),
        };
        if let Some(before) = &before {
            if !before.same_life(&config) {
                before.keep(&*self.store, &self.volume).await?;
            }
            config.last_backup_name.clone_from(&before.last_backup_name);
            config.last_backup.clone_from(&before.last_backup);
        }
        if let Some(name) = v1 {
            name.clone_into(&mut config.last_backup);
        }
        if let Some(name) = v0 {
            name.clone_into(&mut config.last_backup_name);
        }
        if before.as_ref() == Some(&config) { Ok(()) } else { config.store(&*self.store, &self.volume).await }
    }

    fn ctx(&self, crypt: Crypt, progress: &Progress, stop: &CancellationToken) -> Ctx {
        let (store, volume, memory) = (self.store.clone(), self.volume.clone(), Arc::clone(&self.memory));
        Ctx::new(store, volume, crypt, progress.clone(), stop, memory)
    }

    async fn store_v0(
        &self,
        meta: &BackupMeta,
        source: Source,
        record: &mut BackupRecord,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> BackupResult<(BackupKind, BackupStats, Vec<String>)> {
        progress.phase(Phase::Data);
        let ctx = self.ctx(Crypt::default(), progress, stop);
        match source {
            Source::Tree { path, .. } => {
                let (stats, warnings) = v0::write_file(&ctx, &path, &meta.backup).await?;
                let file_path = self.volume.v0_file(&meta.backup);
                record.single_file = Some(V0File { file_path });
                Ok((BackupKind::Tree, stats, warnings))
            }
            Source::Block { device, size, extents } => {
                let parent = self.base();
                check_base(&extents, parent)?;
                let known = parent.map(|p| p.blocks_before(size)).unwrap_or_default();
                let (blocks, stats) =
                    v0::write_blocks(&ctx, self.options, &device, size, extents, known).await?;
                record.blocks = blocks;
                record.single_file = Some(V0File { file_path: String::new() });
                Ok((BackupKind::Block, stats, Vec::new()))
            }
        }
    }

    async fn store_v1(
        &self,
        meta: &BackupMeta,
        source: Source,
        record: &mut BackupRecord,
        run: u64,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> BackupResult<(BackupKind, BackupStats, Vec<String>)> {
        progress.phase(Phase::Preparing);
        let crypt = Crypt::new(self.backup.key.clone());
        let budget = self.options.budget();
        let index = Arc::new(Index::new(budget.index));
        if !self.backup.recheck {
            runs::adopt(&*self.store, &self.volume, &crypt, &self.memory, &index).await?;
        }
        runs::begin(&*self.store, &self.volume, run).await?;
        let ctx = self.ctx(crypt.clone(), progress, stop);
        let kind = source.kind();
        let parent =
            self.chain.parent.as_ref().filter(|p| p.root.as_ref().is_some_and(|root| root.kind == kind));
        if let Source::Block { extents, .. } = &source {
            check_base(extents, self.base().filter(|_| parent.is_some()))?;
        }
        let work = Work {
            ctx: ctx.clone(),
            options: self.options,
            budget,
            backup: self.backup.clone(),
            root: parent.and_then(|p| p.root.clone()),
            parent_stats: parent.and_then(|p| p.record.stats.clone()),
            moves: self.moves.clone(),
            index,
            run,
            frozen: frozen(meta),
        };
        let stored = tokio::task::spawn_blocking(move || work.run(source)).await;
        let stored = stored.unwrap_or_else(|_| {
            Err(BackupError::Invalid("the backup was broken off by a defect: see the log".into()))
        })?;

        let root = Root {
            kind: stored.kind,
            volume: meta.volume.clone(),
            backup: meta.backup.clone(),
            size: stored.size,
            block_size: stored.block_size,
            hard_links: stored.written.hard_links,
            record_code: !crypt.is_clear(),
            segments: stored.written.segments,
        };
        let bytes = root.to_bytes(stored.written.packs, &crypt)?;
        let (size, hash) = (bytes.len() as u64, blake3::hash(&bytes));
        self.store.put(&self.volume.manifest(run), bytes.into()).await?;
        record.format_version = FORMAT_VERSION;
        record.kind = Some(stored.kind.as_str().to_owned());
        record.key_id = crypt.key_id().map(str::to_owned);
        record.manifest =
            Some(ManifestRef { run: format!("{run:016x}"), size, blake3: hash.to_hex().to_string() });
        record.blocks = vec![V0Block { offset: 0, block_checksum: PLACEHOLDER.to_owned() }];
        record.single_file = Some(V0File { file_path: self.volume.v0_file(PLACEHOLDER) });
        record.excluded = stored.excluded;
        let stats = BackupStats {
            files: stored.written.files,
            bytes: stored.written.bytes,
            bytes_read: stored.read,
            bytes_added: stored.added + size,
            millis: 0,
            warnings: stored.warnings.0,
        };
        Ok((stored.kind, stats, stored.warnings.1))
    }
}

/// Changed extents must be those since the parent's snapshot.
fn check_base(extents: &Extents, parent: Option<&BackupRecord>) -> BackupResult<()> {
    let Extents::Changed { base, .. } = extents else { return Ok(()) };
    match parent {
        Some(parent) if parent.snapshot_name == *base => Ok(()),
        Some(parent) => Err(BackupError::Invalid(format!(
            "the driver says what changed since snapshot {base}, and the last backup is of snapshot {}",
            parent.snapshot_name
        ))),
        None => Err(BackupError::Invalid(format!(
            "the driver says what changed since snapshot {base}, and there is no backup of that"
        ))),
    }
}

/// When the snapshot was taken. A driver says so in whole seconds, and may look at the clock a little too
/// late.
fn frozen(meta: &BackupMeta) -> convoy_tree::Timestamp {
    let taken = timestamp::parse(&meta.snapshot_created).unwrap_or_else(jiff::Timestamp::now);
    convoy_tree::Timestamp { sec: taken.as_second() - 2, nsec: 0 }
}

fn new_record(meta: &BackupMeta) -> BackupRecord {
    BackupRecord {
        name: meta.backup.clone(),
        volume_name: meta.volume.clone(),
        snapshot_name: meta.snapshot.clone(),
        snapshot_created_at: meta.snapshot_created.clone(),
        created_time: if meta.created.is_empty() { timestamp::now() } else { meta.created.clone() },
        driver_name: Some(meta.driver.clone()),
        volume_size: Some(meta.volume_size),
        volume_created_at: Some(meta.volume_created.clone()),
        options: meta.options.clone(),
        labels: meta.labels.clone(),
        ..BackupRecord::default()
    }
}
