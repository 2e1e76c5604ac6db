//! The records on disk: of volumes that have snapshots, were forgotten, or are being made or deleted. Of any
//! other, Docker alone knows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use convoy_driver_sdk::{Name, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::error::{LocalError, LocalResult};

/// Records of this format are understood.
const FORMAT: u32 = 1;

/// What a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VolumeKind {
    /// A volume that Docker knows by its name.
    Volume,
    /// A directory of the host that containers have.
    Bind,
}

impl VolumeKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::Bind => "bind mount",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeRecord {
    #[serde(deserialize_with = "known_format")]
    format: u32,
    pub(crate) name: Name,
    pub(crate) kind: VolumeKind,
    /// Where the data was when the record was made.
    pub(crate) path: PathBuf,
    pub(crate) created: Timestamp,
    /// Not to be listed, until a create brings it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) forgotten: bool,
    /// Its delete was begun.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) deleting: bool,
    /// It is being made of what was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) publishing: Option<Publishing>,
    #[serde(default)]
    pub(crate) snapshots: BTreeMap<Name, SnapshotRecord>,
}

/// A volume that Docker is told to make, and whose directory is then exchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Publishing {
    /// What tells this volume from others of its name: a label of it.
    pub(crate) id: String,
    /// Where the data waits.
    pub(crate) parcel: PathBuf,
    /// The inode of the directory with the data.
    pub(crate) inode: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SnapshotRecord {
    pub(crate) created: Timestamp,
    /// Larger than that of every older snapshot of the volume.
    pub(crate) sequence: u64,
    /// The vault that it is in.
    pub(crate) vault: PathBuf,
}

impl VolumeRecord {
    pub(crate) fn new(name: Name, kind: VolumeKind, path: PathBuf, created: Timestamp) -> Self {
        Self {
            format: FORMAT,
            name,
            kind,
            path,
            created,
            forgotten: false,
            deleting: false,
            publishing: None,
            snapshots: BTreeMap::new(),
        }
    }

    pub(crate) fn snapshot(&self, snapshot: &Name) -> LocalResult<&SnapshotRecord> {
        self.snapshots
            .get(snapshot)
            .ok_or_else(|| LocalError::NoSnapshot { volume: self.name.clone(), snapshot: snapshot.clone() })
    }

    /// The newest snapshot in a vault.
    pub(crate) fn newest_in(&self, vault: &std::path::Path) -> Option<&Name> {
        let of_vault = self.snapshots.iter().filter(|(_, record)| record.vault == vault);
        of_vault.max_by_key(|(_, record)| record.sequence).map(|(name, _)| name)
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.snapshots.values().map(|record| record.sequence).max().unwrap_or(0) + 1
    }

    /// Whether it says nothing that Docker does not say.
    pub(crate) fn is_idle(&self) -> bool {
        self.snapshots.is_empty() && !self.forgotten && !self.deleting && self.publishing.is_none()
    }
}

fn known_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let format = u32::deserialize(deserializer)?;
    if format == FORMAT {
        return Ok(format);
    }
    Err(de::Error::custom(format!("expected format {FORMAT}, found {format}: of a newer convoy")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_newest_snapshot_is_the_one_taken_last_in_its_vault() {
        let mut record = VolumeRecord::new(
            Name::from_static("data"),
            VolumeKind::Volume,
            "/d".into(),
            Timestamp::from_unix(0),
        );
        assert!(record.is_idle() && record.next_sequence() == 1);
        for (name, vault) in [("zz", "/v"), ("aa", "/v"), ("mm", "/other")] {
            let sequence = record.next_sequence();
            let taken = SnapshotRecord { created: Timestamp::from_unix(0), sequence, vault: vault.into() };
            record.snapshots.insert(Name::from_static(name), taken);
        }
        assert_eq!(record.newest_in(Path::new("/v")).map(Name::as_str), Some("aa"));
        assert_eq!(record.newest_in(Path::new("/none")), None);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<VolumeRecord>(&text).unwrap(), record);
        let newer = text.replace("\"Format\":1", "\"Format\":2");
        assert!(serde_json::from_str::<VolumeRecord>(&newer).unwrap_err().to_string().contains("newer"));
    }
}
