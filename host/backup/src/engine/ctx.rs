//! What the threads of one operation share: the store, the wish to stop, and the first failure.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use convoy_objectstore::{ObjectStore, StoreError};
use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::crypt::Crypt;
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::Decoder;
use crate::format::{ChunkRef, PackId};
use crate::layout::VolumeDir;
use crate::memory::Memory;
use crate::progress::Progress;

/// See the [module](self). Clones are of one operation.
#[derive(Debug, Clone)]
pub(crate) struct Ctx {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) volume: VolumeDir,
    pub(crate) crypt: Crypt,
    pub(crate) progress: Progress,
    /// For what the store says.
    pub(crate) memory: Arc<Memory>,
    runtime: Handle,
    /// Cancelled by the caller, or by the first failure.
    stop: CancellationToken,
    failure: Arc<Mutex<Option<BackupError>>>,
}

impl Ctx {
    /// Must be called on a runtime, which then carries the calls to the store.
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        volume: VolumeDir,
        crypt: Crypt,
        progress: Progress,
        cancel: &CancellationToken,
        memory: Arc<Memory>,
    ) -> Self {
        Self {
            store,
            volume,
            crypt,
            progress,
            memory,
            runtime: Handle::current(),
            stop: cancel.child_token(),
            failure: Arc::default(),
        }
    }

    /// For volume `vol1` of a store in the clear, with 64 MiB for what the store says.
    #[cfg(test)]
    pub(crate) fn for_test(store: Arc<dyn ObjectStore>) -> Self {
        let stop = CancellationToken::new();
        let volume = VolumeDir::new("vol1").unwrap();
        Self::new(store, volume, Crypt::default(), Progress::new(), &stop, Memory::new(64 << 20))
    }

    /// Makes a call to the store from a thread that may block. Ends at once when the operation does.
    pub(crate) fn call<T, E: Into<BackupError>>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> BackupResult<T> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => Err(BackupError::Cancelled),
                result = call => result.map_err(Into::into),
            }
        })
    }

    /// What carries the calls to the store.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Starts to read a range, to be waited for later.
    pub(crate) fn read_ahead(
        &self,
        key: String,
        range: std::ops::Range<u64>,
    ) -> tokio::task::JoinHandle<Result<Bytes, StoreError>> {
        let store = self.store.clone();
        self.runtime.spawn(async move { store.get_range(&key, range).await })
    }

    /// Waits for what [`Ctx::read_ahead`] started.
    pub(crate) fn wait_for(
        &self,
        reading: tokio::task::JoinHandle<Result<Bytes, StoreError>>,
    ) -> BackupResult<Bytes> {
        self.call(async {
            match reading.await {
                Ok(result) => result.map_err(BackupError::from),
                Err(_) => Err(BackupError::Cancelled),
            }
        })
    }

    /// Fails when the operation is to end.
    pub(crate) fn check(&self) -> BackupResult<()> {
        if self.stop.is_cancelled() { Err(BackupError::Cancelled) } else { Ok(()) }
    }

    /// Runs a part of the operation. Its failure ends all others; the first one is kept as the reason.
    pub(crate) fn part<T>(&self, work: impl FnOnce() -> BackupResult<T>) -> Option<T> {
        match work() {
            Ok(value) => Some(value),
            Err(error) => {
                self.failure.lock().get_or_insert(error);
                self.stop.cancel();
                None
            }
        }
    }

    /// The reason why a part has failed; being stopped is one.
    pub(crate) fn reason(&self) -> BackupError {
        self.failure.lock().take().unwrap_or(BackupError::Cancelled)
    }

    /// The key of a pack.
    pub(crate) fn pack_key(&self, pack: PackId) -> String {
        self.volume.pack(pack.run, pack.seq)
    }

    /// What unpacks and verifies chunks. One per thread.
    pub(crate) fn decoder(&self) -> BackupResult<Decoder> {
        Decoder::new(self.crypt.clone())
            .map_err(|e| BackupError::Invalid(format!("zstd cannot be started: {e}")))
    }

    /// The plain bytes of a chunk, from its stored bytes.
    pub(crate) fn decode<'a>(
        &self,
        decoder: &'a mut Decoder,
        chunk: &ChunkRef,
        stored: &'a [u8],
    ) -> BackupResult<&'a [u8]> {
        decoder.decode(chunk, stored).map_err(|e| BackupError::damaged(self.pack_key(chunk.place.pack), e))
    }
}

/// Hands a value to another part of the operation. The other end goes only when the operation ends.
pub(crate) fn send<T>(channel: &Sender<T>, value: T) -> BackupResult<()> {
    channel.send(value).map_err(|_| BackupError::Cancelled)
}

/// Bytes that may be on their way at the same time.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    free: Mutex<usize>,
    freed: Condvar,
    all: usize,
}

/// Bytes taken from a [`ByteBudget`], given back when dropped.
#[derive(Debug)]
pub(crate) struct BytePermit {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl ByteBudget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(bytes), freed: Condvar::new(), all: bytes })
    }

    /// Waits until so many bytes are free. More than there are at all are let pass alone.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize, ctx: &Ctx) -> BackupResult<BytePermit> {
        let bytes = bytes.min(self.all);
        let mut free = self.free.lock();
        while *free < bytes {
            ctx.check()?;
            // A stop does not wake us: look for it now and then.
            self.freed.wait_for(&mut free, std::time::Duration::from_millis(50));
        }
        *free -= bytes;
        Ok(BytePermit { budget: self.clone(), bytes })
    }
}

impl Drop for BytePermit {
    fn drop(&mut self) {
        *self.budget.free.lock() += self.bytes;
        self.budget.freed.notify_all();
    }
}
