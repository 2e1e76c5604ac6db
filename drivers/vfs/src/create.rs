//! Creating volumes: empty ones, and those of a directory that is there.

use std::fs;
use std::io::ErrorKind;

use convoy_driver_sdk::Context;
use convoy_driver_sdk::protocol::{CreateVolume, Volume};

use crate::catalog::Catalog;
use crate::error::{VfsError, VfsResult, io_error};
use crate::files::{make_dir, set_owner, sync_dir};
use crate::layout::{IMAGE, refuse_reserved};
use crate::options::CreateOptions;
use crate::parcel::{DATA, Kind};
use crate::quota::Quotas;
use crate::record::VolumeRecord;
use crate::sizes::{confine, make_data, quotas};
use crate::{describe, image};

/// Makes a volume. What is kept of a deleted one of that name becomes that volume again, snapshots and all.
pub(crate) fn create(catalog: &Catalog, request: CreateVolume, context: &Context) -> VfsResult<Volume> {
    let options = CreateOptions::parse(&request.options)?;
    let name = request.name;
    refuse_reserved(&name)?;
    let size = request.size.filter(|size| *size > 0);
    catalog.locked(&name, context, || {
        if catalog.records.exists(&name)? {
            return Err(VfsError::VolumeExists(name.clone()));
        }
        let target = catalog.layout.volume(&name);
        let mut record = VolumeRecord::new(name.clone(), target.clone());
        let kept = catalog.kept_record(&name)?;
        if let Some(kept) = &kept {
            record.snapshots = kept.snapshots.clone();
            record.incarnation = kept.incarnation.clone();
            record.prepare_for_vm = kept.prepare_for_vm;
            record.size = kept.size;
        }
        if options.vm && !record.prepare_for_vm {
            record.prepare_for_vm = true;
            record.size = size.unwrap_or(catalog.default_size);
        }
        let mut limit = None;
        if !record.prepare_for_vm
            && let Some(size) = size
        {
            record.size = size;
            limit = quotas(catalog, &name, size)?;
        }
        match fs::symlink_metadata(&target) {
            Err(e) if e.kind() == ErrorKind::NotFound => match limit {
                None if !record.prepare_for_vm => make_empty(catalog, &record, &options)?,
                limit => make_aside(catalog, &record, &options, limit)?,
            },
            Err(e) => return Err(io_error("look at", &target)(e)),
            Ok(_) if target.is_dir() => {
                record.adopted = kept.as_ref().is_none_or(|kept| kept.adopted);
                adopt(catalog, &mut record, &options, limit)?;
            }
            Ok(_) => return Err(VfsError::NotADirectory(target)),
        }
        if kept.is_some() {
            catalog.kept.delete(&name)?;
        }
        Ok(describe::volume(catalog, &record))
    })
}

/// Makes a volume with an image or a limit, where nothing is yet.
fn make_aside(
    catalog: &Catalog,
    record: &VolumeRecord,
    options: &CreateOptions,
    quotas: Option<Quotas>,
) -> VfsResult<()> {
    let parcel = catalog.workspace.parcel(Kind::Volume, &record.name, record.incarnation.as_ref())?;
    let data = parcel.join(DATA);
    make_data(catalog, &data, quotas)?;
    set_owner(&data, options)?;
    match quotas {
        Some(quotas) => {
            confine(quotas, &record.name, &data, record.size)?;
            sync_dir(&data)?;
        }
        None => image::make(&data, record.size)?,
    }
    catalog.publish(record, &parcel)?;
    catalog.workspace.discard(parcel);
    Ok(())
}

/// Makes an empty directory in its place; a mark says that it was us.
fn make_empty(catalog: &Catalog, record: &VolumeRecord, options: &CreateOptions) -> VfsResult<()> {
    let mark = catalog.workspace.mark(&record.name)?;
    let made = make_dir(&record.path).and_then(|()| {
        insert(catalog, record, options).inspect_err(|_| {
            // Nobody has put anything there: the volume was never announced.
            let _ = fs::remove_dir(&record.path);
        })
    });
    catalog.workspace.unmark(mark);
    made
}

/// Writes the record of a volume whose directory was made, and makes both durable.
fn insert(catalog: &Catalog, record: &VolumeRecord, options: &CreateOptions) -> VfsResult<()> {
    set_owner(&record.path, options)?;
    // Two directories change. That one is synced while the record is written.
    let sync = catalog.begin_sync();
    catalog.records.insert(&record.name, record)?;
    catalog.end_sync(sync).inspect_err(|_| catalog.undo_insert(&record.name))
}

/// Makes a volume of a directory that is there: what a delete by reference kept, or what the administrator
/// brought.
fn adopt(
    catalog: &Catalog,
    record: &mut VolumeRecord,
    options: &CreateOptions,
    quotas: Option<Quotas>,
) -> VfsResult<()> {
    let target = record.path.clone();
    match quotas.map(|quotas| confine(quotas, &record.name, &target, record.size)) {
        Some(Err(VfsError::NotEnforced { .. })) if !catalog.strict_size => {}
        confined => confined.transpose().map(drop)?,
    }
    set_owner(&target, options)?;
    if record.prepare_for_vm {
        let image = target.join(IMAGE);
        match fs::symlink_metadata(&image) {
            Ok(meta) if meta.is_file() => record.size = meta.len(),
            Ok(_) => return Err(VfsError::NotADirectory(image)),
            Err(_) => image::make(&target, record.size)?,
        }
    }
    catalog.records.insert(&record.name, record)?;
    catalog.sync_names()
}
