//! convoy volumes on Amazon EBS.
//!
//! - [`ec2`]: the EC2 client and the runtime it runs on: every call by name, bounded, its errors classified.
//! - [`identity`]: which instance this is; [`device`]: where the kernel shows a volume; [`names`]: device names to ask for.
//! - [`tags`]: labels as tags; [`volume_type`]: types and what goes with them; [`presign`]: copies between regions.
//! - `describe`: from EC2's words to those of the drivers that are alike.
//! - [`provider`]: the calls that [`convoy_driver_cloud`] makes a driver of; [`config`]: options.

pub mod config;
mod describe;
pub mod device;
pub mod ec2;
pub mod identity;
pub mod names;
mod presign;
pub mod provider;
pub mod tags;
pub mod volume_type;

use config::Config;
use convoy_driver_cloud::CloudDriver;
use convoy_driver_sdk::protocol::{
    AbortRestore, BackupInfo, CloseSnapshot, CreateBackup, CreateSnapshot, CreateVolume, CreatedBackup,
    DeleteBackup, DeleteSnapshot, DeleteVolume, Description, Extents, FinishRestore, GetVolume,
    InspectBackup, ListBackups, ListExtents, ListVolumes, ListedBackups, ListedVolumes, MountVolume, Mounted,
    Open, OpenSnapshot, Opened, OpenedSnapshot, PrepareRestore, PreparedRestore, Probed, ResizeVolume,
    Snapshot, UnmountVolume, Volume,
};
use convoy_driver_sdk::{Context, Driver, Name, PROTOCOL_VERSION, Result};
use provider::Ec2Cloud;
use std::collections::BTreeMap;

/// The driver.
#[derive(Debug)]
pub struct Ebs(CloudDriver<Ec2Cloud>);

impl Ebs {
    /// Opens it with a configuration from elsewhere than options and environment.
    ///
    /// # Errors
    /// Those of [`Driver::open`].
    pub fn open_with(config: Config, request: Open, context: &Context) -> Result<(Self, Opened)> {
        let common = config.common;
        let provider = Ec2Cloud::connect(config, context)?;
        let (driver, opened) = CloudDriver::open(provider, common, request, context)?;
        Ok((Self(driver), opened))
    }
}

impl Driver for Ebs {
    fn describe() -> Description {
        Description {
            name: Name::from_static("ebs"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION.to_owned(),
            summary: "Amazon EBS volumes".to_owned(),
            capabilities: convoy_driver_cloud::driver::capabilities(),
            options: config::options(),
            create_options: config::create_options(),
        }
    }

    fn open(request: Open, context: &Context) -> Result<(Self, Opened)> {
        Self::open_with(Config::read(&request)?, request, context)
    }

    fn info(&self, context: &Context) -> Result<BTreeMap<String, String>> {
        self.0.info(context)
    }

    fn probe(&self, context: &Context) -> Result<Probed> {
        self.0.probe(context)
    }

    fn create_volume(&self, request: CreateVolume, context: &Context) -> Result<Volume> {
        self.0.create_volume(request, context)
    }

    fn delete_volume(&self, request: DeleteVolume, context: &Context) -> Result<()> {
        self.0.delete_volume(request, context)
    }

    fn mount_volume(&self, request: MountVolume, context: &Context) -> Result<Mounted> {
        self.0.mount_volume(request, context)
    }

    fn unmount_volume(&self, request: UnmountVolume, context: &Context) -> Result<()> {
        self.0.unmount_volume(request, context)
    }

    fn list_volumes(&self, request: ListVolumes, context: &Context) -> Result<ListedVolumes> {
        self.0.list_volumes(request, context)
    }

    fn get_volume(&self, request: GetVolume, context: &Context) -> Result<Volume> {
        self.0.get_volume(request, context)
    }

    fn resize_volume(&self, request: ResizeVolume, context: &Context) -> Result<Volume> {
        self.0.resize_volume(request, context)
    }

    fn create_snapshot(&self, request: CreateSnapshot, context: &Context) -> Result<Snapshot> {
        self.0.create_snapshot(request, context)
    }

    fn delete_snapshot(&self, request: DeleteSnapshot, context: &Context) -> Result<()> {
        self.0.delete_snapshot(request, context)
    }

    fn open_snapshot(&self, request: OpenSnapshot, context: &Context) -> Result<OpenedSnapshot> {
        self.0.open_snapshot(request, context)
    }

    fn list_extents(&self, request: ListExtents, context: &Context) -> Result<Extents> {
        self.0.list_extents(request, context)
    }

    fn close_snapshot(&self, request: CloseSnapshot, context: &Context) -> Result<()> {
        self.0.close_snapshot(request, context)
    }

    fn prepare_restore(&self, request: PrepareRestore, context: &Context) -> Result<PreparedRestore> {
        self.0.prepare_restore(request, context)
    }

    fn finish_restore(&self, request: FinishRestore, context: &Context) -> Result<Volume> {
        self.0.finish_restore(request, context)
    }

    fn abort_restore(&self, request: AbortRestore, context: &Context) -> Result<()> {
        self.0.abort_restore(request, context)
    }

    fn create_backup(&self, request: CreateBackup, context: &Context) -> Result<CreatedBackup> {
        self.0.create_backup(request, context)
    }

    fn delete_backup(&self, request: DeleteBackup, context: &Context) -> Result<()> {
        self.0.delete_backup(request, context)
    }

    fn inspect_backup(&self, request: InspectBackup, context: &Context) -> Result<BackupInfo> {
        self.0.inspect_backup(request, context)
    }

    fn list_backups(&self, request: ListBackups, context: &Context) -> Result<ListedBackups> {
        self.0.list_backups(request, context)
    }
}

convoy_driver_sdk::export!(Ebs);
