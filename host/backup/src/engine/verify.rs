//! Checks backups without restoring them.
//!
//! Structure always: records, manifests, and that every pack is there and long enough. With `read_data`, that
//! percentage of the data is read, unpacked and compared with its checksums: whole packs, chosen at random
//! each time.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use convoy_objectstore::{Depth, ObjectStore, Pages};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::catalog::volumes;
use super::ctx::Ctx;
use super::fetch::{Want, fetch};
use super::relocations::Relocations;
use super::root::load_root;
use super::segments::Segments;
use super::{Engine, trust};
use crate::error::{BackupError, BackupResult};
use crate::format::{ChunkRef, PackId};
use crate::layout::VolumeDir;
use crate::lock::Lock;
use crate::memory::{Charge, Memory};
use crate::progress::{Phase, Progress};
use crate::record::BackupRecord;
use crate::types::{Fault, FaultKind, VerifyOptions, VerifySummary};
use crate::v0;

/// Faults told of one backup; more say nothing new.
const FAULTS: usize = 100;

/// What a volume has in the store.
struct StoreListing {
    /// The size of each pack in bytes.
    packs: HashMap<PackId, u64>,
    /// Checksums of 0.5's blocks; `None` until a backup has some.
    blocks: Option<HashSet<[u8; 32]>>,
    charge: Charge,
}

impl StoreListing {
    /// Lists the packs of a volume.
    async fn load(store: &dyn ObjectStore, volume: &VolumeDir, memory: &Arc<Memory>) -> BackupResult<Self> {
        let mut listing = Self { packs: HashMap::new(), blocks: None, charge: memory.charge() };
        let mut pages = Pages::new(store, &volume.packs(), Depth::All);
        while let Some(page) = pages.next().await? {
            for object in page.objects {
                if let Some(pack) = volume.pack_of(&object.key) {
                    // Here, and among those that are used; with the room a table leaves.
                    listing.charge.add(volume.dir(), 4 * size_of::<(PackId, u64)>())?;
                    listing.packs.insert(pack, object.size);
                }
            }
        }
        Ok(listing)
    }

    /// Lists the blocks of 0.5 that a volume has.
    async fn load_blocks(&mut self, store: &dyn ObjectStore, volume: &VolumeDir) -> BackupResult<()> {
        let mut blocks = HashSet::new();
        let mut pages = Pages::new(store, &volume.v0_blocks(), Depth::All);
        while let Some(page) = pages.next().await? {
            for object in page.objects {
                let name = object.key.rsplit('/').next().and_then(|name| name.strip_suffix(".blk"));
                if let Some(checksum) = name.and_then(checksum_of) {
                    self.charge.add(volume.dir(), 2 * size_of::<[u8; 32]>())?;
                    blocks.insert(checksum);
                }
            }
        }
        self.blocks = Some(blocks);
        Ok(())
    }
}

/// A checksum from its digits; `None` if they are none.
fn checksum_of(digits: &str) -> Option<[u8; 32]> {
    let mut checksum = [0; 32];
    hex::decode_to_slice(digits, &mut checksum).ok().map(|()| checksum)
}

impl Engine {
    /// Verifies a backup, all of a volume, or all. That something is wrong is no error: it is in the summary.
    ///
    /// # Errors
    /// [`convoy_objectstore::StoreError::NotFound`] if the volume or backup named is not there; what the
    /// store says.
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
            None => volumes(&*store, &self.options.memory_to_look()).await?,
        };
        progress.phase(Phase::Data);
        for dir in &all {
            if volume.is_some() {
                store.head(&dir.config()).await?;
            }
            let verified = async {
                let times = self.options.lock_times();
                let lock = Lock::take_to_read(store.clone(), dir, "verify", times).await?;
                let verified =
                    self.verify_volume(&store, dir, backup, options, progress, cancel, &mut summary).await;
                if let Some(lock) = lock {
                    lock.release().await;
                }
                verified
            };
            match verified.await {
                // Somebody put something strange into one volume: the others are verified all the same.
                Err(error) if error.foreign() && volume.is_none() => summary.faults.push(Fault {
                    volume: dir.name().to_owned(),
                    backup: String::new(),
                    kind: FaultKind::Damaged,
                    what: error.to_string(),
                }),
                verified => verified?,
            }
        }
        progress.phase(Phase::Done);
        Ok(summary)
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
        let memory = self.options.memory_to_look();
        let mut names = Vec::new();
        let mut charge = memory.charge();
        if let Some(backup) = backup {
            volume.backup(backup)?;
            names.push(backup.to_owned());
        } else {
            let mut pages = Pages::new(&**store, &volume.backups(), Depth::One);
            while let Some(page) = pages.next().await? {
                for name in page.objects.into_iter().filter_map(|object| volume.backup_of(&object.key)) {
                    charge.add(volume.dir(), 2 * size_of::<String>() + name.len())?;
                    names.push(name);
                }
            }
        }
        let mut listing = Arc::new(StoreListing::load(&**store, volume, &memory).await?);
        // Chunks shared by backups are read once.
        let seen = Arc::new(ReadChunks::new(memory.charge()));
        let mut used: HashSet<PackId> = HashSet::new();
        let mut all_read = true;
        for name in names {
            let fault = |kind: FaultKind, what: &dyn std::fmt::Display| Fault {
                volume: volume.name().to_owned(),
                backup: name.clone(),
                kind,
                what: what.to_string(),
            };
            let mut unread = |error: BackupError| {
                all_read = false;
                fault(kind(&error), &error)
            };
            let mut held = memory.charge();
            let record = match BackupRecord::load(&**store, volume, &name, &mut held).await {
                Ok(record) => record,
                Err(error) if error.not_found() => {
                    if backup.is_some() {
                        return Err(error);
                    }
                    // Deleted since it was listed.
                    continue;
                }
                Err(error) => {
                    summary.backups += 1;
                    summary.faults.push(unread(error));
                    continue;
                }
            };
            summary.backups += 1;
            if record.format_version == 0 && !record.blocks.is_empty() && listing.blocks.is_none() {
                // Nobody else has it between two backups.
                if let Some(listing) = Arc::get_mut(&mut listing) {
                    listing.load_blocks(&**store, volume).await?;
                }
            }
            let crypt = match trust::open(volume, &record, options.key.as_ref(), options.unencrypted) {
                Ok(crypt) => crypt,
                Err(error) => {
                    summary.faults.push(unread(error));
                    continue;
                }
            };
            let vouched = record.code.is_some() && !crypt.is_clear();
            let sequence = record.sequence;
            let moves = match Relocations::load(&**store, volume, std::slice::from_ref(&crypt), &memory).await
            {
                Ok(moves) => moves,
                Err(error @ (BackupError::Damaged { .. } | BackupError::Memory { .. })) => {
                    summary.faults.push(unread(error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let work = Work {
                ctx: Ctx::new(
                    store.clone(),
                    volume.clone(),
                    crypt,
                    progress.clone(),
                    cancel,
                    Arc::clone(&memory),
                ),
                requests: self.options.requests,
                percent: options.read_data.min(100),
                salt: rand::random(),
                listing: listing.clone(),
                seen: seen.clone(),
                moves,
                faults: Mutex::default(),
            };
            let done = tokio::task::spawn_blocking(move || work.run(&record)).await;
            let done = done.unwrap_or_else(|_| {
                Err(BackupError::Invalid("broken off by a defect: see the log".into()))
            })?;
            summary.bytes_read += done.bytes;
            charge.add(volume.dir(), done.faults.iter().map(|(_, what)| what.len() + 256).sum())?;
            all_read &= done.read;
            summary.faults.extend(done.faults.iter().map(|(kind, what)| fault(*kind, what)));
            used.extend(done.packs);
            if vouched {
                summary.authentic.push((volume.name().to_owned(), name, sequence));
            }
        }
        // What a backup needs that was not read would look as if nothing needed it.
        if backup.is_none() && all_read {
            summary.garbage += listing.packs.keys().filter(|pack| !used.contains(pack)).count() as u64;
        }
        Ok(())
    }
}

/// What kind of fault an error is.
pub(super) fn kind(error: &BackupError) -> FaultKind {
    match error {
        BackupError::Unencrypted { .. } => FaultKind::Unencrypted,
        BackupError::NotAuthentic { .. } => FaultKind::NotAuthentic,
        BackupError::KeyMissing { .. } | BackupError::KeyWrong | BackupError::KeysGone { .. } => {
            FaultKind::NoKey
        }
        _ => FaultKind::Damaged,
    }
}

/// Stored chunks that were read, each in few bytes. By place: the same chunk may be stored twice, and one of
/// them be damaged. Those that there is no memory for are read again with the next backup that has them.
#[derive(Debug)]
struct ReadChunks {
    places: Mutex<(HashSet<u64>, Charge)>,
    hasher: RandomState,
}

impl ReadChunks {
    fn new(charge: Charge) -> Self {
        Self { places: Mutex::new((HashSet::new(), charge)), hasher: RandomState::new() }
    }

    fn short(&self, chunk: &ChunkRef) -> u64 {
        let place = &chunk.place;
        self.hasher.hash_one((place.pack, place.offset, chunk.id))
    }

    /// Whether it is new.
    fn add(&self, chunk: &ChunkRef) -> bool {
        let short = self.short(chunk);
        let (places, charge) = &mut *self.places.lock();
        // A half of the memory is for what has to be kept. A table has room for twice of what is in it.
        let room =
            charge.memory().left() > charge.memory().all() / 2 && charge.take(2 * size_of::<u64>() + 4);
        if room { places.insert(short) } else { !places.contains(&short) }
    }

    fn forget(&self, chunk: &ChunkRef) {
        self.places.lock().0.remove(&self.short(chunk));
    }
}

/// What was found in a backup.
struct BackupFindings {
    bytes: u64,
    faults: Vec<(FaultKind, String)>,
    packs: HashSet<PackId>,
    /// Whether all that the backup needs is known.
    read: bool,
}

struct Work {
    ctx: Ctx,
    requests: usize,
    percent: u8,
    salt: u64,
    listing: Arc<StoreListing>,
    seen: Arc<ReadChunks>,
    moves: Relocations,
    faults: Mutex<Vec<(FaultKind, String)>>,
}

impl Work {
    fn fault(&self, what: &dyn std::fmt::Display) {
        self.fault_of(FaultKind::Damaged, what);
    }

    fn fault_of(&self, kind: FaultKind, what: &dyn std::fmt::Display) {
        let mut faults = self.faults.lock();
        if faults.len() < FAULTS {
            faults.push((kind, what.to_string()));
        }
    }

    fn run(self, record: &BackupRecord) -> BackupResult<BackupFindings> {
        let mut packs = HashSet::new();
        let before = self.ctx.progress.snapshot().bytes_moved;
        let checked = if record.format_version == 0 { self.v0(record) } else { self.v1(record, &mut packs) };
        let read = checked.is_ok();
        match checked {
            Ok(()) => {}
            Err(
                error @ (BackupError::Damaged { .. }
                | BackupError::NotAuthentic { .. }
                | BackupError::Version { .. }
                | BackupError::Memory { .. }
                | BackupError::Tree(_)
                | BackupError::Invalid(_)),
            ) => self.fault_of(kind(&error), &error),
            Err(error) if error.not_found() || error.foreign() => self.fault(&error),
            Err(error) => return Err(error),
        }
        let bytes = self.ctx.progress.snapshot().bytes_moved - before;
        Ok(BackupFindings { bytes, faults: self.faults.into_inner(), packs, read })
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
            let checksum = self.ctx.volume.v0_block(&block.block_checksum).ok();
            let checksum = checksum.and_then(|_| checksum_of(&block.block_checksum));
            let blocks = self.listing.blocks.as_ref();
            let there =
                checksum.is_some_and(|checksum| blocks.is_some_and(|blocks| blocks.contains(&checksum)));
            if !there {
                self.fault(&format_args!("block {} at {} is missing", block.block_checksum, block.offset));
            }
            there && self.chosen(block.offset)
        });
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

    /// Notes that a pack is in use, if it is there.
    fn note(&self, packs: &mut HashSet<PackId>, pack: PackId) {
        if self.listing.packs.contains_key(&pack) {
            packs.insert(pack);
        }
    }

    fn v1(&self, record: &BackupRecord, packs: &mut HashSet<PackId>) -> BackupResult<()> {
        let root = load_root(&self.ctx, record)?;
        let mut told: HashSet<PackId> = HashSet::new();
        for (_, chunk) in &root.segments {
            let mut chunk = *chunk;
            self.moves.resolve(&mut chunk)?;
            self.note(packs, chunk.place.pack);
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
                self.note(packs, pack);
                let end = u64::from(chunk.place.offset) + u64::from(chunk.place.stored);
                match self.listing.packs.get(&pack) {
                    Some(size) if end <= *size => {}
                    found => {
                        // Of what is not there somebody may name any number.
                        if told.len() < FAULTS && told.insert(pack) {
                            let what = if found.is_some() { "is too short" } else { "is missing" };
                            self.fault(&format_args!("{} {what}", self.ctx.pack_key(pack)));
                        }
                        continue;
                    }
                }
                let number = pack.run ^ (u64::from(pack.seq) << 17);
                if self.percent > 0 && self.chosen(number) && self.seen.add(&chunk) {
                    return Some(Ok(Want { chunk, purpose: (), weight: 0 }));
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
