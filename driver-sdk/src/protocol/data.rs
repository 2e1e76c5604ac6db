//! Where bytes are (`snapshot.open`) and where they go (`restore.*`): the seam between driver and backup
//! engine.

use super::{BTreeMap, Deserialize, Name, PathBuf, Serialize, messages};
use crate::{DriverError, Result};

/// A range of a block device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Extent {
    /// The first byte of the range.
    pub offset: u64,
    /// How many bytes the range has.
    pub length: u64,
}

/// The two shapes data comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A directory tree: files with all their metadata.
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
            DriverError::invalid(text)
        })
    }
}

messages! {
    /// `snapshot.open`: hand a snapshot over for reading. It cannot be deleted until it is closed.
    pub struct OpenSnapshot {
        /// The volume that the snapshot was taken of.
        volume: Name,
        /// The snapshot to read.
        snapshot: Name,
        ;
        /// For drivers with `changed_extents`: an older snapshot of the same volume that the reader has
        /// already. If it is gone the driver gives all extents in use instead, and says so.
        #[serde(skip_serializing_if = "Option::is_none")]
        base: Option<Name>,
        /// For drivers with `read_either`: which of the two shapes the reader wants; `None` is the driver's
        /// own choice. `base` means nothing for a tree. Since 1.2.
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<SourceKind>,
    }
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
    #[non_exhaustive]
    Tree {
        /// The directory, as an absolute path.
        path: PathBuf,
        /// How to tell files that were read before.
        #[serde(default)]
        same_file: SameFile,
    },
    /// A device whose bytes do not change while it is open; `snapshot.extents` says which matter.
    #[non_exhaustive]
    Block {
        /// The device, or a file used as one, as an absolute path.
        device: PathBuf,
        /// The size of the device, in bytes.
        size: u64,
        /// Whether the extents are those changed since `base`; otherwise they are all in use.
        changed_only: bool,
    },
}

impl SourceLocation {
    /// A directory; `path` is absolute.
    pub fn tree(path: PathBuf, same_file: SameFile) -> Self {
        Self::Tree { path, same_file }
    }

    /// A device of `size` bytes; its extents are those changed since `base`, or all in use.
    pub fn block(device: PathBuf, size: u64, changed_only: bool) -> Self {
        Self::Block { device, size, changed_only }
    }

    /// Says which of the two shapes it is.
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Tree { .. } => SourceKind::Tree,
            Self::Block { .. } => SourceKind::Block,
        }
    }
}

messages! {
    /// A snapshot that is open for reading.
    pub struct OpenedSnapshot {
        /// Names this opening in the calls that follow.
        handle: String,
        /// Where the bytes are.
        location: SourceLocation,
        ;
        /// What a restore must be told again in `restore.prepare` (`{"vm": "true"}`), kept beside the backup.
        restore_options: BTreeMap<String, String>,
    }

    /// `snapshot.extents`: a page of the extents of an open block snapshot.
    pub struct ListExtents {
        /// The handle that `snapshot.open` gave.
        handle: String,
        ;
        /// Only extents that begin at this byte or later.
        from: u64,
        /// At most so many extents; the driver may give fewer.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    }

    /// Extents, sorted, not overlapping. Ranges that are not named are unused (full) or unchanged (changed
    /// only).
    #[derive(Default)]
    pub struct Extents {
        /// In use, or changed with content.
        extents: Vec<Extent>,
        ;
        /// With `changed_only`: in use in the base, unused now. They read as zeros.
        discarded: Vec<Extent>,
        /// Where to go on; `None` at the end.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<u64>,
    }

    /// `snapshot.close`: reading is over. Repeating it, or naming an opening of an earlier life, succeeds.
    pub struct CloseSnapshot {
        /// The handle that `snapshot.open` gave.
        handle: String,
    }

    /// `restore.prepare`: a place to restore into, invisible as a volume until `restore.finish`.
    ///
    /// `AlreadyExists` if a volume, or data kept by a reference-only delete, has that name.
    pub struct PrepareRestore {
        /// The name of the volume that is restored.
        name: Name,
        /// The shape of the data that the backup holds.
        kind: SourceKind,
        ;
        /// Bytes; of the backup's volume or larger. `None` or 0 where the backup knows none.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Create options, the backup's `restore_options` among them.
        options: BTreeMap<String, String>,
    }
}

/// Where the bytes of a restore go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TargetLocation {
    /// An empty directory; its own metadata is part of the restore.
    #[non_exhaustive]
    Tree {
        /// The directory, as an absolute path.
        path: PathBuf,
    },
    /// A device that reads as zeros.
    #[non_exhaustive]
    Block {
        /// The device, or a file used as one, as an absolute path.
        device: PathBuf,
        /// The size of the device, in bytes.
        size: u64,
    },
}

impl TargetLocation {
    /// An empty directory; `path` is absolute.
    pub fn tree(path: PathBuf) -> Self {
        Self::Tree { path }
    }

    /// A device of `size` bytes that reads as zeros.
    pub fn block(device: PathBuf, size: u64) -> Self {
        Self::Block { device, size }
    }
}

messages! {
    /// A target is ready to be written.
    pub struct PreparedRestore {
        /// Names this restore in `finish` and `abort`.
        handle: String,
        /// Where the bytes go.
        location: TargetLocation,
    }

    /// `restore.finish`: everything is written and verified: make it durable and make it a volume.
    pub struct FinishRestore {
        /// The handle that `restore.prepare` gave.
        handle: String,
    }

    /// `restore.abort`: remove the target. Repeating it succeeds. A crash of driver or host means abort.
    pub struct AbortRestore {
        /// The handle that `restore.prepare` gave.
        handle: String,
    }
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
