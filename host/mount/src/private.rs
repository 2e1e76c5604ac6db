//! Mounts a file system read-only in a mount namespace of its own.
//!
//! A thread makes the namespace and stays in it while somebody reads. Nobody else sees what is mounted there.
//! When this process dies, however, the kernel takes everything down: the namespace, the mounts, the loop
//! device. So nothing has to be cleared at the next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use convoy_backup::{BackupResult, Browse, Node, ReadAt, Visitor, browse_directory};
use convoy_driver_sdk::command::{Command, CommandError};
use convoy_driver_sdk::{Context, DriverError, filesystem};
use convoy_tree::RelPath;
use fuser::BackgroundSession;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::image;

/// Why the files on a device cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A system call failed.
    #[error("cannot {action}: {source}; the daemon must be root, with CAP_SYS_ADMIN")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The image cannot be served.
    #[error(
        "cannot serve the image through FUSE: {0}; load the module (modprobe fuse) and let the daemon have \
         /dev/fuse, or restore the backup into a volume and look there"
    )]
    Fuse(std::io::Error),
    /// What is on the device cannot be told.
    #[error(transparent)]
    Look(#[from] DriverError),
    /// No file system that can be read is on the device.
    #[error(
        "the device holds {found}, and files can be read from ext4, xfs and btrfs alone: restore it into a \
         volume and look there"
    )]
    NotFileSystem {
        /// What is there, as `blkid` names it.
        found: String,
    },
    /// The kernel does not mount it.
    #[error(transparent)]
    Mount(#[from] CommandError),
    /// The root directory cannot be opened.
    #[error(transparent)]
    Open(#[from] convoy_backup::BackupError),
    /// The thread that mounts has died.
    #[error("the thread that mounts has failed: see the log")]
    Lost,
}

impl MountError {
    fn system(action: &'static str) -> impl FnOnce(nix::Error) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}

/// Where the file system is.
#[derive(Debug)]
enum Source {
    Device(PathBuf),
    Image(Arc<dyn ReadAt>),
}

/// Opens the files on a device, which nobody writes to. Its journal is not replayed: what a snapshot froze
/// needs none.
///
/// `scratch` is an empty directory; nobody else sees what is mounted there. It must stay while this is open.
///
/// # Errors
/// [`MountError`].
pub fn browse_device(
    device: &Path,
    scratch: &Path,
    context: &Context,
) -> Result<Arc<dyn Browse>, MountError> {
    Private::open(Source::Device(device.to_owned()), scratch, context)
}

/// Opens the files in an image, as [`browse_device`] does.
///
/// # Errors
/// [`MountError`].
pub fn browse_image(
    image: Arc<dyn ReadAt>,
    scratch: &Path,
    context: &Context,
) -> Result<Arc<dyn Browse>, MountError> {
    Private::open(Source::Image(image), scratch, context)
}

/// Files that are mounted in the namespace of a thread.
#[derive(Debug)]
struct Private {
    /// Closed before the thread unmounts.
    files: Option<Arc<dyn Browse>>,
    /// The thread ends when this is dropped.
    stay: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Private {
    fn open(source: Source, scratch: &Path, context: &Context) -> Result<Arc<dyn Browse>, MountError> {
        let (stay, gone) = channel();
        let (opened, answer) = channel();
        let (scratch, context) = (scratch.to_owned(), context.clone());
        let work = move || hold(source, &scratch, &context, &opened, &gone);
        let thread = std::thread::Builder::new().name("files".to_owned()).spawn(work);
        let thread = thread.map_err(|source| MountError::System { action: "start a thread", source })?;
        let files = answer.recv().map_err(|_| MountError::Lost)??;
        Ok(Arc::new(Self { files: Some(files), stay: Some(stay), thread: Some(thread) }))
    }

    fn files(&self) -> BackupResult<&dyn Browse> {
        self.files.as_deref().ok_or(convoy_backup::BackupError::Cancelled)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.files.take();
        self.stay.take();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that mounted a snapshot or backup has failed");
        }
    }
}

impl Browse for Private {
    fn stat(&self, path: &RelPath) -> BackupResult<Node> {
        self.files()?.stat(path)
    }

    fn list(&self, directory: &RelPath, after: Option<&RelPath>, limit: usize) -> BackupResult<Vec<Node>> {
        self.files()?.list(directory, after, limit)
    }

    fn walk(&self, top: &RelPath, visit: Visitor<'_>) -> BackupResult<()> {
        self.files()?.walk(top, visit)
    }

    fn open(&self, path: &RelPath) -> BackupResult<Box<dyn ReadAt>> {
        self.files()?.open(path)
    }
}

type Opened = Result<Arc<dyn Browse>, MountError>;

/// Mounts, hands the files over, and unmounts when nobody reads any more.
fn hold(source: Source, scratch: &Path, context: &Context, opened: &Sender<Opened>, gone: &Receiver<()>) {
    match Mounted::new(source, scratch, context) {
        Ok(mounted) => {
            // Who waits for it may have been cancelled; then `gone` says so.
            let _ = opened.send(browse_directory(&mounted.files).map_err(MountError::from));
            let _ = gone.recv();
            mounted.end();
        }
        Err(error) => {
            let _ = opened.send(Err(error));
        }
    }
}

/// What is mounted in the namespace of this thread.
struct Mounted {
    files: PathBuf,
    image: Option<BackgroundSession>,
}

impl Mounted {
    fn new(source: Source, scratch: &Path, context: &Context) -> Result<Self, MountError> {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)
            .map_err(MountError::system("make a mount namespace"))?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(MountError::system("make the mounts of a namespace private"))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("convoy"), scratch, Some("tmpfs"), flags, Some("mode=0700,size=64k"))
            .map_err(MountError::system("mount a tmpfs"))?;
        let (files, images) = (scratch.join("files"), scratch.join("image"));
        for directory in [&files, &images] {
            std::fs::create_dir(directory)
                .map_err(|source| MountError::System { action: "make a directory in a tmpfs", source })?;
        }
        let (device, image) = match source {
            Source::Device(device) => (device, None),
            Source::Image(image) => {
                let session = image::serve(image, &images).map_err(MountError::Fuse)?;
                (images.join(image::NAME), Some(session))
            }
        };
        let mounted = Self { files, image };
        match mounted.mount(&device, context) {
            Ok(()) => Ok(mounted),
            Err(error) => {
                mounted.end();
                Err(error)
            }
        }
    }

    fn mount(&self, device: &Path, context: &Context) -> Result<(), MountError> {
        let found = filesystem::signature(device, context)?;
        // Without their journals: to replay one is to write.
        let options = match found.as_deref() {
            Some("ext4" | "ext3") => "noload",
            Some("xfs") => "norecovery,nouuid",
            Some("btrfs") => "rescue=nologreplay",
            Some("ext2") => "nosuid",
            found => {
                let found = found.unwrap_or("nothing that is known").to_owned();
                return Err(MountError::NotFileSystem { found });
            }
        };
        let kind = found.unwrap_or_default();
        let loops = if self.image.is_some() { ",loop" } else { "" };
        let options = format!("ro,nosuid,nodev,noexec,noatime{loops},{options}");
        // -i: no helper of the file system. -n: nothing is written to /etc/mtab.
        let command = Command::new("mount").package("mount").args(["-i", "-n", "-t", &kind, "-o", &options]);
        command.arg("--").arg(device).arg(&self.files).run(context)?;
        Ok(())
    }

    fn end(self) {
        // The files first: they lie on the image. What is still in use goes when it is closed.
        let detached = umount2(&self.files, MntFlags::MNT_DETACH);
        if let Err(error) = detached
            && error != nix::Error::EINVAL
        {
            tracing::warn!(%error, "cannot unmount the files of a snapshot or backup");
        }
        if let Some(image) = self.image
            && let Err(error) = image.umount_and_join()
        {
            tracing::warn!(%error, "cannot end the image of a backup");
        }
    }
}
