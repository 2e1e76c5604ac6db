//! The backups that are open: each when it is needed, and so many of them.

use std::sync::{Arc, OnceLock};

use convoy_backup::{BackupError, BackupKind, BackupResult, Browse, ReadAt};
use convoy_tree::{Entry, RelPath};
use parking_lot::Mutex;

use super::{Listed, Shelf};
use crate::MountError;

/// Backups that stay open though nobody has a file of them open.
const KEPT: usize = 4;
/// Backups that are open at the most. Each has its share of memory, and a lock at the store.
pub const OPEN_MOST: usize = 8;

/// A backup that is open.
#[derive(Debug)]
pub(super) struct OpenBackup {
    pub(super) content: Content,
    /// Whether files of its tree may have several names.
    pub(super) hard_links: bool,
}

/// What is in a backup.
#[derive(Debug)]
pub(super) enum Content {
    Tree(Arc<dyn Browse>),
    Device { image: Arc<dyn ReadAt>, files: Mutex<Option<Arc<dyn Browse>>> },
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct OpenBackups {
    shelf: Arc<dyn Shelf>,
    slots: Vec<Slot>,
    /// Those that are open or being opened; the last was used last. Whoever has the lock of a slot may take
    /// this one, and no other slot's but one that is free.
    recent: Mutex<Vec<usize>>,
}

#[derive(Debug)]
struct Slot {
    listed: Listed,
    open: Mutex<Option<Arc<OpenBackup>>>,
    /// The root of its tree, once it was open.
    root: OnceLock<Entry>,
}

impl OpenBackups {
    pub(super) fn new(listed: Vec<Listed>, shelf: Arc<dyn Shelf>) -> Self {
        let slot = |listed| Slot { listed, open: Mutex::default(), root: OnceLock::new() };
        Self { shelf, slots: listed.into_iter().map(slot).collect(), recent: Mutex::default() }
    }

    pub(super) fn listed(&self, number: usize) -> Option<&Listed> {
        self.slots.get(number).map(|slot| &slot.listed)
    }

    pub(super) fn root(&self, number: usize) -> Option<&Entry> {
        self.slots.get(number)?.root.get()
    }

    pub(super) fn count(&self) -> usize {
        self.recent.lock().len()
    }

    pub(super) fn has_files(&self) -> bool {
        self.shelf.has_files()
    }

    pub(super) fn open_files(&self, image: Arc<dyn ReadAt>) -> Result<Arc<dyn Browse>, MountError> {
        self.shelf.open_files(image)
    }

    /// Opens a backup, unless it is open.
    ///
    /// # Errors
    /// Those of the store; [`BackupError::Io`] where too many are in use.
    pub(super) fn open(&self, number: usize) -> BackupResult<Arc<OpenBackup>> {
        let slot = self.slots.get(number).ok_or_else(|| no_backup(number))?;
        let mut open = slot.open.lock();
        if let Some(open) = &*open {
            let mut recent = self.recent.lock();
            recent.retain(|other| *other != number);
            recent.push(number);
            return Ok(Arc::clone(open));
        }
        self.make_room(number, &slot.listed)?;
        match self.load(slot) {
            Ok(opened) => {
                *open = Some(Arc::clone(&opened));
                Ok(opened)
            }
            Err(error) => {
                self.recent.lock().retain(|other| *other != number);
                Err(error)
            }
        }
    }

    /// Closes every backup that is not being opened.
    pub(super) fn close(&self) {
        let numbers = std::mem::take(&mut *self.recent.lock());
        for number in numbers {
            let slot = self.slots.get(number).and_then(|slot| slot.open.try_lock());
            let closed = slot.and_then(|mut open| open.take());
            drop(closed);
        }
    }

    fn load(&self, slot: &Slot) -> BackupResult<Arc<OpenBackup>> {
        let mut hard_links = true;
        let content = match slot.listed.kind {
            BackupKind::Tree => {
                let tree = self.shelf.open_tree(&slot.listed)?;
                hard_links = tree.has_hard_links();
                let mut root = tree.stat(&RelPath::root())?.entry;
                root.nlink = 2;
                // It is the same each time.
                let _ = slot.root.set(root);
                Content::Tree(tree)
            }
            BackupKind::Block => {
                let image = self.shelf.open_image(&slot.listed)?;
                Content::Device { image, files: Mutex::default() }
            }
        };
        Ok(Arc::new(OpenBackup { content, hard_links }))
    }

    /// Closes what was used least and is not in use, and notes that `number` is being opened.
    fn make_room(&self, number: usize, listed: &Listed) -> BackupResult<()> {
        let mut closed = Vec::new();
        let mut recent = self.recent.lock();
        while recent.len() >= KEPT {
            let idle = recent.iter().position(|other| {
                let slot = self.slots.get(*other).and_then(|slot| slot.open.try_lock());
                slot.is_some_and(|mut open| {
                    let idle = open.as_ref().is_some_and(|open| Arc::strong_count(open) == 1);
                    if idle {
                        closed.extend(open.take());
                    }
                    idle
                })
            });
            let Some(idle) = idle else { break };
            recent.remove(idle);
        }
        if recent.len() >= OPEN_MOST {
            let what = format!(
                "backup {}: files of {OPEN_MOST} other backups are in use, close some of them",
                listed.backup
            );
            let source = nix::errno::Errno::EMFILE.into();
            return Err(BackupError::Io { action: "open", what, source });
        }
        recent.push(number);
        drop(recent);
        // Closing may wait for the kernel.
        drop(closed);
        Ok(())
    }
}

fn no_backup(number: usize) -> BackupError {
    BackupError::NoPath { place: format!("backup {number}"), path: RelPath::root(), nearest: RelPath::root() }
}
