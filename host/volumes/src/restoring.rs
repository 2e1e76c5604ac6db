//! Volumes that are restored into: parts, while containers may use them, or the whole volume in place, while
//! nobody does.
//!
//! A restore has its volume mounted, as a user of its own in the ledger, and is the only one: it would take
//! the unfinished files of another for those of one that was killed.

use crate::alone::{Alone, Others};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::ledger::{BY_HAND, IN_PLACE, RESTORE};
use crate::service::Volumes;
use convoy_driver_sdk::protocol::MountVolume;
use convoy_driver_sdk::{DriverError, Name};
use convoy_drivers::RequestContext;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A volume that is being restored into. Nobody deletes, reverts or unmounts it meanwhile.
#[derive(Debug)]
pub struct Restoring {
    /// The volume.
    pub entry: Entry,
    /// Its root directory, open; of no other use once [`Volumes::end_restore`] was called.
    pub root: OwnedFd,
    user: &'static str,
    alone: Arc<Alone>,
}

impl Volumes {
    /// Mounts a volume, unless it is, for parts to be restored into it.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], [`Error::BeingRestored`]; [`Error::Unsupported`] for a volume that has no
    /// directory; the driver's.
    pub async fn begin_restore(&self, name: &str, call: &RequestContext) -> Result<Restoring> {
        let entry = self.find(name, call).await?;
        let alone = Arc::new(self.take(&entry.volume.name, Others::Mount)?);
        let mountpoint = self.mount(name, RESTORE, None, call).await?;
        self.open_restored(entry, alone, RESTORE, &mountpoint, call).await
    }

    /// Takes a volume that is to be changed altogether, for a restore in place or a revert: from now on
    /// nobody mounts, deletes or reverts it, or restores into it. Whether it is used is checked by
    /// [`Self::refuse_if_in_use`].
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], [`Error::BeingRestored`].
    pub async fn take_alone(&self, name: &str, call: &RequestContext) -> Result<(Entry, Arc<Alone>)> {
        let entry = self.find(name, call).await?;
        let alone = Arc::new(self.take(&entry.volume.name, Others::StayOut)?);
        Ok((entry, alone))
    }

    /// Refuses what would change a volume under its users.
    ///
    /// # Errors
    /// [`Error::StillUsed`] for a mount by hand, [`Error::UsedByContainers`].
    pub async fn refuse_if_in_use(&self, volume: &Name) -> Result<()> {
        // Whoever was about to mount it when it was taken has done so, or was refused.
        let _guard = self.lock_to_mount(volume, "restore in place").await?;
        self.refuse_users(volume)
    }

    fn refuse_users(&self, volume: &Name) -> Result<()> {
        let usage = self.ledger.usage(volume);
        if !usage.is_used() {
            return Ok(());
        }
        let users = usage.containers();
        match users.is_empty() || usage.users.contains_key(BY_HAND) {
            true => Err(Error::StillUsed { volume: volume.clone(), wanted: "be restored in place" }),
            false => Err(Error::UsedByContainers { volume: volume.clone(), users }),
        }
    }

    /// Mounts a volume that was taken, for nobody else.
    ///
    /// # Errors
    /// As [`Self::refuse_if_in_use`]; [`Error::Unsupported`] for a volume that has no directory; the driver's.
    pub async fn begin_in_place(
        &self,
        entry: &Entry,
        alone: &Arc<Alone>,
        call: &RequestContext,
    ) -> Result<Restoring> {
        let volume = &entry.volume.name;
        let guard = self.lock_to_mount(volume, "restore in place").await?;
        self.refuse_users(volume)?;
        let request = MountVolume::new(volume.clone());
        let mounted = entry.driver.change(request, call, &guard).await?;
        if let Err(error) = self.ledger.claim(volume, IN_PLACE, &mounted.mountpoint).await {
            if let Err(undo) = self.finish_unmount(entry, &guard, call).await {
                tracing::warn!(%volume, error = %undo, "a mount that could not be recorded could not be \
                                                        undone");
            }
            return Err(error);
        }
        drop(guard);
        self.open_restored(entry.clone(), Arc::clone(alone), IN_PLACE, &mounted.mountpoint, call).await
    }

    fn take(&self, volume: &Name, others: Others) -> Result<Alone> {
        Alone::take(&self.restoring, volume, others).ok_or_else(|| Error::BeingRestored(volume.clone()))
    }

    async fn open_restored(
        &self,
        entry: Entry,
        alone: Arc<Alone>,
        user: &'static str,
        mountpoint: &Path,
        call: &RequestContext,
    ) -> Result<Restoring> {
        match self.open_mounted(mountpoint).await {
            Ok(root) => Ok(Restoring { entry, root, user, alone }),
            Err(error) => {
                self.leave_restored(alone.volume(), user, call).await;
                let driver = entry.driver.name().clone();
                if error.kind() == io::ErrorKind::NotADirectory {
                    let what = "restoring into a volume that is no directory";
                    return Err(Error::Unsupported { driver, what });
                }
                let text = format!("cannot open volume {} at {}", alone.volume(), mountpoint.display());
                Err(DriverError::io(text, &error).into())
            }
        }
    }

    /// Unmounts the volume, unless others use it. `call` is not that of the job, which may be cancelled.
    pub async fn end_restore(&self, restoring: Restoring, call: &RequestContext) {
        let Restoring { root, user, alone, .. } = restoring;
        // What is open cannot be unmounted.
        drop(root);
        self.leave_restored(alone.volume(), user, call).await;
    }

    async fn leave_restored(&self, volume: &Name, user: &str, call: &RequestContext) {
        if let Err(error) = self.unmount(volume, user, call).await {
            tracing::warn!(%volume, %error, "a volume that was restored into stays mounted until the next \
                                             unmount or start");
        }
    }

    /// Unmounts what restores had mounted when the daemon was killed.
    pub(crate) async fn end_killed_restores(&self, call: &RequestContext) {
        for volume in self.ledger.volumes() {
            for user in [RESTORE, IN_PLACE] {
                if self.ledger.usage(&volume).users.contains_key(user) {
                    tracing::info!(%volume, "a restore into this volume was cut off: run it again to finish it");
                    self.leave_restored(&volume, user, call).await;
                }
            }
        }
    }

    /// Whether something is being restored into a volume now, or it is being taken back with its containers
    /// stopped.
    pub fn is_being_restored(&self, volume: &str) -> bool {
        self.restoring.lock().contains_key(volume)
    }

    pub(crate) fn refuse_if_restored(&self, volume: &Name) -> Result<()> {
        match self.restoring.lock().contains_key(volume) {
            true => Err(Error::BeingRestored(volume.clone())),
            false => Ok(()),
        }
    }

    /// Refuses a mount of a volume that somebody has for itself, or that is half restored. Parts may be
    /// restored into the latter.
    pub(crate) fn refuse_to_mount(&self, entry: &Entry, user: &str) -> Result<()> {
        let volume = &entry.volume.name;
        if self.restoring.lock().get(volume) == Some(&Others::StayOut) {
            return Err(Error::BeingRestored(volume.clone()));
        }
        if user == RESTORE { Ok(()) } else { self.refuse_if_half_restored(entry) }
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
