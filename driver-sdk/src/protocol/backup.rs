//! `backup.*`: backups that the storage itself keeps (`native_backup`), such as EBS snapshots.

use super::{BTreeMap, Deserialize, Name, Serialize, Timestamp};

/// `backup.create`: keep a snapshot in the provider's own backup store; returns when it is safe there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateBackup {
    /// The volume.
    pub volume: Name,
    /// The snapshot.
    pub snapshot: Name,
    /// Only names the driver knows.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// A backup was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreatedBackup {
    /// Its URL, with the driver's scheme (`ebs://region/snap-0123`); a create with option `backup` restores
    /// it.
    pub url: String,
}

/// `backup.delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeleteBackup {
    /// Which.
    pub url: String,
}

/// `backup.inspect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InspectBackup {
    /// Which.
    pub url: String,
}

/// A backup of the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackupInfo {
    /// Its URL.
    pub url: String,
    /// The volume it was made of.
    pub volume: String,
    /// The snapshot it was made of.
    pub snapshot: String,
    /// When it was made.
    pub created: Timestamp,
    /// Bytes of the volume.
    #[serde(default)]
    pub size: u64,
    /// Further keys for `backup inspect`.
    #[serde(default)]
    pub info: BTreeMap<String, String>,
}

/// `backup.list`: the provider's backups made by this driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListBackups {
    /// `ebs://region` or the like; the driver's own region when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Only of this volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
}

/// The provider's backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListedBackups {
    /// In no particular order.
    pub backups: Vec<BackupInfo>,
}
