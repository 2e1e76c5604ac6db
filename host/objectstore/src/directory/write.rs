//! Writes that are whole or not there, and deletes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, fsync, linkat, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;

use super::beneath::{Root, split};
use crate::error::StoreError;
use crate::store::PutOutcome;

/// Objects from so many bytes on are not kept in memory once they are on the disk.
const LARGE: u64 = 1 << 20;

/// What hidden files of unfinished writes begin with.
const PARTIAL_PREFIX: &str = ".convoy-partial-";

/// Makes a file that was not there before. A link in its place is something that is there.
const NEW: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether a name is one that [`Partial`] makes.
pub(super) fn is_partial(name: &str) -> bool {
    name.strip_prefix(PARTIAL_PREFIX).is_some_and(|id| {
        id.len() == 16 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// An object being written: a hidden file beside its target, removed unless finished. Both are names in one
/// open directory, so nothing that happens to paths meanwhile leads elsewhere.
#[derive(Debug)]
pub(super) struct Partial {
    dir: OwnedFd,
    name: String,
    target: String,
    file: File,
    size: u64,
    done: bool,
}

impl Partial {
    pub(super) fn create(root: &Root, key: &str) -> Result<Self, StoreError> {
        let (dir, target) = split(key);
        let name = format!("{PARTIAL_PREFIX}{:016x}", rand::random::<u64>());
        // A delete beside us removes directories that are empty for a moment: then make them again.
        let mut tries = 0;
        loop {
            let made = root.make_dir(dir).and_then(|dir| {
                let file = openat(&dir, &name, NEW, Mode::from_raw_mode(0o644))?;
                Ok((dir, file))
            });
            match made {
                Ok((dir, file)) => {
                    let (file, target) = (file.into(), target.to_owned());
                    return Ok(Self { dir, name, target, file, size: 0, done: false });
                }
                Err(Errno::NOENT) if tries < 100 => tries += 1,
                Err(e) => return Err(StoreError::from_io("write", key, e.into())),
            }
        }
    }

    pub(super) fn append(&mut self, key: &str, data: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(data).map_err(|e| StoreError::from_io("write", key, e))?;
        self.size += data.len() as u64;
        Ok(())
    }

    /// The time the file system gave it.
    pub(super) fn modified(&self) -> Option<std::time::SystemTime> {
        self.file.metadata().and_then(|m| m.modified()).ok()
    }

    fn seal(&mut self, key: &str) -> Result<(), StoreError> {
        let failed = |e| StoreError::from_io("write", key, e);
        self.file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        if self.size >= LARGE {
            // It is on the disk, and nobody reads it soon: the page cache is for those who do. That is
            // advice, and may be ignored.
            let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
        }
        Ok(())
    }

    /// Puts the object in its place, over what is there. Gives its size.
    pub(super) fn finish(mut self, key: &str) -> Result<u64, StoreError> {
        self.seal(key)?;
        let placed = self.place().and_then(|()| fsync(&self.dir));
        placed.map_err(|e| StoreError::from_io("write", key, e.into()))?;
        Ok(self.size)
    }

    /// Puts the object in its place unless one is there.
    fn finish_if_absent(mut self, key: &str) -> Result<PutOutcome, StoreError> {
        self.seal(key)?;
        let placed = self.place_if_absent().and_then(|outcome| {
            fsync(&self.dir)?;
            Ok(outcome)
        });
        placed.map_err(|e| StoreError::from_io("write", key, e.into()))
    }

    fn place(&mut self) -> rustix::io::Result<()> {
        renameat(&self.dir, &self.name, &self.dir, &self.target)?;
        self.done = true;
        Ok(())
    }

    /// By a second name, a careful rename, or an exclusive creation: whichever the file system has.
    fn place_if_absent(&mut self) -> rustix::io::Result<PutOutcome> {
        match linkat(&self.dir, &self.name, &self.dir, &self.target, AtFlags::empty()) {
            Ok(()) => return Ok(PutOutcome::Created),
            // NFS may repeat a link whose answer was lost: our own second name tells that it was made.
            Err(Errno::EXIST) if self.is_linked() => return Ok(PutOutcome::Created),
            Err(Errno::EXIST) => return Ok(PutOutcome::Exists),
            Err(e) if unsupported(e) => {}
            Err(e) => return Err(e),
        }
        match renameat_with(&self.dir, &self.name, &self.dir, &self.target, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.done = true;
                Ok(PutOutcome::Created)
            }
            Err(Errno::EXIST) => Ok(PutOutcome::Exists),
            Err(e) if unsupported(e) => self.claim(),
            Err(e) => Err(e),
        }
    }

    /// For file systems, mostly in user space, that have neither hard links nor a rename that replaces
    /// nothing: who makes an empty file of that name has it, and replaces it by the whole object. In between
    /// readers see an object without bytes.
    fn claim(&mut self) -> rustix::io::Result<PutOutcome> {
        match openat(&self.dir, &self.target, NEW, Mode::from_raw_mode(0o644)) {
            Ok(_) => {}
            Err(Errno::EXIST) => return Ok(PutOutcome::Exists),
            Err(e) => return Err(e),
        }
        self.place().inspect_err(|_| {
            // It is ours and says nothing. If it stays, the error that is told is still the one to know of.
            let _ = unlinkat(&self.dir, &self.target, AtFlags::empty());
        })?;
        Ok(PutOutcome::Created)
    }

    /// Whether the target is this very file.
    fn is_linked(&self) -> bool {
        let target = rustix::fs::statat(&self.dir, &self.target, AtFlags::SYMLINK_NOFOLLOW);
        match (self.file.metadata(), target) {
            (Ok(own), Ok(target)) => own.dev() == target.st_dev && own.ino() == target.st_ino,
            _ => false,
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is found by a sweep.
            let _ = unlinkat(&self.dir, &self.name, AtFlags::empty());
        }
    }
}

/// Whether a file system says that it has no such call, in one of the ways they do.
fn unsupported(error: Errno) -> bool {
    matches!(error, Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::MLINK | Errno::XDEV)
}

pub(super) fn put(root: &Root, key: &str, data: &[u8]) -> Result<(), StoreError> {
    let mut partial = Partial::create(root, key)?;
    partial.append(key, data)?;
    partial.finish(key).map(|_| ())
}

pub(super) fn put_if_absent(root: &Root, key: &str, data: &[u8]) -> Result<PutOutcome, StoreError> {
    let mut partial = Partial::create(root, key)?;
    partial.append(key, data)?;
    partial.finish_if_absent(key)
}

/// Deletes objects, then the directories that held nothing else. Of a link the link goes, and nothing else.
pub(super) fn delete(root: &Root, keys: &[String]) -> Result<(), StoreError> {
    let mut dirs = BTreeSet::new();
    let mut open: Option<(&str, OwnedFd)> = None;
    for key in keys {
        let (dir, name) = split(key);
        let failed = |e: Errno| StoreError::from_io("delete", key, e.into());
        let at = match open.take_if(|(known, _)| *known == dir) {
            Some((_, at)) => at,
            None => match root.dir(dir) {
                Ok(at) => at,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(e) => return Err(failed(e)),
            },
        };
        match unlinkat(&at, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(failed(e)),
        }
        open = Some((dir, at));
        dirs.insert(dir);
    }
    for dir in dirs {
        remove_empty(root, dir);
    }
    Ok(())
}

/// Removes a directory and its parents as long as they are empty, and makes it durable. What is left over
/// harms nobody.
fn remove_empty(root: &Root, mut dir: &str) {
    while !dir.is_empty() {
        let (parent, name) = split(dir);
        let gone = root.dir(parent).and_then(|at| unlinkat(&at, name, AtFlags::REMOVEDIR));
        if gone.is_err() {
            break;
        }
        dir = parent;
    }
    let _ = root.dir(dir).and_then(fsync);
}
