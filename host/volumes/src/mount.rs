//! Mounting and unmounting, counted by user.
//!
//! The ledger is written after the driver mounted and before it unmounts: whatever is cut off leaves at worst
//! a volume mounted that nobody uses, which the next unmount or delete of it finds.

use crate::driver::CHANGE;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::ledger::{ADOPTED, BY_HAND, Release};
use crate::locks::VolumeGuard;
use crate::service::Volumes;
use convoy_activity::events::about;
use convoy_driver_sdk::protocol::{Capability, MountVolume, UnmountVolume};
use convoy_driver_sdk::{ErrorKind, Name};
use convoy_drivers::RequestContext;
use std::path::{Path, PathBuf};

/// The longest id of a user, in bytes. Docker's have 64.
const MAX_USER_BYTES: usize = 256;

impl Volumes {
    /// Makes a volume's files reachable for one more user and answers where they are.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`]; [`Error::FixedMountPoint`] where the driver does not mount `at` a given
    /// place; [`Error::BeingRestored`] and [`Error::HalfRestored`] for one that is restored in place; the
    /// driver's.
    pub async fn mount(
        &self,
        name: &str,
        user: &str,
        at: Option<&Path>,
        call: &RequestContext,
    ) -> Result<PathBuf> {
        if user.len() > MAX_USER_BYTES {
            let text = format!(
                "the ID of the mount has {} bytes: at most {MAX_USER_BYTES} are accepted",
                user.len()
            );
            return Err(Error::InvalidRequest(text));
        }
        let entry = self.find(name, call).await?;
        let volume = &entry.volume.name;
        if at.is_some() && entry.driver.failure().is_none() && !entry.driver.can(Capability::MountAt) {
            return Err(Error::FixedMountPoint(entry.driver.name().clone()));
        }
        self.refuse_to_mount(&entry, user)?;
        if let Some(mountpoint) = self.join(volume, user, at).await? {
            return Ok(mountpoint);
        }
        let guard = self.lock_to_mount(volume, "mount").await?;
        self.refuse_to_mount(&entry, user)?;
        if let Some(mountpoint) = self.join(volume, user, at).await? {
            return Ok(mountpoint);
        }
        let request = MountVolume::new(volume.clone()).mountpoint(at.map(Path::to_owned));
        let mounted = entry.driver.change(request, &call.within(CHANGE), &guard).await?;
        if let Err(error) = self.ledger.claim(volume, user, &mounted.mountpoint).await {
            // Nobody is told that it is mounted: undo it. What cannot be undone the next start finds.
            let undo = UnmountVolume::new(volume.clone());
            if let Err(undo) = entry.driver.change(undo, &call.within(CHANGE), &guard).await {
                tracing::warn!(%volume, error = %undo, "a mount that could not be recorded could not be \
                                                        undone");
            }
            return Err(error);
        }
        self.events.send(about("volume.mount", entry.driver.name(), volume));
        Ok(mounted.mountpoint)
    }

    /// Has the driver mount a volume that is used once more, for one whose mount was taken away by hand.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`]; [`Error::MountedElsewhere`] if it is now at another place than its users
    /// were told; the driver's.
    pub async fn mount_again(&self, name: &str, call: &RequestContext) -> Result<()> {
        let entry = self.find(name, call).await?;
        let volume = &entry.volume.name;
        let guard = self.lock_to_mount(volume, "mount").await?;
        let usage = self.ledger.usage(volume);
        if !usage.is_used() {
            return Ok(());
        }
        let request = MountVolume::new(volume.clone());
        let mounted = entry.driver.change(request, &call.within(CHANGE), &guard).await?;
        if mounted.mountpoint != usage.mountpoint {
            let at = mounted.mountpoint.display().to_string();
            return Err(Error::MountedElsewhere { volume: volume.clone(), at });
        }
        Ok(())
    }

    /// Adds a user to a volume that is mounted for others already.
    async fn join(&self, volume: &Name, user: &str, at: Option<&Path>) -> Result<Option<PathBuf>> {
        let usage = self.ledger.usage(volume);
        match at {
            Some(at) if usage.is_used() && usage.mountpoint != at => Err(Error::MountedElsewhere {
                volume: volume.clone(),
                at: usage.mountpoint.display().to_string(),
            }),
            _ => self.ledger.join(volume, user).await,
        }
    }

    /// One user less; the last one has the driver unmount. Repeating it succeeds.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`]; the driver's, after which the next unmount tries again.
    pub async fn unmount(&self, name: &str, user: &str, call: &RequestContext) -> Result<()> {
        let entry = self.find(name, call).await?;
        if self.ledger.leave_to_others(&entry.volume.name, user).await? != Release::Last {
            return Ok(());
        }
        let guard = self.lock_to_mount(&entry.volume.name, "unmount").await?;
        self.release(&entry, Some(user), &guard, call).await
    }

    /// Takes back a mount by hand; with `force` also every other, after which Docker's containers have lost
    /// it.
    ///
    /// # Errors
    /// As [`Self::unmount`]; [`Error::UsedByContainers`] when only they use it.
    pub async fn unmount_by_hand(&self, name: &str, force: bool, call: &RequestContext) -> Result<()> {
        let entry = self.find(name, call).await?;
        let volume = &entry.volume.name;
        self.refuse_if_restored(volume)?;
        let guard = self.lock_to_mount(volume, "unmount").await?;
        if force {
            return self.release(&entry, None, &guard, call).await;
        }
        let usage = self.ledger.usage(volume);
        if usage.is_used() && !usage.users.contains_key(BY_HAND) && !usage.users.contains_key(ADOPTED) {
            return Err(Error::UsedByContainers { volume: volume.clone(), users: usage.containers() });
        }
        self.release(&entry, Some(BY_HAND), &guard, call).await
    }

    /// Takes claims back and has the driver unmount if nobody is left. `guard` is of its lock.
    async fn release(
        &self,
        entry: &Entry,
        user: Option<&str>,
        guard: &VolumeGuard,
        call: &RequestContext,
    ) -> Result<()> {
        let volume = &entry.volume.name;
        if self.ledger.release(volume, user).await? != Release::Last {
            return Ok(());
        }
        self.finish_unmount(entry, guard, call).await
    }

    /// Has the driver unmount a volume without users. `guard` is of its lock.
    pub(crate) async fn finish_unmount(
        &self,
        entry: &Entry,
        guard: &VolumeGuard,
        call: &RequestContext,
    ) -> Result<()> {
        let volume = &entry.volume.name;
        let request = UnmountVolume::new(volume.clone());
        match entry.driver.change(request, &call.within(CHANGE), guard).await {
            Err(error) if error.kind != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.ledger.forget(volume).await?;
        self.events.send(about("volume.unmount", entry.driver.name(), volume));
        Ok(())
    }
}
