//! What deletes by reference kept: to be told, and to be removed.

use super::DeviceMapper;
use crate::state::VolumeRecord;
use convoy_driver_sdk::protocol::{Kept, ListKept, ListedKept};
use convoy_driver_sdk::{Context, DriverError, Name, Result};

impl DeviceMapper {
    pub(super) fn list_kept(&self, request: &ListKept) -> ListedKept {
        let mut all = self.store.all_kept();
        let (names, more) = request.page(all.keys().cloned());
        let page = names.into_iter().filter_map(|name| all.remove_entry(&name));
        ListedKept::new(page.map(|(name, record)| self.kept_of(name, record)).collect()).more(more)
    }

    /// What the pool has of it cannot be told without making it active: its size is the one that it had.
    fn kept_of(&self, name: Name, record: std::result::Result<VolumeRecord, String>) -> Kept {
        let mut kept = Kept::new(name.clone()).since(self.store.kept_since(&name));
        match record {
            Ok(record) => {
                kept.size = Some(record.size);
                kept.snapshots = u32::try_from(record.snapshots.len()).unwrap_or(u32::MAX);
            }
            Err(damage) => kept.note = Some(damage),
        }
        kept
    }

    pub(super) fn delete_kept(&self, name: &Name, context: &Context) -> Result<()> {
        let record = match self.store.kept_or_damage(name) {
            Some(record) => record.map_err(DriverError::data_loss)?,
            None => {
                let text = format!("nothing is kept of a volume {name}");
                return Err(DriverError::not_found(text));
            }
        };
        let ids: Vec<_> = record.ids().collect();
        self.journal.doom(&ids, &format!("delete what was kept of {name}"))?;
        if let Err(error) = self.forget_kept(&record, context) {
            // The record still names the ids: nothing happened.
            self.journal.end(&ids, false);
            return Err(error);
        }
        self.clear(&ids, context);
        Ok(())
    }

    fn forget_kept(&self, record: &VolumeRecord, context: &Context) -> Result<()> {
        // Only where a create that would bring it back was cut off.
        if self.pool.is(&record.name, record.dev_id)? {
            self.pool.deactivate(&record.name, context)?;
        }
        Ok(self.store.forget_kept(&record.name)?)
    }
}
