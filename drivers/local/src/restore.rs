//! Restoring: the host writes into a directory that is no volume until everything is in it.

use convoy_driver_sdk::protocol::{PrepareRestore, PreparedRestore, SourceKind, TargetLocation, Volume};
use convoy_driver_sdk::restores::{Finish, Restores};
use convoy_driver_sdk::{Context, options};

use crate::catalog::Catalog;
use crate::error::{LocalError, LocalResult};
use crate::target::Target;

pub(crate) fn prepare(
    restores: &Restores<Target>,
    catalog: &Catalog,
    request: PrepareRestore,
    context: &Context,
) -> LocalResult<PreparedRestore> {
    if request.kind != SourceKind::Tree {
        return Err(LocalError::BlockRestore);
    }
    options::check(&[], &request.options)?;
    let target = Target::begin(catalog, request.name, context)?;
    let location = TargetLocation::tree(target.data());
    Ok(PreparedRestore::new(restores.begin(target), location))
}

pub(crate) fn finish(
    restores: &Restores<Target>,
    catalog: &Catalog,
    handle: &str,
    context: &Context,
) -> LocalResult<Volume> {
    match restores.finish(handle, |target| target.publish(catalog, context))? {
        Finish::Unknown => Err(LocalError::NoRestore(handle.to_owned())),
        Finish::Again(name) => catalog.tell(&name, context),
        Finish::Done(volume, target) => {
            target.discard(catalog);
            Ok(volume)
        }
    }
}

/// Removes what was restored so far. What is finished is a volume, and stays.
pub(crate) fn abort(restores: &Restores<Target>, catalog: &Catalog, handle: &str) {
    if let Some(target) = restores.abort(handle) {
        target.discard(catalog);
    }
}
