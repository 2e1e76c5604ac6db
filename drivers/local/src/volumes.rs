//! Making, deleting, forgetting and using volumes.

use convoy_driver_sdk::protocol::{CreateVolume, DeleteVolume, MountVolume, Mounted, Volume};
use convoy_driver_sdk::{Context, DriverError, handle, options};

use crate::catalog::{Catalog, to_the_end};
use crate::engine::LABEL_ID;
use crate::error::{LocalError, LocalResult};
use crate::open_snapshots::OpenSnapshots;
use crate::record::VolumeKind;
use crate::settle::drop_snapshots;

/// Has Docker make a volume. One that was forgotten is a volume again, snapshots and all.
pub(crate) fn create(catalog: &Catalog, request: &CreateVolume, context: &Context) -> LocalResult<Volume> {
    options::check(&[], &request.options)?;
    let name = &request.name;
    let entry = catalog.entry(name, context)?;
    if entry.is_listed() {
        return Err(LocalError::VolumeExists(name.clone()));
    }
    let forgotten = entry.record.filter(|record| record.forgotten);
    let is_there = entry.source.is_some()
        || forgotten.as_ref().is_some_and(|record| record.kind == VolumeKind::Bind && record.path.is_dir());
    if !is_there {
        let _busy = catalog.occupy(name).ok_or_else(|| LocalError::VolumeExists(name.clone()))?;
        let id = handle::random()?;
        let made = catalog.engine(0)?.create(name, &id, context)?;
        if made.label(LABEL_ID) != Some(id.as_str()) {
            // Somebody else was quicker.
            return Err(LocalError::VolumeExists(name.clone()));
        }
    }
    if let Some(mut record) = forgotten {
        record.forgotten = false;
        catalog.save(&record)?;
    }
    catalog.tell(name, &to_the_end(context))
}

/// Deletes a volume that convoy had made, or what is left of one that Docker has no more; or forgets any.
pub(crate) fn delete(
    catalog: &Catalog,
    open: &OpenSnapshots,
    request: &DeleteVolume,
    context: &Context,
) -> LocalResult<()> {
    let name = &request.name;
    let entry = catalog.load(name, context)?;
    if request.reference_only {
        let mut record = entry.to_record(name)?;
        record.forgotten = true;
        return catalog.save(&record);
    }
    match &entry.source {
        Some(source) if source.kind == VolumeKind::Bind => return Err(LocalError::BindMount(name.clone())),
        Some(source) if !source.ours => return Err(LocalError::NotOurs(name.clone())),
        Some(source) if !source.containers.is_empty() => {
            let containers = source.containers.join(", ");
            return Err(LocalError::Used { volume: name.clone(), containers });
        }
        _ => {}
    }
    open.refuse_any(name)?;
    let _busy = catalog.occupy(name).ok_or_else(|| DriverError::busy(format!("volume {name} is busy")))?;
    let mut record = entry.to_record(name)?;
    catalog.refuse_strange_vaults(&record)?;
    record.deleting = true;
    catalog.save(&record)?;
    if let Some(source) = &entry.source {
        let removed = catalog.engine(source.engine)?.remove(name, context);
        if let Err(error) = removed {
            record.deleting = false;
            catalog.save(&record)?;
            return Err(error);
        }
    }
    drop_snapshots(catalog, &record)
}

/// Says where a volume is: nothing is mounted.
pub(crate) fn mount(catalog: &Catalog, request: &MountVolume, context: &Context) -> LocalResult<Mounted> {
    if request.mountpoint.is_some() {
        return Err(LocalError::MountPoint);
    }
    let entry = catalog.load(&request.name, context)?;
    // Only a directory that can be opened as it should be is shown.
    entry.open(&request.name)?;
    Ok(Mounted::new(entry.path(&request.name)?))
}
