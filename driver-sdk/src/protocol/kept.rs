//! `kept.*`: data of volumes that were forgotten.

use super::{Name, PathBuf, Timestamp, messages};

messages! {
    /// `kept.list`: a page of what `volume.delete` with `reference_only` kept, sorted by name. Since 1.3, for
    /// drivers that declare `kept`.
    ///
    /// What is a volume again is not kept, and what never was a volume of this driver is not either.
    #[derive(Default)]
    pub struct ListKept {
        ;
        /// Only names after this one.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<Name>,
        /// At most so many; the driver may give fewer.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
        /// Find out sizes, for a few seconds at most: then the driver says what it knows. Without it, it says
        /// what costs nothing to tell.
        sizes: bool,
    }

    /// A page of kept data.
    #[derive(Default)]
    pub struct ListedKept {
        /// What is kept; what cannot be read is listed too, with a note.
        kept: Vec<Kept>,
        ;
        /// Whether names follow after the last one.
        more: bool,
    }

    /// What is left of a volume that was forgotten.
    pub struct Kept {
        /// The name the volume had: a `volume.create` of it brings the data back.
        name: Name,
        ;
        /// Bytes that data and snapshots take up; missing when that is not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// There was no time, or no way, to add up all of it: `size` is a part.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        at_least: bool,
        /// Since when it is kept, where that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
        /// How many snapshots are kept with it.
        snapshots: u32,
        /// Where it is, if it has a place in the file system.
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<PathBuf>,
        /// What a person should know before it is deleted: that its record is damaged, that `kept.delete`
        /// refuses it.
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    }

    /// `kept.delete`: remove the data and the snapshots that are kept under a name. Since 1.3, for drivers
    /// that declare `kept`.
    ///
    /// `NotFound` when nothing is kept under it, also when a volume has that name: a volume is never touched.
    /// Data that was not made by this driver is refused, and left as it is. After a crash it is kept as
    /// before, or gone.
    pub struct DeleteKept {
        /// The name that the forgotten volume had.
        name: Name,
    }
}
