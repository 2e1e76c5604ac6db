//! Where snapshots are, and what is not finished.
//!
//! ```text
//! <root>/records/local_volume_<volume>.json     the record of a volume: see `record`
//! <root>/lock                                   held by the one process that uses the root
//! <vault>/snapshots/<volume>/<snapshot>/        tree/, index and snapshot.json
//! <vault>/work/<id>/                            what is not finished, or is being removed
//! ```
//!
//! The driver's root is a vault, and so is `convoy-local` in each directory that an option names.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use convoy_driver_sdk::tree::remove_tree;
use convoy_driver_sdk::{Name, atomic, handle};
use serde::{Deserialize, Serialize};

use crate::error::{LocalError, LocalResult, io_error};
use crate::trash::Trash;

/// In the directory of a snapshot.
pub(crate) const TREE: &str = "tree";
pub(crate) const INDEX: &str = "index";
pub(crate) const NOTE: &str = "snapshot.json";
/// In a parcel of a volume that is being made.
pub(crate) const DATA: &str = "data";

const SNAPSHOTS: &str = "snapshots";
const WORK: &str = "work";
/// The directory of the driver in one that an option names.
const WITHIN: &str = "convoy-local";

/// Which snapshot a directory is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Note {
    pub(crate) volume: Name,
    pub(crate) snapshot: Name,
}

impl Note {
    pub(crate) fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(NOTE)).ok()?).ok()
    }

    pub(crate) fn write(&self, dir: &Path) -> LocalResult<()> {
        let path = dir.join(NOTE);
        let text = serde_json::to_vec(self).map_err(std::io::Error::other);
        text.and_then(|text| fs::write(&path, text)).map_err(io_error("write", &path))
    }
}

/// The directory of a snapshot in a vault.
pub(crate) fn snapshot_dir(vault: &Path, volume: &Name, snapshot: &Name) -> PathBuf {
    vault.join(SNAPSHOTS).join(volume.as_str()).join(snapshot.as_str())
}

/// A directory for snapshots.
#[derive(Debug)]
pub(crate) struct Vault {
    pub(crate) path: PathBuf,
    device: u64,
}

impl Vault {
    /// Opens a directory that root alone can enter, and makes it if it is missing.
    fn open(path: PathBuf) -> LocalResult<Self> {
        for dir in [path.clone(), path.join(SNAPSHOTS), path.join(WORK)] {
            atomic::create_dir(&dir, 0o700).map_err(io_error("make the directory", &dir))?;
        }
        // As the kernel shows it: it is compared with other paths.
        let path = fs::canonicalize(&path).map_err(io_error("find", &path))?;
        let found = fs::metadata(&path).map_err(io_error("look at", &path))?;
        // What containers made may be a program that runs as root whoever starts it.
        if found.uid() != nix::unistd::geteuid().as_raw() || found.mode() & 0o077 != 0 {
            return Err(LocalError::OpenVault(path));
        }
        Ok(Self { device: found.dev(), path })
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.path.join(WORK)
    }

    /// Makes an empty directory for something that is not finished.
    pub(crate) fn parcel(&self) -> LocalResult<Parcel> {
        let path = self.work().join(handle::random()?);
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(io_error("make the directory", &path))?;
        Ok(Parcel { path, kept: false })
    }
}

/// All vaults: the driver's root is the first.
#[derive(Debug)]
pub(crate) struct Vaults {
    vaults: Vec<Vault>,
    trash: Trash,
}

impl Vaults {
    /// Opens them; gives in words which of the named directories cannot be used.
    pub(crate) fn open(root: &Path, named: &[PathBuf]) -> LocalResult<(Self, Vec<String>)> {
        let mut vaults = vec![Vault::open(root.to_owned())?];
        let mut warnings = Vec::new();
        for dir in named {
            // One that is missing may be on a file system that is not mounted.
            let opened = match dir.is_dir() {
                true => Vault::open(dir.join(WITHIN)),
                false => Err(LocalError::Io {
                    action: "find the directory for snapshots",
                    path: dir.clone(),
                    source: std::io::ErrorKind::NotFound.into(),
                }),
            };
            match opened {
                Ok(vault) => vaults.push(vault),
                Err(error) => warnings.push(error.to_string()),
            }
        }
        Ok((Self { vaults, trash: Trash::default() }, warnings))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Vault> {
        self.vaults.iter()
    }

    /// Where snapshots of a directory go: to its own file system, which shares blocks if it can; else where
    /// an option says.
    pub(crate) fn for_data(&self, data: impl AsFd) -> LocalResult<Option<&Vault>> {
        let device = rustix::fs::fstat(data).map_err(io_error("look at", Path::new("the data")))?;
        let near = self.vaults.iter().find(|vault| vault.device == device.st_dev);
        Ok(near.or(self.vaults.get(1)))
    }

    /// Where what becomes a volume in a directory is prepared: on its file system.
    pub(crate) fn stage(&self, dir: &Path) -> LocalResult<&Vault> {
        let device = fs::metadata(dir).map_err(io_error("look at", dir))?.dev();
        let near = self.vaults.iter().find(|vault| vault.device == device);
        near.ok_or_else(|| LocalError::NoStage(dir.to_owned()))
    }

    /// Removes a parcel: at once if that is quick, otherwise in the background.
    pub(crate) fn discard(&self, parcel: Parcel) {
        self.remove(vec![parcel.keep()]);
    }

    pub(crate) fn remove(&self, paths: Vec<PathBuf>) {
        self.trash.remove(paths);
    }

    pub(crate) fn stop(&self) {
        self.trash.stop();
    }
}

/// A directory in the workspace of a vault, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Parcel {
    path: PathBuf,
    kept: bool,
}

impl Parcel {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Leaves the directory where it is: somebody else has it now.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.kept = true;
        std::mem::take(&mut self.path)
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = remove_tree(&self.path)
        {
            tracing::warn!(%error, "cannot remove what an operation left; the next start will");
        }
    }
}

/// Renames, durably, into a directory that is made if it is missing.
pub(crate) fn place(from: &Path, to: &Path) -> LocalResult<()> {
    let Some(dir) = to.parent() else { return Ok(()) };
    atomic::create_dir(dir, 0o700).map_err(io_error("make the directory", dir))?;
    fs::rename(from, to).map_err(io_error("move", from))?;
    sync(dir)
}

pub(crate) fn sync(dir: &Path) -> LocalResult<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync the directory", dir))
}
