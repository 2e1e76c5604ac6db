//! The calls of the driver protocol, for any provider.
//!
//! - [`create`]: make, take or restore a volume; `mount`, `resize`, `delete`: use it and end it.
//! - `list`: describe volumes, many with one call; `snapshot`, `backup`: the provider's snapshots.
//! - `read`, `restore`: the seam to the backup engine; `recover`: what earlier lives left;
//!   `check`: what is not as it should be.
//! - `calls`: the trait of the driver protocol, which leads to all of these.

mod backup;
mod cache;
mod calls;
mod check;
mod create;
mod delete;
mod list;
mod mount;
mod read;
mod recover;
mod resize;
mod restore;
mod snapshot;

use crate::config::{Common, Config};
use crate::intent::{Intents, Open};
use crate::provider::{CloudVolume, Handle, Label, Provider, Purpose, VolumeState};
use crate::record::{Records, VolumeRecord};
use crate::{device, wait};
use cache::Cache;
use convoy_driver_sdk::filesystem::{self, FsKind, Mount};
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{Open as Opening, Opened};
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Name, Result, atomic};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a new volume may take to become available.
const AVAILABLE_LIMIT: Duration = Duration::from_secs(300);
/// How long the kernel may take to show an attached volume.
const DEVICE_LIMIT: Duration = Duration::from_secs(90);
/// How long a volume that the provider has acknowledged may be unknown to it.
const VISIBLE_LIMIT: Duration = Duration::from_secs(30);
/// How long a clean-up may take when the call it belongs to has no time left.
const UNDO_LIMIT: Duration = Duration::from_secs(120);
/// Only the daemon enters the directories that volumes are mounted in.
const DIR_MODE: u32 = 0o700;

/// A driver for a provider's block volumes.
#[derive(Debug)]
pub struct CloudDriver<P> {
    provider: P,
    root: PathBuf,
    namespace: Option<PathBuf>,
    command_limit: Option<Duration>,
    common: Common,
    records: Records,
    intents: Intents,
    cache: Cache,
    swept: Mutex<Instant>,
}

impl<P: Provider> CloudDriver<P> {
    /// Opens the records and intents below the driver's root and finishes or undoes what was cut off; with a
    /// configuration from elsewhere than the request's options.
    ///
    /// # Errors
    /// When the root cannot be used, or the provider says that this is none of its instances. A provider that
    /// cannot be reached is only a warning: what is left stays written down.
    pub fn open_with(config: Config<P::Own>, request: Opening, context: &Context) -> Result<(Self, Opened)> {
        let common = config.common.clone();
        let provider = P::connect(config, context)?;
        let records = Records::open::<P>(&request.root)?;
        let intents = Intents::open(&request.root.join("intents"))?;
        let driver = Self {
            provider,
            root: request.root,
            namespace: request.mount_namespace,
            command_limit: request.command_timeout_ms.map(Duration::from_millis),
            common,
            records,
            intents,
            cache: Cache::default(),
            swept: Mutex::new(Instant::now()),
        };
        let opened = driver.recover(context)?;
        Ok((driver, opened))
    }

    pub fn provider(&self) -> &P {
        &self.provider
    }

    fn label(&self, volume: &Name, snapshot: Option<&Name>, purpose: Purpose) -> Label {
        Label {
            volume: volume.clone(),
            snapshot: snapshot.cloned(),
            purpose,
            token: Some(crate::intent::token()),
            host: Some(self.provider.instance().to_owned()),
        }
    }

    /// The call's context, with the limit of external commands if that is nearer.
    fn command_context(&self, context: &Context) -> Context {
        let Some(limit) = self.command_limit else { return context.clone() };
        let limit = context.remaining().map_or(limit, |remaining| remaining.min(limit));
        context.clone().with_deadline(Some(Instant::now() + limit))
    }

    /// One volume as the provider has it now.
    fn cloud_volume(&self, id: &str, context: &Context) -> Result<Option<CloudVolume>> {
        Ok(self.provider.volumes(&[id], context)?.remove(id))
    }

    /// A recorded volume as the provider has it now.
    fn existing(&self, record: &VolumeRecord, context: &Context) -> Result<CloudVolume> {
        self.cloud_volume(&record.id, context)?.ok_or_else(|| {
            DriverError::data_loss(format!(
                "volume {}: {} no longer exists in {}",
                record.name,
                record.id,
                self.provider.region()
            ))
            .hint("forget it with `convoy delete --reference`, or restore a backup under another name")
        })
    }

    /// Waits until a volume is no longer being made.
    fn available(&self, id: &str, context: &Context) -> Result<CloudVolume> {
        let begin = Instant::now();
        let what = format!("{id} to become available");
        wait::until(what, wait::Backoff::brief(), AVAILABLE_LIMIT, context, || {
            match self.cloud_volume(id, context)? {
                Some(CloudVolume { state: VolumeState::Creating, .. }) => Ok(None),
                Some(CloudVolume { state: VolumeState::Failed(reason), .. }) => {
                    Err(DriverError::unavailable(format!("{id} cannot be used: {reason}")))
                }
                Some(CloudVolume { state: VolumeState::Deleting, .. }) => {
                    Err(DriverError::not_found(format!("{id} is being deleted")))
                }
                Some(volume) => Ok(Some(volume)),
                None if begin.elapsed() < VISIBLE_LIMIT => Ok(None),
                None => Err(DriverError::not_found(format!("{id} does not exist"))),
            }
        })
    }

    /// Attaches a volume here, if it is not yet, and waits until the kernel shows it.
    fn attached(&self, volume: &CloudVolume, context: &Context) -> Result<(CloudVolume, PathBuf)> {
        let volume = self.provider.attach(volume, context)?;
        let asked_for = volume.attachment.as_ref().and_then(|attachment| attachment.device.as_deref());
        let handle = Handle { id: &volume.id, cloud_name: volume.cloud_name.as_deref(), device: asked_for };
        let what = format!("the kernel to show {}", volume.id);
        let found = wait::until(what, wait::Backoff::brief(), DEVICE_LIMIT, context, || {
            let found = self.provider.device(handle)?;
            Ok(found.filter(|path| device::size(path).is_ok_and(|bytes| bytes > 0)))
        })?;
        Ok((volume, found))
    }

    /// Where the kernel shows a recorded volume: found locally if that is certain, otherwise by asking the
    /// provider, and attached if it is not.
    fn usable(&self, record: &VolumeRecord, context: &Context) -> Result<PathBuf> {
        let handle = Handle { id: &record.id, cloud_name: record.cloud_name.as_deref(), device: None };
        if let Some(found) = self.provider.device(handle)? {
            return Ok(found);
        }
        let volume = self.existing(record, context)?;
        self.cache.clear();
        Ok(self.attached(&volume, context)?.1)
    }

    /// The directory a volume is mounted in unless the caller names another.
    fn default_mountpoint(&self, name: &Name) -> PathBuf {
        self.root.join("mounts").join(name.as_str())
    }

    /// Where the kernel has a volume mounted.
    fn mounted_at(&self, record: &VolumeRecord, table: &MountTable) -> Option<PathBuf> {
        [record.mount_point.clone(), self.default_mountpoint(&record.name)]
            .into_iter()
            .find(|path| table.is_mounted(path))
    }

    fn mount_table(&self) -> Result<MountTable> {
        Ok(MountTable::in_namespace(self.namespace.as_deref())?)
    }

    /// A path of the mount namespace, as this process can open it.
    fn through_namespace(&self, path: &Path) -> PathBuf {
        match self.namespace.as_deref().and_then(Path::parent).and_then(Path::parent) {
            Some(process) => process.join("root").join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// Mounts a file system for the driver's own work, in this process's namespace.
    fn mount_privately(&self, source: &Path, fs: &str, target: &Path, context: &Context) -> Result<()> {
        atomic::create_dir(target, DIR_MODE)
            .map_err(|error| DriverError::io(format_args!("make {}", target.display()), &error))?;
        let mount =
            Mount::new(source.to_owned(), target.to_owned(), fs.to_owned()).options(mount_options(fs, ""));
        filesystem::mount(&mount, &self.command_context(context))
    }

    /// Undoes [`Self::mount_privately`], if it is done.
    fn unmount_privately(&self, target: &Path, context: &Context) -> Result<()> {
        filesystem::unmount(target, None, &self.command_context(context))?;
        // Not there is as good as removed; a directory that is not empty is nobody's mount any more.
        let _ = std::fs::remove_dir(target);
        Ok(())
    }

    /// Grows what is on a device to the size of the device, wherever it is mounted.
    fn grow(&self, source: &Path, mounted: Option<&Path>, context: &Context) -> Result<()> {
        let context = self.command_context(context);
        let found = filesystem::signature(source, &context)?;
        let kind: FsKind = match found.as_deref().map(str::parse) {
            Some(Ok(kind)) => kind,
            _ => {
                return Err(DriverError::unsupported(format_args!(
                    "growing what is on {}: {}",
                    source.display(),
                    found.as_deref().unwrap_or("nothing known")
                )));
            }
        };
        if mounted.is_some() && self.namespace.is_some() {
            return Err(DriverError::unsupported(
                "growing a volume that is mounted in another mount namespace",
            )
            .hint("stop the container that uses it, resize, and start it again"));
        }
        if mounted.is_some() || kind == FsKind::Ext4 {
            return filesystem::grow(kind, source, mounted, &context);
        }
        let target = self.root.join("growing").join(crate::intent::token());
        self.mount_privately(source, kind.as_str(), &target, &context)?;
        let grown = filesystem::grow(kind, source, Some(&target), &context);
        self.unmount_privately(&target, &context)?;
        grown
    }

    /// The operation has failed: removes what it made. What cannot be removed now stays written down.
    fn roll_back(&self, open: Open<'_>, mut error: DriverError) -> DriverError {
        self.cache.clear();
        if open.intent.resource.is_none() && !ambiguous(&error) {
            // Refused outright: there is nothing to find.
            if let Err(left) = open.done() {
                tracing::warn!(%left, "cannot remove an intent");
            }
            return error;
        }
        let context = Context::new("undo").with_deadline(Some(Instant::now() + UNDO_LIMIT));
        let undone = self.undo(&open.intent, &context);
        match undone {
            Ok(recover::UndoOutcome::Settled(_)) => {
                if let Err(left) = open.done() {
                    tracing::warn!(%left, "cannot remove an intent");
                }
                error
            }
            Ok(recover::UndoOutcome::Unsettled) => error,
            Err(left) => {
                tracing::warn!(token = open.token(), %left, "cannot undo an operation that failed: tried again later");
                error.message = format!(
                    "{} (what it had made could not be removed yet, and is remembered: {left})",
                    error.message
                );
                error
            }
        }
    }
}

/// Mount options, and before them those without which a copy of a file system cannot be mounted beside its
/// origin.
fn mount_options(fs: &str, options: &str) -> String {
    fs.parse::<FsKind>().map_or_else(|_| options.to_owned(), |kind| kind.mount_options(options))
}

/// Whether a request that came back with this may have been carried out all the same.
fn ambiguous(error: &DriverError) -> bool {
    matches!(
        error.kind,
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded | ErrorKind::Cancelled | ErrorKind::Internal
    )
}
