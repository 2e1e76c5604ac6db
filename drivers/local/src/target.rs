//! A volume that is made of a backup or a snapshot: prepared aside, until everything is in it.
//!
//! Docker is told to make an empty volume, whose directory is then exchanged with the one that was prepared,
//! in one step. A record says so before; what a crash leaves between the two is settled by `settle`.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use convoy_driver_sdk::protocol::{CloneVolume, Volume};
use convoy_driver_sdk::tree::{CopyOptions, StableStorage};
use convoy_driver_sdk::{Context, Name, Timestamp, copies, detached, handle, options};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::catalog::{Catalog, to_the_end, tree_of};
use crate::engine::LABEL_ID;
use crate::error::{LocalError, LocalResult, io_error, refuse_losses};
use crate::open_snapshots::OpenSnapshots;
use crate::record::{Publishing, VolumeKind, VolumeRecord};
use crate::vault::{DATA, Parcel, sync};

/// Of a new volume's directory, as Docker makes it.
const MODE: u32 = 0o755;

/// The engine that new volumes are made by.
const ENGINE: usize = 0;

/// A volume that Docker does not know yet.
#[derive(Debug)]
pub(crate) struct Target {
    name: Name,
    id: String,
    parcel: Parcel,
    /// Of the parcel, since before anything was written.
    storage: StableStorage,
}

impl Target {
    /// Makes the empty directory of a volume under a name that is free.
    pub(crate) fn begin(catalog: &Catalog, name: Name, context: &Context) -> LocalResult<Self> {
        refuse_taken(catalog, &name, context)?;
        let root = catalog.data_root(ENGINE, context)?;
        let volumes = Some(root.join("volumes")).filter(|dir| dir.is_dir()).unwrap_or(root);
        let parcel = catalog.vaults.stage(&volumes)?.parcel()?;
        let storage = StableStorage::of(parcel.path())?;
        let data = parcel.join(DATA);
        fs::DirBuilder::new().mode(MODE).create(&data).map_err(io_error("make the directory", &data))?;
        Ok(Self { name, id: handle::random()?, parcel, storage })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.parcel.join(DATA)
    }

    /// Makes it a volume. After an error this can be tried again.
    pub(crate) fn publish(&self, catalog: &Catalog, context: &Context) -> LocalResult<Volume> {
        self.storage.sync()?;
        let name = &self.name;
        let _busy = catalog.occupy(name).ok_or_else(|| LocalError::VolumeExists(name.clone()))?;
        refuse_taken(catalog, name, context)?;
        let data = self.data();
        let inode = fs::metadata(&data).map_err(io_error("look at", &data))?.ino();
        let parcel = self.parcel.path().to_owned();
        let mut record = VolumeRecord::new(name.clone(), VolumeKind::Volume, data.clone(), Timestamp::now());
        record.publishing = Some(Publishing { id: self.id.clone(), parcel, inode });
        catalog.records.insert(name, &record)?;
        let made = self.put_in_place(catalog, &data, context);
        let context = &to_the_end(context);
        if let Err(error) = made {
            // Where even that fails the next look at the engine settles it.
            let undone = match error {
                LocalError::VolumeExists(_) => Ok(()),
                _ => catalog.engine(ENGINE).and_then(|engine| self.undo(engine, context)),
            };
            match undone {
                Ok(()) => catalog.records.delete(name)?,
                Err(undo) => {
                    tracing::warn!(volume = %name, error = %undo, "cannot undo the making of a volume")
                }
            }
            return Err(error);
        }
        catalog.records.delete(name)?;
        catalog.tell(name, context)
    }

    /// Has Docker make the volume, and exchanges its directory.
    fn put_in_place(&self, catalog: &Catalog, data: &Path, context: &Context) -> LocalResult<()> {
        let made = catalog.engine(ENGINE)?.create(&self.name, &self.id, context)?;
        if made.label(LABEL_ID) != Some(self.id.as_str()) {
            // Somebody else was quicker.
            return Err(LocalError::VolumeExists(self.name.clone()));
        }
        let found = catalog.look(context)?;
        let source = found.sources.get(&self.name).filter(|source| source.id.as_ref() == Some(&self.id));
        let source = source.ok_or_else(|| LocalError::NoVolume(self.name.clone()))?;
        // It is a directory, and no link.
        source.open()?;
        exchange(data, &source.path)?;
        let synced = [data, &source.path].into_iter().filter_map(Path::parent).try_for_each(sync);
        // The data goes with its parcel, and not with Docker's volume.
        synced.inspect_err(|_| drop(exchange(data, &source.path)))
    }

    /// Has Docker remove a volume that this made.
    fn undo(&self, engine: &crate::engine::Engine, context: &Context) -> LocalResult<()> {
        let volumes = engine.volumes(context)?;
        let ours = volumes
            .iter()
            .any(|volume| volume.name == *self.name && volume.label(LABEL_ID) == Some(self.id.as_str()));
        if ours { engine.remove(&self.name, context) } else { Ok(()) }
    }

    /// Removes what is left of it: all of it, or, once it is a volume, next to nothing.
    pub(crate) fn discard(self, catalog: &Catalog) {
        catalog.vaults.discard(self.parcel);
    }
}

/// Exchanges two directories of one file system in one step.
fn exchange(one: &Path, other: &Path) -> LocalResult<()> {
    match renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE) {
        // Docker mounts its data root on itself where `/` is not shared: another mount, if not another file
        // system.
        Err(Errno::EXDEV) => exchange_beneath(one, other).map_err(io_error("exchange", other)),
        done => done.map_err(io_error("exchange", other)),
    }
}

/// Exchanges two directories through a mount of their nearest common directory alone.
fn exchange_beneath(one: &Path, other: &Path) -> io::Result<()> {
    let shared: PathBuf =
        one.components().zip(other.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    let mount = detached::alone(&shared)?;
    let within = |path| -> io::Result<PathBuf> {
        let within = Path::strip_prefix(path, &shared).map_err(io::Error::other)?;
        let found = rustix::fs::statat(&mount, within, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        let expected = fs::symlink_metadata(path)?;
        // What is mounted on the way may be another file system's.
        match (found.st_dev, found.st_ino) == (expected.dev(), expected.ino()) {
            true => Ok(within.to_owned()),
            false => Err(Errno::EXDEV.into()),
        }
    };
    let (one, other) = (within(one)?, within(other)?);
    Ok(renameat2(&mount, &one, &mount, &other, RenameFlags::RENAME_EXCHANGE)?)
}

/// Refuses a name under which Docker has a volume, or something of an earlier one is kept.
fn refuse_taken(catalog: &Catalog, name: &Name, context: &Context) -> LocalResult<()> {
    let entry = catalog.entry(name, context)?;
    match (&entry.record, &entry.source) {
        (Some(record), _) if record.forgotten => Err(LocalError::Kept(name.clone())),
        (None, None) => Ok(()),
        _ => Err(LocalError::VolumeExists(name.clone())),
    }
}

/// Makes a volume with the data of a snapshot.
pub(crate) fn clone(
    catalog: &Catalog,
    open: &OpenSnapshots,
    request: CloneVolume,
    context: &Context,
) -> LocalResult<Volume> {
    options::check(&[], &request.options)?;
    let record = catalog.load(&request.source, context)?.record;
    let record = record.ok_or_else(|| LocalError::NoSnapshot {
        volume: request.source.clone(),
        snapshot: request.snapshot.clone(),
    })?;
    // Nobody deletes it meanwhile.
    let reading = open.hold(&request.source, &request.snapshot)?;
    let made = tree_of(&record, &request.snapshot).and_then(|from| {
        let target = Target::begin(catalog, request.name, context)?;
        refuse_losses(copies::copy(&from, &target.data(), CopyOptions::default(), context)?.losses)?;
        let volume = target.publish(catalog, context);
        target.discard(catalog);
        volume
    });
    open.close(&reading);
    made
}
