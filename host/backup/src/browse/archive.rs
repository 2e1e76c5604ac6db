//! Browses a backup of convoy 0.5: one compressed archive, in which nothing can be found without reading all
//! of it.
//!
//! It is read once when it is opened: `scan` checks it as a restore does and keeps an `index` of what is in
//! it. Data that is asked for comes from a second reading, which goes no further than it must (`spool`). What
//! is too much for memory is in files without a name (`scratch`), which are gone with whoever has them open.

mod index;
mod links;
mod record;
mod scan;
mod scratch;
mod sort;
mod spool;

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use convoy_tree::{PackedData, RelPath, TreeError};

use super::data::zeros;
use super::held::Held;
use super::{After, Browse, Node, READ_MAX, ReadAt, Visit, Visitor, is_beneath, name_after};
use crate::engine::ctx::Ctx;
use crate::error::{BackupError, BackupResult};
use crate::memory::Charge;
use crate::record::BackupRecord;
use index::{Index, Place};
use record::Record;
use spool::Spool;

pub(crate) use scan::walk_bytes;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Archive {
    index: Index,
    spool: Arc<Spool>,
    place: String,
}

impl Archive {
    /// Reads the archive of a backup. Files without a name are made in `room`; `cached` bytes of the index
    /// are kept in memory.
    ///
    /// # Errors
    /// As a restore, for everything that is wrong with the archive.
    pub(super) fn open(
        ctx: Ctx,
        held: Held,
        record: BackupRecord,
        charge: Charge,
        room: &Path,
        cached: usize,
    ) -> BackupResult<Self> {
        let place = format!("backup {} of volume {}", record.name, ctx.volume.name());
        let scanned = scan::scan(&ctx, &record, room, cached).map_err(|error| held.explain(error))?;
        let spool = Spool::new(ctx, held, record, charge, scanned.sums, room);
        Ok(Self { index: scanned.index, spool: Arc::new(spool), place })
    }

    /// What is at `path`.
    fn find(&self, path: &RelPath) -> BackupResult<Place> {
        if let Some(place) = self.index.find(path)? {
            return Ok(place);
        }
        let mut nearest = path.clone();
        while let Some((above, _)) = nearest.split() {
            nearest = above;
            let found = self.index.find(&nearest)?;
            if found.as_ref().and_then(Place::record).is_some_and(|record| record.entry.is_dir()) {
                break;
            }
        }
        Err(BackupError::NoPath { place: self.place.clone(), path: path.clone(), nearest })
    }

    /// The directory at `path`.
    fn directory(&self, path: &RelPath) -> BackupResult<Place> {
        let place = self.find(path)?;
        let node = self.node(&place)?;
        if node.entry.is_dir() {
            return Ok(place);
        }
        Err(BackupError::NotDirectory { path: path.clone(), found: node.entry.kind.describe() })
    }

    fn node(&self, place: &Place) -> BackupResult<Node> {
        self.index.node(self.index.record(place)?)
    }

    /// The first thing behind this one and everything in it.
    fn behind(&self, place: &Place, path: &RelPath) -> BackupResult<Option<Place>> {
        let next = self.index.next(place)?;
        match next.as_ref().and_then(Place::record) {
            Some(record) if is_beneath(&record.entry.path, path) => {
                self.index.first_not(&|other| other <= path || is_beneath(other, path))
            }
            _ => Ok(next),
        }
    }
}

impl Browse for Archive {
    fn stat(&self, path: &RelPath) -> BackupResult<Node> {
        self.node(&self.find(path)?)
    }

    fn list(&self, directory: &RelPath, after: Option<&RelPath>, limit: usize) -> BackupResult<Vec<Node>> {
        let place = self.directory(directory)?;
        let mut nodes = Vec::new();
        let mut next = match after.map(|after| name_after(directory, after)) {
            _ if limit == 0 => None,
            Some(After::Nothing) => None,
            None | Some(After::All) => self.index.next(&place)?,
            Some(After::Name(name)) => {
                let after = directory.join(name).map_err(TreeError::from)?;
                self.index.first_not(&|path| *path <= after || is_beneath(path, &after))?
            }
        };
        while let Some(place) = next {
            let record = self.index.record(&place)?;
            if !is_beneath(&record.entry.path, directory) {
                break;
            }
            nodes.push(self.index.node(record)?);
            if nodes.len() >= limit {
                break;
            }
            next = self.behind(&place, &record.entry.path)?;
        }
        Ok(nodes)
    }

    fn walk(&self, top: &RelPath, visit: Visitor<'_>) -> BackupResult<()> {
        let mut next = Some(self.find(top)?);
        while let Some(place) = next {
            let record = self.index.record(&place)?;
            if record.entry.path != *top && !is_beneath(&record.entry.path, top) {
                break;
            }
            let skips = record.entry.is_dir();
            next = match visit(self.index.node(record)?)? {
                ControlFlow::Break(()) => break,
                ControlFlow::Continue(Visit::SkipChildren) if skips => {
                    self.behind(&place, &record.entry.path)?
                }
                ControlFlow::Continue(_) => self.index.next(&place)?,
            };
        }
        Ok(())
    }

    fn open(&self, path: &RelPath) -> BackupResult<Box<dyn ReadAt>> {
        let place = self.find(path)?;
        let first = self.index.head(self.index.record(&place)?)?;
        let record: &Record = match &first {
            Some(first) => self.index.record(first)?,
            None => self.index.record(&place)?,
        };
        if !record.entry.is_file() {
            return Err(BackupError::NotFile { path: path.clone(), found: record.entry.kind.describe() });
        }
        let mut charge = self.spool.charge();
        let name = format!("/{} of {}", path.shown(), self.place);
        charge.add(&name, size_of_val(&*record.data))?;
        let (size, data) = (record.entry.size, record.data.clone());
        Ok(Box::new(ArchiveFile { spool: Arc::clone(&self.spool), size, data, name, _charge: charge }))
    }
}

/// A file in an archive.
#[derive(Debug)]
struct ArchiveFile {
    spool: Arc<Spool>,
    size: u64,
    data: Vec<PackedData>,
    /// What errors call the file: its path, and the backup.
    name: String,
    _charge: Charge,
}

impl ArchiveFile {
    /// The first data that ends behind `offset`.
    fn find(&self, offset: u64) -> Option<&PackedData> {
        self.data.get(self.data.partition_point(|data| data.at + data.length <= offset))
    }
}

impl ReadAt for ArchiveFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, length: usize) -> BackupResult<Bytes> {
        let length = super::clamp(self.size, offset, length.min(READ_MAX)) as u64;
        let data = self.find(offset).filter(|_| length > 0);
        let Some(data) = data.filter(|data| data.at <= offset) else {
            let hole = data.map_or(length, |data| (data.at - offset).min(length));
            return Ok(zeros(hole));
        };
        let inside = offset - data.at;
        let length = length.min(data.length - inside);
        self.spool.read(data.stored_at + inside, length).map_err(|error| match error {
            BackupError::Damaged { key, why } => {
                BackupError::Damaged { key: format!("{} ({key})", self.name), why }
            }
            other => other,
        })
    }

    fn next_data(&self, offset: u64) -> BackupResult<Option<Range<u64>>> {
        let found = self.find(offset).filter(|_| offset < self.size);
        Ok(found.map(|data| offset.max(data.at)..data.at + data.length))
    }
}
