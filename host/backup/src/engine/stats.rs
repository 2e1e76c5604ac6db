//! Counts what backups are, and what they take in a store.
//!
//! Records, lists of packs and the indexes of packs are read as a stream: kept are the packs that are in use,
//! and of the chunks a few bytes each, as far as there is memory. No data is read.

mod distinct;

use std::sync::Arc;

use convoy_objectstore::{Depth, ObjectInfo, ObjectStore, Pages};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::distinct::DistinctChunks;
use super::catalog::volumes;
use super::live::Live;
use super::prune::all_moves;
use super::relocations::Relocations;
use super::verify::kind;
use super::{Engine, runs, trust};
use crate::crypt::{Crypt, StoreKey};
use crate::error::{BackupError, BackupResult};
use crate::format::PackId;
use crate::format::pack::{read_index, stored_index};
use crate::layout::{Object, VolumeDir};
use crate::lock::Lock;
use crate::memory::Memory;
use crate::progress::{Phase, Progress};
use crate::record::BackupRecord;
use crate::types::{ChunkStats, Fault, FaultKind, StatsOptions, StatsSummary, VolumeStats};

/// Records, or ends of packs, that are read at the same time.
const AT_ONCE: usize = 16;

/// Memory for what is counted of a volume.
const VOLUME: usize = 512;

impl Engine {
    /// Counts what is there of a volume, or of all. What is damaged is in the summary, and everything else is
    /// counted. Volumes in which something is being deleted are left out, and named, unless there is but one.
    ///
    /// # Errors
    /// [`convoy_objectstore::StoreError::NotFound`] of the `volume.cfg` of a volume that is not there;
    /// [`BackupError::Busy`], [`BackupError::Memory`]; what the store says.
    pub async fn stats(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: Option<&str>,
        options: &StatsOptions,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> BackupResult<StatsSummary> {
        let mut summary = StatsSummary::default();
        let memory = self.options.memory_to_look();
        let all = match volume {
            Some(name) => vec![VolumeDir::new(name)?],
            None => volumes(&*store, &memory).await?,
        };
        let mut charge = memory.charge();
        progress.phase(Phase::Data);
        for dir in &all {
            if volume.is_some() {
                store.head(&dir.config()).await?;
            }
            charge.add(dir.dir(), VOLUME + dir.name().len())?;
            let counted = async {
                let lock = Lock::take_to_read(store.clone(), dir, "stats", self.options.lock_times()).await?;
                let counting =
                    Counting { store: &*store, volume: dir, key: options.key.as_ref(), memory: &memory };
                let counted = counting.run(progress, cancel, &mut summary).await;
                if let Some(lock) = lock {
                    lock.release().await;
                }
                counted
            };
            match counted.await {
                Ok(counted) => summary.volumes.push(counted),
                Err(error @ BackupError::Busy { .. }) if volume.is_none() => {
                    summary.skipped.push(error.to_string());
                }
                // Somebody put something strange into one volume: the others are counted all the same.
                Err(error) if error.foreign() && volume.is_none() => {
                    summary.note(dir, "", FaultKind::Damaged, &error);
                }
                Err(error) => return Err(error),
            }
        }
        progress.phase(Phase::Done);
        Ok(summary)
    }
}

impl StatsSummary {
    /// Faults that are told; more say nothing new.
    const FAULTS: usize = 1000;

    fn note(&mut self, volume: &VolumeDir, backup: &str, kind: FaultKind, what: &dyn std::fmt::Display) {
        self.fault_count += 1;
        if self.faults.len() < Self::FAULTS {
            let (volume, backup) = (volume.name().to_owned(), backup.to_owned());
            self.faults.push(Fault { volume, backup, kind, what: what.to_string() });
        }
    }
}

/// Whether an error is about one object, and the others can be counted all the same.
fn is_of_one(error: &BackupError) -> bool {
    error.not_found()
        || error.foreign()
        || matches!(
            error,
            BackupError::Damaged { .. }
                | BackupError::NotAuthentic { .. }
                | BackupError::Version { .. }
                | BackupError::Invalid(_)
                | BackupError::Store(convoy_objectstore::StoreError::Truncated { .. })
        )
}

/// One volume, being counted.
#[derive(Clone, Copy)]
struct Counting<'a> {
    store: &'a dyn ObjectStore,
    volume: &'a VolumeDir,
    key: Option<&'a StoreKey>,
    memory: &'a Arc<Memory>,
}

/// What a record tells.
struct Figures {
    files: u64,
    bytes: Option<u64>,
    in_chunks: bool,
    encrypted: bool,
}

/// What an index of a pack tells.
enum Indexed {
    Chunks {
        count: u64,
        bytes: u64,
        stored: u64,
    },
    /// It is sealed, and no key was given that opens it.
    Sealed,
}

impl Counting<'_> {
    async fn run(
        &self,
        progress: &Progress,
        cancel: &CancellationToken,
        summary: &mut StatsSummary,
    ) -> BackupResult<VolumeStats> {
        let mut stats = VolumeStats { volume: self.volume.name().to_owned(), ..VolumeStats::default() };
        let crypts: Vec<Crypt> = (self.key.cloned().map(|key| Crypt::new(Some(key))).into_iter())
            .chain([Crypt::default()])
            .collect();
        let mut known = true;
        let moves = match all_moves(self.store, self.volume, &crypts, self.memory).await {
            Ok(moves) => moves,
            Err(BackupError::KeyMissing { .. }) => {
                known = false;
                Relocations::default()
            }
            Err(error) if is_of_one(&error) => {
                summary.note(self.volume, "", FaultKind::Damaged, &error);
                known = false;
                Relocations::default()
            }
            Err(error) => return Err(error),
        };
        let live = Mutex::new(Live::default());
        known &= self.records(&live, cancel, &mut stats, summary).await?;
        let mut live = live.into_inner();
        live.follow(self.volume, &moves, self.memory)?;
        let unneeded = self.objects(&live, &moves, &crypts, progress, cancel, &mut stats, summary).await?;
        stats.unneeded_bytes = known.then_some(unneeded);
        Ok(stats)
    }

    /// Counts the backups, and adds what they need to `live`. Answers whether that is known of all.
    async fn records(
        &self,
        live: &Mutex<Live>,
        cancel: &CancellationToken,
        stats: &mut VolumeStats,
        summary: &mut StatsSummary,
    ) -> BackupResult<bool> {
        let mut all_known = true;
        let mut pages = Pages::new(self.store, &self.volume.backups(), Depth::One);
        while let Some(page) = pages.next().await? {
            let names = page.objects.into_iter().filter_map(|object| self.volume.backup_of(&object.key));
            let looks: Vec<BoxFuture<'_, _>> = names.map(|name| self.backup(name, live).boxed()).collect();
            let mut looks = futures::stream::iter(looks).buffered(AT_ONCE);
            while let Some((name, figures, needs)) = looks.try_next().await? {
                if cancel.is_cancelled() {
                    return Err(BackupError::Cancelled);
                }
                match figures {
                    // Deleted since it was listed.
                    Err(error) if error.not_found() => continue,
                    Err(error) => {
                        all_known = false;
                        summary.note(self.volume, &name, kind(&error), &error);
                        continue;
                    }
                    Ok(figures) => stats.add(&figures),
                }
                if let Err(error) = needs {
                    all_known = false;
                    summary.note(self.volume, &name, kind(&error), &error);
                }
            }
        }
        Ok(all_known)
    }

    /// Looks at one backup: what its record tells, and whether what it needs is known.
    async fn backup(
        &self,
        name: String,
        live: &Mutex<Live>,
    ) -> BackupResult<(String, BackupResult<Figures>, BackupResult<()>)> {
        let mut charge = self.memory.charge();
        let loaded = BackupRecord::load(self.store, self.volume, &name, &mut charge).await;
        let checked = loaded.and_then(|record| {
            let ours = |key: &&StoreKey| record.is_encrypted() && record.key_id.as_deref() == Some(key.id());
            match self.key.filter(ours) {
                Some(key) => trust::check_code(self.volume, &record, key).map(|()| record),
                None => Ok(record),
            }
        });
        let mut record = match checked {
            Ok(record) => record,
            Err(error) if is_of_one(&error) || matches!(error, BackupError::Memory { .. }) => {
                return Ok((name, Err(error), Ok(())));
            }
            Err(error) => return Err(error),
        };
        let figures = Figures {
            files: record.stats.as_ref().map_or(0, |stats| stats.files),
            bytes: record.bytes(),
            in_chunks: record.format_version > 0,
            encrypted: record.is_encrypted(),
        };
        match Live::count_in(live, self.store, self.volume, &mut record, self.memory).await {
            Err(error) if !is_of_one(&error) => Err(error),
            needs => Ok((name, Ok(figures), needs)),
        }
    }

    /// Counts the objects and what is in the packs. Answers the bytes of what no backup needs.
    #[allow(clippy::too_many_arguments)]
    async fn objects(
        &self,
        live: &Live,
        moves: &Relocations,
        crypts: &[Crypt],
        progress: &Progress,
        cancel: &CancellationToken,
        stats: &mut VolumeStats,
        summary: &mut StatsSummary,
    ) -> BackupResult<u64> {
        let mut unneeded = 0_u64;
        let distinct = Mutex::new(DistinctChunks::new(self.memory));
        let (mut chunks, mut sealed) = (ChunkStats::default(), false);
        let mut pages = Pages::new(self.store, self.volume.dir(), Depth::All);
        while let Some(page) = pages.next().await? {
            let mut packs = Vec::new();
            for object in page.objects {
                let pack = match self.volume.object(&object.key) {
                    // They go by themselves; and what is not convoy's is not counted.
                    None | Some(Object::Lock(_) | Object::LabelsLock(_)) => continue,
                    Some(Object::Pack(pack)) => Some(pack),
                    Some(_) => None,
                };
                stats.stored_bytes = stats.stored_bytes.saturating_add(object.size);
                progress.add_bytes(object.size);
                if live.is_garbage(self.volume, moves, &object) == Some(true) {
                    unneeded = unneeded.saturating_add(object.size);
                }
                packs.extend(pack.map(|pack| (pack, object)));
            }
            stats.packs += packs.len() as u64;
            let reads: Vec<BoxFuture<'_, _>> = (packs.into_iter())
                .map(|(pack, object)| self.pack(pack, object, crypts, &distinct).boxed())
                .collect();
            let mut reads = futures::stream::iter(reads).buffered(AT_ONCE);
            while let Some(read) = reads.next().await {
                if cancel.is_cancelled() {
                    return Err(BackupError::Cancelled);
                }
                match read {
                    Ok(Indexed::Chunks { count, bytes, stored }) => chunks.add(count, bytes, stored),
                    Ok(Indexed::Sealed) => sealed = true,
                    Err(error) if is_of_one(&error) => {
                        summary.note(self.volume, "", FaultKind::Damaged, &error);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if sealed {
            summary.sealed += 1;
            return Ok(unneeded);
        }
        (chunks.distinct, chunks.exact) = distinct.into_inner().count();
        stats.chunks = Some(chunks);
        Ok(unneeded)
    }

    /// Counts what is in a pack, by its index.
    async fn pack(
        &self,
        pack: PackId,
        object: ObjectInfo,
        crypts: &[Crypt],
        distinct: &Mutex<DistinctChunks>,
    ) -> BackupResult<Indexed> {
        let mut charge = self.memory.charge();
        let tail = runs::tail(self.store, &object, &mut charge).await?;
        stored_index(&object.key, &tail)?;
        let mut refused = None;
        for crypt in crypts {
            let (mut count, mut bytes, mut stored) = (0_u64, 0_u64, 0_u64);
            let read = read_index(&object.key, pack, &tail, crypt, &mut |chunk| {
                count += 1;
                bytes += u64::from(chunk.len);
                stored += u64::from(chunk.place.stored);
                distinct.lock().add(&chunk.id);
            });
            match read {
                Ok(()) => return Ok(Indexed::Chunks { count, bytes, stored }),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            // It is what was written.
            Some(_) if self.key.is_none() => Ok(Indexed::Sealed),
            Some(error) => Err(error),
            None => Ok(Indexed::Sealed),
        }
    }
}

impl VolumeStats {
    fn add(&mut self, figures: &Figures) {
        self.backups += 1;
        self.encrypted += u64::from(figures.encrypted);
        self.files = self.files.saturating_add(figures.files);
        match figures.bytes {
            Some(bytes) => {
                self.logical_bytes = self.logical_bytes.saturating_add(bytes);
                if figures.in_chunks {
                    self.chunked_bytes = self.chunked_bytes.saturating_add(bytes);
                }
            }
            None => self.unmeasured += 1,
        }
    }
}

impl ChunkStats {
    fn add(&mut self, count: u64, bytes: u64, stored: u64) {
        self.stored += count;
        self.bytes = self.bytes.saturating_add(bytes);
        self.stored_bytes = self.stored_bytes.saturating_add(stored);
    }
}
