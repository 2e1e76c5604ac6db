//! Creating, deleting, using and resizing volumes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{
    CreateVolume, DeleteVolume, Health, MountVolume, Mounted, ResizeVolume, Snapshot, Volume,
};
use convoy_driver_sdk::records::{RecordError, RecordStore};
use convoy_driver_sdk::tree::{lift_flags, remove_tree, wait_for_lease};
use convoy_driver_sdk::{Context, Name, atomic};

use crate::driver::VfsDriver;
use crate::error::{VfsError, VfsResult, io_error};
use crate::layout::{CONFIG, IMAGE};
use crate::options::CreateOptions;
use crate::quota::{self, Quotas};
use crate::record::{SnapshotRecord, VolumeRecord};
use crate::shelter;
use crate::sync::Pending;
use crate::thaw::changed_size;
use crate::workspace::{DATA, Kind, Parcel, SNAPSHOTS, exists, place};

impl VfsDriver {
    /// Runs `change` under the volume's lock, which no other process on any host has meanwhile.
    pub(crate) fn locked<T>(
        &self,
        name: &Name,
        context: &Context,
        change: impl FnOnce() -> VfsResult<T>,
    ) -> VfsResult<T> {
        let _lock = self.locks.acquire(name, context)?;
        self.look_afresh(&[]);
        change()
    }

    /// What an NFS client remembers of directories, of names that were not there above all, may be older than
    /// what another host did. Opening a directory, and not only looking at it, makes it ask the server: that
    /// of the volumes, that of the records, and those below it, from the top down. Whether there is any use
    /// in looking again.
    pub(crate) fn look_afresh(&self, below: &[PathBuf]) -> bool {
        if self.shared {
            for dir in [&self.layout.path, &self.layout.config()].into_iter().chain(below) {
                // A failure shows in what follows.
                let _ = File::open(dir);
            }
        }
        self.shared
    }

    /// Reads the record of a volume, which has to say that it is this volume's.
    pub(crate) fn record(&self, name: &Name) -> Result<Option<VolumeRecord>, RecordError> {
        self.record_in(&self.records, name)
    }

    /// The same of a record in this store.
    pub(crate) fn record_in(
        &self,
        store: &RecordStore<VolumeRecord>,
        name: &Name,
    ) -> Result<Option<VolumeRecord>, RecordError> {
        match store.load(name)? {
            Some(record) if record.name != *name => {
                let reason = format!("it says that it is {}'s", record.name);
                Err(RecordError::Damaged { path: store.path(name), reason })
            }
            found => Ok(found),
        }
    }

    pub(crate) fn load(&self, name: &Name) -> VfsResult<VolumeRecord> {
        let found = match self.record(name)? {
            None if self.look_afresh(&[]) => self.record(name)?,
            found => found,
        };
        match found {
            Some(record) => Ok(record),
            None if self.layout.config().is_dir() => Err(VfsError::NoVolume(name.clone())),
            None => Err(VfsError::PathGone(self.layout.path.clone())),
        }
    }

    /// Where a volume's data is: in `vfs.path` as this host has it, or (a link or a move by the
    /// administrator) where the record says.
    pub(crate) fn data(&self, record: &VolumeRecord) -> PathBuf {
        let here = self.layout.volume(&record.name);
        if !exists(&here) && record.path.is_absolute() && record.path.is_dir() {
            record.path.clone()
        } else {
            here
        }
    }

    pub(crate) fn volume(&self, record: &VolumeRecord) -> Volume {
        let path = self.data(record);
        let health = if path.is_dir() {
            Health::Good
        } else {
            Health::Damaged(format!(
                "the data is not at {}: is the file system with the volumes mounted?",
                path.display()
            ))
        };
        let mut info = BTreeMap::from([
            ("Path".to_owned(), path.display().to_string()),
            ("PrepareForVM".to_owned(), record.prepare_for_vm.to_string()),
        ]);
        let mut size = record.size;
        if let Some(enforced) = self.enforced(record) {
            info.insert("SizeEnforced".to_owned(), enforced.is_ok().to_string());
            if let Err(obstacle) = enforced {
                let hint = obstacle.hint();
                info.insert("SizeNotEnforced".to_owned(), format!("{size} bytes, but {obstacle}: {hint}"));
                size = 0;
            }
        }
        Volume {
            name: record.name.clone(),
            size,
            created: record.created_time,
            // Of the others no kernel and no record says that they are mounted: the host keeps count.
            mountpoint: Some(&path).filter(|_| !record.mount_point.is_empty()).cloned(),
            info,
            snapshots: record.snapshots.values().map(|snapshot| self.snapshot(record, snapshot)).collect(),
            health,
        }
    }

    pub(crate) fn snapshot(&self, volume: &VolumeRecord, snapshot: &SnapshotRecord) -> Snapshot {
        Snapshot {
            name: snapshot.name.clone(),
            volume: volume.name.clone(),
            created: snapshot.created_time,
            info: BTreeMap::from([
                ("FilePath".to_owned(), self.snapshot_path(volume, snapshot).display().to_string()),
                ("VolumeUUID".to_owned(), snapshot.volume_uuid.clone()),
            ]),
        }
    }

    pub(crate) fn create(&self, request: CreateVolume, context: &Context) -> VfsResult<Volume> {
        let options = CreateOptions::parse(&request.options)?;
        let name = request.name;
        if name.as_str() == CONFIG {
            return Err(VfsError::Reserved);
        }
        self.locked(&name, context, || {
            if self.records.exists(&name)? {
                return Err(VfsError::VolumeExists(name.clone()));
            }
            let target = self.layout.volume(&name);
            let mut record = VolumeRecord::new(name.clone(), target.clone());
            let kept = self.record_in(&self.kept, &name)?;
            if let Some(kept) = &kept {
                record.snapshots = kept.snapshots.clone();
                record.incarnation = kept.incarnation.clone();
                record.prepare_for_vm = kept.prepare_for_vm;
                record.size = kept.size;
            }
            if options.vm && !record.prepare_for_vm {
                record.prepare_for_vm = true;
                record.size = request.size.filter(|size| *size > 0).unwrap_or(self.default_size);
            }
            let mut quotas = None;
            if !record.prepare_for_vm
                && let Some(size) = request.size.filter(|size| *size > 0)
            {
                record.size = size;
                quotas = self.quotas(&name, size)?;
            }
            match fs::symlink_metadata(&target) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    self.make(&record, &options, quotas)?;
                }
                Err(e) => return Err(io_error("look at", &target)(e)),
                Ok(_) if target.is_dir() => {
                    record.adopted = kept.as_ref().is_none_or(|kept| kept.adopted);
                    self.adopt(&mut record, &options, quotas)?;
                }
                Ok(_) => return Err(VfsError::NotADirectory(target)),
            }
            if kept.is_some() {
                self.kept.delete(&name)?;
            }
            Ok(self.volume(&record))
        })
    }

    /// A volume where nothing is yet.
    fn make(&self, record: &VolumeRecord, options: &CreateOptions, quotas: Option<Quotas>) -> VfsResult<()> {
        let target = record.path.clone();
        if record.prepare_for_vm || quotas.is_some() {
            let parcel = self.workspace.parcel(Kind::Volume, &record.name, record.incarnation.as_ref())?;
            let data = parcel.join(DATA);
            self.make_data(&data, quotas)?;
            if options.changes_directory() {
                set_owner(&data, options)?;
            }
            match quotas {
                Some(quotas) => {
                    self.confine(quotas, &record.name, &data, record.size)?;
                    atomic::sync_dir(&data).map_err(io_error("sync the directory", &data))?;
                }
                None => make_image(&data, record.size)?,
            }
            self.publish(record, &parcel)?;
            self.workspace.discard(parcel);
            return Ok(());
        }
        // Empty so far, and so made in its place: the mark says that it was us.
        let mark = self.workspace.mark(&record.name)?;
        let made = make_dir(&target).and_then(|()| {
            self.fill_in(record, options).inspect_err(|_| {
                // Nobody has put anything there: the volume was never announced.
                let _ = fs::remove_dir(&target);
            })
        });
        self.workspace.unmark(mark);
        made
    }

    /// The record and the durability of a volume whose directory was made.
    fn fill_in(&self, record: &VolumeRecord, options: &CreateOptions) -> VfsResult<()> {
        if options.changes_directory() {
            set_owner(&record.path, options)?;
        }
        // Two directories change. That one is synced while the record is written.
        let named = self.names.begin();
        self.records.insert(&record.name, record)?;
        self.named(named).inspect_err(|_| self.undo_insert(&record.name))
    }

    pub(crate) fn named(&self, pending: Pending) -> VfsResult<()> {
        pending.wait().map_err(io_error("sync the directory", &self.layout.path))
    }

    /// Makes a volume of a parcel whose contents are on stable storage.
    pub(crate) fn publish(&self, record: &VolumeRecord, parcel: &Parcel) -> VfsResult<()> {
        self.records.insert(&record.name, record)?;
        let target = self.layout.volume(&record.name);
        place(&parcel.join(DATA), &target).inspect_err(|_| self.undo_insert(&record.name))
    }

    fn undo_insert(&self, name: &Name) {
        if let Err(error) = self.records.delete(name) {
            tracing::warn!(%name, %error, "cannot take back the record of a volume that could not be made");
        }
    }

    /// A volume of a directory that is there: what a reference-only delete kept, or what the administrator
    /// brought.
    fn adopt(
        &self,
        record: &mut VolumeRecord,
        options: &CreateOptions,
        quotas: Option<Quotas>,
    ) -> VfsResult<()> {
        let target = record.path.clone();
        match quotas.map(|quotas| self.confine(quotas, &record.name, &target, record.size)) {
            Some(Err(VfsError::NotEnforced { .. })) if !self.strict_size => {}
            confined => confined.transpose().map(drop)?,
        }
        if options.changes_directory() {
            set_owner(&target, options)?;
        }
        if record.prepare_for_vm {
            let image = target.join(IMAGE);
            match fs::symlink_metadata(&image) {
                Ok(meta) if meta.is_file() => record.size = meta.len(),
                Ok(_) => return Err(VfsError::NotADirectory(image)),
                Err(_) => make_image(&target, record.size)?,
            }
        }
        self.records.insert(&record.name, record)?;
        self.named(self.names.begin())
    }

    pub(crate) fn delete(&self, request: &DeleteVolume, context: &Context) -> VfsResult<()> {
        let name = &request.name;
        let trash = self.locked(name, context, || {
            let record = self.load(name)?;
            let _unused = self.locks.unused(name)?;
            if request.reference_only {
                self.forget(name).map(|()| None)
            } else {
                self.take_down(&record).map(Some)
            }
        })?;
        if let Some(parcel) = trash {
            self.workspace.discard(parcel);
        }
        Ok(())
    }

    /// The record becomes that of a kept volume: a create brings it back, snapshots and all.
    fn forget(&self, name: &Name) -> VfsResult<()> {
        let (from, to) = (self.records.path(name), self.kept.path(name));
        fs::rename(&from, &to).map_err(io_error("move", &from))?;
        let config = self.layout.config();
        atomic::sync_dir(&config).map_err(io_error("sync the directory", &config))
    }

    /// Takes a volume, or what is kept of one, and its snapshots out of sight; what is left to remove is in
    /// the parcel.
    pub(crate) fn take_down(&self, record: &VolumeRecord) -> VfsResult<Parcel> {
        let name = &record.name;
        let data = self.data(record);
        self.refuse_mounts(&data)?;
        let _claims =
            record.snapshots.values().map(|s| self.claim(record, s)).collect::<VfsResult<Vec<_>>>()?;
        for archive in record.snapshots.values().filter(|s| !s.is_tree()) {
            let path = self.snapshot_path(record, archive);
            atomic::remove(&path).map_err(io_error("remove", &path))?;
        }
        let parcel = self.workspace.parcel(Kind::Volume, name, record.incarnation.as_ref())?;
        let moves = [(data, parcel.join(DATA)), (self.layout.snapshots(name), parcel.join(SNAPSHOTS))];
        let moved = moves
            .iter()
            .filter(|(from, _)| exists(from))
            .try_for_each(|(from, to)| match rename_lifting(from, to) {
                // Outside `vfs.path`, where the record said: removed where it is.
                Err(e) if e.kind() == std::io::ErrorKind::CrossesDevices => {
                    quota::release(from);
                    Ok(remove_tree(from)?)
                }
                other => other.map_err(io_error("move", from)),
            })
            .and_then(|()| if self.kept.exists(name)? { Ok(self.kept.delete(name)?) } else { Ok(()) })
            .and_then(|()| Ok(self.records.delete(name)?))
            .and_then(|()| self.named(self.names.begin()));
        if let Err(error) = moved {
            self.put_back(&moves, name);
            return Err(error);
        }
        Ok(parcel)
    }

    fn put_back(&self, moves: &[(PathBuf, PathBuf)], name: &Name) {
        if [&self.records, &self.kept].iter().all(|store| !store.exists(name).unwrap_or(true)) {
            return;
        }
        for (from, to) in moves.iter().filter(|(from, to)| exists(to) && !exists(from)) {
            if let Err(error) = place(to, from) {
                tracing::error!(from = %to.display(), to = %from.display(), %error, "cannot undo a delete");
            }
        }
    }

    pub(crate) fn refuse_mounts(&self, data: &Path) -> VfsResult<()> {
        // The mount table has paths without links.
        let real = fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
        match MountTable::read()?.under(&real).next() {
            Some(mount) => Err(VfsError::MountedInside(mount.mountpoint.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn mount(&self, request: &MountVolume) -> VfsResult<Mounted> {
        if request.mountpoint.is_some() {
            return Err(VfsError::MountPoint);
        }
        let path = self.present(&self.load(&request.name)?)?;
        self.refuse_reachable(&path)?;
        self.locks.begin_use(&request.name)?;
        Ok(Mounted { mountpoint: path })
    }

    /// What lies in `vfs.path` is sheltered there; an administrator's link leads elsewhere.
    fn refuse_reachable(&self, path: &Path) -> VfsResult<()> {
        let real = |path: &Path| fs::canonicalize(path).map_err(io_error("find", path));
        let data = real(path)?;
        match data.parent() {
            Some(dir) if !data.starts_with(real(&self.layout.path)?) => shelter::refuse_reachable(dir, &data),
            _ => Ok(()),
        }
    }

    /// A directory needs no unmounting: only its use ends, and what 0.5 wrote down of it.
    pub(crate) fn unmount(&self, name: &Name, context: &Context) -> VfsResult<()> {
        self.locks.end_use(name);
        if self.load(name)?.mount_point.is_empty() {
            return Ok(());
        }
        self.locked(name, context, || {
            let mut record = self.load(name)?;
            record.mount_point.clear();
            Ok(self.records.save(name, &record)?)
        })
    }

    /// The data of a volume, which must be there.
    pub(crate) fn present(&self, record: &VolumeRecord) -> VfsResult<PathBuf> {
        let path = self.data(record);
        if path.is_dir() || (self.look_afresh(&[]) && path.is_dir()) {
            Ok(path)
        } else {
            Err(VfsError::DataMissing { volume: record.name.clone(), path })
        }
    }

    /// Writes down the size that a volume's image has.
    pub(crate) fn correct_size(&self, name: &Name) -> VfsResult<()> {
        self.locked(name, &Context::default(), || {
            let mut record = self.load(name)?;
            if let Some(size) = changed_size(&record, &self.data(&record)) {
                record.size = size;
                self.records.save(name, &record)?;
            }
            Ok(())
        })
    }

    pub(crate) fn resize(&self, request: &ResizeVolume, context: &Context) -> VfsResult<Volume> {
        let name = &request.name;
        self.locked(name, context, || {
            let mut record = self.load(name)?;
            if !record.prepare_for_vm {
                self.change_limit(&mut record, request.size)?;
                return Ok(self.volume(&record));
            }
            if request.size < record.size {
                return Err(VfsError::Shrink {
                    volume: name.clone(),
                    size: record.size,
                    wanted: request.size,
                });
            }
            let image = self.present(&record)?.join(IMAGE);
            let grow = || {
                let file = open_image(&image)?;
                if file.metadata()?.len() < request.size {
                    file.set_len(request.size)?;
                }
                file.sync_all()
            };
            grow().map_err(io_error("resize", &image))?;
            if request.size != record.size {
                record.size = request.size;
                self.records.save(name, &record)?;
            }
            Ok(self.volume(&record))
        })
    }
}

/// The image of a volume, which what runs in the volume can replace by a link: that is not followed.
pub(crate) fn open_image(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut options = File::options();
    options.read(true).write(true).custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
    let file = wait_for_lease(|| options.open(path))?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::ErrorKind::InvalidInput.into()) }
}

/// Renames a directory, also one that is immutable or append-only, or a read-only subvolume, if root may
/// change that.
pub(crate) fn rename_lifting(from: &Path, to: &Path) -> std::io::Result<()> {
    lifting(from, || fs::rename(from, to))
}

/// Does something to a directory, and once more without what may keep root from it.
pub(crate) fn lifting(dir: &Path, change: impl Fn() -> std::io::Result<()>) -> std::io::Result<()> {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    match change() {
        Err(e) if matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem) => {
            let own = fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir());
            if own && lift_flags(dir).is_ok_and(|lifted| lifted) { change() } else { Err(e) }
        }
        other => other,
    }
}

fn make_dir(path: &Path) -> VfsResult<()> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(io_error("make the directory", path))
}

/// Gives a volume's directory the owner and permissions asked for, durably.
pub(crate) fn set_owner(path: &Path, options: &CreateOptions) -> VfsResult<()> {
    let change = || {
        if options.uid.is_some() || options.gid.is_some() {
            std::os::unix::fs::chown(path, options.uid, options.gid)?;
        }
        if let Some(mode) = options.mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        File::open(path)?.sync_all()
    };
    change().map_err(io_error("set the owner and mode of", path))
}

fn make_image(dir: &Path, size: u64) -> VfsResult<()> {
    let path = dir.join(IMAGE);
    let make = || {
        let file = File::create_new(&path)?;
        file.set_len(size)?;
        file.sync_all()?;
        atomic::sync_dir(dir)
    };
    make().map_err(io_error("make the image", &path)).inspect_err(|_| {
        // Half an image is none.
        let _ = fs::remove_file(&path);
    })
}
