//! Chunks that were moved to another pack after manifests were written: `moves/<run>-<seq>.idx`.
//!
//! Manifests are never rewritten. When a pack is mostly garbage its live chunks are copied to a new one, an
//! object here says where each of them went, and only then the old pack goes. Every reader loads these
//! objects first; there are few.

use std::collections::HashMap;
use std::sync::Arc;

use convoy_objectstore::{Depth, ObjectStore, Pages};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use minicbor::{Decode, Encode};

use crate::crypt::Crypt;
use crate::error::{BackupError, BackupResult};
use crate::format::limits::{MOVES_CHAIN_MAX, MOVES_MAX};
use crate::format::wire::{
    List, PackTable, Pay, WireChunk, WirePack, from_cbor, read_piece, to_cbor, unpack,
};
use crate::format::{ChunkId, ChunkLocation, ChunkRef, PackId};
use crate::layout::{Object, VolumeDir};
use crate::memory::{Charge, Memory};

/// What every object of moves begins with.
pub(crate) const MAGIC: &[u8; 5] = b"CVYV\x01";
/// Memory for a chunk that was moved, with the room a hash table leaves.
const MOVED: usize = 2 * size_of::<(ChunkId, ChunkLocation)>();
/// Memory for a pack from which chunks were moved.
const MOVED_FROM: usize = 256;

#[derive(Debug, Encode, Decode)]
#[cbor(map, context_bound = "Pay")]
struct WireMoves {
    #[n(0)]
    packs: List<WirePack>,
    #[n(1)]
    chunks: List<WireChunk>,
}

/// Where the chunks of a pack are now.
pub(crate) type PackRelocations = HashMap<ChunkId, ChunkLocation>;

/// Where chunks of certain packs are now. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Relocations {
    from: Arc<HashMap<PackId, PackRelocations>>,
    _charges: Arc<Vec<Charge>>,
}

fn name(pack: PackId) -> String {
    format!("{:016x}-{:08x}.idx", pack.run, pack.seq)
}

fn place(pack: PackId) -> Vec<u8> {
    format!("convoy moves {}", name(pack)).into_bytes()
}

impl Relocations {
    /// Loads all of a volume that one of these keys opens; of the others there is nothing to resolve.
    pub(crate) async fn load(
        store: &dyn ObjectStore,
        volume: &VolumeDir,
        crypts: &[Crypt],
        memory: &Arc<Memory>,
    ) -> BackupResult<Self> {
        let dir = volume.moves();
        let load = |pack: PackId, key: String| async move {
            let bytes = memory.read(store, &key, MOVES_MAX as u64).await?;
            let mut charge = memory.charge();
            for crypt in crypts {
                if let Some(moved) = Self::parse(&key, pack, &bytes, crypt, &mut charge)? {
                    return Ok::<_, BackupError>(Some((pack, moved, charge)));
                }
            }
            Ok(None)
        };
        let (mut from, mut charges) = (HashMap::new(), Vec::new());
        let mut pages = Pages::new(store, &dir, Depth::One);
        while let Some(page) = pages.next().await? {
            let mut loads: Vec<BoxFuture<'_, _>> = Vec::new();
            for object in page.objects {
                if let Some(Object::Relocations(pack)) = volume.object(&object.key) {
                    loads.push(load(pack, object.key).boxed());
                }
            }
            let mut loaded = futures::stream::iter(loads).buffered(8);
            while let Some(found) = loaded.try_next().await? {
                if let Some((pack, moved, charge)) = found {
                    from.insert(pack, moved);
                    charges.push(charge);
                }
            }
        }
        Ok(Self { from: Arc::new(from), _charges: Arc::new(charges) })
    }

    /// Reads what was moved from a pack. `None` if it was sealed and there is no key, or the other way round.
    pub(crate) fn parse(
        key: &str,
        pack: PackId,
        bytes: &[u8],
        crypt: &Crypt,
        charge: &mut Charge,
    ) -> BackupResult<Option<PackRelocations>> {
        let sealed = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| BackupError::damaged(key, "it does not begin as moves do"))?;
        // The first byte tells whether it is sealed, and so whether it is of any use with this key.
        let Some((flag, sealed)) = sealed.split_first() else {
            return Err(BackupError::damaged(key, "it is too short"));
        };
        if (*flag == 0) != crypt.is_clear() {
            return Ok(None);
        }
        charge.add(key, sealed.len())?;
        let packed = crypt.open(sealed, &place(pack)).map_err(|e| BackupError::damaged(key, e))?;
        let wire: WireMoves = from_cbor(key, &unpack(key, &packed, MOVES_MAX, charge)?, charge)?;
        let bytes = wire.chunks.0.len().saturating_mul(MOVED) + MOVED_FROM;
        charge.add(key, bytes)?;
        let read = |chunk: &WireChunk| {
            read_piece(key, &wire.packs.0, chunk).map(|(_, chunk)| (chunk.id, chunk.place))
        };
        let moved = wire.chunks.0.iter().map(read).collect::<Result<_, _>>()?;
        charge.keep(bytes);
        Ok(Some(moved))
    }

    /// Writes where the chunks of a pack are now. What was written for it before is replaced: `chunks` holds
    /// that too.
    pub(crate) async fn store(
        store: &dyn ObjectStore,
        volume: &VolumeDir,
        crypt: &Crypt,
        pack: PackId,
        chunks: &[ChunkRef],
    ) -> BackupResult<()> {
        let mut packs = PackTable::default();
        let chunks = List(chunks.iter().map(|chunk| packs.wire(&(0, *chunk), false)).collect());
        let plain = to_cbor(&WireMoves { packs: List(packs.into_packs()), chunks })?;
        let packed = zstd::bulk::compress(&plain, 3).map_err(|e| BackupError::Invalid(e.to_string()))?;
        let sealed = crypt.seal(packed, &place(pack)).map_err(|e| BackupError::Invalid(e.to_string()))?;
        let mut bytes = MAGIC.to_vec();
        bytes.push(u8::from(!crypt.is_clear()));
        bytes.extend_from_slice(&sealed);
        Ok(store.put(&volume.moves_of(pack), bytes.into()).await?)
    }

    /// Where a chunk is now.
    pub(crate) fn resolve(&self, chunk: &mut ChunkRef) -> BackupResult<()> {
        for _ in 0..MOVES_CHAIN_MAX {
            match self.from.get(&chunk.place.pack).and_then(|moved| moved.get(&chunk.id)) {
                Some(place) if *place != chunk.place => chunk.place = *place,
                _ => return Ok(()),
            }
        }
        Err(BackupError::damaged(name(chunk.place.pack), "moves go in a circle"))
    }

    /// The packs from which something was moved.
    pub(crate) fn packs(&self) -> impl Iterator<Item = PackId> + '_ {
        self.from.keys().copied()
    }

    /// What was moved from a pack.
    pub(crate) fn of(&self, pack: PackId) -> Option<&PackRelocations> {
        self.from.get(&pack)
    }
}
