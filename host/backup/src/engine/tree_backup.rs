//! Reads a tree: what did not change since the parent backup is taken from its manifest, what did is cut,
//! hashed and stored.
//!
//! One thread walks, in the parent's order, and cuts large files, which another one reads ahead; a worker a
//! core reads small files, hashes, looks up and compresses; as many threads as there may be requests upload;
//! and one puts the manifest together in the order of the walk. The channel between the walk and the manifest
//! keeps order and bounds how far the walk may run ahead.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use convoy_tree::{Entry, FileClock, Found, RelPath, Timestamp, WalkEntry, WalkOptions, walk};
use crossbeam_channel::{Receiver, Sender};
use tokio::sync::oneshot;

use super::ctx::{ByteBudget, BytePermit, Ctx, send};
use super::large::{self, Buffers, Chunk};
use super::links::Links;
use super::manifest_writer::ManifestWriter;
use super::packer::{Lane, Packer};
use super::segments::ParentTree;
use super::warnings::Warnings;
use crate::error::{BackupError, BackupResult};
use crate::exclude::{Excludes, Verdict};
use crate::format::chunk::{Encoder, all_zero};
use crate::format::segment::{Identity, Item, LONGEST_PATH};
use crate::format::wire::Piece;
use crate::memory::Charge;
use crate::types::SameFile;

/// A file up to this size is one chunk, read by a worker.
const SMALL: u64 = 256 << 10;

/// What the walk hands to the manifest, in order.
pub(crate) enum Unit {
    /// An item that is complete, with the memory that pieces from the parent take.
    Item(Item, Option<Charge>),
    /// A small file; its pieces come later.
    Small(Item, oneshot::Receiver<Vec<Piece>>),
    /// A large file; its pieces follow as units.
    Large(Item),
    /// A piece of the large file before; nothing comes for zeros.
    Piece(oneshot::Receiver<Option<Piece>>),
}

/// What the walk hands to the workers.
pub(crate) enum Job {
    Small(Box<WalkEntry>, BytePermit, oneshot::Sender<Vec<Piece>>),
    Chunk(Chunk, oneshot::Sender<Option<Piece>>),
}

/// What a walk remembers.
struct Met<'a> {
    links: Links,
    /// Files with several names that are left out since they cannot be read.
    missing: HashSet<RelPath>,
    parent: Option<ParentTree<'a>>,
}

/// What the parts of a tree backup share.
pub(crate) struct TreeBackup<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) packer: &'a Packer<'a>,
    pub(crate) budget: Arc<ByteBudget>,
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) same: SameFile,
    /// What was changed too late for its time to tell whether it was changed again is read again next time.
    pub(crate) clock: FileClock,
    pub(crate) warnings: &'a Warnings,
    pub(crate) excludes: &'a Excludes,
    pub(crate) bytes_read: AtomicU64,
}

impl TreeBackup<'_> {
    /// Walks the tree.
    pub(crate) fn walk(
        &self,
        root: &Path,
        parent: Option<ParentTree<'_>>,
        units: &Sender<Unit>,
        jobs: &Sender<Job>,
    ) -> BackupResult<()> {
        let mut met = Met { links: Links::default(), missing: HashSet::new(), parent };
        let mut walk = walk(root, WalkOptions { longest_path: LONGEST_PATH, ..WalkOptions::default() })?;
        while let Some(found) = walk.next() {
            self.ctx.check()?;
            let found = match found? {
                Found::Entry(found) => found,
                Found::Vanished(path) => return Err(BackupError::SourceChanged { path: path.shown() }),
                Found::Refused { path, error } => {
                    self.left_out(&path, &error);
                    continue;
                }
            };
            let verdict = self.excludes.of(&found);
            match verdict.map_err(|error| BackupError::io("read", found.entry.path.shown(), error))? {
                Verdict::Keep => self.entry(found, &mut met, units, jobs)?,
                Verdict::LeaveOut => walk.skip_children(),
                Verdict::OnlyMarker(marker) => {
                    walk.skip_children();
                    self.entry(found, &mut met, units, jobs)?;
                    self.entry(*marker, &mut met, units, jobs)?;
                }
            }
        }
        Ok(())
    }

    /// Hands over what the walk has come upon.
    fn entry(
        &self,
        found: WalkEntry,
        met: &mut Met<'_>,
        units: &Sender<Unit>,
        jobs: &Sender<Job>,
    ) -> BackupResult<()> {
        if let Some(first) = met.links.first_name(&found.entry) {
            if met.missing.contains(&first) {
                let (path, first) = (found.entry.path.shown(), first.shown());
                self.warnings.say(format!("{path}: left out, as {first} was, which it is a link to"));
                return Ok(());
            }
            return send(units, Unit::Item(Item::hard_link(first, found.entry), None));
        }
        self.warnings.say_unread(&found.entry);
        if !found.entry.is_file() || found.mount_point {
            return send(units, Unit::Item(Item::of_entry(found.entry), None));
        }
        let earlier = match &mut met.parent {
            Some(parent) => parent.file(&found.entry.path)?,
            None => None,
        };
        let path = found.entry.is_linked().then(|| found.entry.path.clone());
        if !self.file(found, earlier, units, jobs)? {
            met.missing.extend(path);
        }
        Ok(())
    }

    /// Says that something is left out.
    fn left_out(&self, path: &RelPath, error: &std::io::Error) {
        self.warnings.say(format!("{}: left out, since it cannot be read: {error}", path.shown()));
    }

    /// Hands a file over; false if it is left out since it cannot be read.
    fn file(
        &self,
        mut found: WalkEntry,
        earlier: Option<(Item, Charge)>,
        units: &Sender<Unit>,
        jobs: &Sender<Job>,
    ) -> BackupResult<bool> {
        let size = found.entry.size;
        let settled = self.clock.settled(self.stamp(&found.entry));
        let unchanged =
            settled && earlier.as_ref().is_some_and(|(earlier, _)| self.unchanged(earlier, &found.entry));
        if !unchanged && let Err(error) = found.look_inside() {
            if !convoy_tree::is_refused(&error) {
                return Err(BackupError::io("read", found.entry.path.shown(), error));
            }
            self.left_out(&found.entry.path, &error);
            return Ok(false);
        }
        let mut item = Item::of_entry(found.entry.clone());
        item.identity = settled.then(|| identity(&found.entry));
        let (earlier, charge) = earlier.unzip();
        let (project, earlier) = earlier.map_or((0, Vec::new()), |item| (item.project, item.pieces));
        if unchanged || size == 0 {
            if unchanged {
                item.pieces = earlier;
                self.ctx.progress.add_bytes(size);
                // Only what is opened tells its project; to change it is to change the file.
                if item.project == 0 {
                    item.project = project;
                }
            }
            send(units, Unit::Item(item, charge))?;
            return Ok(true);
        }
        if size <= SMALL {
            let (done, pieces) = oneshot::channel();
            send(units, Unit::Small(item, pieces))?;
            let taken = self.budget.take(usize::try_from(size).unwrap_or(usize::MAX), self.ctx)?;
            send(jobs, Job::Small(Box::new(found), taken, done))?;
            return Ok(true);
        }
        send(units, Unit::Large(item))?;
        large::read(self.ctx, &self.buffers, &found, &earlier, |chunk| {
            let (done, piece) = oneshot::channel();
            send(units, Unit::Piece(piece))?;
            send(jobs, Job::Chunk(chunk, done))
        })?;
        Ok(true)
    }

    /// The time that tells whether a file is another one.
    fn stamp(&self, entry: &Entry) -> Timestamp {
        match (self.same, entry.btime) {
            (SameFile::BirthTime, Some(born)) => born,
            _ => entry.ctime,
        }
    }

    /// Whether the parent's file is this one, unchanged.
    fn unchanged(&self, known: &Item, now: &Entry) -> bool {
        let Some(was) = &known.identity else { return false };
        let is = identity(now);
        let moment = match (self.same, &was.btime, &is.btime) {
            (SameFile::BirthTime, Some(was), Some(is)) => was == is,
            _ => was.ctime == is.ctime,
        };
        known.size == now.size && known.mtime == now.mtime && was.ino == is.ino && moment
    }

    /// A worker: reads, hashes, looks up, compresses.
    pub(crate) fn work(&self, jobs: &Receiver<Job>, mut encoder: Encoder) -> BackupResult<()> {
        while let Ok(job) = jobs.recv() {
            self.ctx.check()?;
            match job {
                Job::Small(found, taken, done) => {
                    let pieces = self.small(&found, &mut encoder)?;
                    drop(taken);
                    // Nobody waits only when all is ending.
                    let _ = done.send(pieces);
                }
                Job::Chunk(chunk, done) => {
                    let data = chunk.bytes();
                    self.bytes_read.fetch_add(data.len() as u64, Relaxed);
                    let stored = match chunk.id {
                        Some(id) => Some(self.packer.put_hashed(&mut encoder, id, data, Lane::Data)?),
                        None if all_zero(data) => None,
                        None => Some(self.packer.put(&mut encoder, data, Lane::Data)?),
                    };
                    let piece = stored.map(|stored| (chunk.at, stored));
                    self.ctx.progress.add_bytes(data.len() as u64);
                    drop(chunk);
                    let _ = done.send(piece);
                }
            }
        }
        Ok(())
    }

    fn small(&self, found: &WalkEntry, encoder: &mut Encoder) -> BackupResult<Vec<Piece>> {
        let path = &found.entry.path;
        let changed = || BackupError::SourceChanged { path: path.shown() };
        let (file, opened) = found.open().map_err(|e| BackupError::io("read", path, e))?;
        if (opened.size, opened.mtime) != (found.entry.size, found.entry.mtime) {
            return Err(changed());
        }
        let mut data = Vec::with_capacity(usize::try_from(opened.size).unwrap_or(0) + 1);
        let mut reader: &File = &file;
        Read::take(&mut reader, SMALL + 1)
            .read_to_end(&mut data)
            .map_err(|e| BackupError::io("read", path, e))?;
        if data.len() as u64 != opened.size {
            return Err(changed());
        }
        self.bytes_read.fetch_add(opened.size, Relaxed);
        let pieces = if all_zero(&data) {
            Vec::new()
        } else {
            vec![(0, self.packer.put(encoder, &data, Lane::Data)?)]
        };
        self.ctx.progress.add_bytes(opened.size);
        Ok(pieces)
    }

    /// Puts the manifest together.
    pub(crate) fn assemble(
        &self,
        units: &Receiver<Unit>,
        writer: &mut ManifestWriter<'_>,
    ) -> BackupResult<()> {
        let mut open: Option<Item> = None;
        let mut push = |item: Item| {
            if item.is_file() {
                self.ctx.progress.add_file();
            }
            writer.item(item)
        };
        while let Ok(unit) = units.recv() {
            if !matches!(unit, Unit::Piece(_))
                && let Some(done) = open.take()
            {
                push(done)?;
            }
            match unit {
                Unit::Item(item, _charge) => push(item)?,
                Unit::Small(mut item, pieces) => {
                    item.pieces = pieces.blocking_recv().map_err(|_| BackupError::Cancelled)?;
                    push(item)?;
                }
                Unit::Large(item) => open = Some(item),
                Unit::Piece(piece) => {
                    let piece = piece.blocking_recv().map_err(|_| BackupError::Cancelled)?;
                    if let (Some(item), Some(piece)) = (&mut open, piece) {
                        item.pieces.push(piece);
                    }
                }
            }
        }
        // The walk hangs up when it is done, and also when it failed: then what came is not all.
        self.ctx.check()?;
        open.map_or(Ok(()), push)
    }
}

fn identity(entry: &Entry) -> Identity {
    Identity { ino: entry.ino, ctime: entry.ctime.into(), btime: entry.btime.map(Into::into) }
}
