//! File systems that are mounted for backups and restores of files: in the driver's own mount namespace,
//! where the host reads and writes, and in directories that are named by the ids of the thin devices they are
//! on.
//!
//! A snapshot is never mounted itself. What it holds may be a file system that was in use, whose journal is
//! replayed when it is mounted, also for reading alone; and that writes. So a copy of it is mounted, which
//! costs the few blocks that the replay writes. Its id is pending as long as it is there: after a crash the
//! next start unmounts and deletes it.

use super::DeviceMapper;
use super::restore::renew_btrfs;
use super::sources::Source;
use crate::kernel::{Kernel, Visibility};
use crate::options::CREATE_FS;
use crate::state::ThinId;
use convoy_driver_sdk::filesystem::{self, FsKind, Mount};
use convoy_driver_sdk::protocol::{OpenSnapshot, OpenedSnapshot, SameFile, SourceLocation};
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Result, atomic};
use std::path::{Path, PathBuf};

/// Directories below the driver's root, with one for each id.
const TREES: &str = "trees";
const RESTORES: &str = "restores";

/// Nothing in a snapshot is run, and nothing of it opens a device.
const READING: &str = "ro,nosuid,nodev,noexec,noatime";

impl DeviceMapper {
    /// The name of the device of a copy of a snapshot while its files are read.
    pub(super) fn tree_name(&self, id: ThinId) -> String {
        format!("{}+tree+{id}", self.pool.name())
    }

    fn tree_place(&self, id: ThinId) -> PathBuf {
        self.root.join(TREES).join(id.to_string())
    }

    pub(super) fn restore_place(&self, id: ThinId) -> PathBuf {
        self.root.join(RESTORES).join(id.to_string())
    }

    pub(super) fn open_tree(&self, request: &OpenSnapshot, context: &Context) -> Result<OpenedSnapshot> {
        let (volume, snapshot) = self.store.snapshot(&request.volume, &request.snapshot)?;
        self.pool.admit().map_err(|error| {
            let error = DriverError::from(error);
            match error.hint {
                None => error
                    .hint("to read its files the snapshot is copied; a backup of its blocks needs no space"),
                Some(_) => error,
            }
        })?;
        let what = format!("read the files of snapshot {} of {}", snapshot.name, volume.name);
        let copy = self.begin(&what, context, |id| self.pool.copy(id, snapshot.dev_id))?;
        let handle = format!("tree-{copy}");
        self.sources.announce(&handle, Source::tree(snapshot.dev_id, copy));
        let size = snapshot.size.unwrap_or(volume.size);
        match self.mount_copy(copy, size, volume.filesystem, context) {
            // Inodes and change times are those of the volume: a copy of its blocks has them all.
            Ok(path) => Ok(OpenedSnapshot::new(handle, SourceLocation::tree(path, SameFile::ChangeTime))
                .restore_options([(CREATE_FS.to_owned(), volume.filesystem.to_string())].into())),
            Err(error) => {
                if let Err(left) = self.close_source(&handle, &Self::undoing(context)) {
                    tracing::warn!(copy, %left, "a copy of a snapshot was left behind");
                }
                Err(error)
            }
        }
    }

    fn mount_copy(&self, copy: ThinId, size: u64, kind: FsKind, context: &Context) -> Result<PathBuf> {
        let (name, context) = (self.tree_name(copy), &self.bounded(context));
        self.pool.activate(&name, copy, size, false, Visibility::Private)?;
        let node = Kernel::node(&name);
        if kind == FsKind::Btrfs {
            renew_btrfs(&node, context)?;
        }
        let place = self.tree_place(copy);
        self.mount_at_place(&node, kind, &place, kind.mount_options(READING), context)?;
        Ok(place)
    }

    /// An empty file system on a device, mounted to be written to.
    pub(super) fn mount_empty(
        &self,
        id: ThinId,
        node: &Path,
        kind: FsKind,
        context: &Context,
    ) -> Result<PathBuf> {
        let context = &self.bounded(context);
        filesystem::mkfs_anew(kind, node, context)?;
        let place = self.restore_place(id);
        self.mount_at_place(node, kind, &place, "nosuid,nodev,noexec,noatime".to_owned(), context)?;
        Ok(place)
    }

    fn mount_at_place(
        &self,
        node: &Path,
        kind: FsKind,
        place: &Path,
        options: String,
        context: &Context,
    ) -> Result<()> {
        atomic::create_dir(place, 0o700)
            .map_err(|error| DriverError::io(format_args!("make {}", place.display()), &error))?;
        // The host is here, whatever namespace the volumes are mounted in.
        filesystem::mount(&Mount::new(node, place, kind.to_string()).options(options), context)
    }

    /// Unmounts whatever a device of this id was mounted for, and succeeds when there is nothing.
    ///
    /// # Errors
    /// `Busy` while the host still has files open.
    pub(super) fn release_places(&self, id: ThinId, context: &Context) -> Result<()> {
        for place in [self.tree_place(id), self.restore_place(id)] {
            filesystem::unmount(&place, None, context)?;
            match std::fs::remove_dir(&place) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(DriverError::io(format_args!("remove {}", place.display()), &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn close_tree(&self, copy: ThinId, context: &Context) -> Result<()> {
        self.release_places(copy, context)?;
        self.undo(copy, Some(&self.tree_name(copy)), context);
        Ok(())
    }

    /// A handle of an earlier life. What it was mounted for was still read when this life began.
    pub(super) fn close_unknown(&self, handle: &str, context: &Context) -> Result<()> {
        let id = handle.strip_prefix("tree-").and_then(|id| id.parse::<ThinId>().ok());
        match id.filter(|id| self.journal.abandoned().iter().any(|pending| pending.dev_id == *id)) {
            Some(id) => self.close_tree(id, context),
            None => Ok(()),
        }
    }

    /// Unmounts what an earlier life had mounted for devices that it was making or deleting. One line for
    /// each.
    pub(super) fn release_abandoned(&self, context: &Context) -> Vec<String> {
        let mut lines = Vec::new();
        for pending in self.journal.abandoned() {
            let (id, what) = (pending.dev_id, pending.what);
            let was_there = self.tree_place(id).exists() || self.restore_place(id).exists();
            match self.release_places(id, context) {
                Ok(()) if was_there => {
                    lines.push(format!("{what}: it was cut off, and is not mounted any more"))
                }
                Ok(()) => {}
                Err(error) if error.kind == ErrorKind::Busy => {
                    tracing::warn!(id, what, "still in use: it goes when that ends");
                }
                Err(error) => tracing::warn!(id, what, %error, "cannot unmount: it is tried again"),
            }
        }
        lines
    }
}
