//! What becomes of volumes whose restore in place is not finished: noted, told, taken as they are.

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::half_restored::HalfRestored;
use crate::service::Volumes;
use convoy_activity::events::about;
use convoy_driver_sdk::records::RecordError;
use convoy_driver_sdk::{DriverError, Name};
use convoy_drivers::RequestContext;

impl Volumes {
    /// What is known of a restore into a volume that is not finished; `None` if there is none.
    pub fn half_restored(&self, entry: &Entry) -> Option<HalfRestored> {
        self.half_restored.of(entry)
    }

    /// Every volume with such a restore that is there.
    pub fn all_half_restored(&self) -> Vec<(Entry, HalfRestored)> {
        let names = self.half_restored.names();
        let entries = names.iter().filter_map(|name| self.index.get(name));
        entries.filter_map(|entry| Some((entry.clone(), self.half_restored.of(&entry)?))).collect()
    }

    /// Notes, durably, that a volume is about to be changed. `source_volume` is of a snapshot.
    ///
    /// # Errors
    /// A record that cannot be written: then nothing may be changed.
    pub fn note_half_restored(
        &self,
        entry: &Entry,
        source: &str,
        source_volume: &str,
        kept: &str,
    ) -> Result<()> {
        let record = HalfRestored::new(entry, source, source_volume, kept);
        self.half_restored.set(&entry.volume.name, Some(record)).map_err(failed)
    }

    /// Notes that a volume is whole again.
    ///
    /// # Errors
    /// A record that cannot be removed: the volume counts as half restored on.
    pub fn note_whole(&self, volume: &Name) -> Result<()> {
        self.half_restored.set(volume, None).map_err(failed)
    }

    /// Takes a half restored volume as it is. Answers what was not finished.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], [`Error::BeingRestored`]; [`Error::InvalidRequest`] if nothing is
    /// unfinished; a record that cannot be removed.
    pub async fn accept_half_restored(&self, name: &str, call: &RequestContext) -> Result<HalfRestored> {
        let entry = self.find(name, call).await?;
        let volume = &entry.volume.name;
        self.refuse_if_restored(volume)?;
        let Some(half) = self.half_restored(&entry) else {
            let text = format!("no restore into volume {volume} is unfinished");
            return Err(Error::InvalidRequest(text));
        };
        self.note_whole(volume)?;
        self.events.send(about("volume.accept", entry.driver.name(), volume));
        Ok(half)
    }

    pub(crate) fn refuse_if_half_restored(&self, entry: &Entry) -> Result<()> {
        match self.half_restored(entry) {
            None => Ok(()),
            Some(half) => Err(Error::HalfRestored {
                volume: entry.volume.name.clone(),
                source_text: half.what(),
                ways: half.ways_out(entry),
            }),
        }
    }

    /// Tells the log of every volume that is half restored.
    pub(crate) fn tell_half_restored(&self) {
        for (entry, half) in self.all_half_restored() {
            tracing::warn!(
                volume = %entry.volume.name, source = half.what(), since = half.since,
                "a restore into this volume is not finished, and it cannot be mounted: {}",
                half.ways_out(&entry)
            );
        }
    }

    /// Forgets the record of a volume that is gone. One that stays behind is of no volume any more.
    pub(crate) fn forget_half_restored(&self, volume: &Name) {
        if let Err(error) = self.half_restored.set(volume, None) {
            tracing::warn!(%volume, %error, "cannot remove the record of a restore into a volume that is gone");
        }
    }
}

fn failed(error: RecordError) -> Error {
    DriverError::from(error).into()
}
