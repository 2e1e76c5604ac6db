//! What deletes by reference kept: to be told, and to be removed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use convoy_driver_sdk::protocol::{DeleteKept, Kept, ListKept, ListedKept};
use convoy_driver_sdk::{Context, Name, Timestamp};

use crate::driver::VfsDriver;
use crate::error::{VfsError, VfsResult};
use crate::listing::KEPT;
use crate::measure::Budget;
use crate::record::VolumeRecord;
use crate::workspace::exists;

/// How long sizes are added up for one listing, and of how many files.
const COUNTING: Duration = Duration::from_secs(5);
const COUNTED: usize = 1_000_000;

impl VfsDriver {
    pub(crate) fn list_kept(&self, request: &ListKept, context: &Context) -> VfsResult<ListedKept> {
        let mut names = self.names(KEPT, &mut Vec::new())?;
        // A volume, whose record as a kept one a create had no time to remove. What cannot be told is listed.
        names.retain(|name| !self.records.exists(name).unwrap_or(false));
        let (names, more) = request.page(names);
        let time = context.remaining().map_or(COUNTING, |left| (left / 2).min(COUNTING));
        let mut budget = request.sizes.then(|| Budget::new(time, COUNTED));
        let mut listed = ListedKept { kept: Vec::new(), more };
        for name in names {
            context.check()?;
            listed.kept.extend(self.kept_of(&name, budget.as_mut()));
        }
        Ok(listed)
    }

    /// What is kept under a name, if it still is.
    fn kept_of(&self, name: &Name, budget: Option<&mut Budget>) -> Option<Kept> {
        let mut kept = Kept::new(name.clone());
        let record = match self.record_in(&self.kept, name) {
            Ok(Some(record)) => record,
            Ok(None) => return None,
            Err(damaged) => {
                kept.note = Some(damaged.to_string());
                return Some(kept);
            }
        };
        // The rename that forgot the volume changed it.
        let changed = fs::metadata(self.kept.path(name)).map(|meta| meta.ctime());
        kept.since = changed.ok().map(Timestamp::from_unix);
        kept.snapshots = u32::try_from(record.snapshots.len()).unwrap_or(u32::MAX);
        kept.path = Some(self.data(&record));
        kept.note = self.not_ours(&record).map(|why| why.to_string()).or_else(|| {
            let target = fs::read_link(self.layout.volume(name)).ok()?;
            Some(format!("a link to {}, where nothing is touched", target.display()))
        });
        if let Some(budget) = budget {
            let (bytes, all) = self.size_of(&record, budget);
            (kept.size, kept.at_least) = (Some(bytes), !all);
        }
        Some(kept)
    }

    /// Bytes on the disk. Of a file with several names each counts for its part, so that snapshots which
    /// share files count them once. What a link leads to is not the volume's.
    fn size_of(&self, record: &VolumeRecord, budget: &mut Budget) -> (u64, bool) {
        let places = [self.data(record), self.layout.snapshots(&record.name)];
        let real = |path: &&std::path::PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
        places.iter().filter(real).fold((0, true), |(bytes, all), place| {
            let (more, whole) = budget.add_up(place, |found| {
                let names = if found.entry.is_dir() { 1 } else { found.entry.nlink.max(1) };
                found.allocated / u64::from(names)
            });
            (bytes.saturating_add(more), all && whole)
        })
    }

    pub(crate) fn delete_kept(&self, request: &DeleteKept, context: &Context) -> VfsResult<()> {
        let name = &request.name;
        let parcel = self.locked(name, context, || {
            let nothing = || VfsError::NothingKept(name.clone());
            if self.records.exists(name)? {
                return Err(nothing());
            }
            let record = self.record_in(&self.kept, name)?.ok_or_else(nothing)?;
            if let Some(why) = self.not_ours(&record) {
                return Err(why);
            }
            let _unused = self.locks.unused(name)?;
            self.take_down(&record)
        })?;
        self.workspace.discard(parcel);
        Ok(())
    }

    /// Why the data is not the driver's to remove: it was there before it became a volume, or is not in
    /// `vfs.path`. Of a link in `vfs.path` the link alone is removed.
    fn not_ours(&self, record: &VolumeRecord) -> Option<VfsError> {
        let path = self.data(record);
        let here = path == self.layout.volume(&record.name);
        let link = here && path.is_symlink();
        let others = !link && exists(&path) && (record.adopted || !here);
        others.then(|| VfsError::NotOurs { volume: record.name.clone(), path })
    }
}
