//! One thing of the source beside what is in its place: what is done with it, and doing it.

use convoy_tree::{Entry, Look, Place, RelPath, TreeError, WalkEntry};

use super::batch::Pending;
use super::compare::{FLAGS, has_same_data, is_same, same_metadata};
use super::policy::{Step, There, decide};
use super::put::{action, gone};
use super::restorer::Restorer;
use super::{Action, Existing};
use crate::browse::{Node, Visit};
use crate::error::{BackupError, BackupResult};

impl Restorer<'_> {
    /// Restores what the walk came upon, or tells that it would.
    pub(super) fn visit(&mut self, node: Node) -> BackupResult<Visit> {
        if self.cancel.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        let entry = node.entry;
        if self.options.selection.excludes(&entry.path, entry.is_dir()) {
            self.summary.excluded += 1;
            return Ok(Visit::SkipChildren);
        }
        let path = self.target(&entry.path)?;
        let done = if entry.is_dir() {
            self.directory(&entry, &path)
        } else {
            self.other(&entry, node.first_name, &path).map(|()| Visit::Continue)
        };
        match done {
            Ok(visit) => Ok(visit),
            Err(error) => {
                self.failed(&path, entry.kind.describe(), error)?;
                Ok(Visit::SkipChildren)
            }
        }
    }

    fn directory(&mut self, entry: &Entry, path: &RelPath) -> BackupResult<Visit> {
        let Some((parent, name)) = path.split() else { return self.merge(entry, path) };
        let place = self.editor.enter(&parent)?;
        let there = look(place.as_ref(), name)?;
        let step = match &there {
            None => Step::Create,
            Some(there) if there.mount_point => return Err(mount_point(path)),
            Some(there) if there.entry.is_dir() => return self.merge(entry, path),
            Some(there) => {
                let (existing, extra) = (self.options.existing, self.options.delete_extra);
                decide(existing, extra, entry, There::Other, Some(&there.entry))
            }
        };
        if step == Step::Keep {
            let what = there.map_or("", |there| there.entry.kind.describe());
            let why = format!("{what} is there, and in the source a directory, which is left out");
            self.tell(Action::Keep, "a directory", path, 0, None, why)?;
            return Ok(Visit::SkipChildren);
        }
        let here = Entry { path: path.clone(), ..entry.clone() };
        self.make_dir(&here, place.as_ref(), name, step)?;
        Ok(Visit::Continue)
    }

    /// Makes a directory. `entry` has the path in the target.
    pub(super) fn make_dir(
        &mut self,
        entry: &Entry,
        place: Option<&Place>,
        name: &[u8],
        step: Step,
    ) -> BackupResult<()> {
        let other = if self.options.dry_run {
            self.would_put(place, name, step)?
        } else {
            let place = place.ok_or_else(|| gone(&entry.path))?;
            let draft = self.editor.draft(place, entry)?;
            let other = self.put(place, name, draft, step)?;
            self.dirs.add(&entry.path, Entry { path: RelPath::root(), ..entry.clone() });
            other
        };
        self.tell(action(step), "a directory", &entry.path, 0, other, String::new())
    }

    /// Goes into a directory that is there.
    fn merge(&mut self, entry: &Entry, path: &RelPath) -> BackupResult<Visit> {
        let place = self.editor.enter(path)?.ok_or_else(|| gone(path))?;
        let Look::Found(present) = self.editor.root().look(path)? else { return Err(gone(path)) };
        if !self.options.dry_run {
            if self.alone {
                // Its flags come back when it is finished.
                place.unlock();
            }
            place.remove_drafts()?;
        }
        let unfinished = self.editor.is_unfinished(path)?;
        let gives = match self.options.existing {
            Existing::Replace => true,
            Existing::Newer => entry.mtime > present.entry.mtime,
            Existing::Keep | Existing::Rename => false,
        };
        let same = same_metadata(entry, &present.entry) && !unfinished;
        if (gives || unfinished) && !same {
            let why = if unfinished { "an earlier restore did not finish it" } else { "" };
            self.tell(Action::Update, "a directory", path, 0, None, why.to_owned())?;
        } else if same {
            self.summary.same += 1;
        }
        if !self.options.dry_run && (gives || unfinished) {
            self.dirs.add(path, Entry { path: RelPath::root(), ..entry.clone() });
        }
        if self.options.delete_extra
            && let Err(error) = self.note_extras(&entry.path, &place)
        {
            self.failed(path, "a directory", error)?;
        }
        Ok(Visit::Continue)
    }

    /// Restores what is no directory.
    fn other(&mut self, entry: &Entry, first: Option<RelPath>, path: &RelPath) -> BackupResult<()> {
        let (parent, name) = path
            .split()
            .ok_or_else(|| BackupError::Invalid("the root of the source is no directory".to_owned()))?;
        let linked = first.is_some() || entry.is_linked();
        let head = if linked { self.links.head(entry, first, &self.options.selection) } else { None };
        let place = self.editor.enter(&parent)?;
        let found = look(place.as_ref(), name)?;
        let there = match &found {
            None => There::Nothing,
            Some(found) if found.mount_point => return Err(mount_point(path)),
            Some(found) if found.entry.is_dir() => match place.as_ref().map(|place| place.is_empty_dir(name))
            {
                Some(Ok(false)) => There::FullDirectory,
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(true)) | None => There::EmptyDirectory,
            },
            Some(found) if self.is_same(entry, head.as_ref(), found)? && self.take(head.as_ref(), found) => {
                There::Same
            }
            Some(found) if self.alone && head.is_none() && self.differs_outside(entry, found)? => {
                return self.update_file(entry, path, place.as_ref(), name);
            }
            Some(_) => There::Other,
        };
        let present = found.as_ref().map(|found| &found.entry);
        let step = decide(self.options.existing, self.options.delete_extra, entry, there, present);
        match step {
            Step::Nothing => {
                self.summary.same += 1;
                self.pass(entry, head.as_ref());
                return Ok(());
            }
            Step::Keep => {
                if linked {
                    self.links.keep(&entry.path);
                }
                self.pass(entry, head.as_ref());
                let why = match present {
                    Some(present) if present.kind != entry.kind => {
                        format!("{} is there", present.kind.describe())
                    }
                    _ => "it is there, and differs".to_owned(),
                };
                return self.tell(Action::Keep, entry.kind.describe(), path, 0, None, why);
            }
            Step::Refuse => {
                if linked {
                    self.links.keep(&entry.path);
                }
                return Err(BackupError::Invalid(format!(
                    "a directory that is not empty is there, and the source has {}: --existing rename keeps both, \
                     --delete-extra deletes the directory",
                    entry.kind.describe()
                )));
            }
            _ if linked && there != There::Nothing => self.links.change(&entry.path),
            _ => {}
        }
        let source = entry.path.clone();
        let entry = Entry { path: path.clone(), ..entry.clone() };
        if let Some(head) = head {
            if self.batch.has(&head) {
                self.flush()?;
            }
            if self.options.dry_run {
                self.would_put(place.as_ref(), name, step)?;
                let other = Some(self.target(&head)?);
                return self.tell(
                    action(step),
                    entry.kind.describe(),
                    path,
                    0,
                    other,
                    "hard link".to_owned(),
                );
            }
            if self.link(&entry, &head, place.as_ref(), name, step)? {
                return Ok(());
            }
        }
        if entry.is_file() {
            let there = found.filter(|found| step == Step::Over && found.entry.is_file() && entry.size > 0);
            let there = there.filter(|_| !self.options.dry_run).and_then(|found| found.open().ok());
            let (name, there) = (Box::from(name), there.map(|(file, _)| file));
            let full = self.batch.add(Pending { entry, source, place, name, step, there });
            return if full { self.flush() } else { Ok(()) };
        }
        let other = if self.options.dry_run {
            self.would_put(place.as_ref(), name, step)?
        } else {
            let place = place.as_ref().ok_or_else(|| gone(path))?;
            let draft = self.editor.draft(place, &entry)?;
            self.put(place, name, draft, step)?
        };
        self.tell(action(step), entry.kind.describe(), path, 0, other, String::new())
    }

    /// Counts a file that needs nothing as dealt with.
    fn pass(&self, entry: &Entry, head: Option<&RelPath>) {
        if entry.is_file() && head.is_none() {
            self.progress.add_bytes(entry.size);
            self.progress.add_file();
        }
    }

    /// Whether what is there is what the source has: of a further name of a file also whether it is a name of
    /// the same file.
    fn is_same(&mut self, entry: &Entry, head: Option<&RelPath>, found: &WalkEntry) -> BackupResult<bool> {
        let existing = self.options.existing;
        let Some(head) = head else { return is_same(self.source, entry, found, existing, self.cancel) };
        if matches!(existing, Existing::Keep | Existing::Newer) {
            return is_same(self.source, entry, found, existing, self.cancel);
        }
        if self.links.is_changed(head) {
            return Ok(false);
        }
        let target = self.target(head)?;
        let Some((parent, name)) = target.split() else { return Ok(false) };
        let place = self.editor.enter(&parent)?;
        let first = look(place.as_ref(), name)?;
        Ok(first.is_some_and(|first| {
            (first.entry.dev, first.entry.ino) == (found.entry.dev, found.entry.ino)
                && same_metadata(entry, &found.entry)
        }))
    }

    /// Takes what is there and stays for this file of the source. False if it was taken for another one.
    fn take(&mut self, head: Option<&RelPath>, found: &WalkEntry) -> bool {
        let entry = &found.entry;
        if !self.alone || head.is_some() || entry.nlink < 2 {
            return true;
        }
        self.taken.insert((entry.dev, entry.ino))
    }

    /// Whether a file differs in its metadata and not in its data, and has one name: then its data stays.
    fn differs_outside(&self, entry: &Entry, found: &WalkEntry) -> BackupResult<bool> {
        let there = &found.entry;
        Ok(entry.is_file()
            && there.is_file()
            && there.nlink == 1
            && !same_metadata(entry, there)
            && has_same_data(self.source, entry, found, self.cancel)?)
    }

    /// Gives a file that is there its metadata.
    fn update_file(
        &mut self,
        entry: &Entry,
        path: &RelPath,
        place: Option<&Place>,
        name: &[u8],
    ) -> BackupResult<()> {
        if !self.options.dry_run {
            let place = place.ok_or_else(|| gone(path))?;
            let here = Entry { path: path.clone(), ..entry.clone() };
            self.editor.update_file(place, name, &here)?;
            if !(entry.flags & FLAGS).is_empty() {
                self.flags.add(path, entry.flags);
            }
        }
        self.pass(entry, None);
        let why = "owner, mode, times, attributes or flags".to_owned();
        self.tell(Action::Update, entry.kind.describe(), path, 0, None, why)
    }

    /// Makes a further name of a file that was restored. False if that is no longer what it was.
    fn link(
        &mut self,
        entry: &Entry,
        head: &RelPath,
        place: Option<&Place>,
        name: &[u8],
        step: Step,
    ) -> BackupResult<bool> {
        let place = place.ok_or_else(|| gone(&entry.path))?;
        let target = self.target(head)?;
        let Some((parent, of)) = target.split() else { return Ok(false) };
        let Some(from) = self.editor.enter(&parent)? else { return Ok(false) };
        let Ok(draft) = place.draft_link(&from, of) else { return Ok(false) };
        let is_it = draft.look()?.is_some_and(|made| {
            // A backup keeps no size of what has no data.
            let size = !entry.is_file() || made.entry.size == entry.size;
            made.entry.kind == entry.kind && size && made.entry.mtime == entry.mtime
        });
        if !is_it {
            return Ok(false);
        }
        self.put(place, name, draft, step)?;
        let kind = entry.kind.describe();
        self.tell(action(step), kind, &entry.path, 0, Some(target), "hard link".to_owned())?;
        Ok(true)
    }
}

fn look(place: Option<&Place>, name: &[u8]) -> BackupResult<Option<WalkEntry>> {
    match place {
        Some(place) => Ok(place.look(name)?),
        None => Ok(None),
    }
}

fn mount_point(path: &RelPath) -> BackupError {
    TreeError::MountPoint { path: path.shown() }.into()
}
