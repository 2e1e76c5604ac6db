//! How volumes are deleted or forgotten.

use crate::driver::CHANGE;
use crate::error::{Error, Result};
use crate::service::Volumes;
use convoy_activity::events::about;
use convoy_driver_sdk::protocol::DeleteVolume;
use convoy_driver_sdk::{ErrorKind, Name};
use convoy_drivers::RequestContext;

impl Volumes {
    /// Forgets a volume and, unless `reference_only`, deletes its data and its snapshots.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], [`Error::StillMounted`], [`Error::BeingRead`], [`Error::BeingRestored`]; the
    /// driver's.
    pub async fn delete(&self, name: &str, reference_only: bool, call: &RequestContext) -> Result<()> {
        let entry = self.find(name, call).await?;
        let volume = &entry.volume.name;
        self.refuse_if_used(volume)?;
        let guard = self.lock(volume, "delete").await?;
        // Somebody may have come, or have deleted it and made another, while this call waited for its lock.
        let entry = self.index.get(volume).ok_or_else(|| Error::VolumeNotFound(name.to_owned()))?;
        self.refuse_if_used(volume)?;
        if self.ledger.usage(volume).unmount_pending
            && self.finish_unmount(&entry, &guard, call).await.is_err()
        {
            return Err(Error::StillMounted(volume.clone()));
        }
        let request = DeleteVolume::new(volume.clone()).reference_only(reference_only);
        match entry.driver.change(request, &call.within(CHANGE), &guard).await {
            Ok(_) => {}
            // It is gone: by another host, or by a request whose answer was lost.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        self.forget_policy(&entry);
        self.forget_half_restored(volume);
        self.index.remove(volume);
        self.events.send(about("volume.delete", entry.driver.name(), volume));
        Ok(())
    }

    fn refuse_if_used(&self, volume: &Name) -> Result<()> {
        self.refuse_if_restored(volume)?;
        if self.ledger.usage(volume).is_used() {
            return Err(Error::StillMounted(volume.clone()));
        }
        self.refuse_if_read(volume)
    }

    pub(crate) fn refuse_if_read(&self, volume: &Name) -> Result<()> {
        if self.reading.lock().contains_key(volume) {
            return Err(Error::BeingRead(volume.clone()));
        }
        Ok(())
    }
}
