//! `snapshot.*` as far as it does not touch data.

use super::{BTreeMap, Deserialize, Name, Serialize, Timestamp};

/// A snapshot as its driver knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// Its name, unique within its volume.
    pub name: Name,
    /// The volume it was taken of.
    pub volume: Name,
    /// When it was taken.
    pub created: Timestamp,
    /// Keys for `inspect`; the host adds `Driver`, `SnapshotName` and `SnapshotCreatedAt`.
    #[serde(default)]
    pub info: BTreeMap<String, String>,
}

/// `snapshot.create`: the state of a volume at one moment, kept.
///
/// Repeating it for a snapshot that exists answers `AlreadyExists`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateSnapshot {
    /// The volume.
    pub volume: Name,
    /// The name.
    pub snapshot: Name,
    /// Freeze the mounted file system meanwhile, for drivers that declare `freeze`.
    #[serde(default)]
    pub freeze: bool,
}

/// `snapshot.delete`. `NotFound` when it does not exist, `InUse` while it is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeleteSnapshot {
    /// The volume.
    pub volume: Name,
    /// The snapshot.
    pub snapshot: Name,
}

/// `snapshot.list`: the snapshots of one volume, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListSnapshots {
    /// The volume.
    pub volume: Name,
}

/// The snapshots of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListedSnapshots {
    /// Sorted by name.
    pub snapshots: Vec<Snapshot>,
}

/// `snapshot.get`: one snapshot, read afresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GetSnapshot {
    /// The volume.
    pub volume: Name,
    /// The snapshot.
    pub snapshot: Name,
}
