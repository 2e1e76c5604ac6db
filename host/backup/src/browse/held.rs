//! What a reader of a backup holds as long as it lives.

use tokio::runtime::Handle;
use tokio_util::sync::DropGuard;

use crate::error::BackupError;
use crate::lock::Lock;

/// The shared lock on the volume, which keeps deletions away from what is read, and the wish to stop whatever
/// is still under way when the reader goes. A task on the runtime renews the lock; when this is dropped the
/// lock is given back, as long as that runtime runs. Else it expires by itself.
#[derive(Debug)]
pub(super) struct Held {
    /// None at a store that may only be read.
    lock: Option<Lock>,
    runtime: Handle,
    _stop: DropGuard,
}

impl Held {
    pub(super) fn new(lock: Option<Lock>, runtime: Handle, stop: DropGuard) -> Self {
        Self { lock, runtime, _stop: stop }
    }

    /// What cannot be read once the lock was lost may be gone for that reason.
    pub(super) fn explain(&self, error: BackupError) -> BackupError {
        match (&error, &self.lock) {
            (BackupError::Damaged { .. }, Some(lock)) => lock.check().err().unwrap_or(error),
            _ => error,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Whatever thread this is: the lock needs the runtime to be given back.
        let _entered = self.runtime.enter();
        drop(self.lock.take());
    }
}
