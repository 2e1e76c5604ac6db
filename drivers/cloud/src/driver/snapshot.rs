//! Snapshots: the provider's own.

use super::{CloudDriver, ambiguous, list};
use crate::intent::{Open, Operation};
use crate::provider::{CloudSnapshot, Label, Provider, Purpose};
use crate::record::{SnapshotRecord, VolumeRecord};
use crate::wait;
use convoy_driver_sdk::freeze::Frozen;
use convoy_driver_sdk::protocol::{CreateSnapshot, DeleteSnapshot, Snapshot};
use convoy_driver_sdk::{Context, DriverError, Name, Result};
use std::fs::File;
use std::time::Duration;

/// How long writers may be held still: a provider fixes a snapshot's content in a second or two.
const FREEZE_LIMIT: Duration = Duration::from_secs(60);
/// How long to look for what a request whose answer was lost may have made.
const LOST_LIMIT: Duration = Duration::from_secs(10);

impl<P: Provider> CloudDriver<P> {
    /// See [`CreateSnapshot`]. Returns when the content is fixed; the provider stores it meanwhile.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, `Exhausted` at the provider's limits, `Busy` if the file system could not
    /// be held still long enough.
    pub(super) fn create_snapshot(&self, request: CreateSnapshot, context: &Context) -> Result<Snapshot> {
        let record = self.records.load(&request.volume)?;
        if record.snapshots.contains_key(&request.snapshot) {
            return Err(DriverError::already_exists(format!(
                "volume {} has a snapshot {} already",
                record.name, request.snapshot
            )));
        }
        let label = self.label(&record.name, Some(&request.snapshot), Purpose::Volume);
        let mut open = self.intents.begin(&label, Operation::Snapshot { of: record.id.clone() }, None)?;
        self.cache.clear();
        let freeze = request.freeze || self.common.freeze;
        let taken =
            self.hold_still(&record, freeze, || self.take_snapshot(&mut open, &record.id, &label, context));
        let snapshot = match taken {
            Ok(snapshot) => snapshot,
            Err(error) => return Err(self.roll_back(open, error)),
        };
        let entry = SnapshotRecord {
            name: request.snapshot.clone(),
            volume_name: record.name.clone(),
            id: snapshot.id.clone(),
            created_time: Some(snapshot.created),
            size: snapshot.size.bytes(),
            backup: false,
            deleting: false,
        };
        let kept = self.records.change(&record.name, |record| {
            record.snapshots.insert(request.snapshot, entry.clone());
        });
        if let Err(error) = kept {
            return Err(self.roll_back(open, error));
        }
        open.done()?;
        self.cache.clear();
        Ok(list::view_snapshot(&entry, Some(&snapshot)))
    }

    /// Runs `take` while nothing of what was acknowledged to writers is missing on the device: frozen, or at
    /// least synced just before.
    fn hold_still<T>(
        &self,
        record: &VolumeRecord,
        freeze: bool,
        take: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(mountpoint) = self.mounted_at(record, &self.mount_table()?) else { return take() };
        let mountpoint = self.through_namespace(&mountpoint);
        if freeze {
            let frozen = Frozen::freeze(&mountpoint, FREEZE_LIMIT)?;
            let taken = take()?;
            frozen.thaw()?;
            return Ok(taken);
        }
        let synced = File::open(&mountpoint).and_then(|dir| Ok(nix::unistd::syncfs(dir)?));
        synced.map_err(|error| DriverError::io(format_args!("sync {}", mountpoint.display()), &error))?;
        take()
    }

    fn take_snapshot(
        &self,
        open: &mut Open<'_>,
        of: &str,
        label: &Label,
        context: &Context,
    ) -> Result<CloudSnapshot> {
        let snapshot = match self.provider.create_snapshot(of, label, context) {
            Err(error) if ambiguous(&error) => {
                // Its answer may be lost; asked again at once it could be made twice.
                let what = "the answer of a lost request";
                wait::until(what, wait::Backoff::brief(), LOST_LIMIT, context, || {
                    Ok(self.provider.snapshots_with_token(of, label, context)?.pop())
                })
                .map_err(|_| error)?
            }
            made => made?,
        };
        open.found(&snapshot.id)?;
        Ok(snapshot)
    }

    /// See [`DeleteSnapshot`]. What is a backup too is only forgotten, and so is what convoy 0.5 made.
    ///
    /// # Errors
    /// `NotFound`, `InUse` while it is being read.
    pub(super) fn delete_snapshot(&self, request: DeleteSnapshot, context: &Context) -> Result<()> {
        let record = self.records.load(&request.volume)?;
        let snapshot = self.recorded_snapshot(&record, &request.snapshot)?.clone();
        if self.is_open(&record.name, &request.snapshot) {
            return Err(DriverError::in_use(format!(
                "snapshot {} of volume {} is being read",
                snapshot.name, record.name
            )));
        }
        self.cache.clear();
        if snapshot.owned() {
            self.mark_deleting(&snapshot, true)?;
            if let Err(error) = self.provider.delete_snapshot(&snapshot.id, context) {
                self.mark_deleting(&snapshot, false)?;
                return Err(error);
            }
        }
        self.forget_snapshot(&snapshot)
    }

    /// Ends a deletion that was cut off: the provider may have deleted it already.
    pub(super) fn finish_deleting_snapshot(
        &self,
        snapshot: &SnapshotRecord,
        context: &Context,
    ) -> Result<()> {
        self.provider.delete_snapshot(&snapshot.id, context)?;
        self.forget_snapshot(snapshot)
    }

    fn mark_deleting(&self, snapshot: &SnapshotRecord, deleting: bool) -> Result<()> {
        self.records.change(&snapshot.volume_name, |record| {
            if let Some(entry) = record.snapshots.get_mut(&snapshot.name) {
                entry.deleting = deleting;
            }
        })?;
        Ok(())
    }

    fn forget_snapshot(&self, snapshot: &SnapshotRecord) -> Result<()> {
        self.records.change(&snapshot.volume_name, |record| {
            record.snapshots.remove(&snapshot.name);
        })?;
        Ok(())
    }

    pub(super) fn recorded_snapshot<'a>(
        &self,
        record: &'a VolumeRecord,
        snapshot: &Name,
    ) -> Result<&'a SnapshotRecord> {
        record.snapshots.get(snapshot).ok_or_else(|| {
            DriverError::not_found(format!("volume {} has no snapshot {snapshot}", record.name))
        })
    }
}
