//! What is kept on disk, in the form convoy 0.5 wrote: `devicemapper.cfg` for the pool and
//! `devicemapper_volume_<name>.json` for every volume.
//!
//! Fields that 0.5 did not know are added so that 0.5 ignores them.

use crate::sectors::Sectors;
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::{Name, Timestamp, atomic, timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The pool's file, below the driver's root.
pub const CONFIG_FILE: &str = "devicemapper.cfg";

/// An id of a device in the thin pool: 24 bits.
pub type ThinId = u32;

/// The largest id that the kernel's thin target takes.
pub const MAX_THIN_ID: ThinId = (1 << 24) - 1;

/// The pool, and the ids that are in the making: `devicemapper.cfg`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PoolConfig {
    /// The driver's root when this was written.
    pub root: PathBuf,
    pub data_device: PathBuf,
    pub metadata_device: PathBuf,
    /// The pool: `/dev/mapper/<pool>`.
    pub thinpool_device: PathBuf,
    /// Bytes of data the pool can hold.
    pub thinpool_size: u64,
    /// Size of a block of the pool.
    pub thinpool_block_size: Sectors,
    /// Size of a volume that is created without one, in bytes.
    pub default_volume_size: u64,
    #[serde(rename = "LastDevID", default)]
    pub last_dev_id: ThinId,
    #[serde(default, deserialize_with = "filesystem")]
    pub filesystem: FsKind,
    /// Ids that were asked of the kernel, or are to be deleted, and whose record is not settled yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<PendingDevice>,
}

/// An id between two states. If a record names it, what was begun was also finished; if none does, it is to
/// be deleted. So one rule settles a create, a snapshot, a restore and a delete that were cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PendingDevice {
    #[serde(rename = "DevID")]
    pub dev_id: ThinId,
    /// What was going on, for a person: `create volume pgdata`.
    pub what: String,
}

impl PoolConfig {
    /// Reads the file; `None` when there is none.
    ///
    /// # Errors
    /// Those of the file system; `InvalidData` when it cannot be understood.
    pub fn load(root: &Path) -> std::io::Result<Option<Self>> {
        match std::fs::read(root.join(CONFIG_FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the file durably.
    pub fn save(&self, root: &Path) -> std::io::Result<()> {
        atomic::write_atomic(&root.join(CONFIG_FILE), &serde_json::to_vec(self)?, 0o600)
    }
}

/// A volume: `devicemapper_volume_<name>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeRecord {
    pub name: Name,
    #[serde(rename = "DevID")]
    pub dev_id: ThinId,
    /// Size in bytes.
    pub size: u64,
    /// A field of 0.5 that was always empty.
    #[serde(default)]
    pub base: String,
    /// Where it was mounted last, empty after an unmount.
    #[serde(default)]
    pub mount_point: String,
    #[serde(with = "timestamp::legacy")]
    pub created_time: Timestamp,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub snapshots: BTreeMap<Name, SnapshotRecord>,
    #[serde(default, deserialize_with = "filesystem")]
    pub filesystem: FsKind,
    /// The boot during which it was mounted: after another boot it is mounted again, in the same boot
    /// somebody has unmounted it by hand. New in 0.6.
    #[serde(rename = "BootID", default, skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
    /// The device has its size, the file system may not have it yet: it grows when it is mounted. New in 0.6.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub growing: bool,
}

/// A snapshot, within its volume's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SnapshotRecord {
    pub name: Name,
    #[serde(with = "timestamp::legacy")]
    pub created_time: Timestamp,
    #[serde(rename = "DevID")]
    pub dev_id: ThinId,
    /// 0.5 set it while it read the snapshot.
    #[serde(default)]
    pub activated: bool,
    /// Bytes, if they are not those of the volume (it was resized since). New in 0.6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl VolumeRecord {
    /// A volume as it begins: not mounted, without snapshots. `growing` as the field.
    pub fn new(name: Name, dev_id: ThinId, size: u64, filesystem: FsKind, growing: bool) -> Self {
        Self {
            name,
            dev_id,
            size,
            base: String::new(),
            mount_point: String::new(),
            created_time: Timestamp::now(),
            snapshots: BTreeMap::new(),
            filesystem,
            boot_id: String::new(),
            growing,
        }
    }

    /// Gives the volume another size; its snapshots keep that with which they were taken.
    pub fn resize(&mut self, size: u64) {
        if size != self.size {
            for snapshot in self.snapshots.values_mut() {
                snapshot.size.get_or_insert(self.size);
            }
            self.size = size;
        }
    }

    pub fn ids(&self) -> impl Iterator<Item = ThinId> {
        std::iter::once(self.dev_id).chain(self.snapshots.values().map(|snapshot| snapshot.dev_id))
    }
}

/// Go wrote an empty map as `null`.
fn null_is_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Name, SnapshotRecord>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Before 0.5 knew other file systems it wrote none, or nothing.
fn filesystem<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FsKind, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(FsKind::default()) } else { text.parse().map_err(serde::de::Error::custom) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Written by convoy 0.5.2.
    const CONFIG: &str = include_str!("../tests/fixtures/v0.5.2/root/devicemapper.cfg");
    const PGDATA: &str = include_str!("../tests/fixtures/v0.5.2/root/devicemapper_volume_pgdata.json");
    const R1: &str = include_str!("../tests/fixtures/v0.5.2/root/devicemapper_volume_r1.json");

    #[test]
    fn what_0_5_wrote_is_read_and_written_again_byte_for_byte() {
        let config: PoolConfig = serde_json::from_str(CONFIG).unwrap();
        assert_eq!((config.last_dev_id, config.thinpool_block_size), (5, Sectors(4096)));
        assert_eq!(serde_json::to_string(&config).unwrap(), CONFIG.trim_end());
        for text in [PGDATA, R1] {
            let volume: VolumeRecord = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&volume).unwrap(), text.trim_end());
        }
        let volume: VolumeRecord = serde_json::from_str(PGDATA).unwrap();
        assert_eq!(volume.ids().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_null_map_and_a_missing_file_system_are_the_defaults() {
        let text = R1.replace("\"Snapshots\":{}", "\"Snapshots\":null").replace("\"ext4\"", "\"\"");
        let volume: VolumeRecord = serde_json::from_str(&text).unwrap();
        assert!(volume.snapshots.is_empty() && volume.filesystem == FsKind::Ext4);
        assert!(serde_json::from_str::<VolumeRecord>(&R1.replace("ext4", "ntfs")).is_err());
    }

    #[test]
    fn a_configuration_is_missing_whole_or_damaged() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(PoolConfig::load(dir.path()).unwrap(), None);
        let config: PoolConfig = serde_json::from_str(CONFIG).unwrap();
        config.save(dir.path()).unwrap();
        assert_eq!(PoolConfig::load(dir.path()).unwrap(), Some(config));
        std::fs::write(dir.path().join(CONFIG_FILE), "{").unwrap();
        assert_eq!(PoolConfig::load(dir.path()).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn any_volume_reads_back(
            dev_id in 1..=MAX_THIN_ID,
            size in any::<u64>(),
            mount_point in "[ -~]{0,40}",
            growing in any::<bool>(),
            snapshots in proptest::collection::btree_map("[a-z0-9]{2,8}", (1..=MAX_THIN_ID, any::<Option<u64>>()), 0..5),
        ) {
            let created_time = Timestamp::from_unix(1_795_423_087);
            let record = VolumeRecord {
                name: Name::parse("volume").unwrap(),
                dev_id,
                size,
                base: String::new(),
                mount_point,
                created_time,
                snapshots: snapshots
                    .into_iter()
                    .map(|(name, (dev_id, size))| {
                        let name = Name::parse(name).unwrap();
                        (name.clone(), SnapshotRecord { name, created_time, dev_id, activated: false, size })
                    })
                    .collect(),
                filesystem: FsKind::Xfs,
                boot_id: String::new(),
                growing,
            };
            let json = serde_json::to_vec(&record).unwrap();
            prop_assert_eq!(serde_json::from_slice::<VolumeRecord>(&json).unwrap(), record);
        }
    }
}
