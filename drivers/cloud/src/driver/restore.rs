//! A volume to restore into: in the cloud it is marked as unfinished until it is whole.

use super::{CloudDriver, read};
use crate::intent::Intent;
use crate::provider::{Handle, Label, Provider, Purpose};
use crate::record::VolumeRecord;
use crate::settings;
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{
    AbortRestore, FinishRestore, PrepareRestore, PreparedRestore, SourceKind, TargetLocation, Volume,
};
use convoy_driver_sdk::{Context, DriverError, Name, Result};
use std::path::PathBuf;

impl<P: Provider> CloudDriver<P> {
    /// See [`PrepareRestore`].
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken, here or by a volume in the cloud.
    pub(super) fn prepare_restore(
        &self,
        request: PrepareRestore,
        context: &Context,
    ) -> Result<PreparedRestore> {
        let PrepareRestore { name, kind, size, mut options, .. } = request;
        settings::check::<P>(&mut options)?;
        settings::refuse(&mut options, &["id", "backup", "copy"], "a restore")?;
        let fs = options.remove("fs").map_or(Ok(self.common.fs), |fs| settings::fs_kind(&fs))?;
        let size = size.filter(|size| *size > 0).unwrap_or(self.common.default_size.bytes());
        // The provider's smallest volume may be larger than what was backed up.
        let size = settings::gib::<P>(size.max(P::SIZES.start().bytes()))?;
        let settings = self.provider.settings(&options, size, false)?;
        self.records.absent(&name)?;
        self.unclaimed(&name, context)?;
        let label = self.label(&name, None, Purpose::Restore);
        let (open, _, device) = self.make(label, size, None, settings, context)?;
        let location = match kind {
            SourceKind::Block => TargetLocation::block(device, size.bytes()),
            SourceKind::Tree => {
                let path = self.restore_dir(open.token());
                let made = self
                    .format(&device, size, fs, context)
                    .and_then(|()| self.mount_privately(&device, fs.as_str(), &path, context));
                if let Err(error) = made {
                    return Err(self.roll_back(open, error));
                }
                TargetLocation::tree(path)
            }
        };
        Ok(PreparedRestore::new(open.keep().to_string(), location))
    }

    /// See [`FinishRestore`]. After an error it may be tried again, or aborted; after success it answers the
    /// same.
    ///
    /// # Errors
    /// `NotFound` for an unknown handle, `AlreadyExists` if the name was taken meanwhile, `InvalidArgument`
    /// if what was written is no file system.
    pub(super) fn finish_restore(&self, request: FinishRestore, context: &Context) -> Result<Volume> {
        if let Some(record) = self.restored(&request.handle)? {
            return self.describe_one(&record, context);
        }
        let (token, intent) = self.restoring(&request.handle)?;
        let id = intent.resource.clone().ok_or_else(|| read::unknown(&request.handle))?;
        let name = &intent.label.volume;
        self.records.absent(name)?;
        let volume = self.cloud_volume(&id, context)?.ok_or_else(|| read::unknown(&request.handle))?;
        let asked_for = volume.attachment.as_ref().and_then(|attachment| attachment.device.as_deref());
        let handle = Handle { id: &id, cloud_name: volume.cloud_name.as_deref(), device: asked_for };
        let device = self.provider.device(handle)?.ok_or_else(|| read::unknown(&request.handle))?;
        let path = self.restore_dir(&token);
        if MountTable::read()?.is_mounted(&path) {
            self.unmount_privately(&path, context)?;
        } else {
            sync_device(&device)?;
            self.holds_fs(&device, context)?;
            self.grow(&device, None, context)?;
        }
        let label = Label { purpose: Purpose::Volume, ..intent.label.clone() };
        self.provider.label_volume(&id, &label, context)?;
        let mut record = VolumeRecord::new(name.clone(), id);
        record.size = volume.size.bytes();
        record.created_time = Some(volume.created);
        record.cloud_name = volume.cloud_name.clone();
        record.restored_by = Some(token.to_string());
        self.records.insert(&record)?;
        self.intents.forget(&token)?;
        self.cache.clear();
        self.describe_one(&record, context)
    }

    /// See [`AbortRestore`].
    ///
    /// # Errors
    /// When the volume cannot be deleted now: it stays written down and is tried again.
    pub(super) fn abort_restore(&self, request: AbortRestore, context: &Context) -> Result<()> {
        self.end(&request.handle, context)
    }

    /// The volume that a restore has become already: whoever asks again has lost the answer.
    fn restored(&self, handle: &str) -> Result<Option<VolumeRecord>> {
        let (records, _) = self.records.all()?;
        let mut readable = records.into_values().flatten();
        Ok(readable.find(|record| !record.deleting && record.restored_by.as_deref() == Some(handle)))
    }

    fn restoring(&self, handle: &str) -> Result<(Name, Intent)> {
        let token = Name::parse(handle).map_err(|_| read::unknown(handle))?;
        let intent = self.intents.load(&token)?;
        let intent =
            intent.filter(|intent| intent.label.purpose == Purpose::Restore && self.intents.is_live(&token));
        Ok((token, intent.ok_or_else(|| read::unknown(handle))?))
    }

    /// Where a tree is restored: out of the way of volumes.
    pub(super) fn restore_dir(&self, token: &str) -> PathBuf {
        self.root.join("restoring").join(token)
    }
}

/// What the host wrote reaches the cloud before the volume is called whole.
fn sync_device(device: &std::path::Path) -> Result<()> {
    let synced = std::fs::File::open(device).and_then(|device| device.sync_all());
    synced.map_err(|error| DriverError::io(format_args!("sync {}", device.display()), &error))
}
