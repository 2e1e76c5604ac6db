//! Memory for what a store says.
//!
//! What is in a store may have been written by anybody: lengths and counts that it gives are believed only as
//! far as there is memory for them. An operation has so much of it, its [`Memory`]; whoever is about to keep
//! something takes a [`Charge`] first, which is given back when it is dropped. Where that fails the operation
//! does, with the name of the object.
//!
//! Chunks on their way have a budget of their own (see `Budget`), and their sizes have a limit in the format.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use convoy_objectstore::{ObjectStore, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{BackupError, BackupResult};
use crate::format::limits::SMALL_OBJECT;

/// Bytes of whole objects that may be on their way at the same time beside what is charged.
const READING: u64 = 16 << 20;
/// What is counted of them.
const UNIT: u64 = 1 << 10;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Memory {
    all: usize,
    left: AtomicUsize,
    reading: Arc<Semaphore>,
}

impl Memory {
    /// So many bytes.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let reading = Semaphore::new(usize::try_from(READING / UNIT).unwrap_or(Semaphore::MAX_PERMITS));
        Arc::new(Self { all: bytes, left: AtomicUsize::new(bytes), reading: Arc::new(reading) })
    }

    /// A charge of nothing yet.
    pub(crate) fn charge(self: &Arc<Self>) -> Charge {
        Charge { memory: Arc::clone(self), bytes: 0, refused: false }
    }

    /// All its bytes.
    pub(crate) fn all(&self) -> usize {
        self.all
    }

    /// Bytes that nothing is charged for.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Reads a whole object of at most `limit` bytes. Most are small; a large one waits until little else is
    /// being read, and is charged.
    pub(crate) async fn read(
        self: &Arc<Self>,
        store: &dyn ObjectStore,
        key: &str,
        limit: u64,
    ) -> BackupResult<Whole> {
        let permit = self.permit(SMALL_OBJECT).await?;
        let size = match store.get(key, SMALL_OBJECT.min(limit)).await {
            Ok(bytes) => return Ok(Whole { bytes, _permit: permit, _charge: self.charge() }),
            Err(StoreError::TooLarge { size, .. }) if size <= limit => size,
            Err(error) => return Err(error.into()),
        };
        drop(permit);
        let permit = self.permit(size).await?;
        let mut charge = self.charge();
        if size > READING {
            charge.add(key, usize::try_from(size).unwrap_or(usize::MAX))?;
        }
        Ok(Whole { bytes: store.get(key, size).await?, _permit: permit, _charge: charge })
    }

    async fn permit(&self, bytes: u64) -> BackupResult<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.min(READING).div_ceil(UNIT)).unwrap_or(u32::MAX);
        Arc::clone(&self.reading).acquire_many_owned(units).await.map_err(|_| BackupError::Cancelled)
    }
}

/// A whole object.
#[derive(Debug)]
pub(crate) struct Whole {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
    _charge: Charge,
}

impl std::ops::Deref for Whole {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes of a [`Memory`] that are in use; given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    memory: Arc<Memory>,
    bytes: usize,
    refused: bool,
}

impl Charge {
    /// Where it comes from.
    pub(crate) fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.memory)
    }

    /// Takes more, if there is as much left.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let left = &self.memory.left;
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        if taken.is_ok() {
            self.bytes += bytes;
        } else {
            self.refused = true;
        }
        taken.is_ok()
    }

    /// Takes more for what the object with this key says.
    pub(crate) fn add(&mut self, key: &str, bytes: usize) -> BackupResult<()> {
        if self.take(bytes) { Ok(()) } else { Err(self.refusal(key)) }
    }

    /// Gives all of it back.
    pub(crate) fn clear(&mut self) {
        self.keep(0);
    }

    /// Gives back all but so much.
    pub(crate) fn keep(&mut self, bytes: usize) {
        self.memory.left.fetch_add(self.bytes.saturating_sub(bytes), Ordering::Relaxed);
        self.bytes = self.bytes.min(bytes);
    }

    /// Takes over what another has.
    pub(crate) fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Whether there was less left than was needed.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    /// Why this fails.
    pub(crate) fn refusal(&self, key: &str) -> BackupError {
        BackupError::Memory { key: key.to_owned(), limit: self.memory.all >> 20 }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_given_back_and_never_more_than_there_is() {
        let memory = Memory::new(100);
        let (mut one, mut two) = (memory.charge(), memory.charge());
        one.add("k", 60).unwrap();
        assert!(matches!(two.add("k", 41), Err(BackupError::Memory { .. })) && two.refused());
        two.add("k", 40).unwrap();
        one.keep(10);
        assert_eq!(memory.left(), 50);
        drop((one, two));
        assert_eq!(memory.left(), 100);
        assert!(!memory.charge().take(usize::MAX));
    }
}
