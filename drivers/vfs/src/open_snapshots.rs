//! Snapshots that are being read.

use std::collections::HashMap;
use std::fs::{self, File};
use std::sync::atomic::{AtomicU64, Ordering};

use convoy_driver_sdk::Context;
use convoy_driver_sdk::protocol::{OpenSnapshot, OpenedSnapshot, SameFile, SourceLocation};
use parking_lot::Mutex;

use crate::catalog::Catalog;
use crate::copy::unpack;
use crate::error::{VfsResult, io_error};
use crate::layout::TREE;
use crate::options::CreateOptions;
use crate::parcel::{Kind, Parcel};
use crate::snapshots::claim_shared;

#[derive(Debug, Default)]
pub(crate) struct OpenSnapshots {
    readers: Mutex<HashMap<String, Reader>>,
    count: AtomicU64,
}

#[derive(Debug)]
struct Reader {
    /// Keeps the snapshot from being deleted.
    _claim: Option<File>,
    /// Where an archive was unpacked.
    unpacked: Option<Parcel>,
}

impl OpenSnapshots {
    /// Opens a snapshot for reading. An archive of 0.5 is unpacked first.
    pub(crate) fn open(
        &self,
        catalog: &Catalog,
        request: &OpenSnapshot,
        context: &Context,
    ) -> VfsResult<OpenedSnapshot> {
        let record = catalog.load(&request.volume)?;
        let snapshot = record.snapshot(&request.snapshot)?;
        let claim = claim_shared(catalog, &record, snapshot)?;
        let path = catalog.present_snapshot(&record, snapshot)?;
        let (path, unpacked) = if snapshot.is_tree() {
            (path, None)
        } else {
            let parcel = catalog.workspace.parcel(Kind::Scratch, &request.volume, None)?;
            let tree = parcel.join(TREE);
            fs::create_dir(&tree).map_err(io_error("make the directory", &tree))?;
            unpack(&path, &tree, context)?;
            (tree, Some(parcel))
        };
        let handle = format!("snapshot-{}", self.count.fetch_add(1, Ordering::Relaxed));
        self.readers.lock().insert(handle.clone(), Reader { _claim: claim, unpacked });
        Ok(OpenedSnapshot::new(handle, SourceLocation::tree(path, SameFile::BirthTime))
            .restore_options(CreateOptions::for_restore(record.prepare_for_vm)))
    }

    /// Closes a snapshot; an unknown handle is fine.
    pub(crate) fn close(&self, catalog: &Catalog, handle: &str) {
        let reader = self.readers.lock().remove(handle);
        if let Some(parcel) = reader.and_then(|reader| reader.unpacked) {
            catalog.workspace.discard(parcel);
        }
    }

    pub(crate) fn clear(&self) {
        self.readers.lock().clear();
    }
}
