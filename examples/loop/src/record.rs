//! What is remembered of a volume. Its size is that of its image.

use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a volume is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Its image is being put in its place: undone by the next open.
    Making,
    /// It is a volume.
    Ready,
    /// Deleted but for its data: no volume, until a create of that name takes it back.
    Kept,
    /// A delete has begun: finished by the next open.
    Deleting,
}

/// What is remembered of a volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) state: State,
    pub(crate) created: Timestamp,
    pub(crate) fs: FsKind,
    /// The image may be larger than the file system in it, which grows when it is mounted next.
    #[serde(default)]
    pub(crate) grow: bool,
    /// By name; their images are the truth about their sizes.
    #[serde(default)]
    pub(crate) snapshots: BTreeMap<Name, TakenSnapshot>,
}

/// What is remembered of a snapshot.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct TakenSnapshot {
    pub(crate) created: Timestamp,
    /// What the volume's mark was.
    #[serde(default)]
    pub(crate) grow: bool,
}

impl Record {
    /// A volume that is about to be made.
    pub(crate) fn new(fs: FsKind, grow: bool) -> Self {
        Self { state: State::Making, created: Timestamp::now(), fs, grow, snapshots: BTreeMap::new() }
    }

    /// Whether its file system is to be grown, and can be while it is not mounted: ext4, and better so, since
    /// growing it while it is mounted takes a right that not every daemon has.
    pub(crate) fn grows_unmounted(&self) -> bool {
        self.grow && self.fs == FsKind::Ext4
    }
}
