//! `volume.*`.

use super::{BTreeMap, Deserialize, Name, PathBuf, Serialize, Snapshot, Timestamp};

/// Whether a volume can be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It can.
    #[default]
    Good,
    /// It is known but cannot be used; the text says why and what to do.
    Damaged(String),
}

/// A volume as its driver knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Volume {
    /// Its name.
    pub name: Name,
    /// Its size in bytes; 0 where the driver enforces none.
    pub size: u64,
    /// When it was created.
    pub created: Timestamp,
    /// Where the kernel has it mounted at this moment, for drivers that mount; `None` when it is not mounted
    /// and for drivers whose volumes are plain directories. The host keeps count of who uses a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<PathBuf>,
    /// Keys for `inspect`; the host adds `Driver`, `MountPoint`, `VolumeName`, `VolumeCreatedAt` and `Size`.
    #[serde(default)]
    pub info: BTreeMap<String, String>,
    /// Its snapshots.
    #[serde(default)]
    pub snapshots: Vec<Snapshot>,
    /// Whether it can be used.
    #[serde(default)]
    pub health: Health,
}

/// `volume.create`: make an empty volume.
///
/// Repeating it for a volume that exists answers `AlreadyExists`; the host makes Docker's create idempotent.
/// A crash in the midst leaves nothing, or a volume, never a half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateVolume {
    /// The name, unique within the driver.
    pub name: Name,
    /// Bytes; the driver's default when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Only names among the driver's `create_options`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// `volume.delete`: forget a volume and, unless `reference_only`, delete its data and its snapshots.
///
/// `NotFound` when it does not exist; `InUse` when it is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeleteVolume {
    /// Which.
    pub name: Name,
    /// Keep the data, forget the volume.
    #[serde(default)]
    pub reference_only: bool,
}

/// `volume.mount`: make the volume's files reachable. Repeating it answers the same mountpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MountVolume {
    /// Which.
    pub name: Name,
    /// Where, for drivers that declare `mount_at`; the driver's own place when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<PathBuf>,
}

/// Where a volume's files are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Mounted {
    /// An absolute path on the host.
    pub mountpoint: PathBuf,
}

/// `volume.unmount`: the host has no user of the volume left. Repeating it succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnmountVolume {
    /// Which.
    pub name: Name,
}

/// `volume.resize`: grow (or, where the driver can, shrink) a volume and the file system on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResizeVolume {
    /// Which.
    pub name: Name,
    /// The size to reach, in bytes. Having it already is success.
    pub size: u64,
}

/// `volume.clone`: make a volume whose contents are those of a snapshot. Since 1.1, for drivers that declare
/// `clone`.
///
/// The new volume is independent: the snapshot and its volume may be deleted afterwards. It answers as
/// `volume.create` does when it is repeated, and after a crash there is the whole volume or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CloneVolume {
    /// The name of the new volume, unique within the driver.
    pub name: Name,
    /// The volume the snapshot was taken of.
    pub source: Name,
    /// The snapshot.
    pub snapshot: Name,
    /// Bytes, at least the snapshot's; its size when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Only names among the driver's `create_options`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// `volume.revert`: the contents of a volume become those of one of its snapshots; what was written since is
/// gone. Since 1.1, for drivers that declare `revert`.
///
/// `InUse` when the volume is mounted. All snapshots stay, newer ones too. A size that changed since the
/// snapshot becomes the snapshot's. Repeating it succeeds; after a crash the volume is as before or as the
/// snapshot, never between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevertVolume {
    /// Which.
    pub name: Name,
    /// The snapshot to go back to.
    pub snapshot: Name,
}

/// `volume.list`: a page of all volumes, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListVolumes {
    /// Only names after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Name>,
    /// At most so many; the driver may give fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The generation of an earlier, complete listing: if nothing changed since, the driver may answer
    /// `unchanged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
}

impl ListVolumes {
    /// Of all names, in any order, those of the page asked for, and whether more follow.
    pub fn page(&self, names: impl IntoIterator<Item = Name>) -> (Vec<Name>, bool) {
        page(self.after.as_ref(), self.limit, names)
    }
}

/// Of all names those after one, sorted, at most so many; and whether more follow.
pub(super) fn page(
    after: Option<&Name>,
    limit: Option<u32>,
    names: impl IntoIterator<Item = Name>,
) -> (Vec<Name>, bool) {
    let mut names: Vec<_> = names.into_iter().filter(|name| after.is_none_or(|after| name > after)).collect();
    names.sort_unstable();
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let more = names.len() > limit;
    names.truncate(limit);
    (names, more)
}

/// A page of volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListedVolumes {
    /// The volumes; one that cannot be read is listed with its health, or as a warning if even its name is
    /// unknown.
    pub volumes: Vec<Volume>,
    /// Whether names follow after the last one.
    #[serde(default)]
    pub more: bool,
    /// Names this state of things; `None` where the driver cannot tell cheaply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// The generation asked with still holds; `volumes` is empty.
    #[serde(default)]
    pub unchanged: bool,
    /// What could not be listed, one line each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `volume.get`: one volume, read afresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GetVolume {
    /// Which.
    pub name: Name,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_sorted_and_say_whether_more_follow() {
        let names = || ["cc", "aa", "dd", "bb"].map(Name::from_static);
        let page = |after: Option<&'static str>, limit| {
            let request =
                ListVolumes { after: after.map(Name::from_static), limit, ..ListVolumes::default() };
            let (names, more) = request.page(names());
            (names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>().join(" "), more)
        };
        assert_eq!(page(None, None), ("aa bb cc dd".to_owned(), false));
        assert_eq!(page(None, Some(2)), ("aa bb".to_owned(), true));
        assert_eq!(page(Some("bb"), Some(2)), ("cc dd".to_owned(), false));
        assert_eq!(page(Some("b0"), Some(0)), (String::new(), true));
        assert_eq!(page(Some("zz"), Some(5)), (String::new(), false));
    }
}
