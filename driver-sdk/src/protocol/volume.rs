//! The messages of the methods `volume.*`.

use super::{BTreeMap, Deserialize, Name, PathBuf, Serialize, Snapshot, Timestamp, messages};

/// Whether a volume can be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// The volume can be used.
    #[default]
    Good,
    /// It is known but cannot be used; the text says why and what to do.
    Damaged(String),
}

messages! {
    /// A volume as its driver knows it.
    pub struct Volume {
        /// The name of the volume, unique within the driver.
        name: Name,
        /// The size in bytes; 0 where the driver enforces none.
        size: u64,
        /// When the volume was created.
        created: Timestamp,
        ;
        /// Where the kernel has it mounted at this moment, for drivers that mount; `None` when it is not
        /// mounted and for drivers whose volumes are plain directories. The host keeps count of who uses a
        /// volume.
        #[serde(skip_serializing_if = "Option::is_none")]
        mountpoint: Option<PathBuf>,
        /// Keys for `inspect`; the host adds `Driver`, `MountPoint`, `VolumeName`, `VolumeCreatedAt` and
        /// `Size`.
        info: BTreeMap<String, String>,
        /// The snapshots of the volume, in any order.
        snapshots: Vec<Snapshot>,
        /// Whether the volume can be used.
        health: Health,
    }

    /// `volume.create`: make an empty volume.
    ///
    /// Repeating it for a volume that exists answers `AlreadyExists`; the host makes Docker's create
    /// idempotent. A crash in the midst leaves nothing, or a volume, never a half.
    pub struct CreateVolume {
        /// The name of the new volume, unique within the driver.
        name: Name,
        ;
        /// Bytes; the driver's default when missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Only names among the driver's `create_options`.
        options: BTreeMap<String, String>,
    }

    /// `volume.delete`: forget a volume and, unless `reference_only`, delete its data and its snapshots.
    ///
    /// `NotFound` when it does not exist; `InUse` when it is mounted.
    pub struct DeleteVolume {
        /// The name of the volume.
        name: Name,
        ;
        /// Keep the data and its snapshots, and forget the volume alone.
        reference_only: bool,
    }

    /// `volume.mount`: make the volume's files reachable. Repeating it answers the same mountpoint.
    pub struct MountVolume {
        /// The name of the volume.
        name: Name,
        ;
        /// Where, for drivers that declare `mount_at`; the driver's own place when missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        mountpoint: Option<PathBuf>,
    }

    /// Where a volume's files are now.
    pub struct Mounted {
        /// An absolute path on the host.
        mountpoint: PathBuf,
    }

    /// `volume.unmount`: the host has no user of the volume left. Repeating it succeeds.
    pub struct UnmountVolume {
        /// The name of the volume.
        name: Name,
    }

    /// `volume.resize`: grow (or, where the driver can, shrink) a volume and the file system on it.
    pub struct ResizeVolume {
        /// The name of the volume.
        name: Name,
        /// The size to reach, in bytes. Having it already is success.
        size: u64,
    }

    /// `volume.clone`: make a volume whose contents are those of a snapshot. Since 1.1, for drivers that
    /// declare `clone`.
    ///
    /// The new volume is independent: the snapshot and its volume may be deleted afterwards. It answers as
    /// `volume.create` does when it is repeated, and after a crash there is the whole volume or nothing.
    pub struct CloneVolume {
        /// The name of the new volume, unique within the driver.
        name: Name,
        /// The volume the snapshot was taken of.
        source: Name,
        /// The snapshot to begin with.
        snapshot: Name,
        ;
        /// Bytes, at least the snapshot's; its size when missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Only names among the driver's `create_options`.
        options: BTreeMap<String, String>,
    }

    /// `volume.revert`: the contents of a volume become those of one of its snapshots; what was written since
    /// is gone. Since 1.1, for drivers that declare `revert`.
    ///
    /// `InUse` when the volume is mounted. All snapshots stay, newer ones too. A size that changed since the
    /// snapshot becomes the snapshot's. Repeating it succeeds; after a crash the volume is as before or as
    /// the snapshot, never between.
    pub struct RevertVolume {
        /// The name of the volume.
        name: Name,
        /// The snapshot to go back to.
        snapshot: Name,
    }

    /// `volume.list`: a page of all volumes, sorted by name.
    #[derive(Default)]
    pub struct ListVolumes {
        ;
        /// Only names after this one.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<Name>,
        /// At most so many; the driver may give fewer.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
        /// The generation of an earlier, complete listing: if nothing changed since, the driver may answer
        /// `unchanged`.
        #[serde(skip_serializing_if = "Option::is_none")]
        generation: Option<String>,
    }

    /// A page of volumes.
    #[derive(Default)]
    pub struct ListedVolumes {
        /// The volumes; one that cannot be read is listed with its health, or as a warning if even its name
        /// is unknown.
        volumes: Vec<Volume>,
        ;
        /// Whether names follow after the last one.
        more: bool,
        /// Names this state of things; `None` where the driver cannot tell cheaply.
        #[serde(skip_serializing_if = "Option::is_none")]
        generation: Option<String>,
        /// The generation asked with still holds; `volumes` is empty.
        unchanged: bool,
        /// What could not be listed, one line each.
        warnings: Vec<String>,
    }

    /// `volume.get`: one volume, read afresh.
    pub struct GetVolume {
        /// The name of the volume.
        name: Name,
    }
}

impl Volume {
    /// A volume of which no more than the name is known, and why: its record cannot be read.
    pub fn damaged(name: Name, why: impl Into<String>) -> Self {
        Self::new(name, 0, Timestamp::from_unix(0)).health(Health::Damaged(why.into()))
    }
}
