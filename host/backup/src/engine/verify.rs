//! Checks backups without restoring them.
//!
//! Structure always: records, manifests, and that every pack is there and long enough. With `read_data`, that percentage of the data is read, unpacked and
//! compared with its checksums: whole packs, chosen at random each time.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};

use convoy_objectstore::{Depth, ObjectStore, list_all};
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::catalog::{records, volumes};
use super::ctx::{Ctx, lock};
use super::fetch::{Want, fetch};
use super::moves::Moves;
use super::restore::crypt_for;
use super::segments::{Segments, load_root};
use crate::api::{Fault, VerifyOptions, VerifySummary};
use crate::error::{BackupError, BackupResult};
use crate::format::{ChunkRef, PackId};
use crate::layout::VolumeDir;
use crate::lock::Lock;
use crate::progress::{Phase, Progress};
use crate::record::BackupRecord;
use crate::v0;

/// Faults told of one backup; more say nothing new.
const FAULTS: usize = 100;

/// What is there, told by listings.
struct There {
    packs: HashMap<PackId, u64>,
    blocks: HashSet<String>,
}

impl Engine {
    /// Verifies a backup, all of a volume, or all. That something is wrong is no error: it is in the summary.
    ///
    /// # Errors
    /// [`convoy_objectstore::StoreError::NotFound`] if the volume or backup named is not there; what the store says.
    #[allow(clippy::too_many_arguments)]
    pub async fn verify(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: Option<&str>,
        backup: Option<&str>,
        options: &VerifyOptions,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> BackupResult<VerifySummary> {
        let mut summary = VerifySummary::default();
        let all = match volume {
            Some(name) => vec![VolumeDir::new(name)?],
            None => volumes(&*store).await?,
        };
        progress.phase(Phase::Data);
        for dir in &all {
            if volume.is_some() {
                store.head(&dir.config()).await?;
            }
            let verified = self.verify_locked(&store, dir, backup, options, progress, cancel, &mut summary);
            match verified.await {
                // Somebody put something strange into one volume: the others are verified all the same.
                Err(error) if error.foreign() && volume.is_none() => summary.faults.push(Fault {
                    volume: dir.name().to_owned(),
                    backup: String::new(),
                    what: error.to_string(),
                }),
                verified => verified?,
            }
        }
        progress.phase(Phase::Done);
        Ok(summary)
    }

    #[allow(clippy::too_many_arguments)]
    async fn verify_locked(
        &self,
        store: &Arc<dyn ObjectStore>,
        volume: &VolumeDir,
        backup: Option<&str>,
        options: &VerifyOptions,
        progress: &Progress,
        cancel: &CancellationToken,
        summary: &mut VerifySummary,
    ) -> BackupResult<()> {
        let lock = Lock::take_to_read(store.clone(), volume, "verify", self.options.lock_times()).await?;
        let result = self.verify_volume(store, volume, backup, options, progress, cancel, summary).await;
        if let Some(lock) = lock {
            lock.release().await;
        }
        result
    }

    #[allow(clippy::too_many_arguments)]
    async fn verify_volume(
        &self,
        store: &Arc<dyn ObjectStore>,
        volume: &VolumeDir,
        backup: Option<&str>,
        options: &VerifyOptions,
        progress: &Progress,
        cancel: &CancellationToken,
        summary: &mut VerifySummary,
    ) -> BackupResult<()> {
        let mut found = records(&**store, volume).await?;
        if let Some(backup) = backup {
            found.retain(|(name, _)| name == backup);
            if found.is_empty() {
                BackupRecord::load(&**store, volume, backup).await?;
            }
        }
        let packs = list_all(&**store, &volume.packs(), Depth::All).await?.objects;
        let packs = packs.into_iter().filter_map(|o| Some((volume.pack_of(&o.key)?, o.size))).collect();
        let any_v0 = found
            .iter()
            .any(|(_, r)| r.as_ref().is_ok_and(|r| r.format_version == 0 && !r.blocks.is_empty()));
        let blocks = if any_v0 {
            list_all(&**store, &volume.v0_blocks(), Depth::All).await?.objects
        } else {
            Vec::new()
        };
        let there = Arc::new(There { packs, blocks: blocks.into_iter().map(|o| o.key).collect() });
        // Chunks shared by backups are read once.
        let seen: Arc<Seen> = Arc::default();
        let mut used: HashSet<PackId> = HashSet::new();
        for (name, record) in found {
            summary.backups += 1;
            let fault = |what: &dyn std::fmt::Display| Fault {
                volume: volume.name().to_owned(),
                backup: name.clone(),
                what: what.to_string(),
            };
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    summary.faults.push(fault(&error));
                    continue;
                }
            };
            let crypt = match crypt_for(&record, options.key.as_ref()) {
                Ok(crypt) => crypt,
                Err(error) => {
                    summary.faults.push(fault(&error));
                    continue;
                }
            };
            let moves = match Moves::load(&**store, volume, &crypt).await {
                Ok(moves) => moves,
                Err(error @ BackupError::Damaged { .. }) => {
                    summary.faults.push(fault(&error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let work = Work {
                ctx: Ctx::new(store.clone(), volume.clone(), crypt, progress.clone(), cancel),
                requests: self.options.requests,
                percent: options.read_data.min(100),
                salt: rand::random(),
                there: there.clone(),
                seen: seen.clone(),
                moves,
                faults: Mutex::default(),
            };
            let done = tokio::task::spawn_blocking(move || work.run(&record)).await;
            let done = done.unwrap_or_else(|_| {
                Err(BackupError::Invalid("broken off by a defect: see the log".into()))
            })?;
            summary.bytes_read += done.bytes;
            summary.faults.extend(done.faults.iter().map(|what| fault(what)));
            used.extend(done.packs);
        }
        if backup.is_none() {
            summary.garbage += there.packs.keys().filter(|pack| !used.contains(pack)).count() as u64;
        }
        Ok(())
    }
}

/// Stored chunks that were read, each in few bytes. By place: the same chunk may be stored twice, and one of them be damaged.
#[derive(Debug, Default)]
struct Seen {
    places: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Seen {
    fn short(&self, chunk: &ChunkRef) -> u64 {
        let place = &chunk.place;
        self.hasher.hash_one((place.pack, place.offset, chunk.id))
    }

    /// Whether it is new.
    fn add(&self, chunk: &ChunkRef) -> bool {
        lock(&self.places).insert(self.short(chunk))
    }

    fn forget(&self, chunk: &ChunkRef) {
        lock(&self.places).remove(&self.short(chunk));
    }
}

/// What was found in a backup.
struct Found {
    bytes: u64,
    faults: Vec<String>,
    packs: HashSet<PackId>,
}

struct Work {
    ctx: Ctx,
    requests: usize,
    percent: u8,
    salt: u64,
    there: Arc<There>,
    seen: Arc<Seen>,
    moves: Moves,
    faults: Mutex<Vec<String>>,
}

impl Work {
    fn fault(&self, what: &dyn std::fmt::Display) {
        let mut faults = lock(&self.faults);
        if faults.len() < FAULTS {
            faults.push(what.to_string());
        }
    }

    fn run(self, record: &BackupRecord) -> BackupResult<Found> {
        let mut packs = HashSet::new();
        let before = self.ctx.progress.snapshot().bytes_moved;
        let checked = if record.format_version == 0 { self.v0(record) } else { self.v1(record, &mut packs) };
        match checked {
            Ok(()) => {}
            Err(
                error @ (BackupError::Damaged { .. }
                | BackupError::Version { .. }
                | BackupError::Tree(_)
                | BackupError::Invalid(_)),
            ) => self.fault(&error),
            Err(error) if error.not_found() || error.foreign() => self.fault(&error),
            Err(error) => return Err(error),
        }
        let bytes = self.ctx.progress.snapshot().bytes_moved - before;
        Ok(Found {
            bytes,
            faults: self.faults.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner),
            packs,
        })
    }

    fn v0(&self, record: &BackupRecord) -> BackupResult<()> {
        if let Some(file) = record.v0_file() {
            let key = v0::file_key(&self.ctx, record, file)?;
            self.ctx.call(self.ctx.store.head(&key))?;
            if self.chosen(0) {
                v0::check_file(&self.ctx, record)?;
            }
            return Ok(());
        }
        let blocks = record.blocks.iter().filter(|block| {
            let key = self.ctx.volume.v0_block(&block.block_checksum);
            let there = key.as_ref().is_ok_and(|key| self.there.blocks.contains(key));
            if !there {
                self.fault(&format_args!("block {} at {} is missing", block.block_checksum, block.offset));
            }
            there && self.chosen(block.offset)
        });
        let blocks = blocks.cloned().collect();
        v0::check_blocks(&self.ctx, self.requests, blocks, &|error| self.fault(&error))
    }

    /// Whether the part with this number is to be read.
    fn chosen(&self, number: u64) -> bool {
        let mut bytes = self.salt.to_le_bytes().to_vec();
        bytes.extend_from_slice(&number.to_le_bytes());
        let hash = blake3::hash(&bytes);
        let [a, b, ..] = *hash.as_bytes();
        u32::from(u16::from_le_bytes([a, b])) * 100 < u32::from(self.percent) * 65536
    }

    fn v1(&self, record: &BackupRecord, packs: &mut HashSet<PackId>) -> BackupResult<()> {
        let root = load_root(&self.ctx, record)?;
        let mut told: HashSet<PackId> = HashSet::new();
        for (_, chunk) in &root.segments {
            let mut chunk = *chunk;
            self.moves.resolve(&mut chunk)?;
            packs.insert(chunk.place.pack);
        }
        let mut segments = Segments::new(&self.ctx, &self.moves, &root)?;
        let mut ready = Vec::new();
        let wants = std::iter::from_fn(|| {
            loop {
                let Some((_, chunk)) = ready.pop() else {
                    match segments.next()? {
                        Ok(segment) => ready.extend(segment.pieces().copied()),
                        Err(error) => return Some(Err(error)),
                    }
                    continue;
                };
                let chunk: ChunkRef = chunk;
                let pack = chunk.place.pack;
                packs.insert(pack);
                let end = u64::from(chunk.place.offset) + u64::from(chunk.place.stored);
                match self.there.packs.get(&pack) {
                    Some(size) if end <= *size => {}
                    found => {
                        if told.insert(pack) {
                            let what = if found.is_some() { "is too short" } else { "is missing" };
                            self.fault(&format_args!("{} {what}", self.ctx.pack_key(pack)));
                        }
                        continue;
                    }
                }
                let number = pack.run ^ (u64::from(pack.seq) << 17);
                if self.percent > 0 && self.chosen(number) && self.seen.add(&chunk) {
                    return Some(Ok(Want { chunk, purpose: () }));
                }
            }
        });
        fetch(&self.ctx, self.requests, wants, &|(), chunk, plain| {
            match plain {
                Ok(plain) => self.ctx.progress.add_bytes(plain.len() as u64),
                Err(error) => {
                    // So that the next backup that needs it is told as well.
                    self.seen.forget(chunk);
                    self.fault(&error);
                }
            }
            Ok(())
        })
    }
}
