//! A volume that is made of a backup or a snapshot: prepared aside, until everything is in it.

use std::io::ErrorKind;
use std::path::PathBuf;

use convoy_driver_sdk::protocol::Volume;
use convoy_driver_sdk::tree::StableStorage;
use convoy_driver_sdk::{Context, Name};

use crate::catalog::Catalog;
use crate::error::{VfsError, VfsResult, io_error};
use crate::files::set_owner;
use crate::layout::{IMAGE, refuse_reserved};
use crate::options::CreateOptions;
use crate::parcel::{DATA, Kind, Parcel};
use crate::quota::{self, Quotas};
use crate::record::{Incarnation, VolumeRecord};
use crate::sizes::{confine, make_data, quotas};
use crate::{describe, image, project};

/// A volume that has no record yet.
#[derive(Debug)]
pub(crate) struct Target {
    name: Name,
    incarnation: Incarnation,
    parcel: Parcel,
    options: CreateOptions,
    /// Bytes that it may hold, or the least of its image; 0 for any.
    size: u64,
    /// How it is kept to its size, if it is.
    quotas: Option<Quotas>,
    /// Of the parcel, since before anything was written.
    storage: StableStorage,
}

impl Target {
    /// Makes the empty directory of a volume under a name that is free.
    pub(crate) fn begin(
        catalog: &Catalog,
        name: Name,
        options: CreateOptions,
        size: u64,
        context: &Context,
    ) -> VfsResult<Self> {
        refuse_reserved(&name)?;
        let quotas = quotas(catalog, &name, if options.vm { 0 } else { size })?;
        catalog.locked(&name, context, || catalog.refuse_taken(&name))?;
        let incarnation = Incarnation::new();
        let parcel = catalog.workspace.parcel(Kind::Volume, &name, Some(&incarnation))?;
        let storage = StableStorage::of(parcel.path())?;
        make_data(catalog, &parcel.join(DATA), quotas)?;
        Ok(Self { name, incarnation, parcel, options, size, quotas, storage })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.parcel.join(DATA)
    }

    /// Makes it a volume. After an error this can be tried again.
    pub(crate) fn publish(&self, catalog: &Catalog, context: &Context) -> VfsResult<Volume> {
        let record = self.seal(catalog)?;
        catalog.locked(&self.name, context, || {
            catalog.refuse_taken(&self.name)?;
            catalog.publish(&record, &self.parcel)
        })?;
        Ok(describe::volume(catalog, &record))
    }

    /// Puts its data on stable storage, and says what its record will be.
    fn seal(&self, catalog: &Catalog) -> VfsResult<VolumeRecord> {
        let data = self.data();
        let mut record = VolumeRecord::new(self.name.clone(), catalog.layout.volume(&self.name));
        record.incarnation = Some(self.incarnation.clone());
        record.size = self.size;
        if self.options.vm {
            let path = data.join(IMAGE);
            let image = match image::open(&path) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Err(VfsError::NoImage),
                other => other.map_err(io_error("open", &path))?,
            };
            let length = image.metadata().map_err(io_error("read", &path))?.len();
            if length < self.size {
                image.set_len(self.size).map_err(io_error("resize", &path))?;
            }
            record.prepare_for_vm = true;
            record.size = length.max(self.size);
        }
        set_owner(&data, &self.options)?;
        // What was restored may have brought another along.
        project::join(&data, &catalog.layout.path)?;
        match self.quotas {
            Some(quotas) => confine(quotas, &self.name, &data, self.size)?,
            None => quota::disown(&data).map_err(io_error("take an attribute from", &data))?,
        }
        self.storage.sync()?;
        Ok(record)
    }

    /// Removes what is left of it: all of it, or, once it is a volume, next to nothing.
    pub(crate) fn discard(self, catalog: &Catalog) {
        catalog.workspace.discard(self.parcel);
    }
}
