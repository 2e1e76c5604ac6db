//! Mounting and unmounting, counted by user.
//!
//! The ledger is written after the driver mounted and before it unmounts: whatever is cut off leaves at worst a
//! volume mounted that nobody uses, which the next unmount or delete of it finds.

use super::error::{Error, Result};
use super::index::Entry;
use super::ledger::{ADOPTED, BY_HAND, Release};
use super::{CHANGE, Volumes, is_ambiguous, within};
use crate::events::about;
use convoy_driver_sdk::context::Context;
use convoy_driver_sdk::protocol::{Capability, MountVolume, UnmountVolume};
use convoy_driver_sdk::{ErrorKind, Name};
use std::path::{Path, PathBuf};

/// The longest id of a user, in bytes. Docker's have 64.
const MAX_USER_BYTES: usize = 256;

impl Volumes {
    /// Makes a volume's files reachable for one more user and answers where they are.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`]; [`Error::FixedMountPoint`] where the driver does not mount `at` a given place;
    /// the driver's.
    pub async fn mount(
        &self,
        name: &str,
        user: &str,
        at: Option<&Path>,
        context: &Context,
    ) -> Result<PathBuf> {
        if user.len() > MAX_USER_BYTES {
            let text = format!(
                "the ID of the mount has {} bytes: at most {MAX_USER_BYTES} are accepted",
                user.len()
            );
            return Err(Error::InvalidRequest(text));
        }
        let entry = self.find(name, context).await?;
        let volume = &entry.volume.name;
        if at.is_some() && entry.driver.failure().is_none() && !entry.driver.can(Capability::MountAt) {
            return Err(Error::FixedMountPoint(entry.driver.name().clone()));
        }
        if let Some(mountpoint) = self.join(volume, user, at).await? {
            return Ok(mountpoint);
        }
        let _turn = self.turn(volume, "mount").await?;
        if let Some(mountpoint) = self.join(volume, user, at).await? {
            return Ok(mountpoint);
        }
        let request = MountVolume { name: volume.clone(), mountpoint: at.map(Path::to_owned) };
        let mounted = entry.driver.call(request, &within(context, CHANGE)).await.inspect_err(|error| {
            if is_ambiguous(error) {
                entry.driver.suspect();
            }
        })?;
        self.ledger.claim(volume, user, &mounted.mountpoint).await?;
        self.events.send(about("volume.mount", entry.driver.name(), volume));
        Ok(mounted.mountpoint)
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
    pub async fn unmount(&self, name: &str, user: &str, context: &Context) -> Result<()> {
        let entry = self.find(name, context).await?;
        if self.ledger.leave_to_others(&entry.volume.name, user).await? != Release::Last {
            return Ok(());
        }
        let _turn = self.turn(&entry.volume.name, "unmount").await?;
        self.release(&entry, Some(user), context).await
    }

    /// Takes back a mount by hand; with `force` also every other, after which Docker's containers have lost it.
    ///
    /// # Errors
    /// As [`Self::unmount`]; [`Error::UsedByContainers`] when only they use it.
    pub async fn unmount_by_hand(&self, name: &str, force: bool, context: &Context) -> Result<()> {
        let entry = self.find(name, context).await?;
        let volume = &entry.volume.name;
        let _turn = self.turn(volume, "unmount").await?;
        if force {
            return self.release(&entry, None, context).await;
        }
        let usage = self.ledger.usage(volume);
        if usage.is_used() && !usage.users.contains_key(BY_HAND) && !usage.users.contains_key(ADOPTED) {
            return Err(Error::UsedByContainers { volume: volume.clone(), users: usage.containers() });
        }
        self.release(&entry, Some(BY_HAND), context).await
    }

    /// Takes claims back and has the driver unmount if nobody is left. The caller holds the volume's turn.
    async fn release(&self, entry: &Entry, user: Option<&str>, context: &Context) -> Result<()> {
        let volume = &entry.volume.name;
        if self.ledger.release(volume, user).await? != Release::Last {
            return Ok(());
        }
        self.finish_unmount(entry, context).await
    }

    /// Has the driver unmount a volume without users. The caller holds the volume's turn.
    pub(super) async fn finish_unmount(&self, entry: &Entry, context: &Context) -> Result<()> {
        let volume = &entry.volume.name;
        let request = UnmountVolume { name: volume.clone() };
        match entry.driver.call(request, &within(context, CHANGE)).await {
            Err(error) if error.kind != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.ledger.forget(volume).await?;
        self.events.send(about("volume.unmount", entry.driver.name(), volume));
        Ok(())
    }
}
