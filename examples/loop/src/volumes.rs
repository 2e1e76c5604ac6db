//! Making, mounting, resizing, listing and deleting volumes.

use convoy_driver_sdk::filesystem::{self, FsKind, Mount};
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{
    CreateVolume, DeleteVolume, Health, ListVolumes, ListedVolumes, MountVolume, Mounted, ResizeVolume,
    Volume,
};
use convoy_driver_sdk::records::RecordError;
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Name, Result, atomic};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::record::{Record, State};
use crate::{LoopImages, devices, images, options};

impl LoopImages {
    /// The record of a volume.
    pub(crate) fn record(&self, name: &Name) -> Result<Record> {
        let record = self.records.load(name)?.filter(|record| record.state == State::Ready);
        record.ok_or_else(|| DriverError::not_found(format!("there is no volume {name}")))
    }

    pub(crate) fn mountpoint(&self, name: &Name) -> PathBuf {
        self.root.join("mounts").join(name.as_str())
    }

    /// The device a volume is mounted from, if it is mounted.
    pub(crate) fn mounted(&self, name: &Name) -> Result<Option<PathBuf>> {
        Ok(MountTable::read()?.at(&self.mountpoint(name)).map(|mount| mount.source.clone()))
    }

    /// The same; of a volume that is not mounted nobody holds the image any more.
    ///
    /// # Errors
    /// `InUse` if somebody does.
    pub(crate) fn mounted_or_free(&self, name: &Name, context: &Context) -> Result<Option<PathBuf>> {
        let device = self.mounted(name)?;
        if device.is_none() {
            devices::wait_until_free(&self.images.volume(name), context)?;
        }
        Ok(device)
    }

    pub(crate) fn refuse_mounted(&self, name: &Name) -> Result<()> {
        if self.mounted(name)?.is_none() {
            return Ok(());
        }
        let text = format!("the volume {name} is mounted at {}", self.mountpoint(name).display());
        Err(DriverError::in_use(text).hint("stop the containers that use it"))
    }

    pub(crate) fn volume(&self, name: &Name, record: &Record, mounts: &MountTable) -> Volume {
        let image = self.images.volume(name);
        let (size, health) = match images::length(&image) {
            Ok(size) => (size, Health::Good),
            Err(error) => {
                let hint = error.hint.map(|hint| format!(": {hint}")).unwrap_or_default();
                (0, Health::Damaged(format!("{}{hint}", error.message)))
            }
        };
        Volume::new(name.clone(), size, record.created)
            .mountpoint(Some(self.mountpoint(name)).filter(|path| mounts.is_mounted(path)))
            .info(BTreeMap::from([
                ("Image".to_owned(), image.display().to_string()),
                ("FileSystem".to_owned(), record.fs.to_string()),
            ]))
            .snapshots(
                record
                    .snapshots
                    .iter()
                    .map(|(snapshot, taken)| self.snapshot(name, snapshot, *taken))
                    .collect(),
            )
            .health(health)
    }

    /// Refuses a name that a volume has, or data that is kept under it.
    pub(crate) fn refuse_taken(&self, name: &Name) -> Result<()> {
        let exists = |text: String| Err(DriverError::already_exists(text));
        let image = self.images.volume(name);
        match self.records.load(name)?.map(|record| record.state) {
            Some(State::Kept) => exists(format!("data of a deleted volume {name} is kept")),
            Some(_) => exists(format!("the volume {name} exists already")),
            None if image.exists() => exists(format!("{} is in no record", image.display())),
            None => Ok(()),
        }
    }

    pub(crate) fn create(&self, request: &CreateVolume, context: &Context) -> Result<Volume> {
        let name = &request.name;
        let (size, fs) = self.settings.wanted(request.size, &request.options)?;
        self.locked(name, || {
            if let Some(kept) = self.records.load(name)?.filter(|record| record.state == State::Kept) {
                return self.take_back(request, kept);
            }
            self.refuse_taken(name)?;
            let work = self.images.make(&format!("create-{}.img", self.number()), size)?;
            filesystem::mkfs_anew(fs, &work, context)
                .and_then(|()| self.publish(name, Record::new(fs, false), &work))
                .inspect_err(|_| images::discard(&work))
        })
    }

    /// What a delete with `reference_only` kept becomes a volume again, with its snapshots.
    fn take_back(&self, request: &CreateVolume, kept: Record) -> Result<Volume> {
        let name = &request.name;
        let size = images::length(&self.images.volume(name))?;
        let same_fs =
            request.options.is_empty() || self.settings.wanted(None, &request.options)?.1 == kept.fs;
        if !same_fs || request.size.is_some_and(|wanted| options::checked_size(wanted, kept.fs) != Ok(size)) {
            let text = format!("data of a deleted volume {name} is kept: {size} bytes with {}", kept.fs);
            return Err(DriverError::already_exists(text)
                .hint("create it without size and options to use that data again, or take another name"));
        }
        let record = Record { state: State::Ready, ..kept };
        self.records.save(name, &record)?;
        Ok(self.volume(name, &record, &MountTable::read()?))
    }

    /// Makes a volume of a finished image. When that fails the image is where it was.
    pub(crate) fn publish(&self, name: &Name, record: Record, work: &Path) -> Result<Volume> {
        self.records.insert(name, &record).map_err(|error| match error {
            RecordError::Exists { .. } => {
                DriverError::already_exists(format!("the volume {name} exists already"))
            }
            other => other.into(),
        })?;
        let record = Record { state: State::Ready, ..record };
        let done =
            self.images.place_volume(work, name).and_then(|()| Ok(self.records.save(name, &record)?));
        if let Err(error) = done {
            // Not there if it did not come that far; and what cannot be undone now is undone by the next
            // open.
            let _ = std::fs::rename(self.images.volume(name), work);
            self.records.delete(name)?;
            return Err(error);
        }
        Ok(self.volume(name, &record, &MountTable::read()?))
    }

    pub(crate) fn delete(&self, request: &DeleteVolume) -> Result<()> {
        let name = &request.name;
        self.locked(name, || {
            let record = self.record(name)?;
            self.refuse_mounted(name)?;
            if self.readings.lock().values().any(|reading| reading.volume == *name) {
                let text = format!("a snapshot of the volume {name} is being read");
                return Err(DriverError::in_use(text).hint("wait until the backup is done"));
            }
            if request.reference_only {
                return Ok(self.records.save(name, &Record { state: State::Kept, ..record })?);
            }
            self.records.save(name, &Record { state: State::Deleting, ..record })?;
            self.remove(name)
        })
    }

    /// The rest of a delete.
    pub(crate) fn remove(&self, name: &Name) -> Result<()> {
        self.images.remove_all(name)?;
        // Not there, or not empty: neither matters.
        let _ = std::fs::remove_dir(self.mountpoint(name));
        Ok(self.records.delete(name)?)
    }

    pub(crate) fn mount(&self, request: &MountVolume, context: &Context) -> Result<Mounted> {
        if request.mountpoint.is_some() {
            return Err(DriverError::unsupported("a mountpoint of the caller's choice"));
        }
        let name = &request.name;
        self.locked(name, || {
            let mut record = self.record(name)?;
            let (mountpoint, image) = (self.mountpoint(name), self.images.volume(name));
            let device = match self.mounted(name)? {
                Some(device) => device,
                None => {
                    if record.grows_unmounted() {
                        devices::wait_until_free(&image, context)?;
                        record = self.grow(name, record, &image, None, context)?;
                    }
                    let options = &self.settings.mount_options;
                    mount_image(&image, record.fs, options, &mountpoint, context)?
                }
            };
            if record.grow {
                match self.grow_mounted(name, record, &device, context) {
                    Err(error) if error.kind == ErrorKind::PermissionDenied => {
                        tracing::warn!(%name, %error, "the file system grows at the next mount");
                    }
                    grown => drop(grown?),
                }
            }
            Ok(Mounted::new(mountpoint))
        })
    }

    pub(crate) fn unmount(&self, name: &Name, context: &Context) -> Result<()> {
        self.locked(name, || {
            self.record(name)?;
            filesystem::unmount(&self.mountpoint(name), None, context)
        })
    }

    /// Grows a file system to its device, and remembers that.
    fn grow(
        &self,
        name: &Name,
        record: Record,
        device: &Path,
        mountpoint: Option<&Path>,
        context: &Context,
    ) -> Result<Record> {
        filesystem::grow(record.fs, device, mountpoint, context)?;
        let record = Record { grow: false, ..record };
        self.records.save(name, &record)?;
        Ok(record)
    }

    /// The same for a mounted one. The device may know of the size that the image had.
    fn grow_mounted(&self, name: &Name, record: Record, device: &Path, context: &Context) -> Result<Record> {
        devices::grow(device, context)?;
        self.grow(name, record, device, Some(&self.mountpoint(name)), context)
    }

    pub(crate) fn resize(&self, request: &ResizeVolume, context: &Context) -> Result<Volume> {
        let name = &request.name;
        self.locked(name, || {
            let mut record = self.record(name)?;
            let image = self.images.volume(name);
            let (now, size) = (images::length(&image)?, options::checked_size(request.size, record.fs)?);
            if size < now {
                let text = format!(
                    "the volume {name} has {now} bytes, which cannot become fewer ({})",
                    request.size
                );
                return Err(DriverError::invalid(text));
            }
            let device = self.mounted_or_free(name, context)?;
            if size > now {
                record.grow = true;
                self.records.save(name, &record)?;
                images::lengthen(&image, size)?;
            }
            // Also when the size is right already: an earlier call may have been cut off here.
            match device {
                Some(device) if record.grow => record = self.grow_mounted(name, record, &device, context)?,
                None if record.grows_unmounted() => {
                    record = self.grow(name, record, &image, None, context)?
                }
                _ => {}
            }
            Ok(self.volume(name, &record, &MountTable::read()?))
        })
    }

    pub(crate) fn get(&self, name: &Name) -> Result<Volume> {
        Ok(self.volume(name, &self.record(name)?, &MountTable::read()?))
    }

    pub(crate) fn list(&self, request: &ListVolumes) -> Result<ListedVolumes> {
        let mounts = MountTable::read()?;
        let (mut volumes, mut warnings) = (Vec::new(), Vec::new());
        for (name, record) in self.records.load_all()?.records {
            match record {
                Ok(record) if record.state != State::Ready => {}
                Ok(record) => volumes.push((name, record)),
                Err(damaged) => warnings.push(damaged.to_string()),
            }
        }
        let (page, more) = request.page(volumes);
        let volumes = page.iter().map(|(name, record)| self.volume(name, record, &mounts)).collect();
        Ok(ListedVolumes::new(volumes).more(more).warnings(warnings))
    }
}

/// Mounts an image, with options as after `mount -o`; gives the loop device, which goes when the image is
/// unmounted.
pub(crate) fn mount_image(
    image: &Path,
    fs: FsKind,
    options: &str,
    target: &Path,
    context: &Context,
) -> Result<PathBuf> {
    // The kernel would make an empty device of a file that is not there, were it made meanwhile.
    images::length(image)?;
    atomic::create_dir(target, 0o711).map_err(images::io("make", target))?;
    let device = devices::attach(image, context)?;
    let mount =
        Mount::new(device.clone(), target.to_owned(), fs.to_string()).options(fs.mount_options(options));
    let mounted = filesystem::mount(&mount, context);
    // Not the call's context: a call that is over must not leave the device behind.
    devices::release(&device, &Context::new(context.request_id()))?;
    mounted.map(|()| device)
}
