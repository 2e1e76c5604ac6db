//! Volumes that parts of a backup or snapshot are brought back into, while containers may use them.
//!
//! A restore has its volume mounted, as a user of its own in the ledger, and is alone in it: it would take
//! the unfinished files of another for those of one that was killed.

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::ledger::RESTORE;
use crate::service::Volumes;
use convoy_driver_sdk::{DriverError, Name};
use convoy_drivers::RequestContext;
use nix::sched::{CloneFlags, setns, unshare};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A volume that parts are being restored into. Nobody deletes, reverts or unmounts it meanwhile.
#[derive(Debug)]
pub struct Restoring {
    /// The volume.
    pub entry: Entry,
    /// Its root directory, open; of no other use once [`Volumes::end_restore`] was called.
    pub root: OwnedFd,
    alone: Alone,
}

/// Keeps others out.
#[derive(Debug)]
struct Alone {
    volume: Name,
    all: Arc<Mutex<HashSet<Name>>>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.all.lock().remove(&self.volume);
    }
}

impl Volumes {
    /// Mounts a volume, unless it is, for parts to be restored into it.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], [`Error::BeingRestored`]; [`Error::Unsupported`] for a volume that has no
    /// directory; the driver's.
    pub async fn begin_restore(&self, name: &str, call: &RequestContext) -> Result<Restoring> {
        let entry = self.find(name, call).await?;
        let volume = entry.volume.name.clone();
        if !self.restoring.lock().insert(volume.clone()) {
            return Err(Error::BeingRestored(volume));
        }
        let alone = Alone { volume, all: Arc::clone(&self.restoring) };
        let mountpoint = self.mount(name, RESTORE, None, call).await?;
        match self.open_mounted(&mountpoint).await {
            Ok(root) => Ok(Restoring { entry, root, alone }),
            Err(error) => {
                self.leave_restored(&alone.volume, call).await;
                let driver = entry.driver.name().clone();
                if error.kind() == io::ErrorKind::NotADirectory {
                    let what = "restoring parts into a volume that is no directory";
                    return Err(Error::Unsupported { driver, what });
                }
                let text = format!("cannot open volume {} at {}", alone.volume, mountpoint.display());
                Err(DriverError::io(text, &error).into())
            }
        }
    }

    /// Unmounts the volume, unless others use it. `call` is not that of the job, which may be cancelled.
    pub async fn end_restore(&self, restoring: Restoring, call: &RequestContext) {
        let Restoring { root, alone, .. } = restoring;
        // What is open cannot be unmounted.
        drop(root);
        self.leave_restored(&alone.volume, call).await;
    }

    async fn leave_restored(&self, volume: &Name, call: &RequestContext) {
        if let Err(error) = self.unmount(volume, RESTORE, call).await {
            tracing::warn!(%volume, %error, "a volume that parts were restored into stays mounted until the \
                                             next unmount or start");
        }
    }

    /// Unmounts what restores had mounted when the daemon was killed.
    pub(crate) async fn end_killed_restores(&self, call: &RequestContext) {
        for volume in self.ledger.volumes() {
            if self.ledger.usage(&volume).users.contains_key(RESTORE) {
                tracing::info!(%volume, "a restore into this volume was cut off: run it again to finish it");
                self.leave_restored(&volume, call).await;
            }
        }
    }

    pub(crate) fn refuse_if_restored(&self, volume: &Name) -> Result<()> {
        match self.restoring.lock().contains(volume) {
            true => Err(Error::BeingRestored(volume.clone())),
            false => Ok(()),
        }
    }

    /// Opens a directory where volumes are mounted, which may be in another mount namespace.
    async fn open_mounted(&self, path: &Path) -> io::Result<OwnedFd> {
        let (path, namespace) = (path.to_owned(), self.mount_namespace.clone());
        let opening = std::thread::Builder::new().name("open".to_owned());
        let (told, opened) = tokio::sync::oneshot::channel();
        // A thread of its own: one that went into another namespace is of no more use.
        opening.spawn(move || told.send(open(&path, namespace)))?;
        opened.await.unwrap_or_else(|_| Err(io::Error::other("the thread that opens it failed")))
    }
}

fn open(path: &Path, namespace: Option<PathBuf>) -> io::Result<OwnedFd> {
    use rustix::fs::{CWD, Mode, OFlags};
    if let Some(namespace) = namespace {
        let namespace = File::open(namespace)?;
        unshare(CloneFlags::CLONE_FS)?;
        setns(namespace, CloneFlags::CLONE_NEWNS)?;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}
