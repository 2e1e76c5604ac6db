//! Deleting volumes, with their data or without.

use std::io::ErrorKind;
use std::path::PathBuf;

use convoy_driver_sdk::protocol::DeleteVolume;
use convoy_driver_sdk::tree::remove_tree;
use convoy_driver_sdk::{Context, Name, atomic};

use crate::catalog::Catalog;
use crate::error::{VfsResult, io_error};
use crate::files::{exists, place, refuse_mounts, rename, rename_lifting, sync_dir};
use crate::parcel::{DATA, Kind, Parcel, SNAPSHOTS};
use crate::quota;
use crate::record::VolumeRecord;
use crate::snapshots::claim;

pub(crate) fn delete(catalog: &Catalog, request: &DeleteVolume, context: &Context) -> VfsResult<()> {
    let name = &request.name;
    let parcel = catalog.locked(name, context, || {
        let record = catalog.load(name)?;
        let _unused = catalog.locks.unused(name)?;
        if request.reference_only {
            forget(catalog, name).map(|()| None)
        } else {
            take_down(catalog, &record).map(Some)
        }
    })?;
    if let Some(parcel) = parcel {
        catalog.workspace.discard(parcel);
    }
    Ok(())
}

/// Makes the record that of kept data: a create brings the volume back, snapshots and all.
fn forget(catalog: &Catalog, name: &Name) -> VfsResult<()> {
    rename(&catalog.records.path(name), &catalog.kept.path(name))?;
    sync_dir(&catalog.layout.config())
}

/// Takes a volume, or what is kept of one, and its snapshots out of sight. What is left to remove is in the
/// parcel.
pub(crate) fn take_down(catalog: &Catalog, record: &VolumeRecord) -> VfsResult<Parcel> {
    let name = &record.name;
    let data = catalog.data(record);
    refuse_mounts(&data)?;
    let _claims =
        record.snapshots.values().map(|s| claim(catalog, record, s)).collect::<VfsResult<Vec<_>>>()?;
    for archive in record.snapshots.values().filter(|s| !s.is_tree()) {
        let path = catalog.snapshot_path(record, archive);
        atomic::remove(&path).map_err(io_error("remove", &path))?;
    }
    let parcel = catalog.workspace.parcel(Kind::Volume, name, record.incarnation.as_ref())?;
    let moves = [(data, parcel.join(DATA)), (catalog.layout.snapshots(name), parcel.join(SNAPSHOTS))];
    let moved = move_out(&moves)
        .and_then(|()| if catalog.kept.exists(name)? { Ok(catalog.kept.delete(name)?) } else { Ok(()) })
        .and_then(|()| Ok(catalog.records.delete(name)?))
        .and_then(|()| catalog.sync_names());
    if let Err(error) = moved {
        put_back(catalog, &moves, name);
        return Err(error);
    }
    Ok(parcel)
}

fn move_out(moves: &[(PathBuf, PathBuf)]) -> VfsResult<()> {
    for (from, to) in moves.iter().filter(|(from, _)| exists(from)) {
        match rename_lifting(from, to) {
            // Outside `vfs.path`, where the record said: removed where it is.
            Err(e) if e.kind() == ErrorKind::CrossesDevices => {
                quota::release(from);
                remove_tree(from)?;
            }
            other => other.map_err(io_error("move", from))?,
        }
    }
    Ok(())
}

/// Undoes [`move_out`], unless the records are gone already.
fn put_back(catalog: &Catalog, moves: &[(PathBuf, PathBuf)], name: &Name) {
    if [&catalog.records, &catalog.kept].iter().all(|store| !store.exists(name).unwrap_or(true)) {
        return;
    }
    for (from, to) in moves.iter().filter(|(from, to)| exists(to) && !exists(from)) {
        if let Err(error) = place(to, from) {
            tracing::error!(from = %to.display(), to = %from.display(), %error, "cannot undo a delete");
        }
    }
}
