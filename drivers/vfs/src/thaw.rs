//! Snapshots that become volumes again: clones, and volumes that go back.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use convoy_driver_sdk::protocol::{CloneVolume, RevertVolume, Volume};
use convoy_driver_sdk::tree::{CopyOptions, Project, StableStorage, copy_tree};
use convoy_driver_sdk::{Context, Name};
use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use crate::driver::VfsDriver;
use crate::error::{VfsError, VfsResult, io_error, refuse_losses};
use crate::layout::{CONFIG, IMAGE};
use crate::options::CreateOptions;
use crate::project;
use crate::quota::{self, LEAST, Quotas};
use crate::record::{Incarnation, SnapshotRecord, VolumeRecord};
use crate::restore::Target;
use crate::snapshots::{Follow, explain, unpack_into};
use crate::volumes::{lifting, rename_lifting};
use crate::workspace::{DATA, Kind, OLD, Parcel, exists};

impl VfsDriver {
    pub(crate) fn clone_snapshot(&self, request: CloneVolume, context: &Context) -> VfsResult<Volume> {
        let mut options = CreateOptions::parse(&request.options)?;
        let name = request.name;
        if name.as_str() == CONFIG {
            return Err(VfsError::Reserved);
        }
        self.locked(&name, context, || self.refuse_taken(&name))?;
        // Without the lock of the source: its snapshot cannot go while it is read.
        let source = self.load(&request.source)?;
        let snapshot = self.find(&source, &request.snapshot)?;
        let _claim = self.flock(&source, snapshot, FlockOperation::NonBlockingLockShared)?;
        options.vm |= source.prepare_for_vm;
        let inherited = if source.prepare_for_vm { 0 } else { source.size };
        let size = request.size.unwrap_or(inherited);
        let quotas = self.quotas(&name, if options.vm { 0 } else { size })?;
        let incarnation = Incarnation::new();
        let parcel = self.workspace.parcel(Kind::Volume, &name, Some(&incarnation))?;
        let storage = StableStorage::of(parcel.path())?;
        self.make_data(&parcel.join(DATA), quotas)?;
        self.thaw(&source, snapshot, &parcel.join(DATA), context)?;
        check_size(&name, &parcel.join(DATA), size)?;
        let target = Target { name, incarnation, parcel, options, size, quotas, storage };
        let volume = self.publish_target(&target, context);
        self.workspace.discard(target.parcel);
        volume
    }

    /// Makes a volume's contents those of a snapshot: prepared aside, and exchanged in one step.
    pub(crate) fn revert(&self, request: &RevertVolume, context: &Context) -> VfsResult<Volume> {
        let RevertVolume { name, snapshot } = request;
        let (parcel, record) = self.locked(name, context, || {
            let mut record = self.load(name)?;
            let found = self.find(&record, snapshot)?.clone();
            let _unused = self.locks.unused(name)?;
            let data = self.present(&record)?;
            let here = self.layout.volume(name);
            if data != here || fs::symlink_metadata(&here).is_ok_and(|meta| meta.is_symlink()) {
                return Err(VfsError::DataElsewhere { volume: name.clone(), path: data });
            }
            self.refuse_mounts(&data)?;
            let _claim = self.flock(&record, &found, FlockOperation::NonBlockingLockShared)?;
            let parcel = self.workspace.parcel(Kind::Revert, name, record.incarnation.as_ref())?;
            let new = parcel.join(DATA);
            let storage = StableStorage::of(parcel.path())?;
            let quotas = self.quotas_of(&record, &data);
            self.make_data(&new, quotas)?;
            // A project that is one directory's own is no other's.
            let own = if quota::is_free(&data) { Project::default() } else { project::of(&data) };
            if quotas.is_none() {
                project::give(&new, own).map_err(io_error("set the project of", &new))?;
            }
            self.thaw(&record, &found, &new, context)?;
            if let Some(quotas) = quotas {
                self.confine(quotas, name, &new, record.size)?;
            }
            storage.sync()?;
            // The last moment: nobody waits for it any more.
            context.check()?;
            let exchanged = project::join(&new, &self.layout.path)
                .map_err(io_error("set the project of", &new))
                .and_then(|()| exchange(&parcel, &here));
            if let Err(error) = exchanged {
                if exists(&parcel.join(OLD)) {
                    // Not even undone: the next start finishes it.
                    parcel.keep();
                }
                return Err(error);
            }
            if quotas.is_none() {
                project::give(&here, own).map_err(io_error("set the project of", &here))?;
            }
            self.named(self.names.begin())?;
            if let Some(size) = changed_size(&record, &here) {
                record.size = size;
                self.records.save(name, &record)?;
            }
            Ok((parcel, record))
        })?;
        self.workspace.discard(parcel);
        Ok(self.volume(&record))
    }

    /// How what a volume goes back to is kept to its size. A project that an administrator gave it stays.
    fn quotas_of(&self, record: &VolumeRecord, data: &Path) -> Option<Quotas> {
        let sized = record.size >= LEAST && !record.prepare_for_vm && quota::is_free(data);
        sized.then(|| Quotas::of(&self.layout.path).ok()).flatten()
    }

    /// Makes the empty directory of a volume's data: one that can be limited, or one in the project of where it
    /// will be.
    pub(crate) fn make_data(&self, data: &Path, quotas: Option<Quotas>) -> VfsResult<()> {
        if let Some(quotas) = quotas {
            return quotas.make(data).map_err(io_error("make the directory", data));
        }
        fs::DirBuilder::new().mode(0o700).create(data).map_err(io_error("make the directory", data))?;
        project::join(data, &self.layout.path).map_err(io_error("set the project of", data))
    }

    /// Copies a snapshot to an empty directory. Blocks are shared where the file system can.
    fn thaw(
        &self,
        volume: &VolumeRecord,
        snapshot: &SnapshotRecord,
        to: &Path,
        context: &Context,
    ) -> VfsResult<()> {
        let from = self.snapshot_path(volume, snapshot);
        if !exists(&from) {
            return Err(VfsError::SnapshotMissing {
                volume: volume.name.clone(),
                snapshot: snapshot.name.clone(),
                path: from,
            });
        }
        if !snapshot.is_tree() {
            return unpack_into(&from, to, context);
        }
        let follow = Follow::new(context);
        let options = CopyOptions { observer: Some(&follow), ..CopyOptions::default() };
        let report = copy_tree(&from, to, &options).map_err(|e| explain(e, context))?;
        for warning in &report.warnings {
            tracing::warn!(volume = %volume.name, snapshot = %snapshot.name, "{warning}");
        }
        refuse_losses(report.losses)
    }
}

/// An image does not become smaller than the one in the snapshot.
fn check_size(name: &Name, data: &Path, wanted: u64) -> VfsResult<()> {
    match fs::symlink_metadata(data.join(IMAGE)) {
        Ok(image) if wanted > 0 && image.len() > wanted => {
            Err(VfsError::Shrink { volume: name.clone(), size: image.len(), wanted })
        }
        _ => Ok(()),
    }
}

/// The size of a volume's image, where the record says another.
pub(crate) fn changed_size(record: &VolumeRecord, data: &Path) -> Option<u64> {
    let image = fs::symlink_metadata(data.join(IMAGE)).ok().filter(|_| record.prepare_for_vm)?;
    (image.is_file() && image.len() != record.size).then_some(image.len())
}

/// Exchanges the data of a parcel with that of a volume.
fn exchange(parcel: &Parcel, data: &Path) -> VfsResult<()> {
    let new = parcel.join(DATA);
    let exchanged =
        lifting(data, || Ok(rustix::fs::renameat_with(CWD, &new, CWD, data, RenameFlags::EXCHANGE)?));
    let Err(error) = exchanged else { return Ok(()) };
    match Errno::from_io_error(&error) {
        // NFS cannot. Between the two steps the parcel has both, and a reconciler ends what was begun.
        Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let old = parcel.join(OLD);
            rename_lifting(data, &old).map_err(io_error("move", data))?;
            fs::rename(&new, data).map_err(io_error("move", &new)).inspect_err(|_| {
                if let Err(error) = fs::rename(&old, data) {
                    tracing::error!(from = %old.display(), to = %data.display(), %error, "cannot undo a revert");
                }
            })
        }
        _ => Err(io_error("exchange", data)(error)),
    }
}
