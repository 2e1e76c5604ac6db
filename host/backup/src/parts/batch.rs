//! Files that are written at once, made durable together, and put in their places one after the other.

use std::fs::File;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use convoy_tree::{Draft, Entry, Place, RelPath};

use super::compare::FLAGS;
use super::copy::{Copied, copy};
use super::policy::Step;
use super::put::{action, gone};
use super::restorer::Restorer;
use crate::error::{BackupError, BackupResult};

/// So many files, and bytes of them, are written before they are put in place. Each has its file and its
/// directory open.
const FILES: usize = 128;
const BYTES: u64 = 64 << 20;
/// So many are written at once.
const WRITERS: usize = 4;
/// From so many files on one sync of the file system is quicker than one for each.
const SYNC_ALL: usize = 8;

/// Files that are about to be written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pending: Vec<Pending>,
    bytes: u64,
}

/// A file that is about to be written.
#[derive(Debug)]
pub(super) struct Pending {
    /// With its path in the target.
    pub(super) entry: Entry,
    /// Its path in the source.
    pub(super) source: RelPath,
    /// None where a dry run would have made its directory.
    pub(super) place: Option<Place>,
    pub(super) name: Box<[u8]>,
    pub(super) step: Step,
    /// The file that it takes the place of, of which data may be used again.
    pub(super) there: Option<File>,
}

impl Batch {
    /// Adds a file. Whether these are enough.
    pub(super) fn add(&mut self, pending: Pending) -> bool {
        self.bytes = self.bytes.saturating_add(pending.entry.size);
        self.pending.push(pending);
        self.pending.len() >= FILES || self.bytes >= BYTES
    }

    /// Whether the file with this path in the source is still to be written.
    pub(super) fn has(&self, source: &RelPath) -> bool {
        self.pending.iter().any(|pending| pending.source == *source)
    }
}

impl Restorer<'_> {
    /// Writes what is pending, and puts it in place.
    pub(super) fn flush(&mut self) -> BackupResult<()> {
        let pending = std::mem::take(&mut self.batch).pending;
        if self.options.dry_run {
            for Pending { entry, place, name, step, .. } in pending {
                let other = self.would_put(place.as_ref(), &name, step)?;
                let (kind, bytes) = (entry.kind.describe(), entry.size);
                self.tell(action(step), kind, &entry.path, bytes, other, String::new())?;
            }
            return Ok(());
        }
        let mut drafts = Vec::with_capacity(pending.len());
        for file in pending {
            let made = match &file.place {
                Some(place) => self.editor.draft(place, &file.entry).map_err(BackupError::from),
                None => Err(gone(&file.entry.path)),
            };
            match made {
                Ok(draft) => drafts.push((file, draft)),
                Err(error) => self.failed(&file.entry.path, file.entry.kind.describe(), error)?,
            }
        }
        let written = self.write(&drafts);
        let mut whole = Vec::with_capacity(drafts.len());
        for ((file, draft), written) in drafts.into_iter().zip(written) {
            let size = file.entry.size;
            let completed = written.and_then(|found| match found.size == size {
                true => {
                    self.editor.complete(&draft, &file.entry)?;
                    self.summary.reused += found.reused;
                    Ok(())
                }
                false => {
                    let found = found.size;
                    Err(BackupError::Invalid(format!("it has {found} bytes, and was to have {size}")))
                }
            });
            match completed {
                Ok(()) => whole.push((file, draft)),
                Err(error) => self.failed(&file.entry.path, file.entry.kind.describe(), error)?,
            }
        }
        let all = whole.len() >= SYNC_ALL;
        if let Some(storage) = self.storage.as_ref().filter(|_| all) {
            storage.sync()?;
        }
        for (file, draft) in whole {
            let (path, kind) = (file.entry.path.clone(), file.entry.kind.describe());
            if let Err(error) = self.place(file, draft, !all) {
                self.failed(&path, kind, error)?;
            }
        }
        Ok(())
    }

    fn place(&mut self, file: Pending, draft: Draft, sync: bool) -> BackupResult<()> {
        let Pending { entry, place, name, step, .. } = file;
        let place = place.ok_or_else(|| gone(&entry.path))?;
        if let Some(contents) = draft.file().filter(|_| sync) {
            contents.sync_all().map_err(|e| BackupError::io("sync", entry.path.shown(), e))?;
        }
        let other = self.put(&place, &name, draft, step)?;
        if !(entry.flags & FLAGS).is_empty() {
            self.flags.add(&entry.path, entry.flags);
        }
        self.summary.files += 1;
        self.summary.bytes += entry.size;
        self.progress.add_file();
        self.tell(action(step), entry.kind.describe(), &entry.path, entry.size, other, String::new())
    }

    /// Writes the data of files, several at once.
    fn write(&self, drafts: &[(Pending, Draft)]) -> Vec<BackupResult<Copied>> {
        let results: Vec<OnceLock<BackupResult<Copied>>> = drafts.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let (source, progress, cancel) = (self.source, self.progress, self.cancel);
        let work = || {
            while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed))
                && let Some(((file, draft), result)) = drafts.get(index).zip(results.get(index))
            {
                let copied = match (draft.file(), cancel.is_cancelled()) {
                    (Some(contents), false) => {
                        copy(source, &file.source, contents, file.there.as_ref(), progress, cancel)
                    }
                    _ => Err(BackupError::Cancelled),
                };
                // Nobody else has this index.
                let _ = result.set(copied);
            }
        };
        match drafts.len() {
            0 | 1 => work(),
            several => std::thread::scope(|scope| {
                for _ in 0..several.min(WRITERS) {
                    scope.spawn(work);
                }
            }),
        }
        results.into_iter().map(|result| result.into_inner().unwrap_or(Err(BackupError::Cancelled))).collect()
    }
}
