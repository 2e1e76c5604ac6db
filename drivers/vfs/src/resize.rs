//! Resizing volumes, and making what is on disk what the records say.

use convoy_driver_sdk::protocol::{ResizeVolume, Volume};
use convoy_driver_sdk::{Context, Name};

use crate::catalog::Catalog;
use crate::describe;
use crate::error::{LEAST, VfsError, VfsResult, io_error};
use crate::image::{self, changed_size};
use crate::layout::IMAGE;
use crate::parcel::Kind;
use crate::quota::Quotas;
use crate::record::VolumeRecord;
use crate::sizes::confine;

/// Grows the image of a volume for a virtual machine, or changes the limit of another volume.
pub(crate) fn resize(catalog: &Catalog, request: &ResizeVolume, context: &Context) -> VfsResult<Volume> {
    let name = &request.name;
    catalog.locked(name, context, || {
        let mut record = catalog.load(name)?;
        if record.prepare_for_vm {
            grow_image(catalog, &mut record, request.size)?;
        } else {
            change_limit(catalog, &mut record, request.size)?;
        }
        Ok(describe::volume(catalog, &record))
    })
}

fn grow_image(catalog: &Catalog, record: &mut VolumeRecord, size: u64) -> VfsResult<()> {
    if size < record.size {
        return Err(VfsError::Shrink { volume: record.name.clone(), size: record.size, wanted: size });
    }
    let image = catalog.present(record)?.join(IMAGE);
    let grow = || {
        let file = image::open(&image)?;
        if file.metadata()?.len() < size {
            file.set_len(size)?;
        }
        file.sync_all()
    };
    grow().map_err(io_error("resize", &image))?;
    if size != record.size {
        record.size = size;
        catalog.records.save(&record.name, record)?;
    }
    Ok(())
}

/// Limits a volume that was made with a limit to another size. What is cut off, the next start puts to what
/// the record says.
fn change_limit(catalog: &Catalog, record: &mut VolumeRecord, size: u64) -> VfsResult<()> {
    let name = record.name.clone();
    let data = catalog.present(record)?;
    let quotas = Quotas::of(&catalog.layout.path)
        .map_err(|obstacle| VfsError::NotEnforced { volume: name.clone(), obstacle })?;
    if size < LEAST {
        return Err(VfsError::TooSmall(size));
    }
    let mark = catalog.workspace.parcel(Kind::Resize, &name, record.incarnation.as_ref())?;
    confine(quotas, &name, &data, size)?;
    let before = std::mem::replace(&mut record.size, size);
    let saved = catalog.records.save(&name, record);
    if saved.is_err()
        && let Err(obstacle) = quotas.limit(&data, before)
    {
        tracing::warn!(volume = %name, %obstacle, "cannot put back the limit");
    }
    catalog.workspace.discard(mark);
    Ok(saved?)
}

/// Sets the limit that a volume's record says.
pub(crate) fn correct_limit(catalog: &Catalog, name: &Name) -> VfsResult<()> {
    catalog.locked(name, &Context::default(), || {
        let record = catalog.load(name)?;
        let failed = |obstacle| VfsError::NotEnforced { volume: name.clone(), obstacle };
        let quotas = Quotas::of(&catalog.layout.path).map_err(failed)?;
        quotas.limit(&catalog.data(&record), record.size).map_err(failed)
    })
}

/// Writes down the size that a volume's image has.
pub(crate) fn correct_size(catalog: &Catalog, name: &Name) -> VfsResult<()> {
    catalog.locked(name, &Context::default(), || {
        let mut record = catalog.load(name)?;
        if let Some(size) = changed_size(&record, &catalog.data(&record)) {
            record.size = size;
            catalog.records.save(name, &record)?;
        }
        Ok(())
    })
}
