//! The records of all volumes: on disk, and in memory so that no call reads them all.

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::state::{SnapshotRecord, ThinId, VolumeRecord};
use convoy_driver_sdk::protocol::{Health, Snapshot, Volume};
use convoy_driver_sdk::records::RecordStore;
use convoy_driver_sdk::{DriverError, Name, Timestamp, atomic};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The driver's name, and what its files begin with.
pub const DRIVER: &str = "devicemapper";

/// How many volumes' records can be changed at once.
const STRIPES: usize = 64;

/// A volume as far as its record is known.
#[derive(Debug, Clone)]
enum Slot {
    /// Its record, and why it cannot be used if so.
    Known {
        record: VolumeRecord,
        damage: Option<String>,
    },
    Unreadable(String),
}

/// The records, below one root.
#[derive(Debug)]
pub struct Store {
    volumes: RecordStore<VolumeRecord>,
    kept: RecordStore<VolumeRecord>,
    index: RwLock<Index>,
    /// Held from reading a record to writing it again, by name.
    changing: [Mutex<()>; STRIPES],
}

#[derive(Debug, Default)]
struct Index {
    volumes: BTreeMap<Name, Slot>,
    kept: BTreeMap<Name, VolumeRecord>,
    /// Records of kept volumes that cannot be read, and why.
    unreadable_kept: BTreeMap<Name, String>,
}

/// A page of volumes, and whether more follow.
pub struct Page {
    /// Records, with why they cannot be used if so.
    pub records: Vec<(VolumeRecord, Option<String>)>,
    /// Volumes whose records cannot be read.
    pub unreadable: Vec<(Name, String)>,
    pub more: bool,
}

impl Store {
    /// Reads all records. What cannot be read is told, one line each.
    pub fn open(root: &Path) -> Result<(Self, Vec<String>)> {
        let volumes = RecordStore::volumes(root, DRIVER)?;
        let kept = RecordStore::open(root, format!("{DRIVER}_kept_"), ".json")?;
        let (mut index, mut warnings) = (Index::default(), Vec::new());
        let listing = volumes.load_all()?;
        for (name, record) in listing.records {
            let slot = match record.map_err(|error| error.to_string()).and_then(|found| named(found, &name)) {
                Ok(record) => Slot::Known { record, damage: None },
                Err(damage) => {
                    warnings.push(damage.clone());
                    Slot::Unreadable(damage)
                }
            };
            index.volumes.insert(name, slot);
        }
        let listing_kept = kept.load_all()?;
        for (name, record) in listing_kept.records {
            match record.map_err(|error| error.to_string()).and_then(|found| named(found, &name)) {
                Ok(record) => drop(index.kept.insert(name, record)),
                Err(damage) => {
                    warnings.push(damage.clone());
                    index.unreadable_kept.insert(name, damage);
                }
            }
        }
        let misnamed = listing.misnamed.iter().chain(&listing_kept.misnamed);
        warnings
            .extend(misnamed.map(|path| format!("{} has a name that no volume can have", path.display())));
        let changing = std::array::from_fn(|_| Mutex::new(()));
        Ok((Self { volumes, kept, index: RwLock::new(index), changing }, warnings))
    }

    /// Whether there are any records, damaged or not.
    pub fn is_empty(&self) -> bool {
        let index = self.index.read();
        index.volumes.is_empty() && index.kept.is_empty()
    }

    /// Whether some record cannot be read, so that it is not known which ids it names.
    pub fn has_unreadable(&self) -> bool {
        let index = self.index.read();
        let volumes = index.volumes.values().any(|slot| matches!(slot, Slot::Unreadable(_)));
        volumes || !index.unreadable_kept.is_empty()
    }

    pub fn ids(&self) -> BTreeSet<ThinId> {
        let index = self.index.read();
        let known = index.volumes.values().filter_map(|slot| match slot {
            Slot::Known { record, .. } => Some(record),
            Slot::Unreadable(_) => None,
        });
        known.chain(index.kept.values()).flat_map(VolumeRecord::ids).collect()
    }

    pub fn all(&self) -> Vec<VolumeRecord> {
        let index = self.index.read();
        let known = index.volumes.values().filter_map(|slot| match slot {
            Slot::Known { record, .. } => Some(record.clone()),
            Slot::Unreadable(_) => None,
        });
        known.collect()
    }

    /// A volume's record, and why the volume cannot be used if so. One that could not be read is read again:
    /// somebody may have mended it.
    ///
    /// # Errors
    /// `NotFound`; `DataLoss` while the record cannot be read.
    pub fn get(&self, name: &Name) -> Result<(VolumeRecord, Option<String>)> {
        match self.index.read().volumes.get(name) {
            Some(Slot::Known { record, damage }) => return Ok((record.clone(), damage.clone())),
            Some(Slot::Unreadable(_)) => {}
            None => return Err(not_found(format!("there is no volume {name}")).into()),
        }
        let record =
            self.volumes.load(name)?.ok_or_else(|| not_found(format!("there is no volume {name}")))?;
        let record = named(record, name).map_err(DriverError::data_loss)?;
        self.index.write().volumes.insert(name.clone(), Slot::Known { record: record.clone(), damage: None });
        Ok((record, None))
    }

    /// A volume's record, if the volume can be used.
    ///
    /// # Errors
    /// `NotFound`; `DataLoss` if it is damaged.
    pub fn usable(&self, name: &Name) -> Result<VolumeRecord> {
        match self.get(name)? {
            (record, None) => Ok(record),
            (_, Some(damage)) => {
                Err(DriverError::data_loss(format!("the volume {name} cannot be used: {damage}")).into())
            }
        }
    }

    /// A volume's snapshot.
    ///
    /// # Errors
    /// `NotFound`, `DataLoss`.
    pub fn snapshot(&self, volume: &Name, snapshot: &Name) -> Result<(VolumeRecord, SnapshotRecord)> {
        let (record, _) = self.get(volume)?;
        let found = record.snapshots.get(snapshot).cloned();
        let found = found.ok_or_else(|| not_found(format!("volume {volume} has no snapshot {snapshot}")))?;
        Ok((record, found))
    }

    pub fn page(&self, after: Option<&Name>, limit: usize) -> Page {
        let index = self.index.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut slots = index.volumes.range::<Name, _>((from, Bound::Unbounded));
        let mut page = Page { records: Vec::new(), unreadable: Vec::new(), more: false };
        for (name, slot) in slots.by_ref().take(limit) {
            match slot {
                Slot::Known { record, damage } => page.records.push((record.clone(), damage.clone())),
                Slot::Unreadable(text) => page.unreadable.push((name.clone(), text.clone())),
            }
        }
        page.more = slots.next().is_some();
        page
    }

    /// Refuses the name of a volume, or of one whose data a reference-only delete kept.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub fn check_free(&self, name: &Name) -> Result<()> {
        if self.index.read().volumes.contains_key(name) {
            let text = format!("a volume {name} exists already");
            return Err(DriverError::already_exists(text).into());
        }
        let kept = self.kept_or_damage(name).transpose();
        if kept.map_err(DriverError::data_loss)?.is_some() {
            let text = format!("the data of a volume {name} was kept when it was deleted by reference");
            let hint = format!(
                "`convoy create {name}` brings it back; then it can be used, or deleted with its data"
            );
            return Err(DriverError::already_exists(text).hint(hint).into());
        }
        Ok(())
    }

    pub fn kept(&self, name: &Name) -> Option<VolumeRecord> {
        self.index.read().kept.get(name).cloned()
    }

    /// The records of all volumes whose data was kept, or why they cannot be read.
    pub fn all_kept(&self) -> BTreeMap<Name, Result<VolumeRecord, String>> {
        let index = self.index.read();
        let known = index.kept.iter().map(|(name, record)| (name.clone(), Ok(record.clone())));
        let damaged = index.unreadable_kept.iter().map(|(name, damage)| (name.clone(), Err(damage.clone())));
        known.chain(damaged).collect()
    }

    /// The record of a volume whose data was kept, or why it cannot be read.
    pub fn kept_or_damage(&self, name: &Name) -> Option<Result<VolumeRecord, String>> {
        let index = self.index.read();
        let known = index.kept.get(name).map(|record| Ok(record.clone()));
        known.or_else(|| index.unreadable_kept.get(name).map(|damage| Err(damage.clone())))
    }

    /// Since when: the rename that keeps it changes its file.
    pub fn kept_since(&self, name: &Name) -> Option<Timestamp> {
        let file = std::fs::metadata(self.kept.path(name)).ok()?;
        Some(Timestamp::from_unix(file.ctime()))
    }

    pub fn forget_kept(&self, name: &Name) -> Result<()> {
        self.kept.delete(name)?;
        self.index.write().kept.remove(name);
        Ok(())
    }

    pub fn kept_count(&self) -> usize {
        self.index.read().kept.len()
    }

    /// A new volume.
    ///
    /// # Errors
    /// `AlreadyExists`; [`Error::Record`].
    pub fn insert(&self, record: VolumeRecord) -> Result<()> {
        self.volumes.insert(&record.name, &record)?;
        self.remember(record);
        Ok(())
    }

    /// Changes a volume's record, and answers it. A mount and a snapshot of one volume may run at once: each
    /// changes what the other has written.
    ///
    /// # Errors
    /// `NotFound`, `DataLoss`; [`Error::Record`]: the old one is still there.
    pub fn change(&self, name: &Name, change: impl FnOnce(&mut VolumeRecord)) -> Result<VolumeRecord> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let stripe = usize::try_from(hasher.finish() % 64).unwrap_or_default() % STRIPES;
        let _changing = self.changing.get(stripe).map(Mutex::lock);
        let (before, _) = self.get(name)?;
        let mut record = before.clone();
        change(&mut record);
        if record != before {
            self.volumes.save(name, &record)?;
            self.remember(record.clone());
        }
        Ok(record)
    }

    fn remember(&self, record: VolumeRecord) {
        self.index.write().volumes.insert(record.name.clone(), Slot::Known { record, damage: None });
    }

    /// Says why a volume cannot be used.
    pub fn mark(&self, name: &Name, why: String) {
        if let Some(Slot::Known { damage, .. }) = self.index.write().volumes.get_mut(name) {
            *damage = Some(why);
        }
    }

    pub fn delete(&self, name: &Name) -> Result<()> {
        self.volumes.delete(name)?;
        self.index.write().volumes.remove(name);
        Ok(())
    }

    /// Forgets a volume but keeps its data: the record moves aside.
    pub fn keep(&self, record: VolumeRecord) -> Result<()> {
        let name = record.name.clone();
        self.move_record(self.volumes.path(&name), self.kept.path(&name))?;
        let mut index = self.index.write();
        index.volumes.remove(&name);
        index.kept.insert(name, record);
        Ok(())
    }

    /// Makes a volume again of data that was kept.
    pub fn adopt(&self, record: VolumeRecord) -> Result<()> {
        let name = record.name.clone();
        self.move_record(self.kept.path(&name), self.volumes.path(&name))?;
        self.index.write().kept.remove(&name);
        self.remember(record);
        Ok(())
    }

    fn move_record(&self, from: PathBuf, to: PathBuf) -> Result<()> {
        std::fs::rename(&from, &to)
            .and_then(|()| atomic::sync_dir(self.volumes.dir()))
            .map_err(Error::io(format_args!("rename {} to {}", from.display(), to.display())))
    }
}

/// A record under another volume's name is a copy made by hand; two records must not name the same ids.
fn named(record: VolumeRecord, name: &Name) -> Result<VolumeRecord, String> {
    if record.name == *name {
        return Ok(record);
    }
    Err(format!("the record of the volume {name} is damaged: it says that it is {}'s", record.name))
}

fn not_found(text: String) -> DriverError {
    DriverError::not_found(text)
}

/// A volume as `inspect` shows it: the keys of 0.5.
pub fn volume(record: &VolumeRecord, mountpoint: Option<PathBuf>, damage: Option<String>) -> Volume {
    let info = [
        ("DevID", record.dev_id.to_string()),
        ("Device", Kernel::node(&record.name).display().to_string()),
        ("Filesystem", record.filesystem.to_string()),
    ];
    Volume::new(record.name.clone(), record.size, record.created_time)
        .mountpoint(mountpoint)
        .info(info.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        .snapshots(record.snapshots.values().map(|found| snapshot(record, found)).collect())
        .health(damage.map_or(Health::Good, Health::Damaged))
}

/// A snapshot as `inspect` shows it: the keys of 0.5.
pub fn snapshot(volume: &VolumeRecord, record: &SnapshotRecord) -> Snapshot {
    let info = [
        ("DevID", record.dev_id.to_string()),
        ("Size", record.size.unwrap_or(volume.size).to_string()),
        ("UUID", record.name.to_string()),
        ("VolumeUUID", volume.name.to_string()),
    ];
    Snapshot::new(record.name.clone(), volume.name.clone(), record.created_time)
        .info(info.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests;
