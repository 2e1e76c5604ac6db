//! Where a backup's chunks go: into packs, and those to the store.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::ctx::Ctx;
use super::index::{Claim, Index};
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::Encoder;
use crate::format::limits::CHUNK_MAX;
use crate::format::pack::PackBuilder;
use crate::format::{ChunkId, ChunkRef, PackId};

/// Data and manifests go to packs of their own: who reads a manifest need not read past data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Data,
    Manifest,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Packer<'a> {
    ctx: &'a Ctx,
    pub(crate) index: &'a Index,
    run: u64,
    pack_size: usize,
    next: AtomicU32,
    data: Mutex<Option<PackBuilder>>,
    manifest: Mutex<Option<PackBuilder>>,
    full: Mutex<Option<Sender<PackBuilder>>>,
    /// Memory of packs that have reached the store. It is used again: the kernel would have to clear new
    /// memory each time.
    unused: Mutex<Vec<Vec<u8>>>,
    added: AtomicU64,
}

impl<'a> Packer<'a> {
    /// Makes a packer, and the channel of the packs it fills, which [`Packer::upload`] takes to the store.
    pub(crate) fn new(
        ctx: &'a Ctx,
        index: &'a Index,
        run: u64,
        pack_size: usize,
    ) -> (Self, Receiver<PackBuilder>) {
        // No room in the channel: a full pack waits in the hands of who filled it, so memory stays bounded.
        let (full, packs) = bounded(0);
        let packer = Self {
            ctx,
            index,
            run,
            pack_size,
            next: AtomicU32::new(0),
            data: Mutex::default(),
            manifest: Mutex::default(),
            full: Mutex::new(Some(full)),
            unused: Mutex::default(),
            added: AtomicU64::new(0),
        };
        (packer, packs)
    }

    /// Stores a chunk unless it is known.
    pub(crate) fn put(&self, encoder: &mut Encoder, plain: &[u8], lane: Lane) -> BackupResult<ChunkRef> {
        self.put_hashed(encoder, self.ctx.crypt.hash(plain), plain, lane)
    }

    /// The same with its hash.
    pub(crate) fn put_hashed(
        &self,
        encoder: &mut Encoder,
        id: ChunkId,
        plain: &[u8],
        lane: Lane,
    ) -> BackupResult<ChunkRef> {
        match self.index.claim(&id, self.ctx)? {
            Claim::Known(chunk) => Ok(chunk),
            Claim::Yours => {
                let stored = self.store(encoder, id, plain, lane);
                match &stored {
                    Ok(chunk) => self.index.settle(chunk),
                    Err(_) => self.index.give_up(&id),
                }
                stored
            }
        }
    }

    fn store(&self, encoder: &mut Encoder, id: ChunkId, plain: &[u8], lane: Lane) -> BackupResult<ChunkRef> {
        // What no reader would take must not be called stored. Data is cut long before; the attributes of one
        // file may be this large.
        let len = u32::try_from(plain.len()).ok().filter(|_| plain.len() <= CHUNK_MAX).ok_or_else(|| {
            let what = if lane == Lane::Data { "data" } else { "a list of files with their attributes" };
            BackupError::Invalid(format!(
                "{what} of {} bytes does not fit into a chunk of {CHUNK_MAX}: a file here has attributes of megabytes",
                plain.len()
            ))
        })?;
        let (stored, encoding) =
            encoder.encode(&id, plain).map_err(|e| BackupError::Invalid(e.to_string()))?;
        let open = self.lane(lane);
        let (place, full) = {
            let mut open = open.lock();
            let pack = open.get_or_insert_with(|| self.new_pack(lane));
            let place = pack.add(id, len, &stored, encoding)?;
            (place, if pack.len() >= self.pack_size { open.take() } else { None })
        };
        if let Some(full) = full {
            self.send(full)?;
        }
        Ok(ChunkRef { id, len, place })
    }

    fn lane(&self, lane: Lane) -> &Mutex<Option<PackBuilder>> {
        match lane {
            Lane::Data => &self.data,
            Lane::Manifest => &self.manifest,
        }
    }

    fn new_pack(&self, lane: Lane) -> PackBuilder {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let memory = match lane {
            Lane::Data => {
                self.unused.lock().pop().unwrap_or_else(|| Vec::with_capacity(self.pack_size + (1 << 20)))
            }
            // Mostly small.
            Lane::Manifest => Vec::new(),
        };
        PackBuilder::new(PackId { run: self.run, seq }, memory)
    }

    fn send(&self, pack: PackBuilder) -> BackupResult<()> {
        let full = self.full.lock().clone();
        // The other end goes only when the operation ends.
        full.and_then(|full| full.send(pack).ok()).ok_or(BackupError::Cancelled)
    }

    /// Lets the uploading threads end when they have done what was sent.
    pub(crate) fn close(&self) {
        self.full.lock().take();
    }

    /// Sends what is left of a lane.
    pub(crate) fn flush(&self, lane: Lane) -> BackupResult<()> {
        let rest = self.lane(lane).lock().take().filter(|pack| !pack.is_empty());
        rest.map_or(Ok(()), |pack| self.send(pack))
    }

    /// Bytes of packs that have reached the store.
    pub(crate) fn added(&self) -> u64 {
        self.added.load(Ordering::Relaxed)
    }

    /// Takes packs to the store, one after the other, until the packer is closed. Run by as many threads as
    /// there may be requests.
    pub(crate) fn upload(&self, packs: &Receiver<PackBuilder>) -> BackupResult<()> {
        while let Ok(pack) = packs.recv() {
            let key = self.ctx.pack_key(pack.id());
            let bytes = Bytes::from(pack.finish(&self.ctx.crypt)?);
            let size = bytes.len() as u64;
            self.ctx.call(self.ctx.store.put(&key, bytes.clone()))?;
            // Unless the store holds on to it.
            if let Ok(memory) = bytes.try_into_mut()
                && memory.capacity() >= self.pack_size
            {
                self.unused.lock().push(memory.into());
            }
            self.ctx.progress.add_moved(size);
            self.added.fetch_add(size, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypt::Crypt;
    use std::sync::Arc;

    #[tokio::test]
    async fn what_no_reader_takes_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(convoy_objectstore::DirectoryStore::open(dir.path()).await.unwrap());
        let ctx = Ctx::for_test(store);
        let index = Index::new(10);
        let (packer, _packs) = Packer::new(&ctx, &index, 1, 64 << 20);
        let mut encoder = Encoder::new(Crypt::default(), Some(1)).unwrap();
        let most = vec![7; CHUNK_MAX];
        let stored = packer.put(&mut encoder, &most, Lane::Manifest).unwrap();
        assert_eq!(usize::try_from(stored.len).unwrap(), CHUNK_MAX);
        let error = packer.put(&mut encoder, &[&most[..], b"x"].concat(), Lane::Manifest).unwrap_err();
        assert!(error.to_string().contains("attributes"), "{error}");
    }
}
