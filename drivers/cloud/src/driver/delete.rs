//! The end of a volume.

use super::CloudDriver;
use crate::provider::{Handle, Provider};
use crate::record::VolumeRecord;
use convoy_driver_sdk::filesystem;
use convoy_driver_sdk::protocol::DeleteVolume;
use convoy_driver_sdk::{Context, DriverError, Result};

impl<P: Provider> CloudDriver<P> {
    /// See [`DeleteVolume`]. Backups survive: only snapshots that are nothing else go with the volume.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while it is mounted, be it in another mount namespace, read, or attached to
    /// another instance. After an error it is still there and may be deleted again.
    pub(super) fn delete_volume(&self, request: DeleteVolume, context: &Context) -> Result<()> {
        let mut record = self.records.load(&request.name)?;
        if let Some(target) = self.mounted_at(&record, &self.mount_table()?) {
            return Err(DriverError::in_use(format!(
                "volume {} is mounted at {}",
                record.name,
                target.display()
            )));
        }
        if let Some(snapshot) = record.snapshots.keys().find(|snapshot| self.is_open(&record.name, snapshot))
        {
            return Err(DriverError::in_use(format!(
                "snapshot {snapshot} of volume {} is being read",
                record.name
            )));
        }
        self.refuse_held(&record, context)?;
        self.cache.clear();
        let result = if request.reference_only {
            self.release(&record, context)
        } else {
            // From here on it is decided: a crash does not bring half a volume back.
            record = self.records.change(&record.name, |record| record.deleting = true)?;
            self.delete_recorded(&record, context)
        };
        self.cache.clear();
        if result.is_err() && record.deleting {
            self.records.change(&record.name, |record| record.deleting = false)?;
        }
        result
    }

    /// What another mount namespace has mounted is not to vanish under it.
    fn refuse_held(&self, record: &VolumeRecord, context: &Context) -> Result<()> {
        let handle = Handle { id: &record.id, cloud_name: record.cloud_name.as_deref(), device: None };
        match self.provider.device(handle) {
            Ok(Some(device)) => filesystem::wait_until_unused(&device, context),
            // Not shown here, or something else in its place.
            _ => Ok(()),
        }
    }

    /// Forgets a volume and leaves it in the cloud, detached.
    fn release(&self, record: &VolumeRecord, context: &Context) -> Result<()> {
        self.provider.detach(&record.id, context)?;
        self.records.delete(&record.name)
    }

    /// Deletes a volume and what belongs to it. Every step may be repeated.
    pub(super) fn delete_recorded(&self, record: &VolumeRecord, context: &Context) -> Result<()> {
        self.refuse_foreign(record, context)?;
        self.provider.detach(&record.id, context)?;
        self.provider.delete_volume(&record.id, context)?;
        for snapshot in record.snapshots.values().filter(|snapshot| snapshot.owned()) {
            self.provider.delete_snapshot(&snapshot.id, context)?;
        }
        self.records.delete(&record.name)
    }

    /// A volume that another instance uses is not ours to delete.
    fn refuse_foreign(&self, record: &VolumeRecord, context: &Context) -> Result<()> {
        match self.cloud_volume(&record.id, context)?.and_then(|volume| volume.attachment) {
            Some(attachment) if !attachment.here => Err(DriverError::in_use(format!(
                "volume {} ({}) is attached to {}",
                record.name, record.id, attachment.instance
            ))
            .hint("unmount and forget it there first, or forget it here only: `convoy delete --reference`")),
            _ => Ok(()),
        }
    }
}
