//! New volumes from snapshots, and volumes that go back to one: in an instant, since blocks are shared.

use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{CloneVolume, RevertVolume, Volume};
use convoy_driver_sdk::{DriverError, Result};

use crate::record::Record;
use crate::{LoopImages, images, options};

impl LoopImages {
    pub(crate) fn clone_of(&self, request: &CloneVolume) -> Result<Volume> {
        let CloneVolume { name, source, snapshot, size, options: given, .. } = request;
        let (record, image) = self.known_snapshot(source, snapshot)?;
        let grow = record.snapshots.get(snapshot).is_some_and(|taken| taken.grow);
        options::check_copy(record.fs, given)?;
        let least = images::length(&image)?;
        let size =
            size.filter(|size| *size > 0).map_or(Ok(least), |size| options::checked_size(size, record.fs))?;
        if size < least {
            let text = format!(
                "the snapshot {snapshot} of {source} has {least} bytes: expected at least as many, found \
                 {size}"
            );
            return Err(DriverError::invalid(text));
        }
        self.locked(name, || {
            self.refuse_taken(name)?;
            let work = self.images.share(&image, &format!("clone-{}.img", self.number()), false)?;
            let lengthened = if size > least { images::lengthen(&work, size) } else { Ok(()) };
            lengthened
                .and_then(|()| self.publish(name, Record::new(record.fs, grow || size > least), &work))
                .inspect_err(|_| images::discard(&work))
        })
    }

    pub(crate) fn revert(&self, request: &RevertVolume) -> Result<Volume> {
        let RevertVolume { name, snapshot, .. } = request;
        self.locked(name, || {
            let (mut record, image) = self.known_snapshot(name, snapshot)?;
            self.refuse_mounted(name)?;
            if record.snapshots.get(snapshot).is_some_and(|taken| taken.grow) && !record.grow {
                record.grow = true;
                self.records.save(name, &record)?;
            }
            let work = self.images.share(&image, &format!("revert-{}.img", self.number()), false)?;
            // One rename: before it the volume is as it was, after it as the snapshot.
            self.images.replace_volume(&work, name).inspect_err(|_| images::discard(&work))?;
            Ok(self.volume(name, &record, &MountTable::read()?))
        })
    }
}
