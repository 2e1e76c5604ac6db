//! Makes a tree again. Every piece is verified before it is written.
//!
//! Directories, links and devices are made in the order of the manifest, files when their data comes, hard
//! links when all files are there, and directories get their metadata last. Paths are opened by
//! [`TreeWriter`] one component at a time and never through a link.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use convoy_tree::{Finished, NewFile, StableStorage, TreeWriter};
use parking_lot::Mutex;

use super::ctx::Ctx;
use super::fetch::{Want, fetch};
use super::page_cache::WriteCounter;
use super::relocations::Relocations;
use super::segments::{Items, Segments};
use crate::error::{BackupError, BackupResult};
use crate::format::ChunkRef;
use crate::format::manifest::Root;
use crate::format::segment::{Item, ItemKind};
use crate::progress::Phase;

/// A file whose data is coming.
struct TargetFile {
    item: Item,
    file: Mutex<FileState>,
    /// Pieces not written yet, and one while more may be planned.
    left: AtomicUsize,
    written: WriteCounter,
}

/// How far a file is.
#[derive(Default)]
enum FileState {
    /// Nothing is there yet.
    #[default]
    Not,
    /// It is being written, or was: then there is none any more.
    Begun(Option<NewFile>),
}

impl FileState {
    /// The file, made if it is not there; none where the target refuses it.
    fn begin(&mut self, writer: &TreeWriter, item: &Item) -> BackupResult<&mut Option<NewFile>> {
        if let Self::Not = self {
            *self = Self::Begun(writer.create_file(&item.path)?);
        }
        match self {
            Self::Begun(file) => Ok(file),
            Self::Not => Err(BackupError::Cancelled),
        }
    }
}

/// What a piece is for.
struct Purpose {
    file: Arc<TargetFile>,
    at: u64,
}

struct Restore<'a> {
    ctx: &'a Ctx,
    key: String,
    writer: TreeWriter,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Restore<'_> {
    fn damaged(&self, why: impl std::fmt::Display) -> BackupError {
        BackupError::damaged(&self.key, why)
    }

    /// Writes a piece, which is verified, and finishes the file if it was the last.
    fn write(&self, purpose: &Purpose, data: &[u8]) -> BackupResult<()> {
        let file = &purpose.file;
        {
            let mut making = file.file.lock();
            if let Some(open) = making.begin(&self.writer, &file.item)? {
                open.file()
                    .write_all_at(data, purpose.at)
                    .map_err(|e| BackupError::io("write", &file.item.path, e))?;
                file.written.add(open.file(), data.len());
            }
        }
        self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.ctx.progress.add_bytes(data.len() as u64);
        self.one_less(file)
    }

    /// A piece fewer is missing.
    fn one_less(&self, file: &TargetFile) -> BackupResult<()> {
        if file.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(());
        }
        let open = file.file.lock().begin(&self.writer, &file.item)?.take();
        if let (Some(open), Some(entry)) = (open, file.item.entry()) {
            open.finish(&self.writer, &entry)?;
        }
        self.files.fetch_add(1, Ordering::Relaxed);
        self.ctx.progress.add_file();
        Ok(())
    }
}

/// Goes through the manifest: makes what has no data, and wants the data of files.
struct Planner<'a> {
    restore: &'a Restore<'a>,
    items: Items<'a>,
    current: Option<Arc<TargetFile>>,
    wants: VecDeque<Want<Purpose>>,
    first: bool,
}

impl Planner<'_> {
    fn want(&mut self, pieces: &[(u64, ChunkRef)]) {
        if let Some(file) = &self.current {
            file.left.fetch_add(pieces.len(), Ordering::AcqRel);
            // The file is in memory until its last piece is written: it counts once.
            let mut weight = file.item.weight();
            let want = |(at, chunk): &(u64, ChunkRef)| Want {
                chunk: *chunk,
                purpose: Purpose { file: file.clone(), at: *at },
                weight: std::mem::take(&mut weight),
            };
            self.wants.extend(pieces.iter().map(want));
        }
    }

    fn close(&mut self) -> BackupResult<()> {
        self.current.take().map_or(Ok(()), |file| self.restore.one_less(&file))
    }

    fn item(&mut self, mut item: Item) -> BackupResult<()> {
        if std::mem::take(&mut self.first)
            && !(item.path.is_root() && item.entry().is_some_and(|e| e.is_dir()))
        {
            return Err(self.restore.damaged("its first entry is not the root directory"));
        }
        if item.kind == ItemKind::Continued {
            if self.current.is_none() {
                return Err(self.restore.damaged("it continues a file that it does not have"));
            }
            self.want(&item.pieces);
            return Ok(());
        }
        self.close()?;
        let Some(entry) = item.entry() else { return Ok(()) };
        if entry.is_file() {
            let pieces = std::mem::take(&mut item.pieces);
            self.current = Some(Arc::new(TargetFile {
                item,
                file: Mutex::default(),
                left: AtomicUsize::new(1),
                written: WriteCounter::default(),
            }));
            self.want(&pieces);
        } else {
            self.restore.writer.create(&entry)?;
        }
        Ok(())
    }

    fn step(&mut self) -> BackupResult<Option<Want<Purpose>>> {
        loop {
            if let Some(want) = self.wants.pop_front() {
                return Ok(Some(want));
            }
            match self.items.next() {
                Some(item) => self.item(item?)?,
                None => {
                    self.close()?;
                    return Ok(None);
                }
            }
        }
    }
}

impl Iterator for Planner<'_> {
    type Item = BackupResult<Want<Purpose>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// What a restore of a tree did.
pub(crate) struct TreeReport {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) finished: Finished,
}

/// Restores into an empty directory, durably.
pub(crate) fn restore(
    ctx: &Ctx,
    requests: usize,
    root: &Root,
    moves: &Relocations,
    target: &Path,
) -> BackupResult<TreeReport> {
    let key = format!("{} (manifest of backup {})", ctx.volume.manifests(), root.backup);
    let storage = StableStorage::of(target)?;
    let restore = Restore {
        ctx,
        key,
        writer: TreeWriter::new(target)?,
        files: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    };
    let items = Items::new(Segments::new(ctx, moves, root)?);
    let planner = Planner { restore: &restore, items, current: None, wants: VecDeque::new(), first: true };
    fetch(ctx, requests, planner, &|purpose: Purpose, _, data| restore.write(&purpose, data?))?;
    ctx.progress.phase(Phase::Finishing);
    if root.hard_links {
        for item in Items::new(Segments::new(ctx, moves, root)?) {
            ctx.check()?;
            let item = item?;
            if let ItemKind::HardLink { first } = &item.kind {
                restore.writer.hard_link(first, &item.path)?;
            }
        }
    }
    let (files, bytes) = (restore.files.into_inner(), restore.bytes.into_inner());
    let finished = restore.writer.finish()?;
    storage.sync()?;
    Ok(TreeReport { files, bytes, finished })
}
