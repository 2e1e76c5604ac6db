//! Goes through the source beside the target.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;

use convoy_objectstore::StoreError;
use convoy_tree::{
    Dir, Draft, Entry, FileFlags, Kind, Look, PathKey, PathSet, Place, Placing, RelPath, StableStorage,
    Timestamp, TreeEditor, TreeError, WalkEntry, Xattrs,
};
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Pending};
use super::compare::{is_same, same_metadata};
use super::links::LinkedFiles;
use super::policy::{Step, There, decide};
use super::{Action, Change, Existing, FAILURES, PartsOptions, PartsSummary, Told};
use crate::browse::{Browse, Node, Visit};
use crate::error::{BackupError, BackupResult};
use crate::progress::{Phase, Progress};

/// A restore of parts that is under way.
pub(super) struct Restorer<'a> {
    pub(super) source: &'a dyn Browse,
    pub(super) options: &'a PartsOptions,
    pub(super) editor: TreeEditor,
    told: Told<'a>,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a CancellationToken,
    pub(super) summary: PartsSummary,
    pub(super) batch: Batch,
    links: LinkedFiles,
    /// None of a dry run.
    pub(super) storage: Option<StableStorage>,
    /// Directories on the way to the parts that were made, or would be.
    ways: HashSet<RelPath>,
    dirs: Later<Entry>,
    pub(super) flags: Later<FileFlags>,
    pub(super) extras: Later<()>,
}

/// Paths of the target with what is to be done there later.
#[derive(Debug)]
pub(super) struct Later<T> {
    paths: PathSet,
    all: Vec<(PathKey, T)>,
}

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self { paths: PathSet::default(), all: Vec::new() }
    }
}

impl<T> Later<T> {
    pub(super) fn add(&mut self, path: &RelPath, what: T) {
        self.all.push((self.paths.add(path), what));
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// All of it, in the order in which it was added.
    pub(super) fn take(&mut self) -> impl DoubleEndedIterator<Item = (RelPath, T)> + use<T> {
        let (paths, all) = (std::mem::take(&mut self.paths), std::mem::take(&mut self.all));
        all.into_iter().map(move |(key, what)| (paths.get(key), what))
    }
}

/// Runs a restore of parts: see [`super::restore_parts`].
pub(super) fn run(
    source: &dyn Browse,
    root: Dir,
    options: &PartsOptions,
    told: Told<'_>,
    progress: &Progress,
    cancel: &CancellationToken,
) -> BackupResult<PartsSummary> {
    progress.phase(Phase::Preparing);
    let storage = if options.dry_run { None } else { Some(StableStorage::of(&root.proc_path())?) };
    let mut restorer = Restorer {
        source,
        options,
        editor: TreeEditor::new(root),
        told,
        progress,
        cancel,
        summary: PartsSummary::default(),
        batch: Batch::default(),
        links: LinkedFiles::new(options.selection.tops().len() > 1),
        storage,
        ways: HashSet::new(),
        dirs: Later::default(),
        flags: Later::default(),
        extras: Later::default(),
    };
    restorer.check()?;
    restorer.measure()?;
    progress.phase(Phase::Data);
    match restorer.all() {
        Ok(()) => {}
        Err(error) => {
            restorer.abandon();
            return Err(error);
        }
    }
    progress.phase(Phase::Done);
    restorer.summary.losses = restorer.editor.losses();
    Ok(restorer.summary)
}

impl Restorer<'_> {
    /// Finds out, before anything is changed, whether it can be done at all.
    fn check(&mut self) -> BackupResult<()> {
        let options = self.options;
        for top in options.selection.tops() {
            let entry = self.source.stat(top)?.entry;
            if options.delete_extra && !entry.is_dir() {
                return Err(BackupError::Invalid(format!(
                    "/{top} is {}: what the source has not is deleted in directories alone; name its directory, or \
                     leave --delete-extra out",
                    entry.kind.describe()
                )));
            }
            if options.selection.leaves_out(top, entry.is_dir()) {
                return Err(BackupError::Invalid(format!("/{top} is both selected and excluded")));
            }
            self.way_to(top, false)?;
        }
        Ok(())
    }

    /// Adds up what there is to do.
    fn measure(&mut self) -> BackupResult<()> {
        if self.options.dry_run {
            return Ok(());
        }
        let (progress, selection, cancel) = (self.progress, &self.options.selection, self.cancel);
        for top in selection.tops() {
            self.source.walk(top, &mut |node: Node| {
                if cancel.is_cancelled() {
                    return Err(BackupError::Cancelled);
                }
                if selection.excludes(&node.entry.path, node.entry.is_dir()) {
                    return Ok(ControlFlow::Continue(Visit::SkipChildren));
                }
                if node.entry.is_file() && node.first_name.is_none() {
                    progress.add_total(node.entry.size, 1);
                }
                Ok(ControlFlow::Continue(Visit::Continue))
            })?;
        }
        Ok(())
    }

    fn all(&mut self) -> BackupResult<()> {
        let (source, selection) = (self.source, &self.options.selection);
        for top in selection.tops() {
            self.way_to(top, true)?;
            source.walk(top, &mut |node| self.visit(node).map(ControlFlow::Continue))?;
        }
        self.flush()?;
        self.progress.phase(Phase::Finishing);
        self.delete_extras()?;
        if self.options.dry_run {
            return Ok(());
        }
        self.finish_files()?;
        self.finish_dirs()?;
        if let Some(storage) = &self.storage {
            storage.sync()?;
        }
        Ok(())
    }

    /// Gives files their flags.
    fn finish_files(&mut self) -> BackupResult<()> {
        for (path, flags) in self.flags.take() {
            if let Err(error) = self.editor.add_flags(&path, flags) {
                self.failed(&path, "a regular file", error.into())?;
            }
        }
        Ok(())
    }

    /// Gives directories their times and flags, deepest first.
    fn finish_dirs(&mut self) -> BackupResult<()> {
        for (path, entry) in self.dirs.take().rev() {
            let done = self.editor.finish_dir(&path, &entry);
            if let Err(error) = done.and_then(|()| self.editor.add_flags(&path, entry.flags)) {
                self.failed(&path, entry.kind.describe(), error.into())?;
            }
        }
        Ok(())
    }

    /// Ends what cannot go on: what is in its place stays, durably. Directories that were made keep their mark
    /// of being unfinished, so that a repetition gives them their times.
    fn abandon(&mut self) {
        self.batch = Batch::default();
        if !self.options.dry_run {
            // The error that led here is the one to tell.
            let _ = self.finish_files();
            let _ = self.storage.as_ref().map(StableStorage::sync);
        }
    }

    /// Where something of the source goes.
    pub(super) fn target(&self, path: &RelPath) -> BackupResult<RelPath> {
        let at = self.options.at.as_bytes();
        let parts = [at, path.as_bytes()];
        let bytes = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b'/');
        Ok(RelPath::new(bytes).map_err(TreeError::from)?)
    }

    /// Makes the directories on the way to a part, or only sees that nothing is in their way. Those that are
    /// there stay as they are.
    fn way_to(&mut self, top: &RelPath, make: bool) -> BackupResult<()> {
        let mut way: Vec<(RelPath, Option<RelPath>)> = Vec::new();
        let mut above = top.clone();
        while let Some((parent, _)) = above.split() {
            way.push((self.target(&parent)?, Some(parent.clone())));
            above = parent;
        }
        let mut above = self.options.at.clone();
        while let Some((parent, _)) = above.split() {
            way.push((parent.clone(), None));
            above = parent;
        }
        let last = way.first().map(|(path, _)| path.clone());
        for (path, of) in way.into_iter().rev() {
            let Some((parent, name)) = path.split() else { continue };
            let place = self.editor.enter(&parent)?;
            let there = match &place {
                Some(place) => place.look(name)?,
                None => None,
            };
            match there {
                Some(there) if there.entry.is_dir() && !there.mount_point => continue,
                Some(there) => {
                    let what = if there.mount_point { "a mount point" } else { there.entry.kind.describe() };
                    return Err(BackupError::Invalid(format!(
                        "/{path} of the target is {what} and was to be a directory: move it away, or restore to \
                         another directory (--at)"
                    )));
                }
                None if !make || !self.ways.insert(path.clone()) => continue,
                None => {}
            }
            let entry = match of {
                Some(of) => self.source.stat(&of)?.entry,
                None => plain_directory(),
            };
            let entry = Entry { path: path.clone(), ..entry };
            self.make_dir(&entry, place.as_ref(), name, Step::Create)?;
        }
        // A killed restore of a single file left its draft there.
        if make
            && !self.options.dry_run
            && let Some(last) = last
            && let Some(place) = self.editor.enter(&last)?
        {
            place.remove_drafts()?;
        }
        Ok(())
    }

    fn visit(&mut self, node: Node) -> BackupResult<Visit> {
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
    fn make_dir(
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
        if self.options.delete_extra {
            self.note_extras(&entry.path, &place)?;
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
            Some(found) if self.is_same(entry, head.as_ref(), found)? => There::Same,
            Some(_) => There::Other,
        };
        let present = found.as_ref().map(|found| &found.entry);
        let step = decide(self.options.existing, self.options.delete_extra, entry, there, present);
        match step {
            Step::Nothing => {
                self.summary.same += 1;
                if entry.is_file() && head.is_none() {
                    self.progress.add_bytes(entry.size);
                    self.progress.add_file();
                }
                return Ok(());
            }
            Step::Keep => {
                if linked {
                    self.links.keep(&entry.path);
                }
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
            let name = Box::from(name);
            let full = self.batch.add(Pending { entry, source, place, name, step });
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

    /// Makes a further name of a file that was restored. False if that is no longer what it was.
    fn link(
        &mut self,
        entry: &Entry,
        head: &RelPath,
        place: Option<&Place>,
        name: &[u8],
        step: Step,
    ) -> BackupResult<bool> {
        if self.batch.has(head) {
            self.flush()?;
        }
        let place = place.ok_or_else(|| gone(&entry.path))?;
        let target = self.target(head)?;
        let Some((parent, of)) = target.split() else { return Ok(false) };
        let Some(from) = self.editor.enter(&parent)? else { return Ok(false) };
        let Ok(draft) = place.draft_link(&from, of) else { return Ok(false) };
        let is_it = draft.look()?.is_some_and(|made| {
            made.entry.kind == entry.kind && made.entry.size == entry.size && made.entry.mtime == entry.mtime
        });
        if !is_it {
            return Ok(false);
        }
        self.put(place, name, draft, step)?;
        let kind = entry.kind.describe();
        self.tell(action(step), kind, &entry.path, 0, Some(target), "hard link".to_owned())?;
        Ok(true)
    }

    /// Puts a draft in its place, and answers the new name of what made way.
    pub(super) fn put(
        &mut self,
        place: &Place,
        name: &[u8],
        draft: Draft,
        step: Step,
    ) -> BackupResult<Option<RelPath>> {
        let cancel = self.cancel;
        let mut aside = None;
        let how = match step {
            Step::Over => Placing::Over,
            Step::OverEmpty => {
                place.remove_empty_dir(name)?;
                Placing::New
            }
            Step::OverFull => {
                place.remove(name, &|| !cancel.is_cancelled())?;
                Placing::New
            }
            Step::Aside => {
                aside = place.move_aside(name, &self.options.suffix)?;
                Placing::New
            }
            _ => Placing::New,
        };
        match draft.place(name, how) {
            Ok(()) => Ok(aside),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(BackupError::Invalid(
                "somebody put something there meanwhile, which stays: run it again".to_owned(),
            )),
            Err(e) => Err(BackupError::io("put in its place", place.path().shown(), e)),
        }
    }

    /// The new name of what would make way.
    pub(super) fn would_put(
        &self,
        place: Option<&Place>,
        name: &[u8],
        step: Step,
    ) -> BackupResult<Option<RelPath>> {
        match (step, place) {
            (Step::Aside, Some(place)) => Ok(Some(place.name_aside(name, &self.options.suffix)?)),
            _ => Ok(None),
        }
    }

    /// Counts and tells something.
    pub(super) fn tell(
        &mut self,
        action: Action,
        kind: &'static str,
        path: &RelPath,
        bytes: u64,
        other: Option<RelPath>,
        why: String,
    ) -> BackupResult<()> {
        self.summary.count(action);
        (self.told)(&Change { action, kind, path: path.clone(), bytes, other, why })
    }

    /// Notes that something could not be restored; everything else may.
    ///
    /// # Errors
    /// The same, if nothing else can be restored either.
    pub(super) fn failed(
        &mut self,
        path: &RelPath,
        kind: &'static str,
        error: BackupError,
    ) -> BackupResult<()> {
        if is_fatal(&error) {
            return Err(error);
        }
        let why = error.to_string();
        if self.summary.failures.len() < FAILURES {
            self.summary.failures.push((path.clone(), why.clone()));
        }
        self.tell(Action::Fail, kind, path, 0, None, why)
    }
}

fn look(place: Option<&Place>, name: &[u8]) -> BackupResult<Option<WalkEntry>> {
    match place {
        Some(place) => Ok(place.look(name)?),
        None => Ok(None),
    }
}

pub(super) fn action(step: Step) -> Action {
    match step {
        Step::Over | Step::OverEmpty | Step::OverFull => Action::Replace,
        Step::Aside => Action::Rename,
        _ => Action::Create,
    }
}

pub(super) fn gone(path: &RelPath) -> BackupError {
    BackupError::Invalid(format!("/{path}: its directory is no longer there"))
}

fn mount_point(path: &RelPath) -> BackupError {
    TreeError::MountPoint { path: path.shown() }.into()
}

/// A directory that no source describes.
fn plain_directory() -> Entry {
    let now = jiff::Timestamp::now();
    let now = Timestamp { sec: now.as_second(), nsec: 0 };
    Entry {
        path: RelPath::root(),
        kind: Kind::Dir,
        mode: 0o755,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: now,
        atime: now,
        ctime: now,
        btime: None,
        dev: 0,
        ino: 0,
        nlink: 2,
        xattrs: Xattrs::new(),
        flags: FileFlags::empty(),
        project: 0,
        unread: Vec::new(),
    }
}

/// Whether nothing else can be restored either.
fn is_fatal(error: &BackupError) -> bool {
    let kernel = |e: &io::Error| {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        matches!(e.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
    };
    match error {
        BackupError::Cancelled
        | BackupError::LockLost { .. }
        | BackupError::KeyMissing { .. }
        | BackupError::KeyWrong
        | BackupError::Memory { .. } => true,
        BackupError::Tree(TreeError::Cancelled) => true,
        BackupError::Tree(error) => error.io_error().is_some_and(kernel),
        BackupError::Io { source, .. } => kernel(source),
        BackupError::Store(error) => !matches!(
            error,
            StoreError::NotFound { .. } | StoreError::Truncated { .. } | StoreError::TooLarge { .. }
        ),
        _ => false,
    }
}
