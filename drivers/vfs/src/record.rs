//! The records on disk: those of convoy 0.5, with further keys that 0.5 ignores.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use convoy_driver_sdk::{Name, Timestamp, atomic};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::error::{VfsError, VfsResult, io_error};

/// Records of this format and older ones (0: convoy 0.5) are understood.
const FORMAT: u32 = 1;

/// Tells a volume from others that had, or will have, the same name. Records of older convoys have none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Incarnation(String);

impl Incarnation {
    /// That of a volume which is made now: two of one name are never made in the same nanosecond, since each
    /// waits for its lock.
    pub(crate) fn new() -> Self {
        let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(format!("{:x}", moment.as_nanos()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The record of a volume, `vfs_volume_<name>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeRecord {
    pub(crate) name: Name,
    /// Bytes of the image of a `--vm` volume; otherwise 0.
    #[serde(default)]
    pub(crate) size: u64,
    /// Where the host that made it had it. Another host may have the share mounted elsewhere.
    #[serde(default)]
    pub(crate) path: PathBuf,
    /// Where convoy 0.5 had it mounted, for whom it may be in use still. Always empty in what is written
    /// here: who uses a volume is each host's own affair.
    #[serde(default, deserialize_with = "text_or_none")]
    pub(crate) mount_point: String,
    #[serde(default, rename = "PrepareForVM")]
    pub(crate) prepare_for_vm: bool,
    #[serde(default = "unknown_time", with = "time")]
    pub(crate) created_time: Timestamp,
    #[serde(default, deserialize_with = "none_is_empty")]
    pub(crate) snapshots: BTreeMap<Name, SnapshotRecord>,
    /// Not in 0.5. Kept data that becomes a volume again is the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) incarnation: Option<Incarnation>,
    /// Whether the directory was there before it became a volume: what is in it is not convoy's. Not in 0.5.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) adopted: bool,
    /// Not in 0.5.
    #[serde(default, deserialize_with = "known_format")]
    pub(crate) format: u32,
    /// Keys of a newer convoy of the same format.
    #[serde(flatten)]
    further: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SnapshotRecord {
    pub(crate) name: Name,
    #[serde(default = "unknown_time", with = "time")]
    pub(crate) created_time: Timestamp,
    /// The volume's name; 0.5 called it so.
    #[serde(default, rename = "VolumeUUID")]
    pub(crate) volume_uuid: String,
    /// The tar.gz of 0.5, or the directory of ours.
    #[serde(default)]
    pub(crate) file_path: PathBuf,
    /// Counts the snapshots of a volume from 1, so that the newest is known; none for those of 0.5, which are
    /// archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sequence: Option<u64>,
    /// Bytes in its files, each counted once, as its making found them. Not in 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// Its regular files, each counted once. Not in 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) files: Option<u64>,
    #[serde(flatten)]
    further: BTreeMap<String, serde_json::Value>,
}

impl VolumeRecord {
    pub(crate) fn new(name: Name, path: PathBuf) -> Self {
        Self {
            name,
            size: 0,
            path,
            mount_point: String::new(),
            prepare_for_vm: false,
            created_time: Timestamp::now(),
            snapshots: BTreeMap::new(),
            incarnation: Some(Incarnation::new()),
            adopted: false,
            format: FORMAT,
            further: BTreeMap::new(),
        }
    }

    /// Finds one of the snapshots.
    ///
    /// # Errors
    /// [`VfsError::NoSnapshot`].
    pub(crate) fn snapshot(&self, name: &Name) -> VfsResult<&SnapshotRecord> {
        self.snapshots
            .get(name)
            .ok_or_else(|| VfsError::NoSnapshot { volume: self.name.clone(), snapshot: name.clone() })
    }

    pub(crate) fn newest(&self) -> Option<&SnapshotRecord> {
        self.snapshots.values().filter(|s| s.is_tree()).max_by_key(|s| s.sequence)
    }
}

impl SnapshotRecord {
    pub(crate) fn new(name: Name, volume: &VolumeRecord, file_path: PathBuf) -> Self {
        let last = volume.snapshots.values().filter_map(|s| s.sequence).max().unwrap_or(0);
        Self {
            name,
            created_time: Timestamp::now(),
            volume_uuid: volume.name.as_str().to_owned(),
            file_path,
            sequence: Some(last + 1),
            bytes: None,
            files: None,
            further: BTreeMap::new(),
        }
    }

    pub(crate) fn is_tree(&self) -> bool {
        self.sequence.is_some()
    }
}

/// `snapshot.json` in a snapshot's directory: which one it is, also before its volume's record says so.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SnapshotFile {
    pub(crate) name: Name,
    pub(crate) volume: Name,
}

/// `vfs.cfg`: what the driver was told at its first start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StateFile {
    pub(crate) root: PathBuf,
    pub(crate) path: PathBuf,
    pub(crate) config_path: PathBuf,
    pub(crate) default_volume_size: u64,
}

impl StateFile {
    pub(crate) fn load(path: &Path) -> VfsResult<Option<Self>> {
        match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("read", path)(e)),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| VfsError::BadState { path: path.to_owned(), reason: e.to_string() }),
        }
    }

    pub(crate) fn save(&self, path: &Path) -> VfsResult<()> {
        let bytes = serde_json::to_vec(self)
            .map_err(|e| VfsError::BadState { path: path.to_owned(), reason: e.to_string() })?;
        if let Some(dir) = path.parent() {
            atomic::create_dir(dir, 0o700).map_err(io_error("make the directory", dir))?;
        }
        atomic::write_atomic(path, &bytes, 0o600).map_err(io_error("write", path))
    }
}

fn unknown_time() -> Timestamp {
    Timestamp::from_unix(0)
}

/// As `timestamp::legacy`, but early versions of convoy wrote no time: that is 1970.
mod time {
    use super::{Deserialize, Deserializer, Timestamp, de, unknown_time};

    pub(super) use convoy_driver_sdk::timestamp::legacy::serialize;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" => Ok(unknown_time()),
            text => Timestamp::parse(text).map_err(de::Error::custom),
        }
    }
}

fn text_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn none_is_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Name, SnapshotRecord>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn known_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        format if format <= FORMAT => Ok(format),
        format => Err(de::Error::custom(format_args!(
            "it was written by a newer convoy (record format {format}, this one knows up to {FORMAT}): \
             update convoy"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_0_5_is_read_and_keeps_its_meaning() {
        let old = r#"{"Name":"web","Size":0,"Path":"/srv/volumes/web","MountPoint":"/srv/volumes/web","PrepareForVM":false,
            "CreatedTime":"Mon Nov 23 09:48:38 +0000 2026","Snapshots":{"first":{"Name":"first",
            "CreatedTime":"Mon Nov 23 09:48:39 +0000 2026","VolumeUUID":"web","FilePath":"/x/web_first.tar.gz"}}}"#;
        let record: VolumeRecord = serde_json::from_str(old).unwrap();
        assert!(!record.snapshots["first"].is_tree());
        assert_eq!(record.mount_point, "/srv/volumes/web", "it may be in use still");
        let mut value = serde_json::to_value(&record).unwrap();
        let expected: serde_json::Value = serde_json::from_str(old).unwrap();
        assert_eq!(value.as_object_mut().unwrap().remove("Format").unwrap(), 0);
        assert_eq!(value, expected);
    }

    #[test]
    fn what_early_versions_left_out_is_no_damage() {
        let record: VolumeRecord =
            serde_json::from_str(r#"{"Name":"web","CreatedTime":"","Snapshots":null}"#).unwrap();
        assert_eq!(record.created_time.unix(), 0);
    }

    #[test]
    fn keys_of_the_future_are_kept_and_formats_of_the_future_refused() {
        let record: VolumeRecord =
            serde_json::from_str(r#"{"Name":"web","Format":1,"Quota":{"Bytes":7}}"#).unwrap();
        assert_eq!(serde_json::to_value(&record).unwrap()["Quota"]["Bytes"], 7);
        let error = serde_json::from_str::<VolumeRecord>(r#"{"Name":"web","Format":2}"#).unwrap_err();
        assert!(error.to_string().contains("update convoy"), "{error}");
    }
}
