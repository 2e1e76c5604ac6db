//! What `open` does about a crash: finish or undo whatever was cut off, so that what was acknowledged is
//! there and nothing else.
//!
//! What cannot be repaired is told, and costs what it belongs to: it never keeps the driver from being
//! opened.

use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::Opened;
use convoy_driver_sdk::{Context, ErrorKind, Name, Result, freeze};

use crate::record::{Record, State};
use crate::restores::release_mount;
use crate::{LoopImages, devices};

impl LoopImages {
    pub(crate) fn reconcile(&self, context: &Context) -> Result<Opened> {
        let mut opened = Opened::default();
        let mounts = MountTable::read()?;
        for mount in mounts.under(&self.restore_mounts()) {
            let shown = mount.mountpoint.display();
            match release_mount(&mount.mountpoint, context) {
                Ok(()) => opened.recovered.push(format!("undid the restore at {shown}")),
                Err(error) => opened.warnings.push(format!("cannot undo the restore at {shown}: {error}")),
            }
        }
        for mount in mounts.under(&self.reading_mounts()) {
            match release_mount(&mount.mountpoint, context) {
                Ok(()) => {
                    opened
                        .recovered
                        .push(format!("unmounted the snapshot at {}", mount.mountpoint.display()));
                }
                // The host outlived the driver and still reads: it closes the handle when it is done.
                Err(error) if error.kind == ErrorKind::Busy => {
                    opened.warnings.push(format!("{} is still read", mount.mountpoint.display()));
                }
                Err(error) => {
                    let shown = mount.mountpoint.display();
                    opened.warnings.push(format!("cannot unmount the snapshot at {shown}: {error}"));
                }
            }
        }
        // Empty now: the places of restores that were not mounted yet.
        for places in [self.restore_mounts(), self.reading_mounts()] {
            for entry in std::fs::read_dir(places).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(entry.path());
            }
        }
        devices::release_unused(self.images.path(), context, &mut opened)?;
        self.images.clear_work(&mut opened)?;
        let listing = self.records.load_all()?;
        let misnamed =
            listing.misnamed.iter().map(|path| format!("{} is no record of a volume", path.display()));
        opened.warnings.extend(misnamed);
        for (name, record) in listing.records {
            // One volume that cannot be brought in order does not keep the others from being served.
            match record.map_err(Into::into).and_then(|record| self.bring_in_order(&name, &record, &mounts)) {
                Ok(done) => opened.recovered.extend(done),
                Err(error) => opened.warnings.push(format!("{name}: {error}")),
            }
        }
        Ok(opened)
    }

    fn bring_in_order(&self, name: &Name, record: &Record, mounts: &MountTable) -> Result<Vec<String>> {
        match record.state {
            State::Making => {
                self.remove(name)?;
                return Ok(vec![format!("undid the making of {name}")]);
            }
            State::Deleting => {
                self.remove(name)?;
                return Ok(vec![format!("finished deleting {name}")]);
            }
            State::Ready | State::Kept => {}
        }
        let mountpoint = self.mountpoint(name);
        if mounts.is_mounted(&mountpoint) {
            // The kernel does not thaw when a driver dies in the midst of a snapshot.
            freeze::thaw(&mountpoint)?;
        }
        let removed =
            self.images.remove_unrecorded(name, |snapshot| record.snapshots.contains_key(snapshot))?;
        Ok(removed
            .into_iter()
            .map(|snapshot| format!("removed the unfinished snapshot {snapshot} of {name}"))
            .collect())
    }
}
