//! Chunks that were moved to another pack after manifests were written: `moves/<run>-<seq>.idx`.
//!
//! Manifests are never rewritten. When a pack is mostly garbage its live chunks are copied to a new one, an object here says where each of
//! them went, and only then the old pack goes. Every reader loads these objects first; there are few.

use std::collections::HashMap;

use convoy_objectstore::{Depth, ObjectStore, list_all};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use minicbor::{Decode, Encode};

use crate::crypt::Crypt;
use crate::error::{BackupError, BackupResult};
use crate::format::wire::{PackTable, WireChunk, WirePack, from_cbor, read_piece, to_cbor, unpack};
use crate::format::{ChunkId, ChunkRef, PackId, Place};
use crate::layout::{Object, VolumeDir};

/// What every object of moves begins with.
pub(crate) const MAGIC: &[u8; 5] = b"CVYV\x01";
const MOVES_MAX: usize = 64 << 20;
/// Moves are few, so a chain of them this long is a circle.
const CHAIN_MAX: usize = 64;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct WireMoves {
    #[n(0)]
    packs: Vec<WirePack>,
    #[n(1)]
    chunks: Vec<WireChunk>,
}

/// Where chunks of certain packs are now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moves {
    from: HashMap<PackId, HashMap<ChunkId, Place>>,
}

fn name(pack: PackId) -> String {
    format!("{:016x}-{:08x}.idx", pack.run, pack.seq)
}

fn place(pack: PackId) -> Vec<u8> {
    format!("convoy moves {}", name(pack)).into_bytes()
}

impl Moves {
    /// Loads all of a volume that this key opens; of the others there is nothing to resolve.
    pub(crate) async fn load(
        store: &dyn ObjectStore,
        volume: &VolumeDir,
        crypt: &Crypt,
    ) -> BackupResult<Self> {
        let objects = list_all(store, &volume.moves(), Depth::One).await?.objects;
        let load = |pack: PackId, key: String| async move {
            let bytes = store.get(&key, MOVES_MAX as u64).await?;
            Ok::<_, BackupError>((pack, Self::parse(&key, pack, &bytes, crypt)?))
        };
        let mut loads: Vec<BoxFuture<'_, _>> = Vec::new();
        for object in objects {
            if let Some(Object::Moves(pack)) = volume.object(&object.key) {
                loads.push(load(pack, object.key).boxed());
            }
        }
        let loaded: Vec<_> = futures::stream::iter(loads).buffered(8).try_collect().await?;
        Ok(Self { from: loaded.into_iter().filter_map(|(pack, chunks)| Some((pack, chunks?))).collect() })
    }

    pub(crate) fn parse(
        key: &str,
        pack: PackId,
        bytes: &[u8],
        crypt: &Crypt,
    ) -> BackupResult<Option<HashMap<ChunkId, Place>>> {
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
        let packed = crypt.open(sealed, &place(pack)).map_err(|e| BackupError::damaged(key, e))?;
        let wire: WireMoves = from_cbor(key, &unpack(key, &packed, MOVES_MAX)?)?;
        let read =
            |chunk: &WireChunk| read_piece(key, &wire.packs, chunk).map(|(_, chunk)| (chunk.id, chunk.place));
        wire.chunks.iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    /// Writes where the chunks of a pack are now. What was written for it before is replaced: `chunks` holds that too.
    pub(crate) async fn store(
        store: &dyn ObjectStore,
        volume: &VolumeDir,
        crypt: &Crypt,
        pack: PackId,
        chunks: &[ChunkRef],
    ) -> BackupResult<()> {
        let mut packs = PackTable::default();
        let chunks = chunks.iter().map(|chunk| packs.wire(&(0, *chunk), false)).collect();
        let plain = to_cbor(&WireMoves { packs: packs.into_packs(), chunks })?;
        let packed = zstd::bulk::compress(&plain, 3).map_err(|e| BackupError::Invalid(e.to_string()))?;
        let sealed = crypt.seal(packed, &place(pack)).map_err(|e| BackupError::Invalid(e.to_string()))?;
        let mut bytes = MAGIC.to_vec();
        bytes.push(u8::from(!crypt.is_clear()));
        bytes.extend_from_slice(&sealed);
        Ok(store.put(&volume.moves_of(pack), bytes.into()).await?)
    }

    /// Where a chunk is now.
    pub(crate) fn resolve(&self, chunk: &mut ChunkRef) -> BackupResult<()> {
        for _ in 0..CHAIN_MAX {
            match self.from.get(&chunk.place.pack).and_then(|moved| moved.get(&chunk.id)) {
                Some(place) if *place != chunk.place => chunk.place = *place,
                _ => return Ok(()),
            }
        }
        Err(BackupError::damaged(name(chunk.place.pack), "moves go in a circle"))
    }

    /// Adds what other moves say.
    pub(crate) fn merge(&mut self, other: Self) {
        self.from.extend(other.from);
    }

    /// The packs from which something was moved.
    pub(crate) fn packs(&self) -> impl Iterator<Item = PackId> + '_ {
        self.from.keys().copied()
    }

    /// What was moved from a pack.
    pub(crate) fn of(&self, pack: PackId) -> Option<&HashMap<ChunkId, Place>> {
        self.from.get(&pack)
    }
}
