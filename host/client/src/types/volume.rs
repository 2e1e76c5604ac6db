//! Requests and answers about volumes.

use super::{BTreeMap, Deserialize, Pairs, Serialize, SnapshotEntry, is_false};

/// A volume, as `list`, `inspect` and a verbose create answer it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// The volume's name.
    pub name: String,
    /// The driver that keeps it; empty in the answer to a verbose mount.
    pub driver: String,
    /// Where it is mounted; empty when it is not.
    pub mount_point: String,
    /// When it was created; empty in the answer to a verbose mount.
    pub created_time: String,
    /// What the driver says of it; `null` in the answer to a verbose mount.
    pub driver_info: Option<Pairs>,
    /// Its snapshots by name; `null` in the answer to a verbose mount.
    pub snapshots: Option<BTreeMap<String, SnapshotEntry>>,
}

/// The body of `POST /volumes/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateVolume {
    /// Empty: a name is generated.
    pub name: String,
    /// Empty: the default driver.
    pub driver_name: String,
    /// Bytes; 0: the driver's default.
    pub size: u64,
    /// A backup to fill the volume from; empty: none.
    #[serde(rename = "BackupURL")]
    pub backup_url: String,
    /// A custom S3 endpoint for the backup.
    pub endpoint: String,
    /// An existing volume of the storage system to take over.
    #[serde(rename = "DriverVolumeID")]
    pub driver_volume_id: String,
    /// A kind of volume the storage system knows.
    #[serde(rename = "Type")]
    pub kind: String,
    /// I/O operations per second to reserve; 0: the driver's default.
    #[serde(rename = "IOPS")]
    pub iops: u64,
    /// Whether the volume is an image file for a virtual machine.
    #[serde(rename = "PrepareForVM")]
    pub prepare_for_vm: bool,
    /// Answer the whole volume and not only its name.
    pub verbose: bool,
    /// A snapshot whose contents the volume begins with; empty: none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub snapshot_name: String,
    /// Further options that the driver declares.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: Pairs,
    /// The file, on the daemon's host, with the key of an encrypted backup.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with the passphrase in the place of a key file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
    /// Restore a backup that is not encrypted although a key is named; no key vouches for it.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_unencrypted: bool,
    /// Keep what can be restored where the file system refuses a part of the backup.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_losses: bool,
}

/// `GET /volumes/`: one volume by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeRef {
    /// The volume's name.
    pub volume_name: String,
    /// Whether the answer has what 0.5 did not tell: how much is in use, the last backup, and the sizes of
    /// snapshots.
    #[serde(skip_serializing_if = "is_false")]
    pub details: bool,
}

/// The body of `POST /volumes/umount`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UnmountVolume {
    /// The volume's name.
    pub volume_name: String,
    /// Unmount it although Docker still uses it.
    #[serde(skip_serializing_if = "is_false")]
    pub force: bool,
}

/// The body of `POST /volumes/mount`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountVolume {
    /// The volume's name.
    pub volume_name: String,
    /// Where; empty: the driver's own place.
    pub mount_point: String,
    /// Answer a volume and not only the mount point.
    pub verbose: bool,
}

/// The body of `DELETE /volumes/`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteVolume {
    /// The volume's name.
    pub volume_name: String,
    /// Forget the volume and keep its data.
    pub reference_only: bool,
}

/// The answer of `GET /volumes/kept`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListedKept {
    /// What is kept, driver by driver.
    pub kept: Vec<KeptVolume>,
    /// Why drivers could not tell, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: Pairs,
}

/// Data of a volume that was forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct KeptVolume {
    /// The name the volume had.
    pub name: String,
    /// The driver that keeps it.
    pub driver: String,
    /// Bytes that data and snapshots take up; `null` when that is not known.
    pub size: Option<u64>,
    /// Whether the size is of a part, since adding up all of it would take too long.
    #[serde(skip_serializing_if = "is_false")]
    pub at_least: bool,
    /// How many snapshots are kept with it.
    pub snapshots: u32,
    /// Since when it is kept; empty when that is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub since: String,
    /// Where it is; empty when it has no place in the file system.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What to know before it is deleted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// `DELETE /volumes/kept`: delete what is kept of a volume that was forgotten. A volume is never touched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteKept {
    /// The name the volume had.
    pub volume_name: String,
    /// The driver that keeps it; empty: the only one that keeps something under the name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver_name: String,
}

/// The body of `POST /volumes/resize`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ResizeVolume {
    /// The volume's name.
    pub volume_name: String,
    /// The size to reach, in bytes.
    pub size: u64,
    /// Answer the whole volume and not only its name.
    pub verbose: bool,
}

/// `POST /volumes/retain`: what becomes of a volume's data when Docker removes the volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RetainVolume {
    /// The volume's name.
    pub volume_name: String,
    /// `keep`, `delete`, or `default`: what the daemon's settings say.
    pub policy: String,
}

/// Whether the query of `GET /volumes/list?driver=1` asks for the drivers' own form.
pub fn driver_form_is_asked(query: Option<&str>) -> bool {
    is_asked(query, "driver=1")
}

/// Whether the query of `GET /volumes/list?details=1` asks for what 0.5 did not tell.
pub fn details_are_asked(query: Option<&str>) -> bool {
    is_asked(query, "details=1")
}

fn is_asked(query: Option<&str>, wanted: &str) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == wanted))
}
