//! Restoring: an image that is no volume until everything is in it. The host writes either the image itself,
//! or files into the file system on it, so a backup of any driver can become a volume of this one.

use convoy_driver_sdk::filesystem::{self, FsKind};
use convoy_driver_sdk::protocol::{PrepareRestore, PreparedRestore, SourceKind, TargetLocation, Volume};
use convoy_driver_sdk::{Context, DriverError, Name, Result};
use std::path::{Path, PathBuf};

use crate::record::Record;
use crate::volumes::mount_image;
use crate::{LoopImages, images};

/// A restore between its beginning and its end.
#[derive(Debug, Clone)]
pub(crate) enum Restore {
    /// The host writes it.
    Open(Target),
    /// It has become this volume: a repeated finish answers it again.
    Finished(Name),
}

#[derive(Debug, Clone)]
pub(crate) struct Target {
    name: Name,
    work: PathBuf,
    fs: FsKind,
    /// Where the file system on it is mounted, if files are restored.
    mountpoint: Option<PathBuf>,
}

impl LoopImages {
    /// Where file systems are mounted that are no volumes yet.
    pub(crate) fn restore_mounts(&self) -> PathBuf {
        self.root.join("restores")
    }

    pub(crate) fn prepare(&self, request: &PrepareRestore, context: &Context) -> Result<PreparedRestore> {
        let (size, fs) = self.settings.wanted(request.size, &request.options)?;
        self.refuse_taken(&request.name)?;
        let handle = self.handle("restore");
        let work = self.images.make(&format!("{handle}.img"), size)?;
        let mut target = Target { name: request.name.clone(), work, fs, mountpoint: None };
        let location = match request.kind {
            SourceKind::Block => TargetLocation::block(target.work.clone(), size),
            SourceKind::Tree => {
                let path = self.restore_mounts().join(&handle);
                target.mountpoint = Some(path.clone());
                make_file_system(&target.work, fs, &path, context).inspect_err(|_| {
                    if let Err(error) = clear(&target, context) {
                        tracing::warn!(%error, "an unfinished restore stays until the next start");
                    }
                })?;
                TargetLocation::tree(path)
            }
        };
        self.restores.lock().insert(handle.clone(), Restore::Open(target));
        Ok(PreparedRestore::new(handle, location))
    }

    pub(crate) fn finish(&self, handle: &str, context: &Context) -> Result<Volume> {
        let target = match self.restores.lock().get(handle).cloned() {
            Some(Restore::Open(target)) => target,
            Some(Restore::Finished(name)) => return self.get(&name),
            None => {
                let text = format!("there is no restore {handle}");
                return Err(DriverError::not_found(text)
                    .hint("a restart of the driver ends its restores: begin anew"));
            }
        };
        let name = target.name.clone();
        let volume = self.locked(&name, || {
            self.refuse_taken(&name)?;
            let fs = match &target.mountpoint {
                Some(mountpoint) => {
                    release_mount(mountpoint, context)?;
                    target.fs
                }
                None => found_on(&target, context)?,
            };
            // The image may be larger than the volume that was backed up; a file system made here has its
            // size.
            self.publish(&name, Record::new(fs, target.mountpoint.is_none()), &target.work)
        })?;
        self.restores.lock().insert(handle.to_owned(), Restore::Finished(name));
        Ok(volume)
    }

    pub(crate) fn abort(&self, handle: &str, context: &Context) -> Result<()> {
        let found = self.restores.lock().get(handle).cloned();
        // A finished one is a volume now, and stays.
        let Some(Restore::Open(target)) = found else { return Ok(()) };
        clear(&target, context)?;
        self.restores.lock().remove(handle);
        Ok(())
    }
}

/// The file system that was restored into an image.
fn found_on(target: &Target, context: &Context) -> Result<FsKind> {
    images::sync(&target.work)?;
    let found = filesystem::signature(&target.work, context)?;
    let kind = found.as_deref().and_then(|text| text.parse().ok()).filter(|kind| *kind != FsKind::Btrfs);
    Ok(kind.unwrap_or_else(|| {
        tracing::warn!(volume = %target.name, ?found, "no known file system was restored");
        target.fs
    }))
}

/// An empty directory to restore files into.
fn make_file_system(image: &Path, fs: FsKind, mountpoint: &Path, context: &Context) -> Result<()> {
    filesystem::mkfs_anew(fs, image, context)?;
    mount_image(image, fs, "discard", mountpoint, context).map(drop)
}

pub(crate) fn release_mount(mountpoint: &Path, context: &Context) -> Result<()> {
    filesystem::unmount(mountpoint, None, context)?;
    match std::fs::remove_dir(mountpoint) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(images::io("remove", mountpoint)(error))
        }
        _ => Ok(()),
    }
}

fn clear(target: &Target, context: &Context) -> Result<()> {
    if let Some(mountpoint) = &target.mountpoint {
        release_mount(mountpoint, context)?;
    }
    images::discard(&target.work);
    Ok(())
}
