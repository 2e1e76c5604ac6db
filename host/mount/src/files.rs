//! Opens the files on a device: the kernel mounts its file system read-only, attached nowhere.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use convoy_backup::{BackupError, BackupResult, Browse, Node, ReadAt, Visitor, browse_directory};
use convoy_driver_sdk::{Context, DriverError, filesystem};
use convoy_tree::RelPath;

use crate::detached::{self, MountOption};
use crate::image;
use crate::loop_device::LoopDevice;

/// Why the files on a device cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The image cannot be served.
    #[error(
        "cannot serve the image through FUSE: {0}; let the daemon be root and have /dev/fuse (modprobe fuse), or \
         restore the backup into a volume and look there"
    )]
    Fuse(#[source] io::Error),
    /// The image cannot be made a device.
    #[error(
        "cannot make a loop device of the image: {0}; let the daemon be root and have /dev/loop-control and \
         /dev/loop*, or restore the backup into a volume and look there"
    )]
    Loop(#[source] io::Error),
    /// Another process was asked to mount it, and could not.
    #[error("{0}")]
    Keeper(String),
    /// What is on the device cannot be told.
    #[error(transparent)]
    Look(#[from] DriverError),
    /// No file system that can be read is on the device.
    #[error(
        "the device holds {found}, and files can be read from ext4, ext3, ext2, xfs and btrfs: restore it into a \
         volume and look there"
    )]
    NotFileSystem {
        /// What is there, as `blkid` names it.
        found: String,
    },
    /// The kernel does not mount it.
    #[error("the kernel does not mount the {kind} on the device: {source}; the kernel log (dmesg) says why")]
    Mount {
        /// The file system.
        kind: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The root directory cannot be opened.
    #[error(transparent)]
    Open(#[from] BackupError),
}

/// Opens the files on a device, which nobody writes to. Nothing is written to it: a journal is not replayed,
/// so files that were being changed when it was cut off look as they are on the disk.
///
/// # Errors
/// [`MountError`].
pub fn browse_device(device: &Path, context: &Context) -> Result<Arc<dyn Browse>, MountError> {
    let mount = mount(device, context)?;
    browse_mount(mount)
}

/// Opens the files in an image, as [`browse_device`] does. What the kernel asks for is read from the image,
/// and kept in the page cache.
///
/// # Errors
/// [`MountError`].
pub fn browse_image(image: Arc<dyn ReadAt>, context: &Context) -> Result<Arc<dyn Browse>, MountError> {
    let (fuse, served) = image::mount().map_err(MountError::Fuse)?;
    image::serve(image, fuse).map_err(MountError::Fuse)?;
    let files = mount_image(&served, context)?;
    browse_mount(files)
}

/// Mounts the files on the device whose image somebody serves in a mount: see [`image::mount`]. The loop device
/// goes with what is returned.
///
/// # Errors
/// [`MountError`].
pub(crate) fn mount_image(served: &OwnedFd, context: &Context) -> Result<OwnedFd, MountError> {
    let file = image::open(served).map_err(MountError::Fuse)?;
    let device = LoopDevice::new(&file).map_err(MountError::Loop)?;
    // The mount has the device open from then on.
    mount(&device.path, context)
}

/// Reads what is in a mount that is attached nowhere, and keeps it as long as that is read.
pub(crate) fn browse_mount(mount: OwnedFd) -> Result<Arc<dyn Browse>, MountError> {
    Ok(Arc::new(Files { tree: open(&mount)?, _mount: mount }))
}

/// Mounts what is on a device.
fn mount(device: &Path, context: &Context) -> Result<OwnedFd, MountError> {
    let kind = filesystem::signature(device, context)?.unwrap_or_else(|| "nothing that is known".to_owned());
    let unchanged: &[MountOption<'_>] = match kind.as_str() {
        "ext4" | "ext3" => &[("noload", None)],
        "xfs" => &[("norecovery", None), ("nouuid", None)],
        "btrfs" => &[("rescue", Some("nologreplay"))],
        "ext2" => &[],
        _ => return Err(MountError::NotFileSystem { found: kind }),
    };
    let source = device.display().to_string();
    let options = [&[("source", Some(source.as_str()))], unchanged].concat();
    detached::mount(&kind, &options).map_err(|source| MountError::Mount { kind, source: source.into() })
}

fn open(mount: &OwnedFd) -> BackupResult<Arc<dyn Browse>> {
    browse_directory(Path::new(&format!("/proc/self/fd/{}", mount.as_raw_fd())))
}

/// The files on a device, with what they need. Dropped in this order.
#[derive(Debug)]
struct Files {
    tree: Arc<dyn Browse>,
    _mount: OwnedFd,
}

impl Browse for Files {
    fn stat(&self, path: &RelPath) -> BackupResult<Node> {
        self.tree.stat(path)
    }

    fn list(&self, directory: &RelPath, after: Option<&RelPath>, limit: usize) -> BackupResult<Vec<Node>> {
        self.tree.list(directory, after, limit)
    }

    fn walk(&self, top: &RelPath, visit: Visitor<'_>) -> BackupResult<()> {
        self.tree.walk(top, visit)
    }

    fn open(&self, path: &RelPath) -> BackupResult<Box<dyn ReadAt>> {
        self.tree.open(path)
    }
}
