//! Taking and deleting snapshots.

use super::DeviceMapper;
use crate::error::in_use;
use crate::state::{SnapshotRecord, VolumeRecord};
use crate::store;
use convoy_driver_sdk::command::Command;
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::freeze::{self, Frozen};
use convoy_driver_sdk::protocol::{CreateSnapshot, DeleteSnapshot, Snapshot};
use convoy_driver_sdk::{Context, DriverError, Result, Timestamp};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a btrfs is held at most: a snapshot takes milliseconds.
const HOLD_LIMIT: Duration = Duration::from_secs(30);

/// A frozen btrfs.
enum DeviceHold {
    /// In this mount namespace.
    Here(Frozen),
    /// At this place in another one.
    There(PathBuf),
}

impl DeviceMapper {
    pub(super) fn take_snapshot(&self, request: &CreateSnapshot, context: &Context) -> Result<Snapshot> {
        let (volume, name) = (&request.volume, &request.snapshot);
        let record = self.store.usable(volume)?;
        if record.snapshots.contains_key(name) {
            let text = format!("volume {volume} has a snapshot {name} already");
            return Err(DriverError::already_exists(text));
        }
        self.pool.admit()?;
        // Whether asked for (`freeze`) or not, the kernel freezes a mounted file system: it costs a flush,
        // and a snapshot of a moving file system would be worth little.
        let held = self.hold(&record, context)?;
        // Not later than what the snapshot shows: what is younger a backup does not take for unchanged.
        let created_time = Timestamp::now();
        let begun = self.begin(&format!("create snapshot {name} of {volume}"), context, |id| {
            self.pool.create_snapshot(id, record.dev_id, volume)
        });
        let let_go = self.let_go(held, context);
        let id = begun?;
        if let Err(error) = let_go {
            self.undo(id, None, context);
            return Err(error);
        }
        let taken =
            SnapshotRecord { name: name.clone(), created_time, dev_id: id, activated: false, size: None };
        let changed = self.store.change(volume, |record| {
            record.snapshots.insert(name.clone(), taken.clone());
        });
        match changed {
            Ok(record) => {
                self.journal.end(&[id], false);
                Ok(store::snapshot(&record, &taken))
            }
            Err(error) => {
                self.undo(id, None, context);
                Err(error.into())
            }
        }
    }

    /// Freezes a mounted btrfs: the kernel does not freeze it with its device, as it does the others, so that
    /// what was not synced would be missing, and a log left for the next mount.
    fn hold(&self, record: &VolumeRecord, context: &Context) -> Result<Option<DeviceHold>> {
        if record.filesystem != FsKind::Btrfs {
            return Ok(None);
        }
        let Some(mountpoint) = self.mounted_at(record)? else { return Ok(None) };
        if self.namespace.is_none() {
            return Ok(Some(DeviceHold::Here(Frozen::freeze(&mountpoint, HOLD_LIMIT)?)));
        }
        self.fsfreeze("--freeze", &mountpoint, context)?;
        Ok(Some(DeviceHold::There(mountpoint)))
    }

    fn let_go(&self, held: Option<DeviceHold>, context: &Context) -> Result<()> {
        match held {
            None => Ok(()),
            Some(DeviceHold::Here(frozen)) => frozen.thaw(),
            Some(DeviceHold::There(mountpoint)) => {
                self.fsfreeze("--unfreeze", &mountpoint, &Self::undoing(context))
            }
        }
    }

    /// In the mount namespace where the volumes are mounted.
    fn fsfreeze(&self, flag: &str, mountpoint: &Path, context: &Context) -> Result<()> {
        let command = Command::new("fsfreeze").package("util-linux").namespace(self.namespace.as_deref());
        command.arg(flag).arg("--").arg(mountpoint).run(context)?;
        Ok(())
    }

    /// Lets file systems go on that a crash left frozen.
    pub(super) fn thaw_all(&self, context: &Context) {
        for record in self.store.all().into_iter().filter(|record| record.filesystem == FsKind::Btrfs) {
            let thawed = self.mounted_at(&record).and_then(|mounted| match (mounted, &self.namespace) {
                (None, _) => Ok(()),
                (Some(mountpoint), None) => freeze::thaw(&mountpoint),
                (Some(mountpoint), Some(_)) => {
                    // It fails when there is nothing to thaw, which is nearly always.
                    let _ = self.fsfreeze("--unfreeze", &mountpoint, context);
                    Ok(())
                }
            });
            if let Err(error) = thawed {
                tracing::warn!(volume = %record.name, %error, "cannot see whether it is frozen");
            }
        }
    }

    pub(super) fn drop_snapshot(&self, request: &DeleteSnapshot, context: &Context) -> Result<()> {
        let (record, snapshot) = self.store.snapshot(&request.volume, &request.snapshot)?;
        let id = snapshot.dev_id;
        if self.is_open(id) {
            return Err(in_use(format!("the snapshot {} of {} is being read", snapshot.name, record.name)));
        }
        self.journal.doom(&[id], &format!("delete snapshot {} of {}", snapshot.name, record.name))?;
        let changed = self.store.change(&record.name, |record| drop(record.snapshots.remove(&snapshot.name)));
        if let Err(error) = changed {
            self.journal.end(&[id], false);
            return Err(error.into());
        }
        self.undo(id, None, context);
        Ok(())
    }
}
