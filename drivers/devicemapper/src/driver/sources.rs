//! Handing snapshots over for reading.

use super::DeviceMapper;
use crate::kernel::{Kernel, Visibility};
use crate::options::CREATE_FS;
use crate::state::{SnapshotRecord, ThinId, VolumeRecord};
use convoy_driver_sdk::mapping::Ranges;
use convoy_driver_sdk::protocol::{
    Extents, ListExtents, OpenSnapshot, OpenedSnapshot, SourceKind, SourceLocation,
};
use convoy_driver_sdk::{Context, DriverError, Result};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Sources {
    inner: Mutex<Inner>,
    /// A device was removed.
    closed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: BTreeMap<String, Source>,
    /// Snapshots whose devices are being removed. It may take seconds, and nobody else waits for it than who
    /// opens the same snapshot.
    closing: BTreeSet<ThinId>,
}

impl Sources {
    /// From now on the snapshot is open.
    pub(super) fn announce(&self, handle: &str, source: Source) {
        self.inner.lock().open.insert(handle.to_owned(), source);
    }
}

#[derive(Debug)]
pub(super) struct Source {
    id: ThinId,
    delta: Arc<Ranges>,
    /// The copy that is mounted, if files are read.
    copy: Option<ThinId>,
}

impl Source {
    /// A snapshot whose files are read from a copy.
    pub(super) fn tree(id: ThinId, copy: ThinId) -> Self {
        Self { id, delta: Arc::default(), copy: Some(copy) }
    }
}

impl DeviceMapper {
    /// Whether a snapshot is being read.
    pub(super) fn is_open(&self, id: ThinId) -> bool {
        self.sources.inner.lock().open.values().any(|source| source.id == id)
    }

    pub(super) fn open_source(&self, request: &OpenSnapshot, context: &Context) -> Result<OpenedSnapshot> {
        if request.kind == Some(SourceKind::Tree) {
            return self.open_tree(request, context);
        }
        let (volume, snapshot) = self.store.snapshot(&request.volume, &request.snapshot)?;
        let (id, name) = (snapshot.dev_id, self.read_name(snapshot.dev_id));
        let size = snapshot.size.unwrap_or(volume.size);
        // Announced before the device exists, so that nobody deletes the snapshot or closes the device
        // meanwhile.
        let handle = {
            let mut sources = self.sources.inner.lock();
            while sources.closing.contains(&id) {
                self.sources.closed.wait(&mut sources);
            }
            sources.next += 1;
            let handle = format!("read-{id}-{}", sources.next);
            sources.open.insert(handle.clone(), Source { id, delta: Arc::default(), copy: None });
            handle
        };
        let opened = self
            .pool
            .activate(&name, id, size, true, Visibility::Private)
            .map_err(DriverError::from)
            .and_then(|()| self.find_delta(&volume, &snapshot, request, context));
        match opened {
            Ok((delta, changed_only)) => {
                if let Some(source) = self.sources.inner.lock().open.get_mut(&handle) {
                    source.delta = Arc::new(delta);
                }
                let device = Kernel::node(&name);
                Ok(OpenedSnapshot::new(handle, SourceLocation::block(device, size, changed_only))
                    .restore_options([(CREATE_FS.to_owned(), volume.filesystem.to_string())].into()))
            }
            Err(error) => {
                if let Err(left) = self.close_source(&handle, &Self::undoing(context)) {
                    tracing::warn!(name, %left, "a device for reading was left behind");
                }
                Err(error)
            }
        }
    }

    /// What of a snapshot is to be read, and whether that is only what changed.
    fn find_delta(
        &self,
        volume: &VolumeRecord,
        snapshot: &SnapshotRecord,
        request: &OpenSnapshot,
        context: &Context,
    ) -> Result<(Ranges, bool)> {
        let base = request.base.as_ref().and_then(|base| volume.snapshots.get(base));
        let base = base.filter(|base| base.dev_id != snapshot.dev_id).map(|base| base.dev_id);
        let base = base.filter(|_| {
            let trusted = self.tools.no_delta.is_empty();
            if !trusted {
                tracing::warn!(why = self.tools.no_delta, "everything in use is read, not only what changed");
            }
            trusted
        });
        let size = snapshot.size.unwrap_or(volume.size);
        let context = self.bounded(context);
        let delta = self.reader.delta(&self.pool, base, snapshot.dev_id, size, &self.root, &context)?;
        Ok((delta, base.is_some()))
    }

    pub(super) fn extents(&self, request: &ListExtents) -> Result<Extents> {
        let delta =
            self.sources.inner.lock().open.get(&request.handle).map(|source| Arc::clone(&source.delta));
        let delta = delta
            .ok_or_else(|| DriverError::not_found(format!("no snapshot is open as {}", request.handle)))?;
        Ok(delta.page(request))
    }

    pub(super) fn close_source(&self, handle: &str, context: &Context) -> Result<()> {
        let known = self.sources.inner.lock().open.get(handle).map(|source| source.copy);
        match known {
            None => return self.close_unknown(handle, context),
            Some(Some(copy)) => {
                self.close_tree(copy, context)?;
                self.sources.inner.lock().open.remove(handle);
                return Ok(());
            }
            Some(None) => {}
        }
        let id = {
            let mut sources = self.sources.inner.lock();
            let Some(Source { id, .. }) = sources.open.remove(handle) else { return Ok(()) };
            if sources.open.values().any(|other| other.id == id && other.copy.is_none()) {
                return Ok(());
            }
            // So that an opening of the same snapshot does not meet its device half removed.
            sources.closing.insert(id);
            id
        };
        let removed = self.pool.deactivate_or_defer(&self.read_name(id), context);
        self.sources.inner.lock().closing.remove(&id);
        self.sources.closed.notify_all();
        removed.map(drop).map_err(DriverError::from)
    }
}
