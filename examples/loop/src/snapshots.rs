//! Taking, deleting and reading snapshots.

use convoy_driver_sdk::freeze::Frozen;
use convoy_driver_sdk::mapping::{self, Ranges};
use convoy_driver_sdk::protocol::{
    CreateSnapshot, DeleteSnapshot, Extents, ListExtents, OpenSnapshot, OpenedSnapshot, SameFile, Snapshot,
    SourceLocation,
};
use convoy_driver_sdk::{Context, DriverError, Name, Result, Timestamp, atomic};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::record::{Record, TakenSnapshot};
use crate::restores::release_mount;
use crate::volumes::mount_image;
use crate::{LoopImages, images, options};

/// How long writers may be held up; sharing blocks takes milliseconds.
const FREEZE: Duration = Duration::from_secs(10);

/// Begins the handles of snapshots whose files are read.
const TREE: &str = "tree";
/// Nothing in a snapshot is run, and nothing of it opens a device.
const READING: &str = "ro,nosuid,nodev,noexec,noatime";

/// A snapshot that is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) volume: Name,
    snapshot: Name,
    /// What of the image is to be read; not known where its files are.
    ranges: Option<Arc<Ranges>>,
}

impl LoopImages {
    pub(crate) fn snapshot(&self, volume: &Name, name: &Name, taken: TakenSnapshot) -> Snapshot {
        let image = self.images.snapshot(volume, name);
        Snapshot::new(name.clone(), volume.clone(), taken.created).info(BTreeMap::from([
            ("Image".to_owned(), image.display().to_string()),
            ("Size".to_owned(), images::length(&image).unwrap_or(0).to_string()),
        ]))
    }

    /// The record of a volume, and the image of one of its snapshots.
    pub(crate) fn known_snapshot(&self, volume: &Name, snapshot: &Name) -> Result<(Record, PathBuf)> {
        let record = self.record(volume)?;
        if record.snapshots.contains_key(snapshot) {
            return Ok((record, self.images.snapshot(volume, snapshot)));
        }
        Err(DriverError::not_found(format!("the volume {volume} has no snapshot {snapshot}")))
    }

    pub(crate) fn take_snapshot(&self, request: &CreateSnapshot, context: &Context) -> Result<Snapshot> {
        let CreateSnapshot { volume, snapshot, freeze, .. } = request;
        self.locked(volume, || {
            let mut record = self.record(volume)?;
            if record.snapshots.contains_key(snapshot) {
                let text = format!("the volume {volume} has a snapshot {snapshot} already");
                return Err(DriverError::already_exists(text));
            }
            // Not later than what the snapshot shows: what is younger a backup does not take for unchanged.
            let created = Timestamp::now();
            let work = self.share_volume(volume, *freeze, context)?;
            let taken = TakenSnapshot { created, grow: record.grow };
            record.snapshots.insert(snapshot.clone(), taken);
            self.images.place_snapshot(&work, volume, snapshot).inspect_err(|_| images::discard(&work))?;
            self.records.save(volume, &record).inspect_err(|_| {
                let _ = self.images.remove_snapshot(volume, snapshot);
            })?;
            Ok(self.snapshot(volume, snapshot, taken))
        })
    }

    /// A copy of a volume as it is at this moment, among the unfinished work.
    ///
    /// With `freeze` the file system in it is whole and needs no recovery. Without, the copy is what a power
    /// cut would leave, less what is still in the page cache.
    fn share_volume(&self, volume: &Name, freeze: bool, context: &Context) -> Result<PathBuf> {
        let image = self.images.volume(volume);
        let work = format!("share-{}.img", self.number());
        let share = || self.images.share(&image, &work, true);
        if self.mounted_or_free(volume, context)?.is_none() {
            return share();
        }
        let mountpoint = self.mountpoint(volume);
        // Most of what is to be written is written while writers still run.
        let dir = File::open(&mountpoint).map_err(images::io("open", &mountpoint))?;
        rustix::fs::syncfs(&dir).map_err(|error| images::io("sync", &mountpoint)(error.into()))?;
        drop(dir);
        images::sync(&image)?;
        if !freeze {
            return share();
        }
        let frozen = Frozen::freeze(&mountpoint, FREEZE)?;
        let shared = share();
        // Thawed too early, it may not be of one moment.
        frozen.thaw().and(shared).inspect_err(|_| images::discard(&self.images.work().join(&work)))
    }

    pub(crate) fn drop_snapshot(&self, request: &DeleteSnapshot) -> Result<()> {
        let DeleteSnapshot { volume, snapshot, .. } = request;
        self.locked(volume, || {
            let (mut record, _) = self.known_snapshot(volume, snapshot)?;
            let open = |reading: &Reading| reading.volume == *volume && reading.snapshot == *snapshot;
            if self.readings.lock().values().any(open) {
                let text = format!("the snapshot {snapshot} of {volume} is being read");
                return Err(DriverError::in_use(text).hint("wait until the backup is done"));
            }
            // The record first: an image in no record is removed by the next open.
            record.snapshots.remove(snapshot);
            self.records.save(volume, &record)?;
            self.images.remove_snapshot(volume, snapshot)
        })
    }

    pub(crate) fn begin_reading(&self, request: &OpenSnapshot) -> Result<OpenedSnapshot> {
        let OpenSnapshot { volume, snapshot, base, .. } = request;
        let (record, device) = self.known_snapshot(volume, snapshot)?;
        let size = images::length(&device)?;
        let open = |path: &PathBuf| File::open(path).map_err(images::io("open", path));
        let file = open(&device)?;
        let base = base.as_ref().filter(|base| record.snapshots.contains_key(*base));
        let changes = match base.map(|base| self.images.snapshot(volume, base)) {
            // One that cannot be read is as good as gone.
            Some(base) => open(&base).ok().map(|base| mapping::changes(&base, &file)),
            None => None,
        };
        let mapped = |error| images::io("map the blocks of", &device)(error);
        let changed = changes.transpose().map_err(mapped)?.flatten();
        let changed_only = changed.is_some();
        let ranges = Arc::new(match changed {
            Some(changed) => changed,
            None => mapping::in_use(&file).map_err(mapped)?,
        });
        let handle = self.handle("read");
        let reading = Reading { volume: volume.clone(), snapshot: snapshot.clone(), ranges: Some(ranges) };
        self.announce(&handle, reading)?;
        let location = SourceLocation::block(device, size, changed_only);
        Ok(OpenedSnapshot::new(handle, location).restore_options(options::restore_options(record.fs)))
    }

    fn announce(&self, handle: &str, reading: Reading) -> Result<()> {
        self.locked(&reading.volume.clone(), || {
            // It may have been deleted while the blocks were compared or shared.
            self.known_snapshot(&reading.volume, &reading.snapshot)?;
            self.readings.lock().insert(handle.to_owned(), reading);
            Ok(())
        })
    }

    /// Where file systems are mounted whose files are read.
    pub(crate) fn reading_mounts(&self) -> PathBuf {
        self.root.join("trees")
    }

    /// Hands over the files of a snapshot. Mounting may write: it replays the journal of a file system that
    /// was in use. So what is mounted is a copy, which has the inodes and times of the volume.
    pub(crate) fn begin_reading_files(
        &self,
        request: &OpenSnapshot,
        context: &Context,
    ) -> Result<OpenedSnapshot> {
        let OpenSnapshot { volume, snapshot, .. } = request;
        let (record, image) = self.known_snapshot(volume, snapshot)?;
        let handle = self.handle(TREE);
        let path = self.reading_mounts().join(&handle);
        let copy = self.images.share(&image, &format!("{handle}.img"), false)?;
        let reading = Reading { volume: volume.clone(), snapshot: snapshot.clone(), ranges: None };
        atomic::create_dir(&self.reading_mounts(), 0o700)
            .map_err(images::io("make", &self.reading_mounts()))
            .and_then(|()| mount_image(&copy, record.fs, READING, &path, context).map(drop))
            .and_then(|()| self.announce(&handle, reading))
            .inspect_err(|_| {
                // Not the call's context: a call that is over must not leave a mount behind.
                if let Err(error) = self.end_reading(&handle, &Context::new(context.request_id())) {
                    tracing::warn!(%error, "files of a snapshot stay mounted until the next start");
                }
            })?;
        let location = SourceLocation::tree(path, SameFile::ChangeTime);
        Ok(OpenedSnapshot::new(handle, location).restore_options(options::restore_options(record.fs)))
    }

    /// Also for a handle of an earlier life: what it had mounted may have been in use when this one began.
    pub(crate) fn end_reading(&self, handle: &str, context: &Context) -> Result<()> {
        if handle.starts_with(TREE) && !handle.contains('/') {
            release_mount(&self.reading_mounts().join(handle), context)?;
            images::discard(&self.images.work().join(format!("{handle}.img")));
        }
        self.readings.lock().remove(handle);
        Ok(())
    }

    pub(crate) fn extents(&self, request: &ListExtents) -> Result<Extents> {
        let ranges = self.readings.lock().get(&request.handle).map(|reading| reading.ranges.clone());
        let ranges = ranges
            .ok_or_else(|| DriverError::not_found(format!("no snapshot is open as {}", request.handle)))?;
        let ranges = ranges.ok_or_else(|| {
            let text = format!("{} is open as a tree, which has no extents", request.handle);
            DriverError::invalid(text)
        })?;
        Ok(ranges.page(request))
    }
}
