//! What is to be removed, and what could not be.
//!
//! A volume that was deleted, an old snapshot and what an operation left become *trash*: a directory
//! `trash.<attempts>.<number>.<volume>` in the workspace of the process that removes it. The number of
//! attempts is raised on disk before each, so that a removal that ends the process is known at the next
//! start. After [`ATTEMPTS`] of them, or when something in it cannot be removed, it is *set aside*: put into
//! `config/aside` with the reason, where no start touches it and the doctor tells it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use convoy_driver_sdk::tree::{TreeError, remove_tree_while};

use crate::error::{VfsResult, io_error};
use crate::files::{make_dirs, rename, sync_dir};
use crate::measure::Budget;
use crate::parcel::DATA;
use crate::quota;

/// How often a removal may end the process that does it.
pub(crate) const ATTEMPTS: u32 = 3;
const TRASH: &str = "trash";
/// In what was set aside: why.
const WHY: &str = "why";
/// How long the size of something set aside is added up, and how many entries.
const COUNTING: Duration = Duration::from_secs(2);
const COUNTED: usize = 200_000;

/// Something to be removed.
#[derive(Debug)]
pub(crate) struct Trash {
    dir: PathBuf,
    /// Attempts to remove it that did not come to an end.
    attempts: u32,
    /// The number and the volume, as in the name.
    rest: String,
    /// Whether attempts are also counted when the whole machine ends.
    durable: bool,
}

impl Trash {
    pub(crate) fn new(dir: PathBuf, attempts: u32, number: u64, volume: &str) -> Self {
        Self { dir, attempts, rest: format!("{number}.{volume}"), durable: false }
    }

    /// As what a start finds: what ended the machine before could do so again.
    pub(crate) fn durable(self) -> Self {
        Self { durable: true, ..self }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(format!("{TRASH}.{}.{}", self.attempts, self.rest))
    }

    /// Removes it while `keep_going`, or sets it aside.
    pub(crate) fn remove(mut self, aside: &Path, keep_going: &dyn Fn() -> bool) {
        if let Err(error) = self.count(self.attempts.saturating_add(1)) {
            tracing::warn!(%error, "cannot begin to remove what was deleted: the next start will");
            return;
        }
        quota::release(&self.path().join(DATA));
        let removed = remove_tree_while(&self.path(), keep_going);
        let counted = match removed {
            Ok(()) => Ok(()),
            // The process ends, and not because of this.
            Err(TreeError::Cancelled) => self.count(self.attempts.saturating_sub(1)),
            Err(error) => set_aside(aside, &self.path(), &error.to_string()),
        };
        if let Err(error) = counted {
            tracing::warn!(%error, "cannot put away what could not be removed");
        }
    }

    fn count(&mut self, attempts: u32) -> VfsResult<()> {
        let before = self.path();
        self.attempts = attempts;
        rename(&before, &self.path())?;
        if self.durable { sync_dir(&self.dir) } else { Ok(()) }
    }
}

/// The attempts to remove the trash of that file name, and its volume.
pub(crate) fn parse(file: &OsStr) -> Option<(u32, &str)> {
    let mut parts = file.to_str()?.splitn(4, '.');
    let (kind, attempts, _number, volume) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (kind == TRASH).then_some((attempts.parse().ok()?, volume))
}

/// Puts a directory where no start touches it.
pub(crate) fn set_aside(aside: &Path, path: &Path, why: &str) -> VfsResult<()> {
    make_dirs(aside)?;
    let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let to = aside.join(format!("{moment:x}.{file}"));
    rename(path, &to)?;
    sync_dir(aside)?;
    tracing::error!(path = %to.display(), why, "set aside: convoy doctor says what to do");
    let note = to.join(WHY);
    fs::write(&note, why).map_err(io_error("write", &note))
}

pub(crate) struct Aside {
    pub(crate) path: PathBuf,
    pub(crate) volume: String,
    pub(crate) why: String,
    /// Whether it was deleted, and is only still there.
    pub(crate) deleted: bool,
    pub(crate) size: String,
}

pub(crate) fn aside(dir: &Path) -> Vec<Aside> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let (_moment, file) = file.split_once('.')?;
            let deleted = parse(OsStr::new(file));
            let volume = match deleted {
                Some((_, volume)) => volume,
                None => file.splitn(3, '.').nth(2)?,
            };
            Some(Aside {
                volume: volume.to_owned(),
                why: why(&entry.path()),
                deleted: deleted.is_some(),
                size: size(&entry.path()),
                path: entry.path(),
            })
        })
        .collect();
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn why(dir: &Path) -> String {
    fs::read_to_string(dir.join(WHY))
        .map_or_else(|_| "the reason is in the log".to_owned(), |why| why.trim().to_owned())
}

/// Bytes in files, as far as they can be added up in a moment.
fn size(dir: &Path) -> String {
    let (bytes, all) = Budget::new(COUNTING, COUNTED).add_up(dir, |found| {
        let counts = found.entry.is_file() && found.entry.path.as_bytes() != WHY.as_bytes();
        if counts { found.entry.size } else { 0 }
    });
    format!("{}{bytes} bytes", if all { "" } else { "more than " })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_attempts_and_volume() {
        let trash = Trash::new(PathBuf::from("/home"), 2, 7, "web.data");
        let path = trash.path();
        assert_eq!(path, Path::new("/home/trash.2.7.web.data"));
        assert_eq!(parse(path.file_name().unwrap()), Some((2, "web.data")));
        for other in ["trash.x.7.web", "volume.2.web", "trash.2.web", "lock"] {
            assert_eq!(parse(OsStr::new(other)), None);
        }
    }
}
