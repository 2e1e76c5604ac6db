//! The part of a backup that runs on threads of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use convoy_tree::{FileClock, Timestamp};
use crossbeam_channel::bounded;

use super::Stored;
use crate::engine::ctx::{ByteBudget, Ctx};
use crate::engine::index::Index;
use crate::engine::large::Buffers;
use crate::engine::manifest_writer::{ManifestWriter, Written};
use crate::engine::packer::{Lane, Packer};
use crate::engine::relocations::Relocations;
use crate::engine::scan::{scan, scan_later};
use crate::engine::segments::{Blocks, Items, LoadedRoot, ParentTree, Segments};
use crate::engine::tree_backup::TreeBackup;
use crate::engine::warnings::Warnings;
use crate::engine::{Budget, EngineOptions, block_backup, recheck};
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::Encoder;
use crate::format::manifest::{BackupKind, Root};
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

    pub(super) fn run(&self, source: Source) -> BackupResult<Stored> {
        let ctx = &self.ctx;
        let damaged = match &self.root {
            Some(root) if self.backup.recheck => {
                recheck::learn_verified(ctx, self.options.requests, root, &self.moves, &self.index)?
            }
            Some(root) => {
                self.learn(root)?;
                recheck::Damaged::default()
            }
            None => recheck::Damaged::default(),
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

    fn tree(&self, path: &std::path::Path, same: SameFile, parent: Option<&Root>) -> BackupResult<Stored> {
        let ctx = &self.ctx;
        let (sink, packs) = Packer::new(ctx, &self.index, self.run, self.budget.pack);
        let room = ByteBudget::new(self.budget.chunks);
        let warnings = Warnings::default();
        let clock = match same {
            // Files of a snapshot are replaced at any time: by another snapshot with the name of one that was deleted.
            SameFile::BirthTime => FileClock::now(path)?,
            SameFile::ChangeTime => FileClock::frozen(path, self.frozen)?,
        };
        let tree = TreeBackup {
            ctx,
            sink: &sink,
            buffers: Buffers::new(Arc::clone(&room)),
            room,
            same,
            clock,
            warnings: &warnings,
            bytes_read: AtomicU64::new(0),
        };
        let written = std::thread::scope(|scope| {
            for _ in 0..self.options.requests.max(1) {
                let packs = packs.clone();
                scope.spawn(|| ctx.part(|| sink_upload(&sink, packs)));
            }
            drop(packs);
            let (units, in_order) = bounded(1024);
            let (jobs, queue) = bounded(self.options.workers.max(1) * 2);
            for _ in 0..self.options.workers.max(1) {
                let queue = queue.clone();
                let tree = &tree;
                scope.spawn(move || ctx.part(|| tree.work(&queue, self.encoder()?)));
            }
            drop(queue);
            let (going_on, ended) = bounded(0);
            let guess = self.parent_stats.as_ref().map(|stats| (stats.bytes, stats.files));
            if let Some((bytes, files)) = guess {
                ctx.progress.set_total(bytes, files);
            }
            scope.spawn(move || match guess {
                Some(_) => scan_later(ctx, path, &ended),
                None => scan(ctx, path, &ended),
            });
            let walk = &tree;
            scope.spawn(move || {
                ctx.part(|| {
                    let parent = parent.map(|root| Segments::new(ctx, &self.moves, root)).transpose()?;
                    walk.walk(
                        path,
                        parent.map(|segments| ParentTree::new(Items::new(segments), Arc::clone(&ctx.memory))),
                        &units,
                        &jobs,
                    )
                })
            });
            let written = ctx.part(|| {
                let mut writer = ManifestWriter::new(&sink, self.encoder()?, 0);
                tree.assemble(&in_order, &mut writer)?;
                drop(in_order);
                finish(&sink, writer)
            });
            sink.close();
            drop(going_on);
            written
        });
        let read = tree.bytes_read.load(Ordering::Relaxed);
        let stored = self.stored(written, &sink, read, BackupKind::Tree, 0, 0)?;
        Ok(Stored { warnings: warnings.into_inner(), ..stored })
    }

    fn block(
        &self,
        device: &std::path::Path,
        size: u64,
        extents: Extents,
        parent: Option<&Root>,
        block_size: u32,
    ) -> BackupResult<Stored> {
        let ctx = &self.ctx;
        let (sink, packs) = Packer::new(ctx, &self.index, self.run, self.budget.pack);
        let blocks = block_backup::BlockBackup {
            ctx,
            sink: &sink,
            room: ByteBudget::new(self.budget.chunks),
            file: block_backup::open(device, size)?,
            name: device.display().to_string(),
            size,
            block: block_size.into(),
            bytes_read: AtomicU64::new(0),
        };
        let written = std::thread::scope(|scope| {
            for _ in 0..self.options.requests.max(1) {
                let packs = packs.clone();
                scope.spawn(|| ctx.part(|| sink_upload(&sink, packs)));
            }
            drop(packs);
            let (units, in_order) = bounded(1024);
            let (jobs, queue) = bounded(self.options.workers.max(1) * 2);
            // Reading waits for the device: twice as many workers keep the cores busy meanwhile.
            for _ in 0..self.options.workers.max(1) * 2 {
                let queue = queue.clone();
                let blocks = &blocks;
                scope.spawn(move || ctx.part(|| blocks.work(&queue, self.encoder()?)));
            }
            drop(queue);
            let planner = &blocks;
            scope.spawn(move || {
                ctx.part(|| {
                    let segments = parent.map(|root| Segments::new(ctx, &self.moves, root)).transpose()?;
                    let parent =
                        segments.zip(parent).map(|(segments, root)| Blocks::new(segments, root.size));
                    planner.plan(extents, parent, &units, &jobs)
                })
            });
            let written = ctx.part(|| {
                let mut writer = ManifestWriter::new(&sink, self.encoder()?, block_size.into());
                blocks.assemble(&in_order, &mut writer)?;
                drop(in_order);
                finish(&sink, writer)
            });
            sink.close();
            written
        });
        let read = blocks.bytes_read.load(Ordering::Relaxed);
        self.stored(written, &sink, read, BackupKind::Block, size, block_size)
    }

    /// Succeeds if every part has.
    fn stored(
        &self,
        written: Option<Written>,
        sink: &Packer<'_>,
        read: u64,
        kind: BackupKind,
        size: u64,
        block_size: u32,
    ) -> BackupResult<Stored> {
        match (written, self.ctx.check()) {
            (Some(written), Ok(())) => {
                let warnings = (0, Vec::new());
                Ok(Stored { written, added: sink.added(), read, kind, size, block_size, warnings })
            }
            _ => Err(self.ctx.reason()),
        }
    }
}

fn sink_upload(
    sink: &Packer<'_>,
    packs: crossbeam_channel::Receiver<crate::format::pack::PackBuilder>,
) -> BackupResult<()> {
    sink.upload(&packs)
}

fn finish(sink: &Packer<'_>, writer: ManifestWriter<'_>) -> BackupResult<Written> {
    let written = writer.finish()?;
    sink.flush(Lane::Data)?;
    sink.flush(Lane::Manifest)?;
    Ok(written)
}
