//! Records of volumes, as convoy 0.5 wrote them (`<driver>_volume_<name>.json`), with a few keys more.

use crate::provider::Provider;
use convoy_driver_sdk::records::{RecordError, RecordStore};
use convoy_driver_sdk::{DriverError, Name, Result, Timestamp, timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A volume. Keys that 0.5 did not write have defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeRecord {
    pub name: Name,
    /// The provider's id; `EBSID` in records of ebs.
    #[serde(rename = "ID")]
    pub id: String,
    /// Where it was when it was last mounted; the kernel knows better.
    #[serde(default)]
    pub device: String,
    /// Where it was last mounted, or empty; the kernel knows better.
    #[serde(default)]
    pub mount_point: PathBuf,
    #[serde(default)]
    pub snapshots: BTreeMap<Name, SnapshotRecord>,
    /// Bytes, when last seen. 0 where unknown.
    #[serde(default)]
    pub size: u64,
    /// When it was made, where known.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "legacy")]
    pub created_time: Option<Timestamp>,
    /// The name under which the kernel may show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_name: Option<String>,
    /// The handle of the restore that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_by: Option<String>,
    /// It is being deleted: finished at the next start if that is cut off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
}

impl VolumeRecord {
    pub fn new(name: Name, id: String) -> Self {
        Self {
            name,
            id,
            device: String::new(),
            mount_point: PathBuf::new(),
            snapshots: BTreeMap::new(),
            size: 0,
            created_time: None,
            cloud_name: None,
            restored_by: None,
            deleting: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SnapshotRecord {
    pub name: Name,
    pub volume_name: Name,
    /// The provider's id; `EBSID` in records of ebs.
    #[serde(rename = "ID")]
    pub id: String,
    /// When it was taken. Missing in records of 0.5, whose snapshots are only forgotten, never deleted, with
    /// the record: any of them may be a backup.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "legacy")]
    pub created_time: Option<Timestamp>,
    /// Bytes of the volume at that time.
    #[serde(default)]
    pub size: u64,
    /// It is a backup too: it outlives its record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Its deletion was begun and is to be finished, also after a crash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
}

impl SnapshotRecord {
    /// Whether the provider's snapshot goes when this record does.
    pub fn owned(&self) -> bool {
        self.created_time.is_some() && !self.backup
    }
}

mod legacy {
    use super::{Timestamp, timestamp};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => timestamp::legacy::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| Timestamp::parse(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

/// Records by name, readable or not.
pub type ByName = BTreeMap<Name, Result<VolumeRecord>>;

#[derive(Debug)]
pub struct Records {
    store: RecordStore<Map<String, Value>>,
    id_key: &'static str,
    /// Held while a record is read, changed and written; which one, the volume's name says.
    changing: [Mutex<()>; LOCKS],
}

/// Enough that two volumes seldom share one.
const LOCKS: usize = 64;

impl Records {
    pub fn open<P: Provider>(root: &Path) -> Result<Self> {
        let changing = std::array::from_fn(|_| Mutex::default());
        Ok(Self { store: RecordStore::volumes(root, P::DRIVER)?, id_key: P::ID_KEY, changing })
    }

    /// One record.
    ///
    /// # Errors
    /// `NotFound`; `DataLoss` if it is damaged.
    pub fn load(&self, name: &Name) -> Result<VolumeRecord> {
        match self.store.load(name)? {
            Some(map) => self.parse(name, map),
            None => Err(DriverError::not_found(format!("there is no volume {name}"))),
        }
    }

    /// Refuses a name that has a record already.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub fn absent(&self, name: &Name) -> Result<()> {
        if self.store.exists(name)? {
            return Err(DriverError::already_exists(format!("volume {name} exists already")));
        }
        Ok(())
    }

    /// All records by name, readable or not, and files that are no records.
    pub fn all(&self) -> Result<(ByName, Vec<PathBuf>)> {
        let listing = self.store.load_all()?;
        let parse = |(name, record): (Name, std::result::Result<_, RecordError>)| {
            let parsed = record.map_err(DriverError::from).and_then(|map| self.parse(&name, map));
            (name, parsed)
        };
        Ok((listing.records.into_iter().map(parse).collect(), listing.misnamed))
    }

    /// Writes a new record.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub fn insert(&self, record: &VolumeRecord) -> Result<()> {
        Ok(self.store.insert(&record.name, &self.write(record)?)?)
    }

    /// Changes a record. A mount and a snapshot of one volume may go on at the same time: each changes its
    /// own part, in what the other has left.
    ///
    /// # Errors
    /// `NotFound`, `DataLoss`; when it could not be made durable.
    pub fn change(&self, name: &Name, change: impl FnOnce(&mut VolumeRecord)) -> Result<VolumeRecord> {
        let sum = name.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let _held = self.changing.get(sum % LOCKS).map(Mutex::lock);
        let old = self.load(name)?;
        let mut record = old.clone();
        change(&mut record);
        if record != old {
            self.store.save(name, &self.write(&record)?)?;
        }
        Ok(record)
    }

    pub fn delete(&self, name: &Name) -> Result<()> {
        Ok(self.store.delete(name)?)
    }

    fn parse(&self, name: &Name, mut map: Map<String, Value>) -> Result<VolumeRecord> {
        rename(&mut map, self.id_key, "ID");
        // 0.5 writes `null` for no snapshots.
        map.retain(|_, value| !value.is_null());
        if let Some(Value::Object(snapshots)) = map.get_mut("Snapshots") {
            for snapshot in snapshots.values_mut().filter_map(Value::as_object_mut) {
                rename(snapshot, self.id_key, "ID");
            }
        }
        let damaged = |reason: String| {
            let path = self.store.path(name);
            DriverError::from(RecordError::Damaged { path, reason })
        };
        let record: VolumeRecord =
            serde_json::from_value(Value::Object(map)).map_err(|error| damaged(error.to_string()))?;
        if record.name != *name || record.id.is_empty() {
            return Err(damaged(format!("expected the volume {name} with an id, found {}", record.name)));
        }
        Ok(record)
    }

    fn write(&self, record: &VolumeRecord) -> Result<Map<String, Value>> {
        let Ok(Value::Object(mut map)) = serde_json::to_value(record) else {
            return Err(DriverError::internal(format!("cannot write the record of {}", record.name)));
        };
        rename(&mut map, "ID", self.id_key);
        if let Some(Value::Object(snapshots)) = map.get_mut("Snapshots") {
            for snapshot in snapshots.values_mut().filter_map(Value::as_object_mut) {
                rename(snapshot, "ID", self.id_key);
            }
        }
        Ok(map)
    }
}

fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if from != to
        && let Some(value) = map.remove(from)
    {
        map.insert(to.to_owned(), value);
    }
}
