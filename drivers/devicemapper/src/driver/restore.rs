//! Restoring: a new thin device that becomes a volume when everything is on it.

use super::DeviceMapper;
use super::volumes::sync;
use crate::kernel::{Kernel, Visibility};
use crate::state::{ThinId, VolumeRecord};
use crate::store;
use convoy_driver_sdk::command::Command;
use convoy_driver_sdk::filesystem::{self, FsKind};
use convoy_driver_sdk::protocol::{PrepareRestore, PreparedRestore, SourceKind, TargetLocation, Volume};
use convoy_driver_sdk::{Context, DriverError, Name, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

#[derive(Debug, Clone)]
pub(super) struct Restore {
    id: ThinId,
    name: Name,
    size: u64,
    filesystem: Option<FsKind>,
    /// Whether files are written, into a file system that was made for them.
    tree: bool,
}

impl DeviceMapper {
    pub(super) fn begin_restore(
        &self,
        request: PrepareRestore,
        context: &Context,
    ) -> Result<PreparedRestore> {
        let name = request.name;
        self.store.check_free(&name)?;
        self.check_name(&name)?;
        let filesystem = self.filesystem_option(&request.options)?;
        let wanted = request.size.filter(|size| *size > 0).unwrap_or(self.settings.default_volume_size);
        let size = self.volume_size(wanted)?;
        self.pool.admit()?;
        let id = self.begin(&format!("restore volume {name}"), context, |id| self.pool.create_thin(id))?;
        let device = self.restore_name(id);
        if let Err(error) = self.pool.activate(&device, id, size, false, Visibility::Private) {
            self.undo(id, Some(&device), context);
            return Err(error.into());
        }
        let node = Kernel::node(&device);
        let (location, filesystem) = match request.kind {
            SourceKind::Block => (TargetLocation::block(node, size), filesystem),
            SourceKind::Tree => {
                let kind = filesystem.unwrap_or(self.settings.filesystem);
                match self.mount_empty(id, &node, kind, context) {
                    Ok(path) => (TargetLocation::tree(path), Some(kind)),
                    Err(error) => {
                        self.undo_restore(id, context);
                        return Err(error);
                    }
                }
            }
        };
        let handle = format!("restore-{id}");
        let tree = request.kind == SourceKind::Tree;
        self.restores.lock().insert(handle.clone(), Restore { id, name, size, filesystem, tree });
        Ok(PreparedRestore::new(handle, location))
    }

    pub(super) fn complete_restore(&self, handle: &str, context: &Context) -> Result<Volume> {
        let restored = self.restored.lock().get(handle).cloned();
        if let Some(name) = restored {
            return self.get(&name);
        }
        let found = self.restores.lock().get(handle).cloned();
        let restore = found.ok_or_else(|| {
            DriverError::not_found(format!("there is no restore {handle}"))
                .hint("a restart of the driver ends its restores: begin anew")
        })?;
        self.store.check_free(&restore.name)?;
        self.check_name(&restore.name)?;
        let device = self.restore_name(restore.id);
        let node = Kernel::node(&device);
        // Everything is on the device when its file system is unmounted.
        self.release_places(restore.id, &self.bounded(context))?;
        sync(&node)?;
        let filesystem = match restore.filesystem.filter(|_| restore.tree) {
            Some(made) => made,
            None => self.identify(&node, &restore, context)?,
        };
        // The device may be larger than the volume that was backed up: it grows. A file system made here has
        // its size.
        let grows = !restore.tree;
        let record = VolumeRecord::new(restore.name.clone(), restore.id, restore.size, filesystem, grows);
        self.store.insert(record.clone())?;
        self.journal.end(&[restore.id], false);
        self.restored.lock().insert(handle.to_owned(), restore.name.clone());
        self.restores.lock().remove(handle);
        // The record is the volume; what follows is done again by whoever uses it, should it fail.
        let published = self
            .pool
            .kernel()
            .rename(&device, &restore.name)
            .and_then(|()| self.pool.kernel().resume(&restore.name, Visibility::Public));
        if let Err(error) = published {
            tracing::warn!(volume = %restore.name, %error, "the restored device could not be renamed");
            if let Err(error) = self.pool.deactivate_or_defer(&device, context) {
                tracing::warn!(volume = %restore.name, %error, "nor removed");
            }
        }
        Ok(store::volume(&record, None, None))
    }

    /// What file system was restored. A btrfs gets an id of its own: the kernel takes two of one id for one.
    fn identify(&self, node: &Path, restore: &Restore, context: &Context) -> Result<FsKind> {
        let context = self.bounded(context);
        let found = filesystem::signature(node, &context)?;
        let kind = found.as_deref().and_then(|text| text.parse().ok());
        let Some(kind) = kind.or(restore.filesystem) else {
            tracing::warn!(volume = %restore.name, ?found, "no known file system was restored");
            return Ok(self.settings.filesystem);
        };
        if kind == FsKind::Btrfs {
            renew_btrfs(node, &context)?;
        }
        Ok(kind)
    }

    pub(super) fn drop_restore(&self, handle: &str, context: &Context) -> Result<()> {
        let Some(restore) = self.restores.lock().remove(handle) else { return Ok(()) };
        self.undo_restore(restore.id, context);
        Ok(())
    }

    /// What cannot be unmounted now is pending, and settled when it can be.
    fn undo_restore(&self, id: ThinId, context: &Context) {
        if let Err(error) = self.release_places(id, &Self::undoing(context)) {
            tracing::warn!(id, %error, "a restore that failed stays mounted for now");
        }
        self.undo(id, Some(&self.restore_name(id)), context);
    }
}

/// Where in a btrfs its superblock says where its log is (`btrfs_super_block.log_root`); 0 when there is
/// none.
const BTRFS_LOG_AT: u64 = (64 << 10) + 0x60;

/// Gives a btrfs that nobody has mounted an id of its own.
pub(super) fn renew_btrfs(node: &Path, context: &Context) -> Result<()> {
    let mut log = [0; 8];
    std::fs::File::open(node)
        .and_then(|device| device.read_exact_at(&mut log, BTRFS_LOG_AT))
        .map_err(|error| DriverError::io(format_args!("read {}", node.display()), &error))?;
    if log != [0; 8] {
        // `btrfstune` counts a transaction, after which the kernel takes the log for damaged.
        let text =
            format!("the btrfs on {} was not unmounted, and has a log to be replayed first", node.display());
        return Err(DriverError::data_loss(text)
            .hint("mount the volume it is a snapshot of once, and take another snapshot"));
    }
    let tune = Command::new("btrfstune").package("btrfs-progs");
    tune.args(["-f", "-m"]).arg(node).run(context)?;
    sync(node)
}
