//! Taking and deleting snapshots.

use super::DeviceMapper;
use super::volumes::in_use;
use crate::state::SnapshotRecord;
use crate::store;
use convoy_driver_sdk::protocol::{CreateSnapshot, DeleteSnapshot, Snapshot};
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Result, Timestamp};

impl DeviceMapper {
    pub(super) fn take_snapshot(&self, request: &CreateSnapshot, context: &Context) -> Result<Snapshot> {
        let (volume, name) = (&request.volume, &request.snapshot);
        let record = self.store.usable(volume)?;
        if record.snapshots.contains_key(name) {
            let text = format!("volume {volume} has a snapshot {name} already");
            return Err(DriverError::new(ErrorKind::AlreadyExists, text));
        }
        self.pool.admit()?;
        // Whether asked for (`freeze`) or not, the kernel freezes a mounted file system: it costs a flush, and a
        // snapshot of a moving file system would be worth little.
        let id = self.begin(&format!("create snapshot {name} of {volume}"), context, |id| {
            self.pool.create_snapshot(id, record.dev_id, volume)
        })?;
        let taken = SnapshotRecord {
            name: name.clone(),
            created_time: Timestamp::now(),
            dev_id: id,
            activated: false,
            size: None,
        };
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
