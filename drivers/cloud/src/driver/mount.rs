//! Making a volume's files reachable, and the reverse.

use super::{CloudDriver, DIR_MODE, mount_options};
use crate::device;
use crate::provider::Provider;
use convoy_driver_sdk::command::Command;
use convoy_driver_sdk::filesystem::{self, Mount};
use convoy_driver_sdk::protocol::{MountVolume, Mounted, UnmountVolume};
use convoy_driver_sdk::{Context, DriverError, Result, atomic};
use std::path::{Path, PathBuf};

impl<P: Provider> CloudDriver<P> {
    /// See [`MountVolume`]. Asks the provider nothing while the kernel shows the volume's device.
    ///
    /// # Errors
    /// `NotFound`; `InUse` if it is attached elsewhere or mounted at another place; `DataLoss` if there is
    /// nothing to mount.
    pub(super) fn mount_volume(&self, request: MountVolume, context: &Context) -> Result<Mounted> {
        let record = self.records.load(&request.name)?;
        let target = request.mountpoint.unwrap_or_else(|| self.default_mountpoint(&record.name));
        let found = self.usable(&record, context)?;
        let (major, minor) = device::numbers(&found)?;
        let table = self.mount_table()?;
        match table.at(&target) {
            Some(mount) if mount.device == (major, minor) => {}
            Some(mount) => {
                return Err(DriverError::in_use(format!(
                    "expected {} to be free for {}, found {} mounted there",
                    target.display(),
                    record.name,
                    mount.source.display()
                )));
            }
            None => {
                // Other mounts of the device may be containers' binds; ours are where the record says.
                let ours = self.mounted_at(&record, &table).filter(|path| *path != target);
                if let Some(elsewhere) = ours {
                    return Err(DriverError::in_use(format!(
                        "volume {} is mounted at {}, not at {}",
                        record.name,
                        elsewhere.display(),
                        target.display()
                    )));
                }
                self.mount_there(&found, &target, context)?;
            }
        }
        self.records.change(&record.name, |record| {
            record.mount_point.clone_from(&target);
            record.device = found.to_string_lossy().into_owned();
        })?;
        Ok(Mounted::new(target))
    }

    fn mount_there(&self, found: &Path, target: &Path, context: &Context) -> Result<()> {
        let context = self.command_context(context);
        let fs_type = filesystem::signature(found, &context)?.ok_or_else(|| {
            DriverError::data_loss(format!("expected a file system on {}, found nothing", found.display()),
            )
            .hint("convoy formats only new volumes; see what happened to this one before you run mkfs on it")
        })?;
        self.make_mountpoint(target, &context)?;
        let options = mount_options(&fs_type, &self.common.mount_options);
        let mount = Mount::new(found, target, fs_type).options(options).namespace(self.namespace.clone());
        filesystem::mount(&mount, &context)
    }

    fn make_mountpoint(&self, target: &Path, context: &Context) -> Result<()> {
        match &self.namespace {
            None => atomic::create_dir(target, DIR_MODE)
                .map_err(|error| DriverError::io(format_args!("make {}", target.display()), &error)),
            Some(namespace) => {
                let mkdir = Command::new("mkdir").package("coreutils").args(["-p", "--"]).arg(target);
                mkdir.namespace(Some(namespace)).run(context)?;
                Ok(())
            }
        }
    }

    /// See [`UnmountVolume`]. The volume stays attached, so that the next mount takes milliseconds.
    ///
    /// # Errors
    /// `NotFound`; `Busy` while somebody uses it.
    pub(super) fn unmount_volume(&self, request: UnmountVolume, context: &Context) -> Result<()> {
        let record = self.records.load(&request.name)?;
        if let Some(target) = self.mounted_at(&record, &self.mount_table()?) {
            filesystem::unmount(&target, self.namespace.as_deref(), &self.command_context(context))?;
        }
        let default = self.default_mountpoint(&record.name);
        if self.namespace.is_none() {
            // Left over at worst; a directory that is not empty is kept.
            let _ = std::fs::remove_dir(default);
        }
        self.records.change(&record.name, |record| record.mount_point = PathBuf::new())?;
        Ok(())
    }
}
