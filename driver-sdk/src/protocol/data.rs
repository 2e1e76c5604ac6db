//! Where bytes are (`snapshot.open`) and where they go (`restore.*`): the seam between driver and backup
//! engine.

use super::{BTreeMap, Deserialize, Name, PathBuf, Serialize};
use crate::{DriverError, ErrorKind, Result};

/// A range of a block device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Extent {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// The two shapes data comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A directory tree.
    Tree,
    /// A block device, or a file used as one.
    Block,
}

impl SourceKind {
    /// `tree` or `block`, as in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Block => "block",
        }
    }
}

impl std::fmt::Display for SourceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for SourceKind {
    type Err = DriverError;
    fn from_str(text: &str) -> Result<Self> {
        [Self::Tree, Self::Block].into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let text = format!("invalid kind {text:?}: expected tree or block");
            DriverError::new(ErrorKind::InvalidArgument, text)
        })
    }
}

/// `snapshot.open`: hand a snapshot over for reading. It cannot be deleted until it is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OpenSnapshot {
    /// The volume.
    pub volume: Name,
    /// The snapshot.
    pub snapshot: Name,
    /// For drivers with `changed_extents`: an older snapshot of the same volume that the reader has already.
    /// If it is gone the driver gives all extents in use instead, and says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Name>,
    /// For drivers with `read_either`: which of the two shapes the reader wants; `None` is the driver's own
    /// choice. `base` means nothing for a tree. Since 1.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SourceKind>,
}

/// How a reader knows, without reading it, that a file of an open tree is one it has read in an earlier
/// snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SameFile {
    /// Inode, change time, modification time and size agree. Right wherever a driver cannot say more.
    #[default]
    ChangeTime,
    /// Inode, birth time, modification time and size agree. For frozen trees that share unchanged files by
    /// hard links: linking moves the change time, and the content of an inode never changes.
    BirthTime,
}

/// Where a snapshot's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum SourceLocation {
    /// A directory whose tree does not change while it is open.
    Tree {
        /// Absolute path.
        path: PathBuf,
        /// How to tell files that were read before.
        #[serde(default)]
        same_file: SameFile,
    },
    /// A device whose bytes do not change while it is open; `snapshot.extents` says which matter.
    Block {
        /// Absolute path.
        device: PathBuf,
        /// Bytes.
        size: u64,
        /// Whether the extents are those changed since `base`; otherwise they are all in use.
        changed_only: bool,
    },
}

impl SourceLocation {
    /// Which of the two it is.
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Tree { .. } => SourceKind::Tree,
            Self::Block { .. } => SourceKind::Block,
        }
    }
}

/// An open snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OpenedSnapshot {
    /// Names this opening in the calls that follow.
    pub handle: String,
    /// Where to read.
    pub location: SourceLocation,
    /// What a restore must be told again in `restore.prepare` (`{"vm": "true"}`), kept beside the backup.
    #[serde(default)]
    pub restore_options: BTreeMap<String, String>,
}

/// `snapshot.extents`: a page of the extents of an open block snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListExtents {
    /// The opening.
    pub handle: String,
    /// Only extents that begin at this byte or later.
    #[serde(default)]
    pub from: u64,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Extents, sorted, not overlapping. Ranges that are not named are unused (full) or unchanged (changed only).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Extents {
    /// In use, or changed with content.
    pub extents: Vec<Extent>,
    /// With `changed_only`: in use in the base, unused now. They read as zeros.
    #[serde(default)]
    pub discarded: Vec<Extent>,
    /// Where to go on; `None` at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// `snapshot.close`: reading is over. Repeating it, or naming an opening of an earlier life, succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CloseSnapshot {
    /// The opening.
    pub handle: String,
}

/// `restore.prepare`: a place to restore into, invisible as a volume until `restore.finish`.
///
/// `AlreadyExists` if a volume, or data kept by a reference-only delete, has that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PrepareRestore {
    /// The volume to be.
    pub name: Name,
    /// What the backup holds.
    pub kind: SourceKind,
    /// Bytes; of the backup's volume or larger. `None` or 0 where the backup knows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Create options, the backup's `restore_options` among them.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Where to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TargetLocation {
    /// An empty directory; its own metadata is part of the restore.
    Tree {
        /// Absolute path.
        path: PathBuf,
    },
    /// A device that reads as zeros.
    Block {
        /// Absolute path.
        device: PathBuf,
        /// Bytes.
        size: u64,
    },
}

/// A target is ready to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PreparedRestore {
    /// Names this restore in `finish` and `abort`.
    pub handle: String,
    /// Where to write.
    pub location: TargetLocation,
}

/// `restore.finish`: everything is written and verified: make it durable and make it a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FinishRestore {
    /// The restore.
    pub handle: String,
}

/// `restore.abort`: remove the target. Repeating it succeeds. A crash of driver or host means abort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AbortRestore {
    /// The restore.
    pub handle: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_spelt_as_in_messages() {
        for kind in [SourceKind::Tree, SourceKind::Block] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let refused = "files".parse::<SourceKind>().unwrap_err();
        assert_eq!(refused.message, "invalid kind \"files\": expected tree or block");
    }
}
