//! The driver: what the protocol asks, handed to the parts that do it.

use std::collections::BTreeMap;

use convoy_driver_sdk::protocol::{
    AbortRestore, Capability, Check, Checked, CloneVolume, CloseSnapshot, CreateSnapshot, CreateVolume,
    DeleteSnapshot, DeleteVolume, Description, FinishRestore, GetVolume, ListVolumes, ListedVolumes,
    MountVolume, Mounted, Open, OpenSnapshot, Opened, OpenedSnapshot, PrepareRestore, PreparedRestore,
    Probed, Snapshot, UnmountVolume, Volume,
};
use convoy_driver_sdk::restores::Restores;
use convoy_driver_sdk::{Context, Driver, Result};

use crate::catalog::Catalog;
use crate::open_snapshots::OpenSnapshots;
use crate::options::driver_options;
use crate::target::Target;
use crate::{check, restore, settle, snapshots, target, volumes};

/// The volumes and bind mounts that a Docker engine has itself.
#[derive(Debug)]
pub struct LocalDriver {
    catalog: Catalog,
    open_snapshots: OpenSnapshots,
    restores: Restores<Target>,
}

impl Driver for LocalDriver {
    fn describe() -> Description {
        Description::new(
            "local",
            env!("CARGO_PKG_VERSION"),
            "the volumes and bind mounts that Docker has itself, where they are",
        )
        .capabilities(
            [
                Capability::Snapshots,
                Capability::ReadTree,
                Capability::RestoreTree,
                Capability::Shared,
                Capability::Clone,
                Capability::Check,
                Capability::KnownToDocker,
            ]
            .into(),
        )
        .options(driver_options())
    }

    fn open(request: Open, context: &Context) -> Result<(Self, Opened)> {
        let (catalog, mut warnings) = Catalog::open(&request, context)?;
        let (recovered, unsettled) = settle::in_vaults(&catalog);
        warnings.extend(unsettled);
        let driver =
            Self { catalog, open_snapshots: OpenSnapshots::default(), restores: Restores::default() };
        Ok((driver, Opened::new().recovered(recovered).warnings(warnings)))
    }

    fn info(&self, context: &Context) -> Result<BTreeMap<String, String>> {
        Ok(check::info(&self.catalog, context))
    }

    fn probe(&self, context: &Context) -> Result<Probed> {
        Ok(check::probe(&self.catalog, context))
    }

    fn check(&self, _request: Check, context: &Context) -> Result<Checked> {
        Ok(check::check(&self.catalog, context)?)
    }

    fn close(&self, _context: &Context) -> Result<()> {
        // Restores that were not finished are undone.
        self.restores.clear();
        self.catalog.vaults.stop();
        Ok(())
    }

    fn create_volume(&self, request: CreateVolume, context: &Context) -> Result<Volume> {
        Ok(volumes::create(&self.catalog, &request, context)?)
    }

    fn delete_volume(&self, request: DeleteVolume, context: &Context) -> Result<()> {
        Ok(volumes::delete(&self.catalog, &self.open_snapshots, &request, context)?)
    }

    fn mount_volume(&self, request: MountVolume, context: &Context) -> Result<Mounted> {
        Ok(volumes::mount(&self.catalog, &request, context)?)
    }

    fn unmount_volume(&self, request: UnmountVolume, context: &Context) -> Result<()> {
        // Nothing was mounted.
        Ok(self.catalog.load(&request.name, context).map(drop)?)
    }

    fn list_volumes(&self, request: ListVolumes, context: &Context) -> Result<ListedVolumes> {
        Ok(self.catalog.list(&request, context)?)
    }

    fn get_volume(&self, request: GetVolume, context: &Context) -> Result<Volume> {
        Ok(self.catalog.tell(&request.name, context)?)
    }

    fn clone_volume(&self, request: CloneVolume, context: &Context) -> Result<Volume> {
        Ok(target::clone(&self.catalog, &self.open_snapshots, request, context)?)
    }

    fn create_snapshot(&self, request: CreateSnapshot, context: &Context) -> Result<Snapshot> {
        Ok(snapshots::take(&self.catalog, &request, context)?)
    }

    fn delete_snapshot(&self, request: DeleteSnapshot, _context: &Context) -> Result<()> {
        Ok(snapshots::delete(&self.catalog, &self.open_snapshots, &request)?)
    }

    fn open_snapshot(&self, request: OpenSnapshot, _context: &Context) -> Result<OpenedSnapshot> {
        Ok(self.open_snapshots.open(&self.catalog, &request)?)
    }

    fn close_snapshot(&self, request: CloseSnapshot, _context: &Context) -> Result<()> {
        self.open_snapshots.close(&request.handle);
        Ok(())
    }

    fn prepare_restore(&self, request: PrepareRestore, context: &Context) -> Result<PreparedRestore> {
        Ok(restore::prepare(&self.restores, &self.catalog, request, context)?)
    }

    fn finish_restore(&self, request: FinishRestore, context: &Context) -> Result<Volume> {
        Ok(restore::finish(&self.restores, &self.catalog, &request.handle, context)?)
    }

    fn abort_restore(&self, request: AbortRestore, _context: &Context) -> Result<()> {
        restore::abort(&self.restores, &self.catalog, &request.handle);
        Ok(())
    }
}
