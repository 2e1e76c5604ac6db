//! Volumes made of snapshots: another one, or the volume itself as it was. Both are a matter of metadata.

use super::DeviceMapper;
use super::restore::renew_btrfs;
use crate::error::in_use;
use crate::kernel::{Kernel, Visibility};
use crate::state::{SnapshotRecord, ThinId, VolumeRecord};
use crate::store;
use convoy_driver_sdk::command::Command;
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::{CloneVolume, RevertVolume, Volume};
use convoy_driver_sdk::{Context, DriverError, Result};

impl DeviceMapper {
    pub(super) fn clone_snapshot(&self, request: &CloneVolume, context: &Context) -> Result<Volume> {
        let name = &request.name;
        let filesystem = self.filesystem_option(&request.options)?;
        self.store.check_free(name)?;
        self.check_name(name)?;
        let (source, snapshot) = self.store.snapshot(&request.source, &request.snapshot)?;
        if let Some(other) = filesystem.filter(|kind| *kind != source.filesystem) {
            return Err(DriverError::invalid(format!(
                "a clone of {} has its file system: {}, not {other}",
                source.name, source.filesystem
            ))
            .hint("leave the option out"));
        }
        let held = snapshot.size.unwrap_or(source.size);
        let size = match request.size.filter(|size| *size > 0) {
            Some(wanted) => self.volume_size(wanted)?,
            None => held,
        };
        if size < held {
            return Err(DriverError::invalid(format!(
                "the snapshot {} has {held} bytes; a clone can be larger, not {size}",
                snapshot.name
            )));
        }
        self.pool.admit()?;
        let what = format!("clone volume {name} of {}", snapshot.name);
        let id = self.begin(&what, context, |id| self.pool.copy(id, snapshot.dev_id))?;
        // The device may be larger than the file system was when the snapshot was taken: it grows.
        let record = VolumeRecord::new(name.clone(), id, size, source.filesystem, true);
        if record.filesystem == FsKind::Btrfs
            && let Err(error) = self.renew(id, size, context)
        {
            self.undo(id, Some(&self.restore_name(id)), context);
            return Err(error);
        }
        self.establish(record, context, |_| Ok(()))
    }

    /// Gives the btrfs on a thin device another id before anybody sees it: the kernel takes two of one id for
    /// one.
    fn renew(&self, id: ThinId, size: u64, context: &Context) -> Result<()> {
        let device = self.restore_name(id);
        self.pool.activate(&device, id, size, false, Visibility::Private)?;
        renew_btrfs(&Kernel::node(&device), &self.bounded(context))?;
        Ok(self.pool.deactivate(&device, context)?)
    }

    /// The volume gets another thin device, with what the snapshot holds; the record changes from one to the
    /// other at once. Both ids are pending meanwhile, so that what the record does not name is deleted after
    /// a crash.
    pub(super) fn revert(&self, request: &RevertVolume, context: &Context) -> Result<Volume> {
        let name = &request.name;
        let (record, snapshot) = self.store.snapshot(name, &request.snapshot)?;
        if let Some(mountpoint) = self.mounted_at(&record)? {
            let text = format!("the volume {name} is mounted at {}", mountpoint.display());
            return Err(in_use(text).hint("unmount it first"));
        }
        // Not `admit`: a pool that is nearly full gets room by it.
        self.pool.works()?;
        self.forget_btrfs(&record, context);
        self.pool.deactivate(name, context)?;
        let what = format!("revert volume {name} to {}", snapshot.name);
        let swapped = self
            .begin(&what, context, |id| self.pool.copy(id, snapshot.dev_id))
            .and_then(|new| self.swap(&record, &snapshot, new, &what, context));
        // Also after a failure: the device of the volume as it is now.
        let now = swapped.as_ref().unwrap_or(&record);
        if let Err(error) = self.pool.activate(name, now.dev_id, now.size, false, Visibility::Public) {
            tracing::warn!(volume = %name, %error, "the device comes back when the volume is used next");
        }
        Ok(store::volume(&swapped?, None, None))
    }

    fn swap(
        &self,
        record: &VolumeRecord,
        snapshot: &SnapshotRecord,
        new: ThinId,
        what: &str,
        context: &Context,
    ) -> Result<VolumeRecord> {
        let old = record.dev_id;
        if let Err(error) = self.journal.doom(&[old], what) {
            self.undo(new, None, context);
            return Err(error.into());
        }
        let changed = self.store.change(&record.name, |record| {
            record.dev_id = new;
            record.resize(snapshot.size.unwrap_or(record.size));
            // The file system may have been smaller than its device then.
            record.growing = true;
        });
        match changed {
            Ok(record) => {
                self.journal.end(&[new], false);
                self.clear(&[old], context);
                Ok(record)
            }
            Err(error) => {
                self.journal.end(&[old], false);
                self.undo(new, None, context);
                Err(error.into())
            }
        }
    }

    /// The kernel remembers every btrfs it has seen, and takes what was there before for an older half of it.
    fn forget_btrfs(&self, record: &VolumeRecord, context: &Context) {
        if record.filesystem != FsKind::Btrfs {
            return;
        }
        let btrfs = Command::new("btrfs").package("btrfs-progs").args(["device", "scan", "--forget"]);
        if let Err(error) = btrfs.arg(Kernel::node(&record.name)).run(context) {
            // It had not seen it.
            tracing::debug!(volume = %record.name, %error, "btrfs device scan --forget");
        }
    }
}
