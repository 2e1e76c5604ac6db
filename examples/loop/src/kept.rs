//! What deletes by reference kept: to be told, and to be removed.

use convoy_driver_sdk::protocol::{Kept, ListKept, ListedKept};
use convoy_driver_sdk::{DriverError, Name, Result, Timestamp};
use std::os::unix::fs::MetadataExt;

use crate::LoopImages;
use crate::record::{Record, State};

impl LoopImages {
    /// A record that cannot be read may be that of a volume: it is listed with those.
    pub(crate) fn list_kept(&self, request: &ListKept) -> Result<ListedKept> {
        let records = self.records.load_all()?.records.into_iter();
        let records = records.filter_map(|(name, record)| Some((name, record.ok()?)));
        let (page, more) = request.page(records.filter(|(_, record)| record.state == State::Kept));
        Ok(ListedKept::new(page.iter().map(|(name, record)| self.kept(name, record)).collect()).more(more))
    }

    /// Blocks that a volume and its snapshots share count for each of them: that is at most what there is.
    fn kept(&self, name: &Name, record: &Record) -> Kept {
        let image = self.images.volume(name);
        let snapshots = record.snapshots.keys().map(|snapshot| self.images.snapshot(name, snapshot));
        let images = std::iter::once(image.clone()).chain(snapshots);
        let blocks: u64 = images.filter_map(|image| Some(std::fs::metadata(image).ok()?.blocks())).sum();
        let forgotten = std::fs::metadata(self.records.path(name)).ok();
        Kept::new(name.clone())
            .size(Some(blocks * 512))
            .since(forgotten.map(|record| Timestamp::from_unix(record.mtime())))
            .snapshots(u32::try_from(record.snapshots.len()).unwrap_or(u32::MAX))
            .path(Some(image))
    }

    pub(crate) fn delete_kept(&self, name: &Name) -> Result<()> {
        self.locked(name, || {
            let kept = self.records.load(name)?.filter(|record| record.state == State::Kept);
            let record =
                kept.ok_or_else(|| DriverError::not_found(format!("nothing is kept of a volume {name}")))?;
            self.records.save(name, &Record { state: State::Deleting, ..record })?;
            self.remove(name)
        })
    }
}
