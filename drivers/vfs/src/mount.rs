//! Using volumes: a directory is where it is, and only who uses it is noted.

use std::fs;
use std::path::Path;

use convoy_driver_sdk::protocol::{MountVolume, Mounted};
use convoy_driver_sdk::{Context, Name};

use crate::catalog::Catalog;
use crate::error::{VfsError, VfsResult, io_error};
use crate::shelter;

/// Says that this host uses a volume, and where it is.
pub(crate) fn mount(catalog: &Catalog, request: &MountVolume) -> VfsResult<Mounted> {
    if request.mountpoint.is_some() {
        return Err(VfsError::MountPoint);
    }
    let path = catalog.present(&catalog.load(&request.name)?)?;
    refuse_reachable(catalog, &path)?;
    catalog.locks.begin_use(&request.name)?;
    Ok(Mounted::new(path))
}

/// What lies in `vfs.path` is sheltered there; an administrator's link leads elsewhere.
fn refuse_reachable(catalog: &Catalog, path: &Path) -> VfsResult<()> {
    let real = |path: &Path| fs::canonicalize(path).map_err(io_error("find", path));
    let data = real(path)?;
    match data.parent() {
        Some(dir) if !data.starts_with(real(&catalog.layout.path)?) => shelter::refuse_reachable(dir, &data),
        _ => Ok(()),
    }
}

/// Ends the use of a volume, and removes from its record what 0.5 wrote down of it.
pub(crate) fn unmount(catalog: &Catalog, name: &Name, context: &Context) -> VfsResult<()> {
    catalog.locks.end_use(name);
    if catalog.load(name)?.mount_point.is_empty() {
        return Ok(());
    }
    catalog.locked(name, context, || {
        let mut record = catalog.load(name)?;
        record.mount_point.clear();
        Ok(catalog.records.save(name, &record)?)
    })
}
