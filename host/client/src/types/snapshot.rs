//! Requests and answers about snapshots.

use super::{Deserialize, Pairs, Serialize, is_false};

/// A snapshot as it stands in its volume's `Snapshots`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SnapshotEntry {
    /// Its name, unique among all volumes and snapshots.
    pub name: String,
    /// When it was made.
    pub created_time: String,
    /// What the driver says of it.
    pub driver_info: Pairs,
}

/// A snapshot by itself: the answer to `snapshot inspect` and to a verbose create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Snapshot {
    /// The snapshot's name.
    pub name: String,
    /// The volume it was made of.
    pub volume_name: String,
    /// When that volume was created; the answer to a create does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_created_at: Option<String>,
    /// When the snapshot was made.
    pub created_time: String,
    /// What the driver says of it.
    pub driver_info: Pairs,
}

/// The body of `POST /snapshots/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateSnapshot {
    /// Empty: a name is generated.
    pub name: String,
    /// Of which volume.
    pub volume_name: String,
    /// Answer the whole snapshot and not only its name.
    pub verbose: bool,
    /// Hold writes to the volume's file system back while the snapshot is made.
    #[serde(skip_serializing_if = "is_false")]
    pub freeze: bool,
}

/// `GET` and `DELETE /snapshots/`: one snapshot by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SnapshotRef {
    /// The snapshot's name.
    pub snapshot_name: String,
    /// Of which volume; needed only where two volumes have a snapshot of that name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_name: String,
    /// Whether the answer has what 0.5 did not tell: the bytes and files in the snapshot.
    #[serde(skip_serializing_if = "is_false")]
    pub details: bool,
}

/// `POST /snapshots/revert`: make a volume's contents those of one of its snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RevertSnapshot {
    /// The snapshot's name.
    pub snapshot_name: String,
    /// Of which volume; needed only where two volumes have a snapshot of that name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_name: String,
    /// Answer the whole volume and not only its name.
    pub verbose: bool,
    /// Stop the containers that use the volume, and start them again.
    #[serde(skip_serializing_if = "is_false")]
    pub stop: bool,
}
