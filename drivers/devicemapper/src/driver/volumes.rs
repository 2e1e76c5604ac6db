//! Creating, deleting, listing and resizing volumes.

use super::DeviceMapper;
use crate::error::in_use;
use crate::kernel::{Kernel, Visibility};
use crate::options::{BTRFS_RESIZABLE, CREATE_FS};
use crate::state::VolumeRecord;
use crate::store;
use convoy_driver_sdk::filesystem::{self, FsKind};
use convoy_driver_sdk::protocol::{
    CreateVolume, DeleteVolume, ListVolumes, ListedVolumes, ResizeVolume, Volume,
};
use convoy_driver_sdk::{Context, DriverError, Name, Result};
use std::collections::BTreeMap;
use std::path::Path;

impl DeviceMapper {
    pub(super) fn create(&self, request: CreateVolume, context: &Context) -> Result<Volume> {
        let name = &request.name;
        let wanted = request.size.filter(|size| *size > 0);
        let filesystem = self.filesystem_option(&request.options)?;
        if let Some(kept) = self.store.kept(name) {
            return self.adopt(kept, wanted, context);
        }
        self.store.check_free(name)?;
        self.check_name(name)?;
        let filesystem = filesystem.unwrap_or(self.settings.filesystem);
        let size = self.volume_size(wanted.unwrap_or(self.settings.default_volume_size))?;
        if size < minimum(filesystem) {
            return Err(DriverError::invalid(format!(
                "{filesystem} needs at least {} bytes, not {size}",
                minimum(filesystem)
            ))
            .hint("ask for a larger volume (it takes only what is written to it), or for fs=ext4"));
        }
        self.pool.admit()?;
        let id = self.begin(&format!("create volume {name}"), context, |id| self.pool.create_thin(id))?;
        let record = VolumeRecord::new(name.clone(), id, size, filesystem, false);
        self.establish(record, context, |node| {
            filesystem::mkfs_anew(filesystem, node, &self.bounded(context))?;
            sync(node)
        })
    }

    /// From a thin device that was begun to a volume: `fill` puts on it what is missing, and the record makes
    /// it one.
    pub(super) fn establish(
        &self,
        record: VolumeRecord,
        context: &Context,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Volume> {
        let (name, id, size) = (&record.name, record.dev_id, record.size);
        let made = self
            .pool
            .activate(name, id, size, false, Visibility::Public)
            .map_err(DriverError::from)
            .and_then(|()| fill(&Kernel::node(name)))
            .and_then(|()| context.check())
            .and_then(|()| Ok(self.store.insert(record.clone())?));
        match made {
            Ok(()) => {
                self.journal.end(&[id], false);
                Ok(store::volume(&record, None, None))
            }
            Err(error) => {
                self.undo(id, Some(name), context);
                Err(error)
            }
        }
    }

    /// A create of a name whose data was kept by a reference-only delete brings the data back.
    fn adopt(&self, record: VolumeRecord, wanted: Option<u64>, context: &Context) -> Result<Volume> {
        if let Some(size) = wanted
            && self.volume_size(size)? != record.size
        {
            return Err(DriverError::already_exists(format!(
                "the data of a volume {} was kept; it has {} bytes, not {size}",
                record.name, record.size
            ))
            .hint(
                "create it without a size to have the data back; then resize it, or delete it with its data",
            ));
        }
        self.check_name(&record.name)?;
        context.check()?;
        self.pool.activate(&record.name, record.dev_id, record.size, false, Visibility::Public)?;
        self.store.adopt(record.clone())?;
        Ok(store::volume(&record, None, None))
    }

    pub(super) fn delete(&self, request: &DeleteVolume, context: &Context) -> Result<()> {
        let name = &request.name;
        let (record, _) = self.store.get(name)?;
        if let Some(mountpoint) = self.mounted_at(&record)? {
            return Err(in_use(format!("the volume {name} is mounted at {}", mountpoint.display())));
        }
        if let Some(open) = record.snapshots.values().find(|snapshot| self.is_open(snapshot.dev_id)) {
            return Err(in_use(format!("the snapshot {} of {name} is being read", open.name)));
        }
        if request.reference_only {
            self.pool.deactivate(name, context)?;
            let forgotten = VolumeRecord { mount_point: String::new(), boot_id: String::new(), ..record };
            self.store.change(name, |record| record.clone_from(&forgotten))?;
            self.store.keep(forgotten)?;
        } else {
            let ids: Vec<_> = record.ids().collect();
            self.journal.doom(&ids, &format!("delete volume {name}"))?;
            let removed = self
                .pool
                .deactivate(name, context)
                .map_err(DriverError::from)
                .and_then(|()| Ok(self.store.delete(name)?));
            if let Err(error) = removed {
                // The record still names the ids: nothing happened, but for a device that the next use brings
                // back.
                self.journal.end(&ids, false);
                return Err(error);
            }
            // Acknowledged from here on: what cannot be deleted now is deleted later.
            self.clear(&ids, context);
        }
        self.forget_mountpoint(name);
        Ok(())
    }

    pub(super) fn list(&self, request: &ListVolumes) -> Result<ListedVolumes> {
        let limit = request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let page = self.store.page(request.after.as_ref(), limit);
        let mounts = self.mounts()?;
        let numbers: BTreeMap<_, _> = self.pool.kernel().list()?.into_iter().collect();
        let known = page.records.into_iter().map(|(record, damage)| {
            let number = numbers.get(record.name.as_str()).copied();
            store::volume(&record, Self::find_mount(&mounts, &record, number), damage)
        });
        let unreadable = page.unreadable.into_iter().map(|(name, why)| Volume::damaged(name, why));
        let mut volumes: Vec<_> = known.chain(unreadable).collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ListedVolumes::new(volumes).more(page.more))
    }

    pub(super) fn get(&self, name: &Name) -> Result<Volume> {
        let (record, damage) = self.store.get(name)?;
        let mountpoint = self.mounted_at(&record)?;
        Ok(store::volume(&record, mountpoint, damage))
    }

    pub(super) fn resize(&self, request: &ResizeVolume, context: &Context) -> Result<Volume> {
        let mut record = self.store.usable(&request.name)?;
        let size = self.volume_size(request.size)?;
        if size < record.size {
            return Err(DriverError::invalid(format!(
                "the volume {} has {} bytes; it can grow, not shrink to {size}",
                record.name, record.size
            ))
            .hint("create a smaller volume and copy the files"));
        }
        if size > record.size && record.filesystem == FsKind::Btrfs && size < BTRFS_RESIZABLE {
            return Err(DriverError::invalid(format!(
                "a btrfs grows to {BTRFS_RESIZABLE} bytes or more, not to {size}"
            )));
        }
        if size > record.size {
            record = self.store.change(&record.name, |record| {
                record.resize(size);
                record.growing = true;
            })?;
        }
        self.pool.activate(&record.name, record.dev_id, record.size, false, Visibility::Public)?;
        let mountpoint = self.mounted_at(&record)?;
        if let Some(mountpoint) = &mountpoint {
            self.grow(&record, mountpoint, context)?;
        }
        Ok(store::volume(&record, mountpoint, None))
    }

    /// The option of a create, or of a restore that was made with it.
    pub(super) fn filesystem_option(&self, options: &BTreeMap<String, String>) -> Result<Option<FsKind>> {
        convoy_driver_sdk::options::check(&crate::options::create_specs(), options)?;
        options.get(CREATE_FS).filter(|text| !text.is_empty()).map(|text| text.parse()).transpose()
    }

    /// A size the pool can give: whole blocks, at least what was asked for.
    pub(super) fn volume_size(&self, bytes: u64) -> Result<u64> {
        self.settings
            .round_up(bytes)
            .ok_or_else(|| DriverError::invalid(format!("{bytes} bytes are more than a device can have")))
    }
}

/// The least that the file systems' own programs accept, in bytes.
fn minimum(kind: FsKind) -> u64 {
    match kind {
        FsKind::Ext4 => 2 << 20,
        FsKind::Xfs => 300 << 20,
        // 109 MiB.
        FsKind::Btrfs => 114_294_784,
    }
}

/// Makes what was written to a device durable.
pub(super) fn sync(node: &Path) -> Result<()> {
    std::fs::File::open(node)
        .and_then(|device| device.sync_all())
        .map_err(|error| DriverError::io(format_args!("write {}", node.display()), &error))
}
