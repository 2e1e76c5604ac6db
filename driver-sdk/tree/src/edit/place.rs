//! A directory in which something is changed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::draft::{ATTEMPTS, is_draft, rename_new};
use crate::dir::Dir;
use crate::error::{TreeError, TreeResult};
use crate::lift::lift;
use crate::limits::{Limit, NAMES};
use crate::look::Listing;
use crate::path::RelPath;
use crate::remove::remove_entry;
use crate::walk::WalkEntry;

/// The longest name that file systems of Linux have.
const LONGEST_NAME: usize = 255;
/// So many drafts are removed at once.
const DRAFTS: usize = 4096;

/// A directory of the tree that is open, whatever becomes of its name.
#[derive(Clone, Debug)]
pub struct Place {
    pub(super) dir: Arc<Dir>,
    pub(super) root: Arc<Dir>,
    pub(super) path: RelPath,
}

impl Place {
    /// Which directory of the tree it is.
    pub fn path(&self) -> &RelPath {
        &self.path
    }

    /// What is at a name now.
    ///
    /// # Errors
    /// What the kernel says, but not that there is nothing.
    pub fn look(&self, name: &[u8]) -> TreeResult<Option<WalkEntry>> {
        let path = self.path.join(name)?;
        self.dir.look_at(path.clone(), name, &self.root).map_err(|e| TreeError::io("read", &path, e))
    }

    /// Whether the directory at a name has nothing in it but drafts.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_empty_dir(&self, name: &[u8]) -> TreeResult<bool> {
        let failed = |e| TreeError::io("list", &self.path, e);
        let dir = self.dir.open_dir(name).map_err(failed)?;
        dir.each_name(&mut is_draft).map_err(failed)
    }

    /// The names in it, drafts among them.
    ///
    /// # Errors
    /// What the kernel says; [`TreeError::Limit`] for more than fit into memory.
    pub fn names(&self) -> TreeResult<Listing> {
        let names = self.dir.listing(NAMES).map_err(|e| TreeError::io("list", &self.path, e))?;
        names.ok_or_else(|| TreeError::limit(Limit::Names, &self.path))
    }

    /// Removes the drafts in it, and answers how many there were: whoever made them is no more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_drafts(&self) -> TreeResult<u64> {
        let mut removed = 0;
        loop {
            let names = self.some_drafts().map_err(|e| TreeError::io("list", &self.path, e))?;
            let before = removed;
            for name in &names {
                // A directory is placed before anything is made in it: one that is not empty is somebody's.
                let gone = match rustix::fs::unlinkat(&*self.dir, &**name, AtFlags::empty()) {
                    Err(Errno::ISDIR | Errno::PERM) => {
                        rustix::fs::unlinkat(&*self.dir, &**name, AtFlags::REMOVEDIR)
                    }
                    other => other,
                };
                removed += u64::from(gone.is_ok());
            }
            if names.len() < DRAFTS || removed == before {
                return Ok(removed);
            }
        }
    }

    /// The first drafts in it: whoever may write there may have made any number.
    fn some_drafts(&self) -> io::Result<Vec<Box<[u8]>>> {
        let mut found: Vec<Box<[u8]>> = Vec::new();
        self.dir.each_name(&mut |name| {
            if is_draft(name) {
                found.push(name.into());
            }
            found.len() < DRAFTS
        })?;
        Ok(found)
    }

    /// Gives what is at `name` a name beside it that ends in `suffix`, and answers that. Nothing is replaced.
    /// None if nothing is at `name` any more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn move_aside(&self, name: &[u8], suffix: &str) -> TreeResult<Option<RelPath>> {
        for attempt in 1..=ATTEMPTS {
            let to = aside(name, suffix, attempt);
            match rename_new(&self.dir, name, &to) {
                Ok(()) => return Ok(Some(self.path.join(&to)?)),
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::EXIST | Errno::NOTEMPTY) => {}
                Err(e) => return Err(TreeError::io("rename", &self.path.join(name)?, e)),
            }
        }
        Err(TreeError::io("rename", &self.path.join(name)?, Errno::EXIST))
    }

    /// The name that [`Self::move_aside`] would give, as things are now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn name_aside(&self, name: &[u8], suffix: &str) -> TreeResult<RelPath> {
        for attempt in 1..=ATTEMPTS {
            let to = aside(name, suffix, attempt);
            if self.look(&to)?.is_none() {
                return Ok(self.path.join(&to)?);
            }
        }
        Err(TreeError::io("rename", &self.path.join(name)?, Errno::EXIST))
    }

    /// Takes from the directory what keeps even root from changing what is in it (`chattr +i`, `+a`), if it
    /// has that.
    pub fn unlock(&self) {
        lift(&*self.dir);
    }

    /// Takes from what is at a name, a regular file, what keeps even root from replacing it, if it has that.
    pub fn unlock_at(&self, name: &[u8]) {
        if let Ok((file, _)) = self.dir.open_file(name) {
            lift(file);
        }
    }

    /// Removes what is at a name, and everything below it, never through a link and never into another mount.
    ///
    /// # Errors
    /// As [`remove_tree_while`](crate::remove_tree_while).
    pub fn remove(&self, name: &[u8], keep_going: &dyn Fn() -> bool) -> TreeResult<()> {
        let path = self.path.join(name)?;
        remove_entry(&self.dir, name, path.as_path(), keep_going)
    }

    /// Removes an empty directory. Whether it was there and empty; drafts in it are removed before.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_empty_dir(&self, name: &[u8]) -> TreeResult<bool> {
        let failed = |e: io::Error| TreeError::io("remove directory", &self.path, e);
        match rustix::fs::unlinkat(&*self.dir, name, AtFlags::REMOVEDIR) {
            Ok(()) => return Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            Err(e) => return Err(failed(e.into())),
        }
        let Ok(dir) = self.dir.open_dir(name) else { return Ok(false) };
        if !dir.same_mount(&self.root) {
            return Err(TreeError::MountPoint { path: self.path.shown() });
        }
        let inner = Self { dir: Arc::new(dir), root: Arc::clone(&self.root), path: self.path.join(name)? };
        inner.remove_drafts()?;
        match rustix::fs::unlinkat(&*self.dir, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(e) => Err(failed(e.into())),
        }
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// A name beside `name` for what was there before.
fn aside(name: &[u8], suffix: &str, attempt: u32) -> Vec<u8> {
    let number = if attempt > 1 { format!("-{attempt}") } else { String::new() };
    let end = format!("{suffix}{number}");
    let room = LONGEST_NAME.saturating_sub(end.len()).min(name.len());
    // The name is cut between letters.
    let kept = name.get(..room).unwrap_or_default();
    let kept = match std::str::from_utf8(kept) {
        Err(e) if e.error_len().is_none() => kept.get(..e.valid_up_to()).unwrap_or_default(),
        _ => kept,
    };
    [kept, end.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_aside_fits_and_is_cut_between_letters() {
        assert_eq!(aside(b"a", ".old", 1), b"a.old");
        assert_eq!(aside(b"a", ".old", 3), b"a.old-3");
        let long = aside("\u{e4}".repeat(127).as_bytes(), ".old", 1);
        assert!(long.len() <= LONGEST_NAME && std::str::from_utf8(&long).is_ok());
        assert_eq!(aside(&[0xff; 255], ".old", 1).len(), LONGEST_NAME);
    }
}
