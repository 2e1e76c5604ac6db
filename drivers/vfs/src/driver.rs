//! The driver: what the protocol asks, handed to the parts that do it.

use std::collections::{BTreeMap, BTreeSet};

use convoy_driver_sdk::protocol::{
    AbortRestore, Capability, Check, Checked, CloneVolume, CloseSnapshot, CreateSnapshot, CreateVolume,
    DeleteKept, DeleteSnapshot, DeleteVolume, Description, FinishRestore, GetVolume, ListKept, ListVolumes,
    ListedKept, ListedVolumes, MountVolume, Mounted, Open, OpenSnapshot, Opened, OpenedSnapshot,
    PrepareRestore, PreparedRestore, Probed, ResizeVolume, RevertVolume, Snapshot, UnmountVolume, Volume,
};
use convoy_driver_sdk::restores::Restores;
use convoy_driver_sdk::{Context, Driver, DriverError, Result};

use crate::catalog::Catalog;
use crate::describe::{self, Lister};
use crate::error::VfsResult;
use crate::files::make_dirs;
use crate::layout::Layout;
use crate::open_snapshots::OpenSnapshots;
use crate::options::{DriverOptions, create_options, driver_options};
use crate::target::Target;
use crate::{
    check, clone, create, delete, kept, mount, reconcile, resize, restore, revert, shelter, snapshots,
};

/// Volumes as directories.
#[derive(Debug)]
pub struct VfsDriver {
    catalog: Catalog,
    lister: Lister,
    open_snapshots: OpenSnapshots,
    restores: Restores<Box<Target>>,
}

impl VfsDriver {
    fn start(request: Open) -> VfsResult<(Self, Opened)> {
        let mut options = DriverOptions::parse(request.root, &request.options, request.override_saved)?;
        // Root alone gets through, to the volumes and whatever containers put into them.
        make_dirs(&options.layout.path)?;
        let sheltered = shelter::take(&options.layout.path)?;
        let unsaved = options.unsaved.take();
        let catalog = Catalog::open(options)?;
        // Only when the place has proved to be usable.
        if let Some(state) = unsaved {
            state.save(&Layout::state_file(&catalog.layout.root))?;
        }
        let (recovered, mut warnings) = reconcile::settle(&catalog);
        warnings.extend(check::missing_locks(&catalog.layout).into_iter().chain(sheltered));
        let driver = Self {
            catalog,
            lister: Lister::default(),
            open_snapshots: OpenSnapshots::default(),
            restores: Restores::default(),
        };
        Ok((driver, Opened::new().recovered(recovered).warnings(warnings)))
    }
}

impl Driver for VfsDriver {
    fn describe() -> Description {
        Description::new("vfs", env!("CARGO_PKG_VERSION"), "volumes as directories, local or on NFS")
            .capabilities(
                BTreeSet::from([
                    Capability::Snapshots,
                    Capability::ReadTree,
                    Capability::RestoreTree,
                    Capability::ResizeOffline,
                    Capability::ResizeOnline,
                    Capability::VmImages,
                    Capability::Shared,
                    Capability::Clone,
                    Capability::Revert,
                    Capability::Check,
                    Capability::Kept,
                ])
                .into_iter()
                .collect(),
            )
            .options(driver_options())
            .create_options(create_options())
    }

    fn open(request: Open, _context: &Context) -> Result<(Self, Opened)> {
        Ok(Self::start(request)?)
    }

    fn info(&self, _context: &Context) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::from([
            ("DefaultVolumeSize".to_owned(), self.catalog.default_size.to_string()),
            ("Path".to_owned(), self.catalog.layout.path.display().to_string()),
            ("Root".to_owned(), self.catalog.layout.root.display().to_string()),
        ]))
    }

    fn probe(&self, _context: &Context) -> Result<Probed> {
        Ok(check::probe(&self.catalog.layout).unwrap_or_else(|error| {
            let error = DriverError::from(error);
            let hint = error.hint.map(|hint| format!(": {hint}")).unwrap_or_default();
            Probed::unwell(format!("{}{hint}", error.message))
        }))
    }

    fn check(&self, request: Check, _context: &Context) -> Result<Checked> {
        Ok(check::check(&self.catalog, request.repair)?)
    }

    fn close(&self, _context: &Context) -> Result<()> {
        // What was open is removed with its handles; restores that were not finished are undone.
        self.open_snapshots.clear();
        self.restores.clear();
        self.catalog.workspace.close();
        Ok(())
    }

    fn create_volume(&self, request: CreateVolume, context: &Context) -> Result<Volume> {
        Ok(create::create(&self.catalog, request, context)?)
    }

    fn delete_volume(&self, request: DeleteVolume, context: &Context) -> Result<()> {
        Ok(delete::delete(&self.catalog, &request, context)?)
    }

    fn mount_volume(&self, request: MountVolume, _context: &Context) -> Result<Mounted> {
        Ok(mount::mount(&self.catalog, &request)?)
    }

    fn unmount_volume(&self, request: UnmountVolume, context: &Context) -> Result<()> {
        Ok(mount::unmount(&self.catalog, &request.name, context)?)
    }

    fn list_volumes(&self, request: ListVolumes, _context: &Context) -> Result<ListedVolumes> {
        Ok(self.lister.list(&self.catalog, &request)?)
    }

    fn get_volume(&self, request: GetVolume, _context: &Context) -> Result<Volume> {
        Ok(describe::volume(&self.catalog, &self.catalog.load(&request.name)?))
    }

    fn resize_volume(&self, request: ResizeVolume, context: &Context) -> Result<Volume> {
        Ok(resize::resize(&self.catalog, &request, context)?)
    }

    fn clone_volume(&self, request: CloneVolume, context: &Context) -> Result<Volume> {
        Ok(clone::clone(&self.catalog, request, context)?)
    }

    fn revert_volume(&self, request: RevertVolume, context: &Context) -> Result<Volume> {
        Ok(revert::revert(&self.catalog, &request, context)?)
    }

    fn list_kept(&self, request: ListKept, context: &Context) -> Result<ListedKept> {
        Ok(kept::list(&self.catalog, &request, context)?)
    }

    fn delete_kept(&self, request: DeleteKept, context: &Context) -> Result<()> {
        Ok(kept::delete(&self.catalog, &request, context)?)
    }

    fn create_snapshot(&self, request: CreateSnapshot, context: &Context) -> Result<Snapshot> {
        Ok(snapshots::take(&self.catalog, &request, context)?)
    }

    fn delete_snapshot(&self, request: DeleteSnapshot, context: &Context) -> Result<()> {
        Ok(snapshots::delete(&self.catalog, &request, context)?)
    }

    fn open_snapshot(&self, request: OpenSnapshot, context: &Context) -> Result<OpenedSnapshot> {
        Ok(self.open_snapshots.open(&self.catalog, &request, context)?)
    }

    fn close_snapshot(&self, request: CloseSnapshot, _context: &Context) -> Result<()> {
        self.open_snapshots.close(&self.catalog, &request.handle);
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
