//! A restore of parts from its beginning to its end: what is checked before, and what is done last.

use std::collections::HashSet;
use std::ops::ControlFlow;

use convoy_tree::{
    Dir, Entry, FileFlags, Kind, PathKey, PathSet, RelPath, StableStorage, Timestamp, TreeEditor, TreeError,
    Xattrs,
};
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::links::LinkedFiles;
use super::policy::Step;
use super::{Begins, PartsOptions, PartsSummary, Told};
use crate::browse::{Browse, Node, Visit};
use crate::error::{BackupError, BackupResult};
use crate::progress::{Phase, Progress};

/// A restore of parts that is under way.
pub(super) struct Restorer<'a> {
    pub(super) source: &'a dyn Browse,
    pub(super) options: &'a PartsOptions,
    pub(super) editor: TreeEditor,
    pub(super) told: Told<'a>,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a CancellationToken,
    pub(super) summary: PartsSummary,
    pub(super) batch: Batch,
    pub(super) links: LinkedFiles,
    /// None of a dry run.
    pub(super) storage: Option<StableStorage>,
    /// Directories on the way to the parts that were made, or would be.
    ways: HashSet<RelPath>,
    pub(super) dirs: Later<Entry>,
    pub(super) flags: Later<FileFlags>,
    pub(super) extras: Later<()>,
    /// Whether nobody else uses the target, which is to be exactly the source ([`super::restore_in_place`]).
    pub(super) alone: bool,
    /// Files with several names that stay as they are, by device and inode: each is one file of the source.
    pub(super) taken: HashSet<(u64, u64)>,
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

/// Runs a restore of parts: see [`super::restore_parts`]; in place, if there is somebody to be told that it
/// begins.
pub(super) fn run(
    source: &dyn Browse,
    root: Dir,
    options: &PartsOptions,
    begins: Option<Begins<'_>>,
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
        alone: begins.is_some(),
        taken: HashSet::new(),
    };
    restorer.check()?;
    restorer.measure()?;
    if let Some(begins) = begins.filter(|_| !options.dry_run) {
        begins()?;
    }
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

    /// Ends what cannot go on: what is in its place stays, durably. Directories that were made keep their
    /// mark of being unfinished, so that a repetition gives them their times.
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
