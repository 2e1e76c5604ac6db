//! Changing a tree that others use meanwhile, one entry after the other, each of them at once and whole.
//!
//! What is made gets its contents and metadata beside its place, as a [`Draft`], under a name that nobody
//! else uses, and is then renamed. So whoever looks sees what was there or what was made, and never a part of
//! it; a program that is killed meanwhile leaves drafts, which [`Place::remove_drafts`] finds.
//!
//! Whoever else writes to the tree is not trusted: everything is opened beneath the root, a component at a
//! time, never through a link and never into another mount, and metadata is given through descriptors.

mod draft;
mod place;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::dir::{Dir, fd_path, stat_fd};
use crate::entry::{Entry, Kind, Xattrs};
use crate::error::{TreeError, TreeResult, gone};
use crate::flags::{self, FileFlags};
use crate::lift::lift;
use crate::limits::{DEPTH, Limit, PATH};
use crate::path::RelPath;
use crate::stack::DirStack;
use crate::writer::{Losses, TreeWriter};
use crate::xattr::{self, UNFINISHED};
use draft::What;

pub use draft::{Draft, Placing, is_draft};
pub use place::Place;

/// Changes a tree that others use meanwhile: see the [module](self).
#[derive(Debug)]
pub struct TreeEditor {
    root: Arc<Dir>,
    way: DirStack<()>,
    /// Gives metadata, and counts what the file system refuses.
    writer: TreeWriter,
}

impl TreeEditor {
    /// Changes the tree at `root`.
    pub fn new(root: Dir) -> Self {
        let root = Arc::new(root);
        let way = DirStack::new(Arc::clone(&root), ());
        Self { way, writer: TreeWriter::beneath(Arc::clone(&root)), root }
    }

    /// The root of the tree.
    pub fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    /// What the file system refused to keep of the metadata it was given.
    pub fn losses(&self) -> Losses {
        self.writer.losses()
    }

    /// The directory at `path`, if it is a directory of this tree: through no link, on no other mount.
    ///
    /// # Errors
    /// [`TreeError::MountPoint`]; [`TreeError::Limit`]; what the kernel says, but not that it is not there.
    pub fn enter(&mut self, path: &RelPath) -> TreeResult<Option<Place>> {
        if path.as_bytes().len() > PATH {
            return Err(TreeError::limit(Limit::Path(PATH), path));
        }
        if path.components().nth(DEPTH).is_some() {
            return Err(TreeError::limit(Limit::Depth, path));
        }
        match self.way.go(path) {
            Ok(dir) if !dir.same_mount(&self.root) => Err(TreeError::MountPoint { path: path.shown() }),
            Ok(dir) => Ok(Some(Place { dir, root: Arc::clone(&self.root), path: path.clone() })),
            Err(e) if gone(&e) || Errno::from_io_error(&e) == Some(Errno::NAMETOOLONG) => Ok(None),
            Err(e) => Err(TreeError::io("open directory", path, e)),
        }
    }

    /// Makes what `entry` describes as a draft in `place`, all of it but the contents of a file and what
    /// [`Self::finish`] does. A directory is marked as unfinished.
    ///
    /// # Errors
    /// What the kernel says. What the file system refuses of the metadata is a loss ([`Self::losses`]).
    pub fn draft(&self, place: &Place, entry: &Entry) -> TreeResult<Draft> {
        let failed = |e: io::Error| TreeError::io("create", &entry.path, e);
        let mut draft = place.draft(&entry.kind).map_err(failed)?;
        match &mut draft.what {
            // A file gets its metadata when it is written.
            What::File(_) | What::Link => {}
            What::Dir(dir) => {
                drop_inherited(&fd_path(&*dir)).map_err(failed)?;
                // Nobody but root can set it, and where nobody can a second try takes what is there as it is.
                let _ = rustix::fs::setxattr(fd_path(&*dir), UNFINISHED, b"1", XattrFlags::empty());
                self.writer.apply(&*dir, &early(entry), None)?;
            }
            What::Other(fd) => {
                if !matches!(entry.kind, Kind::Symlink { .. }) {
                    drop_inherited(&fd_path(&*fd)).map_err(failed)?;
                }
                self.writer.apply_path(fd, entry)?;
            }
        }
        Ok(draft)
    }

    /// Gives a file that was written its length and its metadata, but its flags, which would keep it from
    /// being renamed.
    ///
    /// # Errors
    /// As [`Self::draft`].
    pub fn complete(&self, draft: &Draft, entry: &Entry) -> TreeResult<()> {
        let Some(file) = draft.file() else { return Ok(()) };
        let failed = |e: io::Error| TreeError::io("set the length of", &entry.path, e);
        let now = stat_fd(file).map_err(failed)?;
        if now.stx_size != entry.size {
            file.set_len(entry.size).map_err(failed)?;
        }
        drop_inherited(&fd_path(file)).map_err(failed)?;
        self.writer.apply(file, &early(entry), Some(&now))
    }

    /// Gives the regular file at `name` the metadata of `entry`, times included, but its flags
    /// ([`Self::add_flags`]). Its data stays. A file with several names gets it under all of them.
    ///
    /// # Errors
    /// As [`Self::draft`]; if no regular file is there.
    pub fn update_file(&self, place: &Place, name: &[u8], entry: &Entry) -> TreeResult<()> {
        let failed = |e: io::Error| TreeError::io("set the metadata of", &entry.path, e);
        let (file, _) = place.dir.open_file(name).map_err(failed)?;
        lift(&file);
        let (now, _) = xattr::read_open(&file).map_err(failed)?;
        drop_others(&fd_path(&file), &now, entry).map_err(failed)?;
        flags::remove(&file, FileFlags::NO_DUMP.difference(entry.flags));
        self.writer.apply(&file, &early(entry), None)
    }

    /// Gives the directory at `path` the metadata of `entry`, flags and times included, and takes the mark of
    /// an unfinished one. One that is no longer there is left alone.
    ///
    /// # Errors
    /// As [`Self::draft`] and [`Self::enter`].
    pub fn finish_dir(&mut self, path: &RelPath, entry: &Entry) -> TreeResult<()> {
        let Some(place) = self.enter(path)? else { return Ok(()) };
        let failed = |e: io::Error| TreeError::io("set the metadata of", path, e);
        let (now, _) = place.dir.xattrs_self().map_err(failed)?;
        let fd = fd_path(&*place.dir);
        drop_others(&fd, &now, entry).map_err(failed)?;
        match rustix::fs::removexattr(&fd, UNFINISHED) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => {}
            Err(e) => return Err(failed(e.into())),
        }
        flags::remove(&*place.dir, FileFlags::NO_DUMP.difference(entry.flags));
        let entry = Entry { path: path.clone(), ..early(entry) };
        self.writer.apply(&*place.dir, &entry, None)
    }

    /// Adds flags (`chattr`) to what is at `path`, a directory or a regular file; anything else, or nothing,
    /// is left alone.
    ///
    /// # Errors
    /// As [`Self::enter`]. Flags that the file system does not take are a loss.
    pub fn add_flags(&mut self, path: &RelPath, flags: FileFlags) -> TreeResult<()> {
        let flags = flags & (FileFlags::IMMUTABLE | FileFlags::APPEND | FileFlags::NO_DUMP);
        if flags.is_empty() {
            return Ok(());
        }
        let set = match path.split() {
            None => flags::add(&*self.root, flags),
            Some((parent, name)) => {
                let Some(place) = self.enter(&parent)? else { return Ok(()) };
                match (place.dir.open_file(name), place.dir.open_dir(name)) {
                    (Ok((file, _)), _) => flags::add(file, flags),
                    (_, Ok(dir)) if dir.same_mount(&self.root) => flags::add(dir, flags),
                    _ => return Ok(()),
                }
            }
        };
        if let Err(e) = set {
            let letters = flags.letters();
            self.writer.lose(format!("{}: its flags {letters} cannot be set: {e}", path.shown()));
        }
        Ok(())
    }

    /// Whether the directory at `path` was made here and not finished: whoever made it was killed.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub fn is_unfinished(&mut self, path: &RelPath) -> TreeResult<bool> {
        let Some(place) = self.enter(path)? else { return Ok(false) };
        Ok(rustix::fs::getxattr(fd_path(&*place.dir), UNFINISHED, &mut [0u8; 8][..]).is_ok())
    }
}

/// What is given before something is in its place: flags would keep it from getting there, and the project is
/// that of the directory it comes into.
fn early(entry: &Entry) -> Entry {
    Entry { flags: FileFlags::empty(), project: 0, ..entry.clone() }
}

/// Takes away the attributes that `entry` has not.
fn drop_others(path: &Path, now: &Xattrs, entry: &Entry) -> io::Result<()> {
    for name in now.keys().filter(|name| !entry.xattrs.contains_key(*name)) {
        match rustix::fs::removexattr(path, name.as_bytes()) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Takes away what something inherited from the default ACL of the directory it was made in.
fn drop_inherited(path: &Path) -> io::Result<()> {
    for acl in [xattr::ACL_DEFAULT, xattr::ACL_ACCESS] {
        match rustix::fs::removexattr(path, acl) {
            // A file has no default ACL.
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::ACCESS) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The root directory at a descriptor that is open already.
impl TryFrom<OwnedFd> for Dir {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Self::from_fd(fd)
    }
}
