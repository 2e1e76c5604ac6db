//! Writes that are whole or not there, and deletes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::store::PutOutcome;

/// Objects from so many bytes on are not kept in memory once they are on the disk.
const LARGE: u64 = 1 << 20;

/// What hidden files of unfinished writes begin with.
pub(super) const PARTIAL_PREFIX: &str = ".convoy-partial-";

/// An object being written: a hidden file beside its target, removed unless finished.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    size: u64,
    done: bool,
}

impl Partial {
    /// Makes the directories and the hidden file.
    pub(super) fn create(root: &Path, key: &str) -> Result<Self, StoreError> {
        let failed = |e| StoreError::from_io("write", key, e);
        let target = root.join(key);
        let dir = target.parent().unwrap_or(root);
        // A delete beside us removes directories that are empty for a moment: then make them again.
        let mut tries = 0;
        loop {
            make_dirs(root, dir).map_err(failed)?;
            let path = dir.join(format!("{PARTIAL_PREFIX}{:016x}", rand::random::<u64>()));
            match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path) {
                Ok(file) => return Ok(Self { path, file, size: 0, done: false }),
                Err(e) if e.kind() == io::ErrorKind::NotFound && tries < 100 => tries += 1,
                Err(e) => return Err(failed(e)),
            }
        }
    }

    /// Adds bytes at the end.
    pub(super) fn append(&mut self, key: &str, data: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(data).map_err(|e| StoreError::from_io("write", key, e))?;
        self.size += data.len() as u64;
        Ok(())
    }

    /// The time the file system gave it.
    pub(super) fn modified(&self) -> Option<std::time::SystemTime> {
        self.file.metadata().and_then(|m| m.modified()).ok()
    }

    /// Makes the bytes durable.
    fn seal(&mut self, key: &str) -> Result<(), StoreError> {
        let failed = |e| StoreError::from_io("write", key, e);
        self.file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        if self.size >= LARGE {
            // It is on the disk, and nobody reads it soon: the page cache is for those who do. That is advice, and may be ignored.
            let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
        }
        Ok(())
    }

    /// Puts the object in its place, over what is there. Gives its size.
    pub(super) fn finish(mut self, root: &Path, key: &str) -> Result<u64, StoreError> {
        self.seal(key)?;
        let target = root.join(key);
        fs::rename(&self.path, &target).map_err(|e| StoreError::from_io("write", key, e))?;
        self.done = true;
        sync_dir(target.parent().unwrap_or(root)).map_err(|e| StoreError::from_io("write", key, e))?;
        Ok(self.size)
    }

    /// Puts the object in its place unless one is there.
    fn finish_if_absent(mut self, root: &Path, key: &str) -> Result<PutOutcome, StoreError> {
        let failed = |e| StoreError::from_io("write", key, e);
        self.seal(key)?;
        let target = root.join(key);
        let outcome = match fs::hard_link(&self.path, &target) {
            Ok(()) => PutOutcome::Created,
            // NFS may repeat a link whose answer was lost: our own second name tells that it was made.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let linked = self.file.metadata().map_err(failed)?.nlink() > 1;
                if linked && same_file(&self.path, &target) {
                    PutOutcome::Created
                } else {
                    PutOutcome::Exists
                }
            }
            Err(e) if no_links(&e) => self.rename_if_absent(&target).map_err(failed)?,
            Err(e) => return Err(failed(e)),
        };
        sync_dir(target.parent().unwrap_or(root)).map_err(failed)?;
        Ok(outcome)
    }

    /// For file systems without hard links.
    fn rename_if_absent(&mut self, target: &Path) -> io::Result<PutOutcome> {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(rustix::fs::CWD, &self.path, rustix::fs::CWD, target, flags) {
            Ok(()) => {
                self.done = true;
                Ok(PutOutcome::Created)
            }
            Err(rustix::io::Errno::EXIST) => Ok(PutOutcome::Exists),
            Err(e) => Err(e.into()),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is found by a sweep.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a file system says that it has no hard links.
fn no_links(error: &io::Error) -> bool {
    matches!(
        rustix::io::Errno::from_io_error(error),
        Some(rustix::io::Errno::PERM | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS)
    )
}

/// Whether two names are one file.
fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::symlink_metadata(a), fs::symlink_metadata(b)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

/// Writes an object.
pub(super) fn put(root: &Path, key: &str, data: &[u8]) -> Result<(), StoreError> {
    let mut partial = Partial::create(root, key)?;
    partial.append(key, data)?;
    partial.finish(root, key).map(|_| ())
}

/// Writes an object unless there is one.
pub(super) fn put_if_absent(root: &Path, key: &str, data: &[u8]) -> Result<PutOutcome, StoreError> {
    let mut partial = Partial::create(root, key)?;
    partial.append(key, data)?;
    partial.finish_if_absent(root, key)
}

/// Deletes objects, then the directories that held nothing else.
pub(super) fn delete(root: &Path, keys: &[String]) -> Result<(), StoreError> {
    let mut dirs = std::collections::BTreeSet::new();
    for key in keys {
        let path = root.join(key);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) => return Err(StoreError::from_io("delete", key, e)),
        }
        dirs.extend(path.parent().map(Path::to_path_buf));
    }
    for dir in dirs {
        remove_empty(root, &dir);
    }
    Ok(())
}

/// Removes a directory and its parents as long as they are empty, and makes it durable. What is left over harms nobody.
fn remove_empty(root: &Path, dir: &Path) {
    let mut dir = dir.to_path_buf();
    while dir != root && dir.starts_with(root) && fs::remove_dir(&dir).is_ok() {
        if !dir.pop() {
            break;
        }
    }
    let _ = sync_dir(&dir);
}

/// Makes directories below the root, durably.
fn make_dirs(root: &Path, dir: &Path) -> io::Result<()> {
    if dir == root || fs::metadata(dir).is_ok_and(|m| m.is_dir()) {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(root);
    make_dirs(root, parent)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => sync_dir(parent),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // The parent went away again; the caller tries once more.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Makes the names in a directory durable. A directory that is gone has none to lose.
fn sync_dir(dir: &Path) -> io::Result<()> {
    match File::open(dir) {
        Ok(dir) => dir.sync_all(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}
