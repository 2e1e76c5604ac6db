//! Back from a snapshot: into a new volume, or in place.

use crate::alone::Alone;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::service::Volumes;
use crate::spec::CreateSpec;
use convoy_activity::events::about;
use convoy_client::types::Event;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::protocol::{Capability, CloneVolume, RevertVolume};
use convoy_drivers::RequestContext;

impl Volumes {
    /// Makes a volume whose contents are those of a snapshot, by the driver of that snapshot. It may take as
    /// long as it takes: the call cancels it.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::AmbiguousSnapshot`], [`Error::VolumeExists`] and the like;
    /// [`Error::Unsupported`]; [`Error::InvalidRequest`] for a spec that names another driver; the driver's.
    pub async fn clone_snapshot(
        &self,
        name: &Name,
        spec: &CreateSpec,
        call: &RequestContext,
    ) -> Result<Entry> {
        let (entry, snapshot) = self.index.snapshot(&spec.snapshot, None)?;
        let (driver, source) = (&entry.driver, &entry.volume.name);
        if !spec.driver.is_empty() && spec.driver != driver.name().as_str() {
            let text = format!(
                "snapshot {} is of driver {}: it cannot become a volume of {}. Back it up, and restore the \
                 backup there",
                snapshot.name,
                driver.name(),
                spec.driver
            );
            return Err(Error::InvalidRequest(text));
        }
        if driver.failure().is_none() && !driver.can(Capability::Clone) {
            let what = "volumes from snapshots (a backup can be restored into a new volume)";
            return Err(Error::Unsupported { driver: driver.name().clone(), what });
        }
        let options = spec.options_for(driver, name)?;
        let reservation = self.index.reserve_volume(name)?;
        let guard = self.lock_to_clone(name, source).await?;
        let request = CloneVolume::new(name.clone(), source.clone(), snapshot.name.clone())
            .size(spec.size)
            .options(options);
        let made = driver.change(request, call, &guard).await?;
        self.created(driver, made, reservation)
    }

    /// Makes the contents of a volume those of one of its snapshots; what was written since is gone.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::AmbiguousSnapshot`]; [`Error::StillUsed`] and
    /// [`Error::BeingRead`]; [`Error::Unsupported`]; the driver's.
    pub async fn revert(&self, snapshot: &str, volume: Option<&str>, call: &RequestContext) -> Result<Entry> {
        self.revert_as(None, snapshot, volume, call).await
    }

    /// The same for whoever has taken the volume ([`Self::take_alone`]).
    ///
    /// # Errors
    /// As [`Self::revert`].
    pub async fn revert_as(
        &self,
        alone: Option<&Alone>,
        snapshot: &str,
        volume: Option<&str>,
        call: &RequestContext,
    ) -> Result<Entry> {
        let (entry, _) = self.index.snapshot(snapshot, volume)?;
        let volume = entry.volume.name.clone();
        if entry.driver.failure().is_none() && !entry.driver.can(Capability::Revert) {
            let what = "going back to a snapshot";
            return Err(Error::Unsupported { driver: entry.driver.name().clone(), what });
        }
        let guard = self.lock(&volume, "snapshot revert").await?;
        // Somebody may have mounted the volume or deleted the snapshot while this call waited for its lock.
        let (entry, snapshot) = self.index.snapshot(snapshot, Some(&volume))?;
        if !alone.is_some_and(|alone| alone.is_of(&volume)) {
            self.refuse_if_restored(&volume)?;
        }
        if self.ledger.usage(&volume).is_used() {
            return Err(Error::StillUsed { volume, wanted: "go back to a snapshot" });
        }
        self.refuse_if_read(&volume)?;
        if self.ledger.usage(&volume).unmount_pending {
            self.finish_unmount(&entry, &guard, call).await?;
        }
        let request = RevertVolume::new(volume.clone(), snapshot.name.clone());
        let reverted = entry.driver.change(request, call, &guard).await?;
        let entry = self.index.put(&entry.driver, reverted);
        // Whatever was half restored, this is whole. A record that stays is told by its own error.
        self.note_whole(&volume)?;
        let event = about("snapshot.revert", entry.driver.name(), &volume);
        self.events.send(Event { snapshot: snapshot.name.to_string(), ..event });
        Ok(entry)
    }
}
