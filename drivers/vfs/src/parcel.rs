//! A piece of unfinished work: a directory in the workspace.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use convoy_driver_sdk::Name;
use convoy_driver_sdk::tree::remove_tree;

use crate::quota;

/// In a parcel: the directory of a volume, the directory of its snapshots, and, while a revert is under way
/// that cannot exchange them in one step, the directory that the volume had until then.
pub(crate) const DATA: &str = "data";
pub(crate) const SNAPSHOTS: &str = "snapshots";
pub(crate) const OLD: &str = "old";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A volume that is made or taken down: [`DATA`] and [`SNAPSHOTS`].
    Volume,
    /// Nothing: the volume's directory, empty, was made at its final place, and its record is being written.
    Create,
    /// A volume that goes back to a snapshot: the new tree or, once exchanged, the old one is [`DATA`]. Where
    /// they cannot be exchanged in one step, the old one is [`OLD`] meanwhile.
    Revert,
    /// A snapshot's directory.
    Snapshot,
    /// Nothing: the limit of a volume is being changed to what its record says.
    Resize,
    /// Files that only this process needs.
    Scratch,
}

impl Kind {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Volume, "volume"),
        (Self::Create, "create"),
        (Self::Revert, "revert"),
        (Self::Snapshot, "snapshot"),
        (Self::Resize, "resize"),
        (Self::Scratch, "scratch"),
    ];

    pub(crate) fn text(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("scratch", |(_, text)| text)
    }

    /// Takes the kind, the incarnation and the volume from the file name of a parcel.
    pub(crate) fn parse(file: &OsStr) -> Option<(Self, Option<&str>, Name)> {
        let mut parts = file.to_str()?.splitn(3, '.');
        let (kind, number, name) = (parts.next()?, parts.next()?, parts.next()?);
        let (kind, _) = Self::ALL.iter().find(|(_, text)| *text == kind)?;
        let incarnation = number.split_once('-').map(|(_, incarnation)| incarnation);
        Some((*kind, incarnation, Name::parse(name).ok()?))
    }
}

/// A directory in the workspace, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Parcel {
    path: PathBuf,
    kept: bool,
}

impl Parcel {
    /// Takes over a directory that was just made.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, kept: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Leaves the directory where it is: it has been given to somebody else.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.kept = true;
        std::mem::take(&mut self.path)
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        quota::release(&self.join(DATA));
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(%error, "cannot remove what an operation left; the next start will");
        }
    }
}
