//! The driver protocol: each call leads to the module it is about.

use super::CloudDriver;
use crate::config::Config;
use crate::provider::Provider;
use crate::settings;
use convoy_driver_sdk::protocol::{
    AbortRestore, BackupInfo, Capability, Check, Checked, CloneVolume, CloseSnapshot, CreateBackup,
    CreateSnapshot, CreateVolume, CreatedBackup, DeleteBackup, DeleteSnapshot, DeleteVolume, Description,
    Extents, FinishRestore, GetVolume, InspectBackup, ListBackups, ListExtents, ListVolumes, ListedBackups,
    ListedVolumes, MountVolume, Mounted, Open, OpenSnapshot, Opened, OpenedSnapshot, PrepareRestore,
    PreparedRestore, Probed, ResizeVolume, Snapshot, UnmountVolume, Volume,
};
use convoy_driver_sdk::{Context, Driver, Result};
use std::collections::BTreeMap;

/// What every driver of a cloud's block volumes can do.
const CAPABILITIES: [Capability; 14] = [
    Capability::Snapshots,
    Capability::ReadBlock,
    Capability::RestoreTree,
    Capability::RestoreBlock,
    Capability::NativeBackup,
    Capability::ResizeOffline,
    Capability::ResizeOnline,
    Capability::MountAt,
    Capability::MountNamespace,
    Capability::Sized,
    Capability::Shared,
    Capability::Freeze,
    Capability::Clone,
    Capability::Check,
];

// A method of the type itself comes before one of the trait: no call here leads back to itself.
impl<P: Provider> Driver for CloudDriver<P> {
    fn describe() -> Description {
        let mut create_options = settings::create_options();
        create_options.extend(P::create_options());
        let mut description = Description::new(P::DRIVER, env!("CARGO_PKG_VERSION"), P::SUMMARY)
            .capabilities(CAPABILITIES.into_iter().collect())
            .options(settings::driver_options::<P>())
            .create_options(create_options);
        description.backup_scheme = Some(P::SCHEME.to_owned()).filter(|scheme| scheme != P::DRIVER);
        description
    }

    fn open(request: Open, context: &Context) -> Result<(Self, Opened)> {
        Self::open_with(Config::read::<P>(&request)?, request, context)
    }

    fn info(&self, _context: &Context) -> Result<BTreeMap<String, String>> {
        let mut info = self.provider.info();
        info.insert("Root".to_owned(), self.root.display().to_string());
        info.insert("DefaultVolumeSize".to_owned(), self.common.default_size.bytes().to_string());
        info.insert("DefaultFilesystem".to_owned(), self.common.fs.to_string());
        info.insert("UnsettledOperations".to_owned(), self.unsettled()?.to_string());
        Ok(info)
    }

    fn probe(&self, context: &Context) -> Result<Probed> {
        self.probe(context)
    }

    fn check(&self, request: Check, context: &Context) -> Result<Checked> {
        self.check(request, context)
    }

    fn create_volume(&self, request: CreateVolume, context: &Context) -> Result<Volume> {
        self.create_volume(request, context)
    }

    fn delete_volume(&self, request: DeleteVolume, context: &Context) -> Result<()> {
        self.delete_volume(request, context)
    }

    fn mount_volume(&self, request: MountVolume, context: &Context) -> Result<Mounted> {
        self.mount_volume(request, context)
    }

    fn unmount_volume(&self, request: UnmountVolume, context: &Context) -> Result<()> {
        self.unmount_volume(request, context)
    }

    fn list_volumes(&self, request: ListVolumes, context: &Context) -> Result<ListedVolumes> {
        self.list_volumes(request, context)
    }

    fn get_volume(&self, request: GetVolume, context: &Context) -> Result<Volume> {
        self.get_volume(request, context)
    }

    fn resize_volume(&self, request: ResizeVolume, context: &Context) -> Result<Volume> {
        self.resize_volume(request, context)
    }

    fn clone_volume(&self, request: CloneVolume, context: &Context) -> Result<Volume> {
        self.clone_volume(request, context)
    }

    fn create_snapshot(&self, request: CreateSnapshot, context: &Context) -> Result<Snapshot> {
        self.create_snapshot(request, context)
    }

    fn delete_snapshot(&self, request: DeleteSnapshot, context: &Context) -> Result<()> {
        self.delete_snapshot(request, context)
    }

    fn open_snapshot(&self, request: OpenSnapshot, context: &Context) -> Result<OpenedSnapshot> {
        self.open_snapshot(request, context)
    }

    fn list_extents(&self, request: ListExtents, context: &Context) -> Result<Extents> {
        self.list_extents(request, context)
    }

    fn close_snapshot(&self, request: CloseSnapshot, context: &Context) -> Result<()> {
        self.close_snapshot(request, context)
    }

    fn prepare_restore(&self, request: PrepareRestore, context: &Context) -> Result<PreparedRestore> {
        self.prepare_restore(request, context)
    }

    fn finish_restore(&self, request: FinishRestore, context: &Context) -> Result<Volume> {
        self.finish_restore(request, context)
    }

    fn abort_restore(&self, request: AbortRestore, context: &Context) -> Result<()> {
        self.abort_restore(request, context)
    }

    fn create_backup(&self, request: CreateBackup, context: &Context) -> Result<CreatedBackup> {
        self.create_backup(request, context)
    }

    fn delete_backup(&self, request: DeleteBackup, context: &Context) -> Result<()> {
        self.delete_backup(request, context)
    }

    fn inspect_backup(&self, request: InspectBackup, context: &Context) -> Result<BackupInfo> {
        self.inspect_backup(request, context)
    }

    fn list_backups(&self, request: ListBackups, context: &Context) -> Result<ListedBackups> {
        self.list_backups(request, context)
    }
}
