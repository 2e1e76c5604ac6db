//! One reading of an archive from its beginning to its end: everything that a restore would refuse is
//! refused, and what is in it goes into the index.

use std::path::Path;
use std::sync::Arc;

use convoy_tree::limits::{DEPTH, ENTRIES, PATH};
use convoy_tree::{Kind, Packed, PackedData, RelPath, scan_tar};

use super::super::Node;
use super::index::{Blocks, Index, Writer};
use super::links::Links;
use super::record::Record;
use super::scratch::Scratch;
use super::sort::{BATCH, Sorter};
use super::spool::Sums;
use crate::engine::ctx::Ctx;
use crate::error::{BackupError, BackupResult};
use crate::memory::Memory;
use crate::record::BackupRecord;
use crate::v0;

/// What one reading gives.
pub(super) struct Scanned {
    pub(super) index: Index,
    pub(super) sums: Sums,
}

/// Reads the archive of a backup; `kept` bytes of its index are kept in memory later.
///
/// # Errors
/// As a restore.
pub(super) fn scan(ctx: &Ctx, record: &BackupRecord, room: &Path, kept: usize) -> BackupResult<Scanned> {
    let key = v0::file_key(ctx, record, record.v0_file().unwrap_or_default())?;
    let mut found = Builder::new(&key, room, &ctx.memory, BATCH);
    let mut sums = Sums::new(ctx.memory.charge());
    v0::scan_file(ctx, record, &mut |packed, data| found.add(packed, data), &mut |bytes| {
        sums.add(&key, bytes)
    })?;
    sums.finish(&key)?;
    Ok(Scanned { index: found.finish(kept, &|| ctx.check())?, sums })
}

/// Makes an index.
struct Builder<'a> {
    key: &'a str,
    room: &'a Path,
    memory: &'a Arc<Memory>,
    sorter: Sorter,
    links: Links,
    count: u64,
}

impl<'a> Builder<'a> {
    /// Sorts `batch` bytes in memory.
    fn new(key: &'a str, room: &'a Path, memory: &'a Arc<Memory>, batch: usize) -> Self {
        let sorter = Sorter::new(room.to_owned(), Arc::clone(memory), batch);
        Self { key, room, memory, sorter, links: Links::new(memory.charge()), count: 0 }
    }

    fn damaged(&self, why: impl std::fmt::Display) -> BackupError {
        BackupError::damaged(self.key, format_args!("the archive is damaged: {why}"))
    }

    fn add(&mut self, packed: Packed, data: Vec<PackedData>) -> BackupResult<()> {
        self.count += 1;
        let number = self.count;
        let path = match &packed {
            Packed::Entry(entry) => &entry.path,
            Packed::HardLink { path, .. } => path,
        };
        if number > ENTRIES {
            return Err(self.damaged(format_args!("it has more than {ENTRIES} entries")));
        }
        if path.as_bytes().len() > PATH {
            return Err(self.damaged(format_args!("{} has more than {PATH} bytes", path.shown())));
        }
        let is_dir = matches!(&packed, Packed::Entry(entry) if entry.is_dir());
        if path.is_root() && !is_dir {
            return Err(self.damaged("its root is no directory"));
        }
        let record = match packed {
            Packed::Entry(mut entry) => {
                if matches!(entry.kind, Kind::Symlink { .. }) {
                    // The kernel's, whatever an archive says: nobody can give a link another.
                    entry.mode = 0o777;
                }
                if matches!(&entry.kind, Kind::Symlink { target } if target.as_bytes().is_empty()) {
                    return Err(self.damaged(format_args!("{} is a link to nothing", entry.path.shown())));
                }
                Record { entry, head: None, number, data }
            }
            Packed::HardLink { path, existing } => {
                let head = self.links.add(self.key, &path, existing, number)?;
                Record::further(path, head, number)
            }
        };
        self.sorter.add(record)
    }

    fn finish(self, kept: usize, check: &dyn Fn() -> BackupResult<()>) -> BackupResult<Index> {
        let blocks = if self.sorter.is_small() {
            Blocks::Memory(Vec::new())
        } else {
            Blocks::File(Scratch::new(self.room)?)
        };
        let mut writer = Writer::new(blocks, self.memory.charge());
        let (mut links, mut way) = (self.links, Way::default());
        let mut before: Option<RelPath> = None;
        let key = self.key;
        let damaged = |why: String| BackupError::damaged(key, format_args!("the archive is damaged: {why}"));
        self.sorter.finish(&mut |record| {
            check()?;
            let path = record.entry.path.clone();
            if before.is_none() && !path.is_root() {
                writer.add(&Record::root())?;
            }
            match before.replace(path) {
                // A root may come more than once: the first is the one that a restore takes.
                Some(before) if before == record.entry.path && before.is_root() => return Ok(()),
                Some(before) if before == record.entry.path => {
                    return Err(damaged(format!("{} is in it twice", before.shown())));
                }
                _ => {}
            }
            way.go(&record).and_then(|()| links.meet(&record)).map_err(damaged)?;
            writer.add(&record)
        })?;
        if before.is_none() {
            writer.add(&Record::root())?;
        }
        writer.finish(links.finish().map_err(damaged)?, Arc::clone(self.memory), kept)
    }
}

/// The directories on the way to a record.
#[derive(Default)]
struct Way {
    path: Vec<u8>,
    /// Where the path of each of them ends, and its number.
    dirs: Vec<(usize, u64)>,
}

impl Way {
    /// Goes to a record: its directory must have come before it.
    fn go(&mut self, record: &Record) -> Result<(), String> {
        let bytes = record.entry.path.as_bytes();
        let parent = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        while self.dirs.last().is_some_and(|(end, _)| *end > parent) {
            self.dirs.pop();
        }
        let (end, number) = self.dirs.last().copied().unwrap_or((0, 0));
        self.path.truncate(end);
        if end != parent || bytes.get(..parent) != Some(&*self.path) || number > record.number {
            return Err(format!("{} is in no directory that came before it", record.entry.path.shown()));
        }
        if record.entry.is_dir() && !bytes.is_empty() {
            self.path.extend_from_slice(bytes.get(end..).unwrap_or_default());
            self.dirs.push((bytes.len(), record.number));
        }
        if self.dirs.len() > DEPTH {
            return Err(format!("{} is too deep", record.entry.path.shown()));
        }
        Ok(())
    }
}

/// What is in an uncompressed archive, for the fuzz targets: sorted in memory, or in runs of `batch` bytes.
///
/// # Errors
/// As a reader of a backup.
pub(crate) fn walk_bytes(archive: &[u8], room: &Path, batch: usize) -> BackupResult<Vec<Node>> {
    let memory = Memory::new(64 << 20);
    let mut found = Builder::new("fuzz", room, &memory, batch);
    let mut refused = None;
    let scanned = scan_tar(archive, &|| true, &mut |packed, data| {
        found.add(packed, data).map_err(|error| {
            refused = Some(error);
            convoy_tree::TreeError::Cancelled
        })
    });
    if let Some(error) = refused {
        return Err(error);
    }
    scanned?;
    let index = found.finish(1 << 20, &|| Ok(()))?;
    let (mut nodes, mut next) = (Vec::new(), index.find(&RelPath::root())?);
    while let Some(place) = next {
        nodes.push(index.node(index.record(&place)?)?);
        next = index.next(&place)?;
    }
    Ok(nodes)
}
