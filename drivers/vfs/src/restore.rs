//! Restoring: a directory that is no volume until everything is in it.

use std::sync::PoisonError;

use convoy_driver_sdk::protocol::{
    AbortRestore, FinishRestore, PrepareRestore, PreparedRestore, SourceKind, TargetLocation, Volume,
};
use convoy_driver_sdk::tree::StableStorage;
use convoy_driver_sdk::{Context, Name};

use crate::driver::VfsDriver;
use crate::error::{VfsError, VfsResult, io_error};
use crate::layout::{CONFIG, IMAGE};
use crate::options::CreateOptions;
use crate::project;
use crate::quota::{self, Quotas};
use crate::record::{Incarnation, VolumeRecord};
use crate::volumes::{open_image, set_owner};
use crate::workspace::{DATA, Kind, Parcel, exists};

/// A restore between its beginning and its end.
#[derive(Debug)]
pub(crate) enum Restore {
    /// Being written.
    Open(Box<Target>),
    /// It has become this volume: a repeated finish answers it again.
    Finished(Name),
}

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: Name,
    pub(crate) incarnation: Incarnation,
    pub(crate) parcel: Parcel,
    pub(crate) options: CreateOptions,
    pub(crate) size: u64,
    /// How it is kept to its size, if it is.
    pub(crate) quotas: Option<Quotas>,
    /// Of the parcel, since before anything was written.
    pub(crate) storage: StableStorage,
}

impl VfsDriver {
    pub(crate) fn prepare(&self, request: PrepareRestore, context: &Context) -> VfsResult<PreparedRestore> {
        if request.kind != SourceKind::Tree {
            return Err(VfsError::BlockRestore);
        }
        let options = CreateOptions::parse(&request.options)?;
        let name = request.name;
        if name.as_str() == CONFIG {
            return Err(VfsError::Reserved);
        }
        let size = request.size.unwrap_or(0);
        let quotas = self.quotas(&name, if options.vm { 0 } else { size })?;
        self.locked(&name, context, || self.refuse_taken(&name))?;
        let incarnation = Incarnation::new();
        let parcel = self.workspace.parcel(Kind::Volume, &name, Some(&incarnation))?;
        let data = parcel.join(DATA);
        self.make_data(&data, quotas)?;
        let handle = format!("restore-{}", self.number());
        let storage = StableStorage::of(parcel.path())?;
        let target = Target { name, incarnation, parcel, options, size, quotas, storage };
        self.restores
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(handle.clone(), Restore::Open(Box::new(target)));
        Ok(PreparedRestore { handle, location: TargetLocation::Tree { path: data } })
    }

    /// A restore never goes over anything: not over a volume, and not over data that an earlier one left.
    pub(crate) fn refuse_taken(&self, name: &Name) -> VfsResult<()> {
        if self.records.exists(name)? {
            return Err(VfsError::VolumeExists(name.clone()));
        }
        for path in [self.layout.volume(name), self.layout.snapshots(name)] {
            if exists(&path) {
                return Err(VfsError::KeptData(path));
            }
        }
        Ok(())
    }

    pub(crate) fn finish(&self, request: &FinishRestore, context: &Context) -> VfsResult<Volume> {
        let lock = || self.restores.lock().unwrap_or_else(PoisonError::into_inner);
        let found = lock().remove(&request.handle);
        let target = match found {
            None => return Err(VfsError::NoRestore(request.handle.clone())),
            Some(Restore::Open(target)) => target,
            Some(Restore::Finished(name)) => {
                lock().insert(request.handle.clone(), Restore::Finished(name.clone()));
                return Ok(self.volume(&self.load(&name)?));
            }
        };
        let published = self.publish_target(&target, context);
        match &published {
            Ok(volume) => {
                lock().insert(request.handle.clone(), Restore::Finished(volume.name.clone()));
                self.workspace.discard(target.parcel);
            }
            // What failed for want of space, say, can be finished later.
            Err(_) => drop(lock().insert(request.handle.clone(), Restore::Open(target))),
        }
        published
    }

    /// Makes a volume of what is in a parcel.
    pub(crate) fn publish_target(&self, target: &Target, context: &Context) -> VfsResult<Volume> {
        let record = self.seal(target)?;
        self.locked(&target.name, context, || {
            self.refuse_taken(&target.name)?;
            self.publish(&record, &target.parcel)
        })?;
        Ok(self.volume(&record))
    }

    /// Puts what was restored on stable storage, and says what its record will be.
    fn seal(&self, target: &Target) -> VfsResult<VolumeRecord> {
        let data = target.parcel.join(DATA);
        let mut record = VolumeRecord::new(target.name.clone(), self.layout.volume(&target.name));
        record.incarnation = Some(target.incarnation.clone());
        if target.options.vm {
            let path = data.join(IMAGE);
            let image = match open_image(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(VfsError::NoImage),
                other => other.map_err(io_error("open", &path))?,
            };
            let length = image.metadata().map_err(io_error("read", &path))?.len();
            if length < target.size {
                image.set_len(target.size).map_err(io_error("resize", &path))?;
            }
            record.prepare_for_vm = true;
            record.size = length.max(target.size);
        } else {
            record.size = target.size;
        }
        if target.options.changes_directory() {
            set_owner(&data, &target.options)?;
        }
        // What was restored may have brought another along.
        project::join(&data, &self.layout.path).map_err(io_error("set the project of", &data))?;
        match target.quotas {
            Some(quotas) => self.confine(quotas, &target.name, &data, target.size)?,
            None => quota::disown(&data).map_err(io_error("take an attribute from", &data))?,
        }
        target.storage.sync()?;
        Ok(record)
    }

    pub(crate) fn abort(&self, request: &AbortRestore) {
        let mut restores = self.restores.lock().unwrap_or_else(PoisonError::into_inner);
        // A finished one is a volume now, and stays.
        let Some(Restore::Open(_)) = restores.get(&request.handle) else { return };
        if let Some(Restore::Open(target)) = restores.remove(&request.handle) {
            drop(restores);
            self.workspace.discard(target.parcel);
        }
    }
}
