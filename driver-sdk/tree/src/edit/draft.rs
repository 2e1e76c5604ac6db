//! What is made beside its place, under a name that nobody else uses.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::place::Place;
use crate::dir::{Dir, id_of};
use crate::entry::Kind;
use crate::error::{TreeError, TreeResult};
use crate::walk::WalkEntry;

/// How the names of drafts begin; 16 hexadecimal digits follow.
const PREFIX: &[u8] = b".convoy-restoring-";
const DIGITS: usize = 16;
/// How often another name is tried where the first is taken.
pub(super) const ATTEMPTS: u32 = 64;

/// Whether a name is one that only drafts have.
pub fn is_draft(name: &[u8]) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|digits| {
        digits.len() == DIGITS && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// How a draft comes to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// Only if nothing is there.
    New,
    /// In the place of what is there, if that is no directory; what was there is gone.
    Over,
}

/// What is being made beside its place. Dropped before it is placed, it is removed.
#[derive(Debug)]
pub struct Draft {
    pub(super) place: Place,
    name: String,
    pub(super) what: What,
    placed: bool,
}

#[derive(Debug)]
pub(super) enum What {
    File(File),
    Dir(Dir),
    /// Something that must not be opened.
    Other(OwnedFd),
    /// A further name of something.
    Link,
}

impl Place {
    /// A draft that is a further name of `name` in `of`, a regular file or anything else but a directory.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn draft_link(&self, of: &Place, name: &[u8]) -> TreeResult<Draft> {
        let made =
            self.named(|draft| rustix::fs::linkat(&*of.dir, name, &*self.dir, draft, AtFlags::empty()));
        let (name, ()) = made.map_err(|e| TreeError::io("link", &self.path, e))?;
        Ok(Draft { place: self.clone(), name, what: What::Link, placed: false })
    }

    pub(super) fn draft(&self, kind: &Kind) -> io::Result<Draft> {
        let node = |name: &str, kind, device| {
            rustix::fs::mknodat(&*self.dir, name, kind, Mode::RUSR | Mode::WUSR, device)
        };
        let (name, what) = match kind {
            Kind::File => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let open = |name: &str| rustix::fs::openat(&*self.dir, name, flags, Mode::RUSR | Mode::WUSR);
                let (name, fd) = self.named(open)?;
                (name, What::File(File::from(fd)))
            }
            Kind::Dir => {
                let (name, ()) = self.named(|name| rustix::fs::mkdirat(&*self.dir, name, Mode::RWXU))?;
                let mut draft = Draft { place: self.clone(), name, what: What::Link, placed: false };
                // On an error the draft is still to be removed, as a directory.
                match self.dir.open_dir(draft.name.as_bytes()) {
                    Ok(dir) => draft.what = What::Dir(dir),
                    Err(e) => {
                        draft.placed = true;
                        let _ = rustix::fs::unlinkat(&*self.dir, draft.name.as_str(), AtFlags::REMOVEDIR);
                        return Err(e);
                    }
                }
                return Ok(draft);
            }
            other => {
                let (name, ()) = self.named(|name| match other {
                    Kind::Symlink { target } => rustix::fs::symlinkat(target.as_bytes(), &*self.dir, name),
                    Kind::CharDevice { major, minor } => {
                        node(name, FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
                    }
                    Kind::BlockDevice { major, minor } => {
                        node(name, FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
                    }
                    Kind::Fifo => node(name, FileType::Fifo, 0),
                    _ => node(name, FileType::Socket, 0),
                })?;
                let mut draft = Draft { place: self.clone(), name, what: What::Link, placed: false };
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(&*self.dir, draft.name.as_str(), flags, Mode::empty())?;
                draft.what = What::Other(fd);
                return Ok(draft);
            }
        };
        Ok(Draft { place: self.clone(), name, what, placed: false })
    }

    /// Makes something under a name that nothing has.
    fn named<T>(&self, make: impl Fn(&str) -> rustix::io::Result<T>) -> io::Result<(String, T)> {
        for _ in 0..ATTEMPTS {
            let name = format!(".convoy-restoring-{:016x}", random());
            match make(&name) {
                Err(Errno::EXIST) => {}
                other => return Ok((name, other?)),
            }
        }
        Err(Errno::EXIST.into())
    }
}

impl Draft {
    /// The contents of a file: empty at first, open for reading and writing. None of anything else.
    pub fn file(&self) -> Option<&File> {
        match &self.what {
            What::File(file) => Some(file),
            _ => None,
        }
    }

    /// What it is by now.
    ///
    /// # Errors
    /// As [`Place::look`].
    pub fn look(&self) -> TreeResult<Option<WalkEntry>> {
        self.place.look(self.name.as_bytes())
    }

    /// Puts the draft at `name` in the directory it was made in.
    ///
    /// # Errors
    /// `AlreadyExists` if something is there ([`Placing::New`]), or a directory ([`Placing::Over`]); what the
    /// kernel says. The draft is removed then.
    pub fn place(mut self, name: &[u8], how: Placing) -> io::Result<()> {
        let (dir, draft) = (&self.place.dir, self.name.as_bytes());
        match (how, &self.what) {
            (Placing::New, _) => rename_new(dir, draft, name)?,
            (Placing::Over, What::Dir(_)) => {
                self.exchange(name)?;
                return Ok(());
            }
            (Placing::Over, what) => {
                let linked = matches!(what, What::Link) && self.is_at(name);
                if linked {
                    // Renaming one name of a file to another of it does nothing: the draft is removed.
                    return Ok(());
                }
                match rustix::fs::renameat(&**dir, draft, &**dir, name) {
                    Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => return Err(Errno::EXIST.into()),
                    other => other?,
                }
            }
        }
        self.placed = true;
        Ok(())
    }

    /// Whether `name` is the same inode as this draft.
    fn is_at(&self, name: &[u8]) -> bool {
        let dir = &self.place.dir;
        match (dir.stat(self.name.as_bytes()), dir.stat(name)) {
            (Ok(draft), Ok(other)) => id_of(&draft) == id_of(&other),
            _ => false,
        }
    }

    /// Puts a directory in the place of something that is none, which is removed.
    fn exchange(&mut self, name: &[u8]) -> io::Result<()> {
        let (dir, draft) = (&self.place.dir, self.name.as_bytes());
        match rustix::fs::renameat_with(&**dir, draft, &**dir, name, RenameFlags::EXCHANGE) {
            Ok(()) => {
                self.placed = true;
                match rustix::fs::unlinkat(&**dir, draft, AtFlags::empty()) {
                    Ok(()) => Ok(()),
                    // Somebody put a directory there meanwhile, which nobody wanted to be gone: it goes back.
                    Err(Errno::ISDIR | Errno::PERM) => {
                        rustix::fs::renameat_with(&**dir, draft, &**dir, name, RenameFlags::EXCHANGE)?;
                        self.placed = false;
                        Err(Errno::EXIST.into())
                    }
                    Err(e) => Err(e.into()),
                }
            }
            // A file system that cannot exchange two names, such as NFS.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                rustix::fs::unlinkat(&**dir, name, AtFlags::empty())?;
                rename_new(dir, draft, name)?;
                self.placed = true;
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            let flags = if matches!(self.what, What::Dir(_)) { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // What cannot be removed now the next restore removes.
            let _ = rustix::fs::unlinkat(&*self.place.dir, self.name.as_str(), flags);
        }
    }
}

/// Renames within a directory, and replaces nothing.
pub(super) fn rename_new(dir: &Dir, from: &[u8], to: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        other => return other,
    }
    // A file system that cannot do that, such as NFS: a link replaces nothing either.
    match rustix::fs::linkat(dir, from, dir, to, AtFlags::empty()) {
        Ok(()) => return rustix::fs::unlinkat(dir, from, AtFlags::empty()),
        Err(e @ (Errno::EXIST | Errno::NOENT)) => return Err(e),
        // A directory, which has no second name.
        Err(_) => {}
    }
    match dir.stat(to) {
        Ok(_) => Err(Errno::EXIST),
        Err(_) => rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::empty()),
    }
}

/// A number that nobody guesses; two that are the same would cost another try.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_drafts_are_names_of_drafts() {
        assert!(is_draft(b".convoy-restoring-0123456789abcdef"));
        for other in [
            &b".convoy-restoring-0123456789abcde"[..],
            b".convoy-restoring-0123456789abcdef0",
            b".convoy-restoring-0123456789ABCDEF",
            b"convoy-restoring-0123456789abcdef",
            b".convoy-removing-0123456789abcdef",
            b"",
        ] {
            assert!(!is_draft(other), "{}", String::from_utf8_lossy(other));
        }
    }
}
