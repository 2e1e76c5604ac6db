//! What is in the directories that are restored, and not in the source.

use std::collections::VecDeque;

use convoy_tree::{Place, RelPath, TreeError, is_draft};

use super::Action;
use super::restorer::Restorer;
use crate::browse::Browse;
use crate::error::{BackupError, BackupResult};

/// So many entries of a directory of the source are asked for at once.
const PAGE: usize = 1000;
/// So many things are deleted at most, each with what is below it: a container may have made any number.
const MOST: usize = 1_000_000;
/// What the file system checker uses, at the root of a file system of its own.
const LOST_FOUND: &[u8] = b"lost+found";

/// The names in a directory of the source, a page at a time.
struct Names<'a> {
    source: &'a dyn Browse,
    directory: &'a RelPath,
    page: VecDeque<RelPath>,
    after: Option<RelPath>,
    more: bool,
}

impl Names<'_> {
    fn next(&mut self) -> BackupResult<Option<&[u8]>> {
        if self.page.is_empty() && self.more {
            let page = self.source.list(self.directory, self.after.as_ref(), PAGE)?;
            self.more = page.len() >= PAGE;
            self.page = page.into_iter().map(|node| node.entry.path).collect();
            self.after = self.page.back().cloned();
        }
        Ok(self.page.front().map(|path| path.components().last().unwrap_or_default()))
    }
}

impl Restorer<'_> {
    /// Notes what is in `place` and not in the directory `of` of the source.
    pub(super) fn note_extras(&mut self, of: &RelPath, place: &Place) -> BackupResult<()> {
        let source = self.source;
        let mut names = Names { source, directory: of, page: VecDeque::new(), after: None, more: true };
        let listing = place.names()?;
        for name in listing.after(None).filter(|name| !is_draft(name)) {
            let there = loop {
                match names.next()? {
                    Some(other) if other < name => drop(names.page.pop_front()),
                    other => break other == Some(name),
                }
            };
            if there || (place.path().is_root() && name == LOST_FOUND) {
                continue;
            }
            let would_be = of.join(name).map_err(TreeError::from)?;
            let is_directory = place.look(name)?.is_some_and(|found| found.entry.is_dir());
            // What is excluded is not dealt with at all.
            if !self.options.selection.leaves_out(&would_be, is_directory) {
                if self.extras.len() >= MOST {
                    return Err(BackupError::Invalid(format!(
                        "more than {MOST} things are there that the source has not: delete them by other means"
                    )));
                }
                self.extras.add(&place.path().join(name).map_err(TreeError::from)?, ());
            }
        }
        Ok(())
    }

    /// Deletes what was noted, unless something could not be restored.
    pub(super) fn delete_extras(&mut self) -> BackupResult<()> {
        if self.summary.failed > 0 && self.extras.len() > 0 {
            self.summary.warnings.push(format!(
                "nothing was deleted, since not everything was restored: {} things are there that the source has not",
                self.extras.len()
            ));
            return Ok(());
        }
        let cancel = self.cancel;
        for (path, ()) in self.extras.take() {
            if cancel.is_cancelled() {
                return Err(BackupError::Cancelled);
            }
            let Some((parent, name)) = path.split() else { continue };
            let Some(place) = self.editor.enter(&parent)? else { continue };
            let Some(found) = place.look(name)? else { continue };
            let kind = found.entry.kind.describe();
            let removed = match self.options.dry_run {
                true => Ok(()),
                false => place.remove(name, &|| !cancel.is_cancelled()),
            };
            match removed {
                Ok(()) => self.tell(Action::Delete, kind, &path, 0, None, String::new())?,
                Err(TreeError::Cancelled) => return Err(BackupError::Cancelled),
                Err(error) => self.failed(&path, kind, error.into())?,
            }
        }
        Ok(())
    }
}
