//! Removing a tree, and nothing else.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use crate::dir::Dir;
use crate::error::{TreeError, TreeResult};
use crate::path::RelPath;
use crate::stack::DirStack;

/// How often a directory that somebody keeps filling is emptied again.
const ATTEMPTS: u32 = 16;

/// Removes `root` and everything in it. It may be a file, or absent.
///
/// Never follows a link and never enters another mount, whatever is changed in the tree meanwhile.
///
/// # Errors
/// What the kernel says, at the first thing that could not be removed; [`TreeError::MountPoint`] when something is mounted
/// below, in which case everything around it may be gone.
pub fn remove_tree(root: &Path) -> TreeResult<()> {
    match rustix::fs::unlinkat(CWD, root, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(TreeError::at("remove", root, e)),
    }
    let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else {
        return Err(TreeError::at("remove", root, Errno::INVAL));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let parent = Dir::open(parent)?;
    remove_in(&parent, name, root)
}

fn remove_in(parent: &Dir, name: &OsStr, shown: &Path) -> TreeResult<()> {
    let bytes = name.as_bytes();
    for attempt in 1.. {
        let dir = match parent.open_dir(bytes) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| TreeError::at("open directory", shown, e))?,
        };
        if dir.mount() != parent.mount() {
            return Err(TreeError::MountPoint { path: shown.display().to_string() });
        }
        empty(Arc::new(dir), shown)?;
        match rustix::fs::unlinkat(parent, bytes, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) if attempt < ATTEMPTS => {}
            Err(e) => return Err(TreeError::at("remove directory", shown, e)),
        }
    }
    Ok(())
}

fn empty(root: Arc<Dir>, shown: &Path) -> TreeResult<()> {
    let failed = |action, path: &RelPath, e: io::Error| TreeError::at(action, &path.below(shown), e);
    let names = root.names().map_err(|e| failed("list", &RelPath::root(), e))?;
    let mut stack = DirStack::new(Arc::clone(&root));
    stack.push(RelPath::root(), root, names);
    while let Some(level) = stack.top() {
        let Some(name) = level.names.take().map(Box::<[u8]>::from) else {
            let done = stack.pop();
            if let Some((_, name)) = done.as_ref().and_then(|level| level.path.split())
                && let Ok(parent) = stack.top_dir()
            {
                match rustix::fs::unlinkat(&*parent, name, AtFlags::REMOVEDIR) {
                    // Still, or again, not empty: the next round will see.
                    Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                    Err(e) => {
                        let path = done.map(|level| level.path).unwrap_or_default();
                        return Err(failed("remove directory", &path, e.into()));
                    }
                }
            }
            continue;
        };
        let path = level.path.child(&name);
        let dir = match stack.top_dir() {
            // Moved away meanwhile: no longer in this tree.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|e| failed("open directory", &path, e))?,
        };
        match rustix::fs::unlinkat(&*dir, &*name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(failed("remove", &path, e.into())),
        }
        match dir.open_dir(&name) {
            Ok(child) if child.mount() != dir.mount() => {
                return Err(TreeError::MountPoint { path: path.below(shown).display().to_string() });
            }
            Ok(child) => {
                let names = child.names().map_err(|e| failed("list", &path, e))?;
                stack.push(path, Arc::new(child), names);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // Not a directory after all: an immutable file, say.
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return Err(failed("remove", &path, Errno::PERM.into()));
            }
            Err(e) => return Err(failed("open directory", &path, e)),
        }
    }
    Ok(())
}
