//! Removing a tree, and nothing else.
//!
//! Memory is bounded whatever the tree: of a directory the next few names are read at a time, and what is
//! deeper than [`HOIST`] levels is moved up to the root of the tree and removed from there. (Where that
//! cannot be, as between the subvolumes of btrfs, deeper levels cost some hundred bytes each.)

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use crate::dir::{Dir, Names};
use crate::error::{TreeError, TreeResult};
use crate::lift::lift;
use crate::limits::{ENTRIES, Limit};
use crate::path::RelPath;
use crate::stack::{DirStack, OPEN_LEVELS};

/// How often a directory that somebody keeps filling is emptied again.
const ATTEMPTS: u32 = 16;
/// What is this deep is moved up: all levels stay open.
const HOIST: usize = OPEN_LEVELS - 8;

/// Removes `root` and everything in it. It may be a file, or absent.
///
/// Never follows a link and never enters another mount, whatever is changed in the tree meanwhile. What is
/// immutable or append-only (`chattr +i`, `+a`), or in a read-only subvolume of btrfs, is made removable
/// first, as far as root may.
///
/// # Errors
/// What the kernel says of the first thing that could not be removed; [`TreeError::MountPoint`] when
/// something is mounted below. Everything else is gone then: only what cannot be removed, and the directories
/// it is in, are left. [`TreeError::Limit`] when somebody fills the tree as fast as it is emptied.
pub fn remove_tree(root: &Path) -> TreeResult<()> {
    remove_tree_while(root, &|| true)
}

/// As [`remove_tree`], as long as `keep_going` says so; it is asked before each entry.
///
/// # Errors
/// As [`remove_tree`], and [`TreeError::Cancelled`] when `keep_going` said no.
pub fn remove_tree_while(root: &Path, keep_going: &dyn Fn() -> bool) -> TreeResult<()> {
    match rustix::fs::unlinkat(CWD, root, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM | Errno::ROFS) => {}
        Err(e) => return Err(TreeError::at("remove", root, e)),
    }
    let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else {
        return Err(TreeError::at("remove", root, Errno::INVAL));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let parent = Dir::open(parent)?;
    remove_in(&parent, name, root, keep_going)
}

/// Removes `name` in a directory that is open, and everything below it. `shown` is its path for messages.
pub(crate) fn remove_entry(
    parent: &Dir,
    name: &[u8],
    shown: &Path,
    keep_going: &dyn Fn() -> bool,
) -> TreeResult<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM | Errno::ROFS) => {
            remove_in(parent, OsStr::from_bytes(name), shown, keep_going)
        }
        Err(e) => Err(TreeError::at("remove", shown, e)),
    }
}

fn remove_in(parent: &Dir, name: &OsStr, shown: &Path, keep_going: &dyn Fn() -> bool) -> TreeResult<()> {
    let name = name.as_bytes();
    let (mut attempt, mut entries) = (1, 0);
    loop {
        let dir = match parent.open_dir(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A file that cannot be removed as it is.
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return unlink_locked(parent, name).map_err(|e| TreeError::at("remove", shown, e));
            }
            other => other.map_err(|e| TreeError::at("open directory", shown, e))?,
        };
        if dir.mount() != parent.mount() {
            return Err(TreeError::MountPoint { path: shown.display().to_string() });
        }
        let dir = Arc::new(dir);
        let mut pass = Pass { shown, keep_going, entries, removed: 0, unfinished: false, failure: None };
        pass.empty(Arc::clone(&dir))?;
        entries = pass.entries;
        if pass.unfinished && pass.removed > 0 {
            continue;
        }
        if let Some(failure) = pass.failure {
            return Err(failure);
        }
        match rmdir(parent, name, Some(&dir)) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) if attempt < ATTEMPTS => attempt += 1,
            Err(e) => return Err(TreeError::at("remove directory", shown, e)),
        }
    }
}

/// Removes an empty directory, which may be open as `dir`.
fn rmdir(parent: &Dir, name: &[u8], dir: Option<&Dir>) -> Result<(), Errno> {
    let remove = || rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
    match remove() {
        Err(e @ (Errno::PERM | Errno::ROFS)) => {
            if dir.is_some_and(lift) | lift(parent) {
                remove()
            } else {
                Err(e)
            }
        }
        other => other,
    }
}

/// Removes what is not a directory, and could not be removed as it was.
fn unlink_locked(parent: &Dir, name: &[u8]) -> io::Result<()> {
    if let Ok((file, _)) = parent.open_file(name) {
        lift(file);
    }
    lift(parent);
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
}

/// Once through a tree.
struct Pass<'a> {
    shown: &'a Path,
    keep_going: &'a dyn Fn() -> bool,
    /// Names met, in all passes.
    entries: u64,
    /// What was removed or moved up in this pass.
    removed: u64,
    /// Whether another pass is needed: something was moved up, or not listed to its end.
    unfinished: bool,
    /// The first thing that could not be removed.
    failure: Option<TreeError>,
}

impl Pass<'_> {
    fn failed(&mut self, action: &'static str, path: &RelPath, error: impl Into<io::Error>) {
        self.failure.get_or_insert_with(|| TreeError::at(action, &path.below(self.shown), error));
    }

    fn empty(&mut self, root: Arc<Dir>) -> TreeResult<()> {
        lift_subvolume(&root);
        let mut stack = DirStack::new(root, Names::default());
        while let Some(names) = stack.top() {
            if !(self.keep_going)() {
                return Err(TreeError::Cancelled);
            }
            let name = names.take().map(Box::<[u8]>::from);
            let dir = match stack.top_dir() {
                // Moved away meanwhile: no longer in this tree.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    stack.leave();
                    continue;
                }
                other => {
                    other.map_err(|e| TreeError::at("open directory", &stack.path().below(self.shown), e))?
                }
            };
            if let Some(name) = name {
                self.entries += 1;
                if self.entries > ENTRIES {
                    return Err(TreeError::limit(Limit::Entries, &stack.path()));
                }
                self.remove(&mut stack, &dir, &name);
                continue;
            }
            // It would begin with what cannot be removed, again.
            let more = if stack.reopened() {
                self.unfinished = true;
                Names::default()
            } else {
                dir.more_names().unwrap_or_else(|e| {
                    self.failed("list", &stack.path(), e);
                    Names::default()
                })
            };
            match stack.top() {
                Some(top) if !more.is_empty() => *top = more,
                _ => self.leave(&mut stack),
            }
        }
        Ok(())
    }

    /// Leaves a directory, which is empty now unless something in it cannot be removed, and removes it.
    fn leave(&mut self, stack: &mut DirStack<Names>) {
        let path = stack.path();
        let Some((dir, name)) = stack.leave() else { return };
        let Ok(parent) = stack.top_dir() else { return };
        match rmdir(&parent, &name, dir.as_deref()) {
            Ok(()) => self.removed += 1,
            // Still, or again, not empty: the next pass will see.
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(e) => self.failed("remove directory", &path, e),
        }
    }

    /// Removes `name`, or goes into it.
    fn remove(&mut self, stack: &mut DirStack<Names>, dir: &Arc<Dir>, name: &[u8]) {
        match rustix::fs::unlinkat(&**dir, name, AtFlags::empty()) {
            Ok(()) => return self.removed += 1,
            Err(Errno::NOENT) => return,
            Err(Errno::ISDIR | Errno::PERM | Errno::ROFS) => {}
            Err(e) => return self.failed("remove", &stack.path_of(name), e),
        }
        match dir.open_dir(name) {
            Ok(child) if child.mount() != dir.mount() => {
                let path = stack.path_of(name).below(self.shown).display().to_string();
                self.failure.get_or_insert(TreeError::MountPoint { path });
            }
            Ok(_) if stack.depth() >= HOIST && self.hoist(stack, dir, name) => {}
            Ok(child) => {
                lift_subvolume(&child);
                stack.enter(name, Arc::new(child), Names::default());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // Not a directory after all.
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => match unlink_locked(dir, name) {
                Ok(()) => self.removed += 1,
                Err(e) => self.failed("remove", &stack.path_of(name), e),
            },
            Err(e) => self.failed("open directory", &stack.path_of(name), e),
        }
    }

    /// Moves a directory up to the root of the tree, under a name that nothing has. Whether that was
    /// possible.
    fn hoist(&mut self, stack: &DirStack<Names>, dir: &Dir, name: &[u8]) -> bool {
        let to = format!(".convoy-removing-{}-{}", std::process::id(), self.entries);
        let moved =
            rustix::fs::renameat_with(dir, name, &**stack.root(), to.as_str(), RenameFlags::NOREPLACE);
        self.removed += u64::from(moved.is_ok());
        self.unfinished |= moved.is_ok();
        moved.is_ok()
    }
}

/// A read-only subvolume says so at every entry: it is made writable when it is entered.
fn lift_subvolume(dir: &Dir) {
    if dir.id().ino == crate::lift::SUBVOLUME_ROOT {
        lift(dir);
    }
}
