//! Where things are.
//!
//! ```text
//! <root>/vfs.cfg                          what the driver was told at its first start
//! <root>/snapshots/<vol>_<snap>.tar.gz    snapshots of convoy 0.5
//! <vfs.path>/<volume>/                    a volume
//! <vfs.path>/config/vfs_volume_<volume>.json         its record
//! <vfs.path>/config/vfs_kept_<volume>.json           the record of one that was deleted but for its data
//! <vfs.path>/config/lock                             the locks of all volumes: see `locks`
//! <vfs.path>/config/snapshots/<volume>/<snapshot>/   tree/, index and snapshot.json
//! <vfs.path>/config/work/<process>/                  what is not finished: see `workspace`
//! <vfs.path>/config/aside/                           what could not be removed or settled: see `trash`
//! ```

use std::path::{Path, PathBuf};

use convoy_driver_sdk::Name;

use crate::error::{VfsError, VfsResult};

/// The name no volume can have.
pub(crate) const CONFIG: &str = "config";
/// What the files of records begin with: of volumes, and of what is kept of deleted ones.
pub(crate) const VOLUMES: &str = "vfs_volume_";
pub(crate) const KEPT: &str = "vfs_kept_";
pub(crate) const TREE: &str = "tree";
pub(crate) const INDEX: &str = "index";
pub(crate) const SNAPSHOT_FILE: &str = "snapshot.json";
pub(crate) const IMAGE: &str = "disk.img";

/// Refuses the one name that a new volume cannot have.
pub(crate) fn refuse_reserved(name: &Name) -> VfsResult<()> {
    if name.as_str() == CONFIG { Err(VfsError::Reserved) } else { Ok(()) }
}

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The driver's own root on this host.
    pub(crate) root: PathBuf,
    /// The directory of the volumes: `vfs.path`.
    pub(crate) path: PathBuf,
}

impl Layout {
    pub(crate) fn state_file(root: &Path) -> PathBuf {
        root.join("vfs.cfg")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.config().join("work")
    }

    pub(crate) fn aside(&self) -> PathBuf {
        self.config().join("aside")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.config().join("lock")
    }

    pub(crate) fn volume(&self, name: &Name) -> PathBuf {
        self.path.join(name.as_str())
    }

    pub(crate) fn snapshots(&self, volume: &Name) -> PathBuf {
        self.config().join("snapshots").join(volume.as_str())
    }

    pub(crate) fn snapshot(&self, volume: &Name, snapshot: &Name) -> PathBuf {
        self.snapshots(volume).join(snapshot.as_str())
    }

    /// A snapshot file of 0.5: where its record says, or where this root has it now.
    pub(crate) fn archive(&self, recorded: &Path) -> PathBuf {
        let here = recorded.file_name().map(|file| self.root.join("snapshots").join(file));
        match here {
            Some(here) if !recorded.exists() && here.exists() => here,
            _ => recorded.to_owned(),
        }
    }
}
