//! One file as it is, or a tree as an archive.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::ops::ControlFlow;

use convoy_tree::{Kind, RelPath};
use tokio_util::sync::CancellationToken;

use super::{check, read, tar, zip};
use crate::browse::{Browse, Node, Visit};
use crate::error::{BackupError, BackupResult};

/// How many things are named where it is told what was left out.
const NAMED: usize = 10;

/// Damaged files after which an archive is given up, and names of files outside of it that are remembered.
const MOST: usize = 100_000;

/// What an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// POSIX tar with PAX records: all that a tree has but flags and projects.
    Tar,
    /// Zip: files, directories and symbolic links, with modes and times.
    Zip,
}

/// A few of a number of texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Few {
    /// How many there are.
    pub count: u64,
    /// The first ten.
    pub texts: Vec<String>,
}

impl Few {
    pub(super) fn add(&mut self, text: String) {
        self.count += 1;
        if self.texts.len() < NAMED {
            self.texts.push(text);
        }
    }
}

impl Few {
    /// `1 file`, `2 files`.
    pub(crate) fn say(&self, what: &str) -> String {
        format!("{} {what}{}", self.count, if self.count == 1 { "" } else { "s" })
    }
}

impl std::fmt::Display for Few {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.texts.join(", "))?;
        match self.count.saturating_sub(self.texts.len() as u64) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

/// What became of an archive that is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dumped {
    /// What the form of the archive cannot hold.
    pub left_out: Few,
}

/// Writes the bytes of a file.
///
/// # Errors
/// [`BackupError::InFile`] names the file that cannot be read; then a part of it may be written.
/// [`BackupError::Cancelled`] if nobody reads what is written.
pub fn cat(
    tree: &dyn Browse,
    path: &RelPath,
    out: &mut dyn Write,
    cancel: &CancellationToken,
) -> BackupResult<()> {
    let node = tree.stat(path)?;
    if !node.entry.is_file() {
        return Err(BackupError::NotFile { path: path.clone(), found: node.entry.kind.describe() });
    }
    read(tree, &node, cancel, &mut |piece| out.write_all(piece).map_err(unwritten))
}

/// Writes `top` and everything below it as an archive, under its whole path. A file that cannot be read does
/// not keep the others from it: where its beginning cannot be read it is missing, else zeros (in a zip,
/// nothing) stand for the rest.
///
/// # Errors
/// [`BackupError::Incomplete`], once the archive is written to its end, names such files. Else those of
/// [`Browse`], and [`BackupError::Cancelled`].
pub fn dump(
    tree: &dyn Browse,
    top: &RelPath,
    archive: Archive,
    out: &mut dyn Write,
    cancel: &CancellationToken,
) -> BackupResult<Dumped> {
    let mut writer: Box<dyn Entries + '_> = match archive {
        Archive::Tar => Box::new(tar::Tar::new(out)),
        Archive::Zip => Box::new(zip::Zip::new(out)),
    };
    let mut work = Work { tree, top, cancel, outside: HashMap::new(), gone: HashSet::new() };
    let (mut dumped, mut incomplete) = (Dumped::default(), Few::default());
    tree.walk(top, &mut |node| {
        check(cancel)?;
        match work.add(&mut *writer, &node)? {
            Outcome::Whole => {}
            Outcome::LeftOut(why) => dumped.left_out.add(format!("/{} ({why})", node.entry.path.shown())),
            Outcome::Damaged(error) => incomplete.add(format!("/{} ({error})", node.entry.path.shown())),
        }
        Ok(ControlFlow::Continue(Visit::Continue))
    })?;
    writer.finish()?;
    if incomplete.count > 0 {
        return Err(BackupError::Incomplete { files: incomplete });
    }
    Ok(dumped)
}

/// What became of one entry.
pub(super) enum Outcome {
    Whole,
    LeftOut(&'static str),
    Damaged(BackupError),
}

/// What writes entries of an archive, one after the other.
pub(super) trait Entries {
    /// A further name of a file that was written under `first`; `false` if the archive has no such thing.
    fn link(&mut self, node: &Node, first: &RelPath) -> BackupResult<bool>;
    /// Begins a regular file, whose data follow.
    fn begin(&mut self, node: &Node) -> BackupResult<()>;
    /// The next bytes of it.
    fn data(&mut self, bytes: &[u8]) -> BackupResult<()>;
    /// Ends it; `missing` bytes of it could not be read.
    fn end(&mut self, missing: u64) -> BackupResult<()>;
    /// Anything else than a regular file.
    fn other(&mut self, node: &Node) -> BackupResult<Outcome>;
    /// Ends the archive.
    fn finish(&mut self) -> BackupResult<()>;
}

struct Work<'a> {
    tree: &'a dyn Browse,
    top: &'a RelPath,
    cancel: &'a CancellationToken,
    /// Where the archive has files whose first name is not in it, by that name.
    outside: HashMap<RelPath, RelPath>,
    /// Files that the archive does not have.
    gone: HashSet<RelPath>,
}

impl Work<'_> {
    fn add(&mut self, archive: &mut dyn Entries, node: &Node) -> BackupResult<Outcome> {
        let path = &node.entry.path;
        if node.entry.kind != Kind::File {
            return archive.other(node);
        }
        if let Some(first) = &node.first_name {
            let within = self.top.components().count();
            let known = match first.components().take(within).eq(self.top.components()) {
                true => Some(first),
                false => self.outside.get(first),
            };
            if let Some(known) = known.filter(|known| !self.gone.contains(*known))
                && archive.link(node, known)?
            {
                return Ok(Outcome::Whole);
            }
            // Beyond that, its data are written again: larger, and as true.
            if self.outside.len() < MOST {
                self.outside.entry(first.clone()).or_insert_with(|| path.clone());
            }
        }
        self.file(archive, node)
    }

    fn file(&mut self, archive: &mut dyn Entries, node: &Node) -> BackupResult<Outcome> {
        let path = &node.entry.path;
        let (mut begun, mut left) = (false, node.entry.size);
        let read = read(self.tree, node, self.cancel, &mut |piece| {
            if !begun {
                archive.begin(node)?;
                begun = true;
            }
            let piece = piece.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(piece);
            archive.data(piece)?;
            left -= piece.len() as u64;
            Ok(())
        });
        let damaged = match read {
            Ok(()) if left == 0 => None,
            Ok(()) => Some(BackupError::damaged("its data", format!("{left} bytes are missing"))),
            // What cannot be written is not the file's fault.
            Err(BackupError::InFile { source, .. }) => Some(*source),
            Err(error) => return Err(error),
        };
        match damaged {
            Some(error) if !begun => {
                self.gone.insert(path.clone());
                if self.gone.len() > MOST {
                    return Err(error.of_file(path));
                }
                Ok(Outcome::Damaged(error))
            }
            damaged => {
                if !begun {
                    archive.begin(node)?;
                }
                archive.end(left)?;
                Ok(damaged.map_or(Outcome::Whole, Outcome::Damaged))
            }
        }
    }
}

/// What could not be written: nobody reads it any more, or a fault of the machine.
pub(super) fn unwritten(error: io::Error) -> BackupError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return BackupError::Cancelled;
    }
    BackupError::io("write", "what was asked for", error)
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Memory, path};
    use super::*;

    #[test]
    fn cat_writes_a_file_and_names_the_one_that_is_damaged() {
        let mut tree = Memory::default();
        tree.file("a", b"all of it, in pieces");
        tree.dir("d");
        let mut out = Vec::new();
        let cancel = CancellationToken::new();
        cat(&tree, &path("a"), &mut out, &cancel).unwrap();
        assert_eq!(out, b"all of it, in pieces");
        let error = cat(&tree, &path("d"), &mut out, &cancel).unwrap_err();
        assert!(error.to_string().contains("/d is a directory and not a regular file"), "{error}");
        tree.damage.insert(path("a"), 9);
        let error = cat(&tree, &path("a"), &mut Vec::new(), &cancel).unwrap_err().to_string();
        assert!(error.contains("/a") && error.contains("damaged"), "{error}");
        cancel.cancel();
        assert!(matches!(cat(&tree, &path("a"), &mut out, &cancel), Err(BackupError::Cancelled)));
    }

    #[test]
    fn nobody_who_reads_ends_it() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut tree = Memory::default();
        tree.file("a", b"x");
        let cancel = CancellationToken::new();
        for archive in [Archive::Tar, Archive::Zip] {
            let ended = dump(&tree, &RelPath::root(), archive, &mut Closed, &cancel);
            assert!(matches!(ended, Err(BackupError::Cancelled)), "{ended:?}");
        }
        assert!(matches!(cat(&tree, &path("a"), &mut Closed, &cancel), Err(BackupError::Cancelled)));
    }

    #[test]
    fn a_few_of_many_are_named() {
        let mut few = Few::default();
        (0..12).for_each(|number| few.add(number.to_string()));
        assert_eq!(few.to_string(), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 2 more");
    }
}
