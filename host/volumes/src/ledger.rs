//! Who uses which volume: in memory, and in a file per volume in a directory of its own (see [`place`]).
//!
//! The files have to outlive the daemon (`kill -9` included) and not the machine, since no mount does: they
//! are written atomically, carry the boot id and are not synced. What is found with another boot id, or
//! cannot be read because the machine went down in the midst of a write, is dropped. The file of a volume
//! whose last user left, and which the driver still has to unmount, is renamed to `<volume>.json.pending`.

mod place;
mod usage;

pub use place::{LedgerError, RUN};
pub use usage::BY_HAND;
pub(crate) use usage::{ADOPTED, IN_PLACE, RESTORE, Release, Usage};

use crate::error::{Error, Result};
use crate::locks::{Locks, PATIENCE};
use convoy_driver_sdk::Name;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use parking_lot::Mutex;
use place::LedgerDir;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the name of a file ends whose volume has no users any more.
const PENDING: &str = "json.pending";

/// Who uses which volume.
#[derive(Debug)]
pub struct Ledger {
    dir: LedgerDir,
    /// Writes wait for nothing, so no other thread need be woken to take over meanwhile.
    in_memory: bool,
    boot_id: String,
    usage: Mutex<HashMap<Name, Usage>>,
    /// Held from a change in memory until its file is written, so that files follow memory in order.
    writing: Arc<Locks>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LedgerRecord {
    volume: Name,
    boot_id: String,
    #[serde(flatten)]
    usage: Usage,
}

impl Ledger {
    /// Finds the ledger of the daemon with this root, in `run` ([`RUN`]) if that can be used, and reads what
    /// is in it of this boot. `root` is an absolute path without links.
    ///
    /// # Errors
    /// A directory that can be neither made nor read. Single files that cannot be read are dropped.
    pub fn open(root: &Path, run: &Path, boot_id: &str) -> Result<Self, LedgerError> {
        Self::read(place::settle(root, run, boot_id)?, boot_id)
    }

    fn read(dir: LedgerDir, boot_id: &str) -> Result<Self, LedgerError> {
        let failed = |source| LedgerError { what: "read", path: dir.path.clone(), source };
        let mut usage = HashMap::new();
        for entry in std::fs::read_dir(&dir.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            match read(&path, boot_id) {
                // A claim was written beside an older file that waited for an unmount.
                Some(LedgerRecord { volume, usage: pending, .. }) if !pending.is_used() => {
                    usage.entry(volume).or_insert(pending);
                }
                Some(record) => drop(usage.insert(record.volume, record.usage)),
                None => {
                    if let Err(error) = std::fs::remove_file(&path) {
                        tracing::warn!(path = %path.display(), %error, "cannot remove a stale file of the \
                            mount ledger");
                    }
                }
            }
        }
        Ok(Self {
            in_memory: statfs(&dir.path).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC),
            dir,
            boot_id: boot_id.to_owned(),
            usage: Mutex::new(usage),
            writing: Arc::default(),
        })
    }

    /// Whether nothing is known of this boot although it may have mounts: those of convoy 0.5, which kept no
    /// ledger, or of a daemon whose ledger is gone. What is mounted now is adopted.
    pub(crate) fn is_first(&self) -> bool {
        self.dir.first
    }

    /// Removes the directory of a ledger in which no volume is used.
    pub(crate) fn close(&self) {
        self.dir.remove_if_empty();
    }

    /// Where a volume is mounted; `None` when it is not.
    pub(crate) fn mountpoint(&self, volume: &str) -> Option<PathBuf> {
        self.usage.lock().get(volume).map(|usage| usage.mountpoint.clone())
    }

    pub(crate) fn usage(&self, volume: &str) -> Usage {
        self.usage.lock().get(volume).cloned().unwrap_or_default()
    }

    /// All volumes with users, or with an unmount to be done.
    pub(crate) fn volumes(&self) -> Vec<Name> {
        self.usage.lock().keys().cloned().collect()
    }

    /// Adds a claim to a volume that is used already and says where it is mounted; `None` when nobody uses
    /// it, and the driver has to be asked, or when a restore in place has it.
    ///
    /// # Errors
    /// [`Error::Ledger`]; nothing has changed.
    pub(crate) async fn join(&self, volume: &Name, user: &str) -> Result<Option<PathBuf>> {
        let mut mountpoint = None;
        self.change(volume, |usage| {
            if usage.is_used() && !usage.users.contains_key(IN_PLACE) {
                usage.claim(user);
                mountpoint = Some(usage.mountpoint.clone());
            }
        })
        .await?;
        Ok(mountpoint)
    }

    /// Adds a claim to a volume the driver has mounted.
    ///
    /// # Errors
    /// [`Error::Ledger`]; nothing has changed.
    pub(crate) async fn claim(&self, volume: &Name, user: &str, mountpoint: &Path) -> Result<()> {
        self.change(volume, |usage| {
            mountpoint.clone_into(&mut usage.mountpoint);
            usage.claim(user);
        })
        .await
    }

    /// Takes a claim back, unless that would leave the volume without users: then nothing happens.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub(crate) async fn leave_to_others(&self, volume: &Name, user: &str) -> Result<Release> {
        let mut release = Release::Nothing;
        self.give_up(volume, |usage| {
            let mut after = usage.clone();
            release = after.release(user);
            if release == Release::StillUsed {
                *usage = after;
            }
        })
        .await?;
        Ok(release)
    }

    /// Takes a claim, or all of them, back. After [`Release::Last`] the driver unmounts and [`Self::forget`]
    /// follows.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub(crate) async fn release(&self, volume: &Name, user: Option<&str>) -> Result<Release> {
        let mut release = Release::Nothing;
        self.give_up(volume, |usage| {
            release = match user {
                Some(user) => usage.release(user),
                None => usage.release_all(),
            };
        })
        .await?;
        Ok(release)
    }

    /// The driver confirmed that the volume is not mounted any more.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub(crate) async fn forget(&self, volume: &Name) -> Result<()> {
        self.give_up(volume, |usage| *usage = Usage::default()).await
    }

    /// Applies a change in memory and in the file, or in neither.
    async fn change(&self, volume: &Name, change: impl FnOnce(&mut Usage)) -> Result<()> {
        self.apply(volume, change, true).await
    }

    /// Applies a change that takes claims back. A full disk does not keep a volume mounted: should the file
    /// stay as it is, then at worst a user too many is remembered after a crash.
    async fn give_up(&self, volume: &Name, change: impl FnOnce(&mut Usage)) -> Result<()> {
        self.apply(volume, change, false).await
    }

    async fn apply(&self, volume: &Name, change: impl FnOnce(&mut Usage), strict: bool) -> Result<()> {
        let _turn = self.writing.acquire(volume, "the mount ledger", PATIENCE).await?;
        let before = self.usage(volume);
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(());
        }
        match self.write(volume, &before, &after) {
            Ok(()) => {}
            Err(error) if strict => return Err(error),
            Err(error) => {
                tracing::warn!(%volume, %error, "the mount ledger is not up to date");
                if !after.is_used() {
                    // Removing a file works where writing one does not.
                    let _ = self.write(volume, &before, &Usage::default());
                }
            }
        }
        let mut all = self.usage.lock();
        if after == Usage::default() {
            all.remove(volume);
        } else {
            all.insert(volume.clone(), after);
        }
        Ok(())
    }

    fn write(&self, volume: &Name, before: &Usage, after: &Usage) -> Result<()> {
        let path = self.path(volume);
        let pending = path.with_extension(PENDING);
        let written = if *after == Usage::default() {
            self.in_place(|| remove(&path).and_then(|()| remove(&pending)))
        } else if before.is_used() && *after == before.left() {
            // One step, where writing would take three.
            self.in_place(|| std::fs::rename(&path, &pending))
        } else {
            let record =
                LedgerRecord { volume: volume.clone(), boot_id: self.boot_id.clone(), usage: after.clone() };
            serde_json::to_vec(&record).map_err(io::Error::other).and_then(|bytes| {
                self.in_place(|| match *before == Usage::default() {
                    true => create(&path, &bytes),
                    false => replace(&path, &bytes).and_then(|()| remove(&pending)),
                })
            })
        };
        written.map_err(|error| Error::Ledger { volume: volume.clone(), error: error.to_string() })
    }

    fn in_place<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.in_memory { work() } else { in_place(work) }
    }

    fn path(&self, volume: &Name) -> PathBuf {
        self.dir.path.join(format!("{volume}.json"))
    }
}

/// Runs work that may wait a moment for the disk on this thread. Of tokio's own threads, another one
/// meanwhile takes over what this one had to do; that is not waited for, as an answer from a thread for
/// blocking work would be.
fn in_place<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn read(path: &Path, boot_id: &str) -> Option<LedgerRecord> {
    let mut record: LedgerRecord = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let file = path.file_name()?.to_str()?;
    if file == format!("{}.{PENDING}", record.volume) {
        record.usage = record.usage.left();
    } else if file != format!("{}.json", record.volume) {
        return None;
    }
    (record.boot_id == boot_id).then_some(record)
}

/// Writes a file that is not there yet. A daemon that is killed meanwhile leaves an empty one, which the next
/// start drops.
fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::write(path, bytes).inspect_err(|_| {
        // As in `replace`.
        let _ = std::fs::remove_file(path);
    })
}

/// Replaces a file without waiting for the disk.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("json.new");
    let written = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Nothing more can be done about it; the next start removes it.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
