//! Making a volume: anew, of a backup, or of a cloud volume that is there already.

use super::{CloudDriver, ambiguous};
use crate::config::boolean;
use crate::intent::{Open, Operation};
use crate::provider::{CloudSnapshot, CloudVolume, Label, Provider, Purpose, SnapshotState, VolumeSpec};
use crate::record::VolumeRecord;
use crate::size::Gib;
use crate::{device, settings, wait};
use convoy_driver_sdk::context::Progress;
use convoy_driver_sdk::filesystem::{self, FsKind};
use convoy_driver_sdk::protocol::{CloneVolume, CreateVolume, Volume};
use convoy_driver_sdk::{Context, DriverError, Name, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to look for what a request whose answer was lost may have made.
const LOST_LIMIT: Duration = Duration::from_secs(5);
/// A snapshot of terabytes takes hours to become safe.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(24 * 3600);

impl<P: Provider> CloudDriver<P> {
    /// See [`CreateVolume`]. A cloud volume that bears the name already is taken as it is, never doubled and
    /// never replaced by an empty one.
    ///
    /// # Errors
    /// `AlreadyExists`, `InUse` elsewhere, `InvalidArgument`, `Exhausted`, those of the provider and of mkfs.
    pub(super) fn create_volume(&self, request: CreateVolume, context: &Context) -> Result<Volume> {
        let CreateVolume { name, size, mut options, .. } = request;
        settings::check::<P>(&mut options)?;
        let id = options.remove("id");
        let backup = options.remove("backup");
        let copy = boolean("copy", options.remove("copy").as_deref().unwrap_or_default())?;
        let fs = options.remove("fs").map_or(Ok(self.common.fs), |fs| settings::fs_kind(&fs))?;
        let size = size.filter(|size| *size > 0).map(settings::gib::<P>).transpose()?;
        self.records.absent(&name)?;
        let record = match (id, backup) {
            (Some(_), Some(_)) => {
                return Err(DriverError::invalid(
                    "expected either a volume id or a backup to begin with, found both",
                ));
            }
            (Some(id), None) => {
                let volume = self.cloud_volume(&id, context)?.ok_or_else(|| {
                    let text = format!("there is no volume {id} in {}", self.provider.region());
                    DriverError::not_found(text)
                })?;
                self.take(&name, volume, size, context)?
            }
            (None, Some(url)) => self.create_from_backup(&name, &url, copy, size, &options, context)?,
            (None, None) => {
                let wanted = size.unwrap_or(self.common.default_size);
                let settings = self.provider.settings(&options, wanted, false)?;
                match self.bearing(&name, context)? {
                    Some(volume) => self.take(&name, volume, size, context)?,
                    None => self.create_new(&name, wanted, fs, settings, context)?,
                }
            }
        };
        self.cache.clear();
        self.describe_one(&record, context)
    }

    /// The cloud volume that bears a name; an error if it cannot be taken for that volume.
    ///
    /// What an operation of this host began and did not finish is nobody's volume: it has come into sight
    /// only now, and is undone.
    pub(super) fn bearing(&self, name: &Name, context: &Context) -> Result<Option<CloudVolume>> {
        let mut found = Vec::new();
        for volume in self.provider.volumes_named(name, context)? {
            let reading = volume.label.as_ref().is_some_and(|label| label.purpose == Purpose::Reading);
            if !reading && !self.undo_cut_off(&volume, context)? {
                found.push(volume);
            }
        }
        let Some(volume) = found.pop() else { return Ok(None) };
        if let Some(other) = found.pop() {
            return Err(DriverError::already_exists(format!(
                "more than one cloud volume bears the name {name}: {}, {}",
                other.id, volume.id
            ))
            .hint("say which one is meant: create it with `--id`"));
        }
        if let Some(Label { purpose: Purpose::Restore, host, .. }) = &volume.label {
            let place = host.as_deref().unwrap_or("another host");
            return Err(DriverError::already_exists(format!(
                "{} bears the name {name}, but {place} began to restore into it and may not have finished",
                volume.id
            ))
            .hint(
                "delete it if the restore was cut off; if you know that it is whole, take it with `--id`",
            ));
        }
        Ok(Some(volume))
    }

    fn create_new(
        &self,
        name: &Name,
        size: Gib,
        fs: FsKind,
        settings: BTreeMap<String, String>,
        context: &Context,
    ) -> Result<VolumeRecord> {
        let label = self.label(name, None, Purpose::Volume);
        let (open, volume, found) = self.make(label, size, None, settings, context)?;
        match self.format(&found, size, fs, context) {
            Ok(()) => self.register(open, name, &volume),
            Err(error) => Err(self.roll_back(open, error)),
        }
    }

    /// Makes a file system on a volume of our own making, which must be empty and of the size ordered.
    pub(super) fn format(&self, found: &Path, size: Gib, fs: FsKind, context: &Context) -> Result<()> {
        let bytes = device::size(found)?;
        if bytes != size.bytes() {
            return Err(DriverError::data_loss(format!(
                "expected {} bytes at {}, found {bytes}: not formatted",
                size.bytes(),
                found.display()
            )));
        }
        filesystem::mkfs(fs, found, &self.command_context(context))
    }

    fn create_from_backup(
        &self,
        name: &Name,
        url: &str,
        copy: bool,
        size: Option<Gib>,
        options: &BTreeMap<String, String>,
        context: &Context,
    ) -> Result<VolumeRecord> {
        self.unclaimed(name, context)?;
        let (region, id) = Self::parse_url(url)?;
        let snapshot = self
            .provider
            .backup(&region, &id, context)?
            .ok_or_else(|| DriverError::not_found(format!("there is no backup {id} in {region}")))?;
        let wanted = at_least(&snapshot, size)?;
        let settings = self.provider.settings(options, wanted, true)?;
        if region == self.provider.region() {
            return self.create_from(name, &snapshot, wanted, settings, context);
        }
        if !copy {
            return Err(DriverError::invalid(format!(
                "the backup is in {region}, this host is in {}",
                self.provider.region()
            ))
            .hint(
                "add the option copy=true (`--copy`) to have it copied over first: that takes time and \
                traffic that is paid for",
            ));
        }
        let label = self.label(name, None, Purpose::Reading);
        let mut open = self.intents.begin(&label, Operation::Copy, None)?;
        let made = self.provider.copy_snapshot(&region, &id, &label, context).and_then(|snapshot| {
            open.found(&snapshot.id)?;
            self.create_from(name, &snapshot, wanted, settings, context)
        });
        match made {
            Err(error) => Err(self.roll_back(open, error)),
            Ok(record) => {
                // The copy is not needed any more; if it cannot be deleted now, the next sweep does it.
                if let Err(error) = self.undo(&open.intent, context).and_then(|_| open.done()) {
                    tracing::warn!(%error, "cannot delete the copy of a backup: tried again later");
                }
                Ok(record)
            }
        }
    }

    /// See [`CloneVolume`]: the provider makes a volume of its snapshot, which needs neither that nor the
    /// source later.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, `InvalidArgument` for less than the snapshot has.
    pub(super) fn clone_volume(&self, request: CloneVolume, context: &Context) -> Result<Volume> {
        let CloneVolume { name, source, snapshot, size, mut options, .. } = request;
        settings::check::<P>(&mut options)?;
        settings::refuse(&mut options, &["id", "backup", "copy", "fs"], "a clone")?;
        let size = size.filter(|size| *size > 0).map(settings::gib::<P>).transpose()?;
        let source = self.records.load(&source)?;
        let id = self.recorded_snapshot(&source, &snapshot)?.id.clone();
        self.records.absent(&name)?;
        self.unclaimed(&name, context)?;
        let found = self.provider.snapshots(&[&id], context)?.remove(&id).ok_or_else(|| gone(&id))?;
        let wanted = at_least(&found, size)?;
        let settings = self.provider.settings(&options, wanted, true)?;
        let record = self.create_from(&name, &found, wanted, settings, context)?;
        self.cache.clear();
        self.describe_one(&record, context)
    }

    /// Refuses a name that a cloud volume bears already.
    pub(super) fn unclaimed(&self, name: &Name, context: &Context) -> Result<()> {
        match self.bearing(name, context)? {
            None => Ok(()),
            Some(volume) => Err(DriverError::already_exists(format!(
                "{} bears the name {name} already: expected no such volume",
                volume.id
            ))
            .hint("choose another name, or take that volume with `convoy create`")),
        }
    }

    fn create_from(
        &self,
        name: &Name,
        snapshot: &CloudSnapshot,
        size: Gib,
        settings: BTreeMap<String, String>,
        context: &Context,
    ) -> Result<VolumeRecord> {
        let snapshot = self.completed(snapshot.clone(), context)?;
        let label = self.label(name, None, Purpose::Volume);
        let (open, volume, found) = self.make(label, size, Some(&snapshot.id), settings, context)?;
        let grown = if size > snapshot.size {
            self.grow(&found, None, context)
        } else {
            self.holds_fs(&found, context)
        };
        match grown {
            Ok(()) => self.register(open, name, &volume),
            Err(error) => Err(self.roll_back(open, error)),
        }
    }

    /// Waits until a snapshot is safe, reporting how far it is.
    pub(super) fn completed(&self, snapshot: CloudSnapshot, context: &Context) -> Result<CloudSnapshot> {
        let mut seen = Some(snapshot);
        let id = seen.as_ref().map(|snapshot| snapshot.id.clone()).unwrap_or_default();
        let (mut unseen, begun) = (0, Instant::now());
        wait::until(format!("{id} to complete"), wait::Backoff::lengthy(), SNAPSHOT_LIMIT, context, || {
            let now = match seen.take() {
                Some(snapshot) => Some(snapshot),
                None => self.provider.snapshots(&[&id], context)?.remove(&id),
            };
            let Some(now) = now else {
                unseen += 1;
                // The first answers after its making may not know it yet.
                return if unseen < 8 { Ok(None) } else { Err(gone(&id)) };
            };
            match &now.state {
                SnapshotState::Completed => Ok(Some(now)),
                SnapshotState::Failed(reason) => {
                    Err(DriverError::data_loss(format!("the snapshot {id} failed: {reason}")))
                }
                SnapshotState::Pending(percent) => {
                    // Where the provider does not say how far it is, that it is asked says that all is well.
                    let (done, total, unit) = match percent {
                        Some(percent) => (*percent, Some(100), "percent"),
                        None => (begun.elapsed().as_secs(), None, "seconds"),
                    };
                    let note = Some(format!("{id} is being stored"));
                    context.progress(Progress::new(done, unit.to_owned()).total(total).note(note));
                    Ok(None)
                }
            }
        })
    }

    /// Makes a cloud volume, attaches it and waits for its device; undoes all of it when a step fails.
    pub(super) fn make(
        &self,
        label: Label,
        size: Gib,
        snapshot: Option<&str>,
        settings: BTreeMap<String, String>,
        context: &Context,
    ) -> Result<(Open<'_>, CloudVolume, PathBuf)> {
        let mut open = self.intents.begin(&label, Operation::Made, None)?;
        let token = open.token().to_owned();
        let spec = VolumeSpec { label, token, size, snapshot: snapshot.map(str::to_owned), settings };
        self.cache.clear();
        let steps = |open: &mut Open<'_>| {
            let made = match self.provider.create_volume(&spec, context) {
                Err(error) if ambiguous(&error) => self.lost_volume(&spec.label, context).ok_or(error)?,
                made => made?,
            };
            open.found(&made.id)?;
            let made = self.available(&made.id, context)?;
            self.attached(&made, context)
        };
        match steps(&mut open) {
            Ok((volume, found)) => Ok((open, volume, found)),
            Err(error) => Err(self.roll_back(open, error)),
        }
    }

    /// The volume that a request made whose answer was lost.
    fn lost_volume(&self, label: &Label, context: &Context) -> Option<CloudVolume> {
        wait::until("the answer of a lost request", wait::Backoff::brief(), LOST_LIMIT, context, || {
            Ok(self.provider.volumes_with_token(label, context)?.pop())
        })
        .ok()
    }

    /// Takes an existing cloud volume as a convoy volume, with what is on it.
    fn take(
        &self,
        name: &Name,
        volume: CloudVolume,
        size: Option<Gib>,
        context: &Context,
    ) -> Result<VolumeRecord> {
        if let Some(size) = size.filter(|size| *size != volume.size) {
            return Err(DriverError::already_exists(format!(
                "{} has {}, not the {size} asked for",
                volume.id, volume.size
            ))
            .hint("leave the size out to take it as it is; resize it afterwards"));
        }
        let (records, _) = self.records.all()?;
        if let Some(other) = records.values().flatten().find(|record| record.id == volume.id) {
            return Err(DriverError::already_exists(format!(
                "{} is the volume {} already",
                volume.id, other.name
            )));
        }
        let mut label = self.label(name, None, Purpose::Volume);
        let attached_before = volume.attachment.as_ref().is_some_and(|attachment| attachment.here);
        let open = self.intents.begin(&label, Operation::Attached, Some(volume.id.clone()))?;
        let taken = self.attached(&volume, context).and_then(|(volume, found)| {
            self.holds_fs(&found, context)?;
            // It keeps the token of its making: this one names only the attachment.
            label.token = volume.label.as_ref().and_then(|label| label.token.clone());
            self.provider.label_volume(&volume.id, &label, context)?;
            Ok(volume)
        });
        match taken {
            Ok(volume) => self.register(open, name, &volume),
            Err(error) if attached_before => {
                open.done()?;
                Err(error)
            }
            Err(error) => Err(self.roll_back(open, error)),
        }
    }

    /// Refuses a device with nothing on it: convoy makes file systems only on volumes of its own making, and
    /// only while it makes them.
    pub(super) fn holds_fs(&self, found: &Path, context: &Context) -> Result<()> {
        match filesystem::signature(found, &self.command_context(context))? {
            Some(_) => Ok(()),
            None => Err(DriverError::invalid(format!(
                "expected a file system on {}, found nothing",
                found.display()
            ))
            .hint(
                "convoy formats only new volumes of its own: run mkfs on it by hand, then create with `--id`",
            )),
        }
    }

    /// The volume is whole: it becomes known by its record, and its intent is forgotten.
    pub(super) fn register(&self, open: Open<'_>, name: &Name, volume: &CloudVolume) -> Result<VolumeRecord> {
        let mut record = VolumeRecord::new(name.clone(), volume.id.clone());
        record.size = volume.size.bytes();
        record.created_time = Some(volume.created);
        record.cloud_name = volume.cloud_name.clone();
        if let Err(error) = self.records.insert(&record) {
            return Err(self.roll_back(open, error));
        }
        open.done()?;
        self.cache.clear();
        Ok(record)
    }
}

/// The size of a volume of a snapshot: what is asked for, or the snapshot's.
fn at_least(snapshot: &CloudSnapshot, size: Option<Gib>) -> Result<Gib> {
    match size {
        Some(size) if size < snapshot.size => Err(DriverError::invalid(format!(
            "expected at least the {} of {}, found {size}",
            snapshot.size, snapshot.id
        ))),
        size => Ok(size.unwrap_or(snapshot.size)),
    }
}

pub(super) fn gone(id: &str) -> DriverError {
    DriverError::not_found(format!("the snapshot {id} does not exist any more"))
}
