//! The part of a backup that runs on threads of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use convoy_tree::{FileClock, Timestamp};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::BackupContents;
use crate::engine::ctx::{ByteBudget, Ctx};
use crate::engine::index::Index;
use crate::engine::large::Buffers;
use crate::engine::manifest_writer::{ManifestParts, ManifestWriter};
use crate::engine::packer::{Lane, Packer};
use crate::engine::relocations::Relocations;
use crate::engine::root::LoadedRoot;
use crate::engine::scan::{scan, scan_later};
use crate::engine::segments::{Blocks, Items, ParentTree, Segments};
use crate::engine::tree_backup::TreeBackup;
use crate::engine::warnings::Warnings;
use crate::engine::{Budget, EngineOptions, block_backup, recheck};
use crate::error::{BackupError, BackupResult};
use crate::exclude::{Excluded, Excludes};
use crate::format::chunk::Encoder;
use crate::format::manifest::{BackupKind, Root};
use crate::format::pack::PackBuilder;
use crate::progress::Phase;
use crate::record::BackupStats;
use crate::types::{BackupOptions, Extents, SameFile, Source};

/// A backup in the new format, ready to run.
pub(super) struct Work {
    pub(super) ctx: Ctx,
    pub(super) options: EngineOptions,
    pub(super) budget: Budget,
    pub(super) backup: BackupOptions,
    pub(super) root: Option<Arc<LoadedRoot>>,
    pub(super) parent_stats: Option<BackupStats>,
    pub(super) moves: Relocations,
    pub(super) index: Arc<Index>,
    pub(super) run: u64,
    /// When the source was frozen, by the clock of whoever did it; not later.
    pub(super) frozen: Timestamp,
}

impl Work {
    fn encoder(&self) -> BackupResult<Encoder> {
        Encoder::new(self.ctx.crypt.clone(), self.backup.level).map_err(|e| {
            let level = self.backup.level.unwrap_or_default();
            BackupError::Invalid(format!("compression level {level} cannot be used: {e}"))
        })
    }

    pub(super) fn run(&self, source: Source) -> BackupResult<BackupContents> {
        let ctx = &self.ctx;
        let damaged = match &self.root {
            Some(root) if self.backup.recheck => {
                recheck::learn_verified(ctx, self.options.requests, root, &self.moves, &self.index)?
            }
            Some(root) => {
                self.learn(root)?;
                recheck::DamagedChunks::default()
            }
            None => recheck::DamagedChunks::default(),
        };
        ctx.progress.phase(Phase::Data);
        let trusted: Option<&Root> = self.root.as_ref().filter(|_| !self.backup.recheck).map(|root| &***root);
        let stored = match source {
            Source::Tree { path, same } => {
                let parent = trusted.filter(|root| root.kind == BackupKind::Tree);
                self.tree(&path, same, parent)?
            }
            Source::Block { device, size, extents } => {
                let parent = trusted.filter(|root| root.kind == BackupKind::Block);
                let block = self
                    .root
                    .as_ref()
                    .filter(|r| {
                        r.kind == BackupKind::Block && block_backup::BLOCK_SIZES.contains(&r.block_size)
                    })
                    .map_or_else(|| block_backup::block_size(size), |r| r.block_size);
                self.block(&device, size, extents, parent, block)?
            }
        };
        recheck::redirect(ctx, &damaged, &self.moves, &self.index)?;
        Ok(stored)
    }

    /// Learns what the parent has: its segments first, for if the index fills up they are worth most.
    fn learn(&self, root: &Root) -> BackupResult<()> {
        for (_, chunk) in &root.segments {
            let mut chunk = *chunk;
            self.moves.resolve(&mut chunk)?;
            self.index.learn(&chunk);
        }
        for segment in Segments::new(&self.ctx, &self.moves, root)? {
            segment?.pieces().for_each(|(_, chunk)| self.index.learn(chunk));
        }
        Ok(())
    }

    fn tree(&self, path: &Path, same: SameFile, parent: Option<&Root>) -> BackupResult<BackupContents> {
        let ctx = &self.ctx;
        let (packer, packs) = Packer::new(ctx, &self.index, self.run, self.budget.pack);
        let budget = ByteBudget::new(self.budget.chunks);
        let warnings = Warnings::default();
        let excludes = Excludes::new(&self.backup.exclude, path, |text| warnings.note(text))?;
        let clock = match same {
            // Files of a snapshot are replaced at any time: by another snapshot with the name of one that was
            // deleted.
            SameFile::BirthTime => FileClock::now(path)?,
            SameFile::ChangeTime => FileClock::frozen(path, self.frozen)?,
        };
        let tree = TreeBackup {
            ctx,
            packer: &packer,
            buffers: Buffers::new(Arc::clone(&budget)),
            budget,
            same,
            clock,
            warnings: &warnings,
            excludes: &excludes,
            bytes_read: AtomicU64::new(0),
        };
        let guess = self.parent_stats.as_ref().map(|stats| (stats.bytes, stats.files));
        if let Some((bytes, files)) = guess {
            ctx.progress.set_total(bytes, files);
        }
        let written = std::thread::scope(|scope| {
            let (going_on, ended) = bounded(0);
            let excludes = &excludes;
            scope.spawn(move || match guess {
                Some(_) => scan_later(ctx, path, excludes, &ended),
                None => scan(ctx, path, excludes, &ended),
            });
            let written = self.pipeline(
                (&packer, packs),
                self.options.workers.max(1),
                0,
                |units, jobs| {
                    let parent = parent.map(|root| Segments::new(ctx, &self.moves, root)).transpose()?;
                    let parent =
                        parent.map(|found| ParentTree::new(Items::new(found), Arc::clone(&ctx.memory)));
                    tree.walk(path, parent, units, jobs)
                },
                |jobs, encoder| tree.work(jobs, encoder),
                |units, writer| tree.assemble(units, writer),
            );
            drop(going_on);
            written
        });
        let read = tree.bytes_read.load(Ordering::Relaxed);
        let stored = self.stored(written, &packer, read, BackupKind::Tree, 0, 0)?;
        let excluded = excludes.excluded();
        Ok(BackupContents { warnings: warnings.into_inner(), excluded, ..stored })
    }

    fn block(
        &self,
        device: &Path,
        size: u64,
        extents: Extents,
        parent: Option<&Root>,
        block_size: u32,
    ) -> BackupResult<BackupContents> {
        let ctx = &self.ctx;
        let (packer, packs) = Packer::new(ctx, &self.index, self.run, self.budget.pack);
        let blocks = block_backup::BlockBackup {
            ctx,
            packer: &packer,
            budget: ByteBudget::new(self.budget.chunks),
            file: block_backup::open(device, size)?,
            name: device.display().to_string(),
            size,
            block: block_size.into(),
            bytes_read: AtomicU64::new(0),
        };
        let written = self.pipeline(
            (&packer, packs),
            // Reading waits for the device: twice as many workers keep the cores busy meanwhile.
            self.options.workers.max(1) * 2,
            block_size.into(),
            |units, jobs| {
                let segments = parent.map(|root| Segments::new(ctx, &self.moves, root)).transpose()?;
                let parent = segments.zip(parent).map(|(segments, root)| Blocks::new(segments, root.size));
                blocks.plan(extents, parent, units, jobs)
            },
            |jobs, encoder| blocks.work(jobs, encoder),
            |units, writer| blocks.assemble(units, writer),
        );
        let read = blocks.bytes_read.load(Ordering::Relaxed);
        self.stored(written, &packer, read, BackupKind::Block, size, block_size)
    }

    /// Runs the parts of a backup side by side: `read` hands units to the manifest, in order, and jobs to the
    /// workers, which `work` on them; `assemble` makes the manifest of the units; others upload what the
    /// packer has packed. `None` if a part has failed.
    fn pipeline<U: Send, J: Send>(
        &self,
        (packer, packs): (&Packer<'_>, Receiver<PackBuilder>),
        workers: usize,
        block_size: u64,
        read: impl FnOnce(&Sender<U>, &Sender<J>) -> BackupResult<()> + Send,
        work: impl Fn(&Receiver<J>, Encoder) -> BackupResult<()> + Sync,
        assemble: impl FnOnce(&Receiver<U>, &mut ManifestWriter<'_>) -> BackupResult<()>,
    ) -> Option<ManifestParts> {
        let (ctx, work) = (&self.ctx, &work);
        std::thread::scope(|scope| {
            for _ in 0..self.options.requests.max(1) {
                let packs = packs.clone();
                scope.spawn(move || ctx.part(|| packer.upload(&packs)));
            }
            drop(packs);
            let (units, in_order) = bounded(1024);
            let (jobs, queue) = bounded(self.options.workers.max(1) * 2);
            for _ in 0..workers {
                let queue = queue.clone();
                scope.spawn(move || ctx.part(|| work(&queue, self.encoder()?)));
            }
            drop(queue);
            scope.spawn(move || ctx.part(|| read(&units, &jobs)));
            let written = ctx.part(|| {
                let mut writer = ManifestWriter::new(packer, self.encoder()?, block_size);
                assemble(&in_order, &mut writer)?;
                drop(in_order);
                let written = writer.finish()?;
                packer.flush(Lane::Data)?;
                packer.flush(Lane::Manifest)?;
                Ok(written)
            });
            packer.close();
            written
        })
    }

    /// Succeeds if every part has.
    fn stored(
        &self,
        written: Option<ManifestParts>,
        packer: &Packer<'_>,
        read: u64,
        kind: BackupKind,
        size: u64,
        block_size: u32,
    ) -> BackupResult<BackupContents> {
        match (written, self.ctx.check()) {
            (Some(written), Ok(())) => {
                let warnings = (0, Vec::new());
                let (added, excluded) = (packer.added(), Excluded::default());
                Ok(BackupContents { written, added, read, kind, size, block_size, warnings, excluded })
            }
            _ => Err(self.ctx.reason()),
        }
    }
}
