//! New volumes with the data of a snapshot.

use std::fs;

use convoy_driver_sdk::Context;
use convoy_driver_sdk::protocol::{CloneVolume, Volume};

use crate::catalog::Catalog;
use crate::copy::copy_out;
use crate::error::{VfsError, VfsResult};
use crate::layout::IMAGE;
use crate::options::CreateOptions;
use crate::snapshots::claim_shared;
use crate::target::Target;

pub(crate) fn clone(catalog: &Catalog, request: CloneVolume, context: &Context) -> VfsResult<Volume> {
    let mut options = CreateOptions::parse(&request.options)?;
    // Without the lock of the source: its snapshot cannot go while it is read.
    let source = catalog.load(&request.source)?;
    let snapshot = source.snapshot(&request.snapshot)?;
    let _claim = claim_shared(catalog, &source, snapshot)?;
    let from = catalog.present_snapshot(&source, snapshot)?;
    options.vm |= source.prepare_for_vm;
    let size = request.size.unwrap_or(if source.prepare_for_vm { 0 } else { source.size });
    let target = Target::begin(catalog, request.name.clone(), options, size, context)?;
    copy_out(&from, snapshot.is_tree(), &target.data(), context)?;
    // An image does not become smaller than the one in the snapshot.
    if let Ok(image) = fs::symlink_metadata(target.data().join(IMAGE))
        && size > 0
        && image.len() > size
    {
        return Err(VfsError::Shrink { volume: request.name, size: image.len(), wanted: size });
    }
    let volume = target.publish(catalog, context);
    target.discard(catalog);
    volume
}
