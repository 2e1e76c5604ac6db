//! Restoring: the host writes into a directory that is no volume until everything is in it.

use convoy_driver_sdk::Context;
use convoy_driver_sdk::protocol::{PrepareRestore, PreparedRestore, SourceKind, TargetLocation, Volume};
use convoy_driver_sdk::restores::{Finish, Restores};

use crate::catalog::Catalog;
use crate::describe;
use crate::error::{VfsError, VfsResult};
use crate::options::CreateOptions;
use crate::target::Target;

pub(crate) fn prepare(
    restores: &Restores<Box<Target>>,
    catalog: &Catalog,
    request: PrepareRestore,
    context: &Context,
) -> VfsResult<PreparedRestore> {
    if request.kind != SourceKind::Tree {
        return Err(VfsError::BlockRestore);
    }
    let options = CreateOptions::parse(&request.options)?;
    let target = Target::begin(catalog, request.name, options, request.size.unwrap_or(0), context)?;
    let path = target.data();
    Ok(PreparedRestore::new(restores.begin(Box::new(target)), TargetLocation::tree(path)))
}

pub(crate) fn finish(
    restores: &Restores<Box<Target>>,
    catalog: &Catalog,
    handle: &str,
    context: &Context,
) -> VfsResult<Volume> {
    match restores.finish(handle, |target| target.publish(catalog, context))? {
        Finish::Unknown => Err(VfsError::NoRestore(handle.to_owned())),
        Finish::Again(name) => Ok(describe::volume(catalog, &catalog.load(&name)?)),
        Finish::Done(volume, target) => {
            target.discard(catalog);
            Ok(volume)
        }
    }
}

/// Removes what was restored so far. What is finished is a volume, and stays.
pub(crate) fn abort(restores: &Restores<Box<Target>>, catalog: &Catalog, handle: &str) {
    if let Some(target) = restores.abort(handle) {
        target.discard(catalog);
    }
}
