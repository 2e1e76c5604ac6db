//! Restoring: the host writes into a directory that is no volume until everything is in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use convoy_driver_sdk::protocol::{PrepareRestore, PreparedRestore, SourceKind, TargetLocation, Volume};
use convoy_driver_sdk::{Context, Name};
use parking_lot::Mutex;

use crate::catalog::Catalog;
use crate::describe;
use crate::error::{VfsError, VfsResult};
use crate::options::CreateOptions;
use crate::target::Target;

#[derive(Debug, Default)]
pub(crate) struct Restores {
    restores: Mutex<HashMap<String, Restore>>,
    count: AtomicU64,
}

#[derive(Debug)]
enum Restore {
    /// The data is being written.
    Open(Box<Target>),
    /// It has become this volume: a repeated finish answers it again.
    Finished(Name),
}

impl Restores {
    pub(crate) fn prepare(
        &self,
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
        let handle = format!("restore-{}", self.count.fetch_add(1, Ordering::Relaxed));
        self.restores.lock().insert(handle.clone(), Restore::Open(Box::new(target)));
        Ok(PreparedRestore::new(handle, TargetLocation::tree(path)))
    }

    pub(crate) fn finish(&self, catalog: &Catalog, handle: &str, context: &Context) -> VfsResult<Volume> {
        let put = |restore| drop(self.restores.lock().insert(handle.to_owned(), restore));
        let found = self.restores.lock().remove(handle);
        let target = match found {
            None => return Err(VfsError::NoRestore(handle.to_owned())),
            Some(Restore::Open(target)) => target,
            Some(Restore::Finished(name)) => {
                put(Restore::Finished(name.clone()));
                return Ok(describe::volume(catalog, &catalog.load(&name)?));
            }
        };
        let published = target.publish(catalog, context);
        match &published {
            Ok(volume) => {
                put(Restore::Finished(volume.name.clone()));
                target.discard(catalog);
            }
            // What failed for want of space, say, can be finished later.
            Err(_) => put(Restore::Open(target)),
        }
        published
    }

    /// Removes what was restored so far. What is finished is a volume, and stays.
    pub(crate) fn abort(&self, catalog: &Catalog, handle: &str) {
        let mut restores = self.restores.lock();
        let Some(Restore::Open(_)) = restores.get(handle) else { return };
        let restore = restores.remove(handle);
        drop(restores);
        if let Some(Restore::Open(target)) = restore {
            target.discard(catalog);
        }
    }

    pub(crate) fn clear(&self) {
        self.restores.lock().clear();
    }
}
