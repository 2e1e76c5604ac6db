//! Deleting volumes.

use super::error::{Error, Result};
use super::locks::unpoisoned;
use super::{CHANGE, Volumes, is_ambiguous};
use crate::call::RequestContext;
use crate::events::about;
use convoy_driver_sdk::protocol::DeleteVolume;
use convoy_driver_sdk::{ErrorKind, Name};

impl Volumes {
    /// Forgets a volume and, unless `reference_only`, deletes its data and its snapshots.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], [`Error::StillMounted`], [`Error::BeingRead`]; the driver's.
    pub async fn delete(&self, name: &str, reference_only: bool, call: &RequestContext) -> Result<()> {
        let entry = self.find(name, call).await?;
        let volume = &entry.volume.name;
        self.refuse_if_used(volume)?;
        let turn = self.turn(volume, "delete").await?;
        // Somebody may have come, or have deleted it and made another, while this call waited for its turn.
        let entry = self.index.get(volume).ok_or_else(|| Error::VolumeNotFound(name.to_owned()))?;
        self.refuse_if_used(volume)?;
        if self.ledger.usage(volume).unmount_pending
            && self.finish_unmount(&entry, &turn, call).await.is_err()
        {
            return Err(Error::StillMounted(volume.clone()));
        }
        let request = DeleteVolume { name: volume.clone(), reference_only };
        match entry.driver.change(request, &call.within(CHANGE), &turn).await {
            Ok(_) => {}
            // It is gone: by another host, or by a request whose answer was lost.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => {
                if is_ambiguous(&error) {
                    entry.driver.suspect();
                }
                return Err(error.into());
            }
        }
        self.forget_policy(&entry);
        self.index.remove(volume);
        self.events.send(about("volume.delete", entry.driver.name(), volume));
        Ok(())
    }

    fn refuse_if_used(&self, volume: &Name) -> Result<()> {
        if self.ledger.usage(volume).is_used() {
            return Err(Error::StillMounted(volume.clone()));
        }
        self.refuse_if_read(volume)
    }

    pub(super) fn refuse_if_read(&self, volume: &Name) -> Result<()> {
        if unpoisoned(self.reading.lock()).contains_key(volume) {
            return Err(Error::BeingRead(volume.clone()));
        }
        Ok(())
    }
}
