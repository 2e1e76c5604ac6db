//! Sizes of volumes that are plain directories: kept to where the file system can, and written down where it cannot.

use std::path::Path;

use convoy_driver_sdk::{Context, Name};

use crate::driver::VfsDriver;
use crate::error::{VfsError, VfsResult};
use crate::quota::{self, LEAST, Obstacle, Quotas};
use crate::record::VolumeRecord;
use crate::workspace::Kind;

impl VfsDriver {
    /// Whether a volume is kept to its size at this moment; `None` for one that has none, and for an image.
    pub(crate) fn enforced(&self, record: &VolumeRecord) -> Option<Result<(), Obstacle>> {
        (record.size > 0 && !record.prepare_for_vm)
            .then(|| quota::enforced(&self.layout.path, &self.data(record), record.size))
    }

    /// How a volume that is made is kept to `size`; `None` where the file system cannot do that, and where 0
    /// says that it has none.
    ///
    /// # Errors
    /// [`VfsError::NotEnforced`] where it cannot and `vfs.strictsize` is given; [`VfsError::TooSmall`].
    pub(crate) fn quotas(&self, volume: &Name, size: u64) -> VfsResult<Option<Quotas>> {
        if size == 0 {
            return Ok(None);
        }
        match Quotas::of(&self.layout.path) {
            Ok(_) if size < LEAST => Err(VfsError::TooSmall(size)),
            Ok(quotas) => Ok(Some(quotas)),
            Err(obstacle) if self.strict_size => {
                Err(VfsError::NotEnforced { volume: volume.clone(), obstacle })
            }
            Err(obstacle) => {
                tracing::warn!(%volume, size, %obstacle, hint = obstacle.hint(), "the size is not enforced");
                Ok(None)
            }
        }
    }

    /// Limits the directory of a volume to its size.
    ///
    /// # Errors
    /// [`VfsError::TooMuch`] if it holds more; [`VfsError::NotEnforced`] for one that was made without.
    pub(crate) fn confine(&self, quotas: Quotas, volume: &Name, data: &Path, size: u64) -> VfsResult<()> {
        let failed = |obstacle| VfsError::NotEnforced { volume: volume.clone(), obstacle };
        let used = quotas.used(data).map_err(failed)?;
        if used > size {
            return Err(VfsError::TooMuch { volume: volume.clone(), used, size });
        }
        quotas.limit(data, size).map_err(failed)
    }

    /// Limits a volume that was made with a limit to another size. What is cut off, the next start puts to what
    /// the record says.
    pub(crate) fn change_limit(&self, record: &mut VolumeRecord, size: u64) -> VfsResult<()> {
        let name = record.name.clone();
        let data = self.present(record)?;
        let quotas = Quotas::of(&self.layout.path)
            .map_err(|obstacle| VfsError::NotEnforced { volume: name.clone(), obstacle })?;
        if size < LEAST {
            return Err(VfsError::TooSmall(size));
        }
        let mark = self.workspace.parcel(Kind::Resize, &name, record.incarnation.as_ref())?;
        self.confine(quotas, &name, &data, size)?;
        let before = std::mem::replace(&mut record.size, size);
        let saved = self.records.save(&name, record);
        if saved.is_err()
            && let Err(obstacle) = quotas.limit(&data, before)
        {
            tracing::warn!(volume = %name, %obstacle, "cannot put back the limit");
        }
        self.workspace.discard(mark);
        Ok(saved?)
    }

    /// Sets the limit that a volume's record says.
    pub(crate) fn correct_limit(&self, name: &Name) -> VfsResult<()> {
        self.locked(name, &Context::default(), || {
            let record = self.load(name)?;
            let failed = |obstacle| VfsError::NotEnforced { volume: name.clone(), obstacle };
            let quotas = Quotas::of(&self.layout.path).map_err(failed)?;
            quotas.limit(&self.data(&record), record.size).map_err(failed)
        })
    }
}
