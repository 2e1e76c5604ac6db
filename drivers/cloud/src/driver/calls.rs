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

/// Methods of the trait that are the type's own, of the same names: each in the module that it is about.
macro_rules! methods {
    ($($method:ident($request:ty) -> $reply:ty;)*) => {$(
        fn $method(&self, request: $request, context: &Context) -> Result<$reply> {
            self.$method(request, context)
        }
    )*};
}

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

    methods! {
        check(Check) -> Checked;
        create_volume(CreateVolume) -> Volume;
        delete_volume(DeleteVolume) -> ();
        mount_volume(MountVolume) -> Mounted;
        unmount_volume(UnmountVolume) -> ();
        list_volumes(ListVolumes) -> ListedVolumes;
        get_volume(GetVolume) -> Volume;
        resize_volume(ResizeVolume) -> Volume;
        clone_volume(CloneVolume) -> Volume;
        create_snapshot(CreateSnapshot) -> Snapshot;
        delete_snapshot(DeleteSnapshot) -> ();
        open_snapshot(OpenSnapshot) -> OpenedSnapshot;
        list_extents(ListExtents) -> Extents;
        close_snapshot(CloseSnapshot) -> ();
        prepare_restore(PrepareRestore) -> PreparedRestore;
        finish_restore(FinishRestore) -> Volume;
        abort_restore(AbortRestore) -> ();
        create_backup(CreateBackup) -> CreatedBackup;
        delete_backup(DeleteBackup) -> ();
        inspect_backup(InspectBackup) -> BackupInfo;
        list_backups(ListBackups) -> ListedBackups;
    }
}
