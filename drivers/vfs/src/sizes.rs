//! Sizes of volumes that are plain directories: kept to where the file system can, and written down where it
//! cannot.

use std::path::Path;

use convoy_driver_sdk::Name;

use crate::catalog::Catalog;
use crate::error::{LEAST, Obstacle, VfsError, VfsResult, io_error};
use crate::files::make_dir;
use crate::project;
use crate::quota::{self, Quotas};
use crate::record::VolumeRecord;

/// Whether a volume is kept to its size at this moment; `None` for one that has none, and for an image.
pub(crate) fn enforced(catalog: &Catalog, record: &VolumeRecord) -> Option<Result<(), Obstacle>> {
    (record.size > 0 && !record.prepare_for_vm)
        .then(|| quota::enforced(&catalog.layout.path, &catalog.data(record), record.size))
}

/// How a volume that is made is kept to `size` bytes; `None` where the file system cannot do that, and where
/// 0 says that it has none.
///
/// # Errors
/// [`VfsError::NotEnforced`] where it cannot and `vfs.strictsize` is given; [`VfsError::TooSmall`].
pub(crate) fn quotas(catalog: &Catalog, volume: &Name, size: u64) -> VfsResult<Option<Quotas>> {
    if size == 0 {
        return Ok(None);
    }
    match Quotas::of(&catalog.layout.path) {
        Ok(_) if size < LEAST => Err(VfsError::TooSmall(size)),
        Ok(quotas) => Ok(Some(quotas)),
        Err(obstacle) if catalog.strict_size => {
            Err(VfsError::NotEnforced { volume: volume.clone(), obstacle })
        }
        Err(obstacle) => {
            tracing::warn!(%volume, size, %obstacle, hint = obstacle.hint(), "the size is not enforced");
            Ok(None)
        }
    }
}

/// Makes the empty directory of a volume's data: one that can be limited, or one in the project of where it
/// will be.
pub(crate) fn make_data(catalog: &Catalog, data: &Path, quotas: Option<Quotas>) -> VfsResult<()> {
    if let Some(quotas) = quotas {
        return quotas.make(data).map_err(io_error("make the directory", data));
    }
    make_dir(data)?;
    project::join(data, &catalog.layout.path)
}

/// Limits the directory of a volume to `size` bytes.
///
/// # Errors
/// [`VfsError::TooMuch`] if it holds more; [`VfsError::NotEnforced`] for one that was made without.
pub(crate) fn confine(quotas: Quotas, volume: &Name, data: &Path, size: u64) -> VfsResult<()> {
    let failed = |obstacle| VfsError::NotEnforced { volume: volume.clone(), obstacle };
    let used = quotas.used(data).map_err(failed)?;
    if used > size {
        return Err(VfsError::TooMuch { volume: volume.clone(), used, size });
    }
    quotas.limit(data, size).map_err(failed)
}
