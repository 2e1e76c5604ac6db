//! Volumes that go back to one of their snapshots.

use std::fs;
use std::path::Path;

use convoy_driver_sdk::Context;
use convoy_driver_sdk::protocol::{RevertVolume, Volume};
use convoy_driver_sdk::tree::{Project, StableStorage};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::libc;

use crate::catalog::Catalog;
use crate::copy::copy_out;
use crate::error::{LEAST, VfsError, VfsResult, io_error};
use crate::files::{exists, lifting, refuse_mounts, rename, rename_lifting};
use crate::image::changed_size;
use crate::parcel::{DATA, Kind, OLD, Parcel};
use crate::quota::{self, Quotas};
use crate::record::VolumeRecord;
use crate::sizes::{confine, make_data};
use crate::snapshots::claim_shared;
use crate::{describe, project};

/// Makes a volume's contents those of a snapshot: prepared aside, and exchanged in one step.
pub(crate) fn revert(catalog: &Catalog, request: &RevertVolume, context: &Context) -> VfsResult<Volume> {
    let RevertVolume { name, snapshot, .. } = request;
    let (parcel, record) = catalog.locked(name, context, || {
        let mut record = catalog.load(name)?;
        let snapshot = record.snapshot(snapshot)?;
        let _unused = catalog.locks.unused(name)?;
        let data = catalog.present(&record)?;
        let here = catalog.layout.volume(name);
        if data != here || fs::symlink_metadata(&here).is_ok_and(|meta| meta.is_symlink()) {
            return Err(VfsError::DataElsewhere { volume: name.clone(), path: data });
        }
        refuse_mounts(&data)?;
        let _claim = claim_shared(catalog, &record, snapshot)?;
        let parcel = catalog.workspace.parcel(Kind::Revert, name, record.incarnation.as_ref())?;
        let new = parcel.join(DATA);
        let storage = StableStorage::of(parcel.path())?;
        let quotas = quotas_of(catalog, &record, &data);
        make_data(catalog, &new, quotas)?;
        // A project that is one directory's own is no other's.
        let own = if quota::is_free(&data) { Project::default() } else { project::of(&data) };
        if quotas.is_none() {
            project::give(&new, own)?;
        }
        let from = catalog.present_snapshot(&record, snapshot)?;
        copy_out(&from, snapshot.is_tree(), &new, context)?;
        if let Some(quotas) = quotas {
            confine(quotas, name, &new, record.size)?;
        }
        storage.sync()?;
        // The last moment: nobody waits for it any more.
        context.check()?;
        let exchanged = project::join(&new, &catalog.layout.path).and_then(|()| exchange(&parcel, &here));
        if let Err(error) = exchanged {
            if exists(&parcel.join(OLD)) {
                // Not even undone: the next start finishes it.
                parcel.keep();
            }
            return Err(error);
        }
        if quotas.is_none() {
            project::give(&here, own)?;
        }
        catalog.sync_names()?;
        if let Some(size) = changed_size(&record, &here) {
            record.size = size;
            catalog.records.save(name, &record)?;
        }
        Ok((parcel, record))
    })?;
    catalog.workspace.discard(parcel);
    Ok(describe::volume(catalog, &record))
}

/// How what a volume goes back to is kept to its size. A project that an administrator gave it stays.
fn quotas_of(catalog: &Catalog, record: &VolumeRecord, data: &Path) -> Option<Quotas> {
    let sized = record.size >= LEAST && !record.prepare_for_vm && quota::is_free(data);
    sized.then(|| Quotas::of(&catalog.layout.path).ok()).flatten()
}

/// Exchanges the data of a parcel with that of a volume.
fn exchange(parcel: &Parcel, data: &Path) -> VfsResult<()> {
    let new = parcel.join(DATA);
    let exchanged =
        lifting(data, || Ok(renameat2(AT_FDCWD, &new, AT_FDCWD, data, RenameFlags::RENAME_EXCHANGE)?));
    let Err(error) = exchanged else { return Ok(()) };
    match error.raw_os_error() {
        // NFS cannot. Between the two steps the parcel has both, and a reconciler ends what was begun.
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => {
            let old = parcel.join(OLD);
            rename_lifting(data, &old).map_err(io_error("move", data))?;
            rename(&new, data).inspect_err(|_| {
                if let Err(error) = fs::rename(&old, data) {
                    tracing::error!(from = %old.display(), to = %data.display(), %error, "cannot undo a revert");
                }
            })
        }
        _ => Err(io_error("exchange", data)(error)),
    }
}
