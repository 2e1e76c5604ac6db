//! `kept.*`: data of volumes that were forgotten.

use super::volume::page;
use super::{Deserialize, Name, PathBuf, Serialize, Timestamp};

/// `kept.list`: a page of what `volume.delete` with `reference_only` kept, sorted by name. Since 1.3, for
/// drivers that declare `kept`.
///
/// What is a volume again is not kept, and what never was a volume of this driver is not either.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListKept {
    /// Only names after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Name>,
    /// At most so many; the driver may give fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Find out sizes, for a few seconds at most: then the driver says what it knows. Without it, it says
    /// what costs nothing to tell.
    #[serde(default)]
    pub sizes: bool,
}

impl ListKept {
    /// Of all names, in any order, those of the page asked for, and whether more follow.
    pub fn page(&self, names: impl IntoIterator<Item = Name>) -> (Vec<Name>, bool) {
        page(self.after.as_ref(), self.limit, names)
    }
}

/// A page of kept data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListedKept {
    /// What is kept; what cannot be read is listed too, with a note.
    pub kept: Vec<Kept>,
    /// Whether names follow after the last one.
    #[serde(default)]
    pub more: bool,
}

/// What is left of a volume that was forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Kept {
    /// The name the volume had: a `volume.create` of it brings the data back.
    pub name: Name,
    /// Bytes that data and snapshots take up; missing when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// There was no time, or no way, to add up all of it: `size` is a part.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
    /// Since when it is kept, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// How many snapshots are kept with it.
    #[serde(default)]
    pub snapshots: u32,
    /// Where it is, if it has a place in the file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// What a person should know before it is deleted: that its record is damaged, that `kept.delete` refuses
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Kept {
    /// Kept data of which no more than the name is known.
    pub fn new(name: Name) -> Self {
        Self { name, size: None, at_least: false, since: None, snapshots: 0, path: None, note: None }
    }
}

/// `kept.delete`: remove the data and the snapshots that are kept under a name. Since 1.3, for drivers that
/// declare `kept`.
///
/// `NotFound` when nothing is kept under it, also when a volume has that name: a volume is never touched.
/// Data that was not made by this driver is refused, and left as it is. After a crash it is kept as before,
/// or gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeleteKept {
    /// The name.
    pub name: Name,
}
