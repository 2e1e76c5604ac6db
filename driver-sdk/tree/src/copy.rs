//! A whole tree into another directory.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::contents::{CopyMethod, ReflinkHint, copy_contents};
use crate::dir::{Dir, NodeId};
use crate::entry::Entry;
use crate::error::{TreeError, TreeResult, gone};
use crate::index::{IndexReader, IndexWriter};
use crate::path::RelPath;
use crate::path_set::{PathKey, PathSet};
use crate::stack::DirStack;
use crate::walk::{Found, Walk, WalkEntry, WalkOptions, is_refused};
use crate::writer::{Finished, Losses, NewFile, TreeWriter};

/// Files waiting for a worker: each keeps its directory open.
const QUEUE: usize = 128;
/// A file that changes while it is copied is copied again this often, when it is not larger than
/// [`AGAIN_BELOW`].
const ATTEMPTS: u32 = 4;
const AGAIN_BELOW: u64 = 64 * 1024 * 1024;
/// A path longer than this does not wait for a worker: so many would take memory.
const LONG_PATH: usize = 16 * 1024;
/// ext4 takes 65,000 names for an inode, btrfs a few more, xfs millions.
const MOST_LINKS: u64 = 65_000;

/// An earlier copy of the same tree, whose files can be linked to where they have not changed since.
#[derive(Clone, Debug)]
pub struct Previous {
    /// The earlier copy, on the same file system as the new one.
    pub tree: PathBuf,
    /// The index that was written with it.
    pub index: PathBuf,
}

/// Follows a copy, and can stop it.
pub trait Observer: Sync {
    /// `entries` more entries are done and `bytes` more bytes were moved.
    fn advanced(&self, entries: u64, bytes: u64);
    /// Whether the copy is to end at its next entry.
    fn stop(&self) -> bool;
}

/// What a copy may do, and who follows it.
#[derive(Default)]
pub struct CopyOptions<'a> {
    /// Workers that copy file contents; 0 for a number that suits the machine.
    pub threads: usize,
    /// An earlier copy to link to.
    pub previous: Option<Previous>,
    /// Where to write the index by which the next copy finds what has changed. A new file, on the file system
    /// of the copy.
    pub index: Option<PathBuf>,
    /// Is told of every entry, and can end the copy.
    pub observer: Option<&'a dyn Observer>,
    /// Keep flags and projects in an attribute of the copy and do not set them, as a snapshot has to: a file
    /// that has them could be neither linked to nor removed. The project of this number is the tree's own,
    /// and is left out with the flag that passes it on; 0 for none.
    pub aside: Option<u32>,
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Entries in the copy, the root included.
    pub entries: u64,
    /// Files that are hard links to the earlier copy.
    pub unchanged: u64,
    /// Files whose blocks are shared with the original.
    pub reflinked: u64,
    /// Files copied byte by byte.
    pub copied: u64,
    /// How many bytes of contents were moved.
    pub bytes: u64,
    /// Bytes in regular files, each inode counted once.
    pub size: u64,
    /// Names that went away while the tree was read.
    pub vanished: u64,
    /// What a user should know: files that changed while they were copied, what the original does not tell.
    pub warnings: Vec<String>,
    /// What is not in the copy because its file system refuses it.
    pub losses: Losses,
}

/// Copies the tree `from` into the directory `to`, which must exist and be empty: every entry with all its
/// metadata, hard links as hard links, holes as holes. The result is not synced.
///
/// The original may change meanwhile: what vanishes is left out, a file that changes while it is read is read
/// again a few times and then taken as it is, with a warning.
///
/// # Errors
/// When something cannot be read or written; `to` then holds a part.
pub fn copy_tree(from: &Path, to: &Path, options: &CopyOptions<'_>) -> TreeResult<CopyReport> {
    let root = Arc::new(Dir::open(from)?);
    let index = options.index.as_deref().map(|path| IndexWriter::create(path, &root)).transpose()?;
    let previous = match &options.previous {
        Some(previous) => IndexReader::open(&previous.index).zip(Dir::open(&previous.tree).ok()),
        None => None,
    };
    let shared = Shared {
        root: Arc::clone(&root),
        writer: TreeWriter::new(to)?.aside(options.aside),
        hint: ReflinkHint::default(),
        observer: options.observer,
        failed: AtomicBool::new(false),
        failure: Mutex::new(None),
        leased: Mutex::default(),
        counts: Counts::default(),
    };
    let threads = match options.threads {
        // More than cores: workers wait for the disk, or for a server.
        0 => std::thread::available_parallelism().map_or(4, |n| n.get().clamp(2, 8) * 2),
        n => n,
    };
    let (sender, receiver) = sync_channel(QUEUE);
    let receiver = Mutex::new(receiver);
    let (index, paths, links) = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| shared.work(&receiver));
        }
        let mut scan = Scan {
            shared: &shared,
            queue: sender,
            previous: previous.map(|(index, tree)| Earlier { index, way: DirStack::new(Arc::new(tree), ()) }),
            index,
            synced: false,
            paths: PathSet::default(),
            first: HashMap::new(),
            links: Vec::new(),
        };
        if let Err(e) = scan.run(Walk::new(root, WalkOptions { xattrs: false, ..WalkOptions::default() })) {
            shared.fail(e);
        }
        (scan.index, scan.paths, scan.links)
    });
    if let Some(failure) = shared.failure.lock().take() {
        return Err(failure);
    }
    shared.copy_leased()?;
    let mut way = DirStack::new(Arc::clone(&shared.root), ());
    for (existing, new) in links {
        shared.link(&paths.get(existing), paths.get(new), &mut way)?;
    }
    if let (Some(index), Some(path)) = (index, &options.index) {
        index.finish(path)?;
    }
    let Shared { writer, counts, .. } = shared;
    Ok(counts.report(writer.finish()?))
}

#[derive(Default)]
struct Counts {
    entries: AtomicU64,
    unchanged: AtomicU64,
    reflinked: AtomicU64,
    copied: AtomicU64,
    bytes: AtomicU64,
    size: AtomicU64,
    vanished: AtomicU64,
}

impl Counts {
    fn report(&self, finished: Finished) -> CopyReport {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CopyReport {
            entries: get(&self.entries),
            unchanged: get(&self.unchanged),
            reflinked: get(&self.reflinked),
            copied: get(&self.copied),
            bytes: get(&self.bytes),
            size: get(&self.size),
            vanished: get(&self.vanished),
            warnings: finished.warnings,
            losses: finished.losses,
        }
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// A file to copy; already open when its identity matters.
struct Job {
    found: WalkEntry,
    open: Option<(File, Entry)>,
}

/// What the scanning thread and the workers share.
struct Shared<'a> {
    root: Arc<Dir>,
    writer: TreeWriter,
    hint: ReflinkHint,
    observer: Option<&'a dyn Observer>,
    failed: AtomicBool,
    failure: Mutex<Option<TreeError>>,
    /// Files on which a program has a lease. They are copied last: all leases run out at the same time.
    leased: Mutex<(PathSet, Vec<PathKey>)>,
    counts: Counts,
}

impl Shared<'_> {
    fn fail(&self, error: TreeError) {
        self.failed.store(true, Ordering::Relaxed);
        // The first failure is the cause; the others follow from it.
        self.failure.lock().get_or_insert(error);
    }

    fn keep_going(&self) -> bool {
        !self.failed.load(Ordering::Relaxed) && !self.observer.is_some_and(Observer::stop)
    }

    fn done(&self, bytes: u64) {
        count(&self.counts.entries, 1);
        if let Some(observer) = self.observer {
            observer.advanced(1, bytes);
        }
    }

    fn vanished(&self) {
        count(&self.counts.vanished, 1);
    }

    fn work(&self, queue: &Mutex<Receiver<Job>>) {
        loop {
            let job = queue.lock().recv();
            let Ok(job) = job else { return };
            // After a failure the queue is only emptied.
            if self.failed.load(Ordering::Relaxed) {
                continue;
            }
            if let Err(e) = self.copy_file(job) {
                self.fail(e);
            }
        }
    }

    /// Copies the files on which a program had a lease, which it had to give up meanwhile.
    fn copy_leased(&self) -> TreeResult<()> {
        let (paths, leased) = std::mem::take(&mut *self.leased.lock());
        let mut way = DirStack::new(Arc::clone(&self.root), ());
        for key in leased {
            let path = paths.get(key);
            self.copy_found(path, &mut way)?;
        }
        Ok(())
    }

    /// Copies the file that is at `path` now.
    fn copy_found(&self, path: RelPath, way: &mut DirStack<()>) -> TreeResult<()> {
        if !self.keep_going() {
            return Err(TreeError::Cancelled);
        }
        let opened = WalkEntry::at(way, path.clone()).and_then(|found| {
            let open = found.open()?;
            Ok(Job { found, open: Some(open) })
        });
        match opened {
            Err(e) if gone(&e) => {
                self.vanished();
                Ok(())
            }
            Err(e) => Err(TreeError::io("open", &path, e)),
            Ok(job) => self.copy_file(job),
        }
    }

    fn copy_file(&self, job: Job) -> TreeResult<()> {
        let path = &job.found.entry.path;
        let (source, mut entry) = match job.open.map_or_else(|| job.found.open_now(), Ok) {
            Err(e) if gone(&e) => {
                self.vanished();
                return Ok(());
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let mut leased = self.leased.lock();
                let key = leased.0.add(path);
                leased.1.push(key);
                return Ok(());
            }
            Err(e) if is_refused(&e) => {
                self.left_out(path, &e);
                return Ok(());
            }
            other => other.map_err(|e| TreeError::io("open", path, e))?,
        };
        let Some(new) = self.writer.create_file(path)? else { return Ok(()) };
        let mut moved = 0;
        for attempt in 1..=ATTEMPTS {
            let copied =
                copy_contents(&source, new.file(), &self.hint, &|| self.keep_going()).map_err(|e| {
                    if e.kind() == io::ErrorKind::Interrupted {
                        TreeError::Cancelled
                    } else {
                        TreeError::io("copy", path, e)
                    }
                })?;
            moved += copied.bytes;
            let after = job.found.restat(&source).map_err(|e| TreeError::io("read", path, e))?;
            let same = (after.ctime, after.mtime, after.size) == (entry.ctime, entry.mtime, entry.size);
            if same || attempt == ATTEMPTS || after.size > AGAIN_BELOW {
                if !same {
                    self.writer
                        .warn(format!("{}: changed while it was copied, taken as it was read", path.shown()));
                    entry.size =
                        crate::dir::stat_fd(new.file()).map_err(|e| TreeError::io("read", path, e))?.stx_size;
                }
                match copied.method {
                    CopyMethod::Reflink => count(&self.counts.reflinked, 1),
                    CopyMethod::Copy => count(&self.counts.copied, 1),
                }
                break;
            }
            entry = after;
            new.file().set_len(0).map_err(|e| TreeError::io("empty", path, e))?;
        }
        count(&self.counts.bytes, moved);
        count(&self.counts.size, entry.size);
        self.finish_file(new, &entry, moved)
    }

    /// Something the file system does not let anybody read.
    fn left_out(&self, path: &RelPath, error: &io::Error) {
        self.writer.leave_out(format!("{path}: left out, since it cannot be read: {error}"));
    }

    fn finish_file(&self, new: NewFile, entry: &Entry, moved: u64) -> TreeResult<()> {
        self.unread(entry);
        new.finish(&self.writer, entry)?;
        self.done(moved);
        Ok(())
    }

    fn unread(&self, entry: &Entry) {
        for problem in &entry.unread {
            self.writer.warn(format!("{}: {problem}", entry.path));
        }
    }

    /// A further name of something copied before. The source is asked again only if that is not there.
    fn link(&self, existing: &RelPath, new: RelPath, way: &mut DirStack<()>) -> TreeResult<()> {
        match self.writer.hard_link(existing, &new) {
            Ok(()) => {
                self.done(0);
                Ok(())
            }
            // The first name went away before it could be copied.
            Err(TreeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.copy_found(new, way)
            }
            Err(e) => Err(e),
        }
    }
}

/// The earlier copy of the tree, whose unchanged files are shared.
struct Earlier {
    index: IndexReader,
    /// The way to the directory that was used last.
    way: DirStack<()>,
}

impl Earlier {
    /// Links `new` to the earlier copy of the same file, if that has not changed since and is what was copied
    /// then.
    fn link(&mut self, entry: &Entry, writer: &TreeWriter) -> bool {
        if !self.index.unchanged(entry) {
            return false;
        }
        let Some((parent, name)) = entry.path.split() else { return false };
        let Ok(dir) = self.way.go(&parent) else { return false };
        let intact =
            dir.stat(name).ok().and_then(|stat| Entry::from_statx(entry.path.clone(), &stat)).is_some_and(
                |copy| {
                    copy.is_file()
                        && (copy.size, copy.mtime, copy.mode) == (entry.size, entry.mtime, entry.mode)
                        && (copy.uid, copy.gid) == (entry.uid, entry.gid)
                        && u64::from(copy.nlink) + u64::from(entry.nlink) <= MOST_LINKS
                },
            );
        // A file system with a lower limit, or one that cannot link at all: it is copied.
        intact && writer.link_from(&dir, name, &entry.path).is_ok()
    }
}

/// The thread that walks: it makes everything but the contents of files that changed.
struct Scan<'a, 'b> {
    shared: &'a Shared<'b>,
    queue: SyncSender<Job>,
    previous: Option<Earlier>,
    index: Option<IndexWriter>,
    synced: bool,
    /// Of everything with several names.
    paths: PathSet,
    /// The first path of each inode with several names.
    first: HashMap<NodeId, PathKey>,
    /// Further names, made when all files are there: of what is at the first path.
    links: Vec<(PathKey, PathKey)>,
}

impl Scan<'_, '_> {
    fn run(&mut self, walk: Walk) -> TreeResult<()> {
        for found in walk {
            if !self.shared.keep_going() {
                // Either a worker has said why, or the caller wanted it.
                return Err(TreeError::Cancelled);
            }
            match found? {
                Found::Entry(found) => self.visit(found)?,
                Found::Vanished(_) => self.shared.vanished(),
                Found::Refused { path, error } => self.shared.left_out(&path, &error),
            }
        }
        Ok(())
    }

    fn visit(&mut self, mut found: WalkEntry) -> TreeResult<()> {
        if found.mount_point {
            self.shared.unread(&found.entry);
            if let Some(file) = self.shared.writer.create(&found.entry)? {
                file.finish(&self.shared.writer, &found.entry)?;
            }
            self.shared.done(0);
            return Ok(());
        }
        let mut open = None;
        if found.entry.is_linked() {
            if found.entry.is_file() {
                // Which inode it is decides about links: hold on to it.
                match found.open_now() {
                    Err(e) if gone(&e) => {
                        self.shared.vanished();
                        return Ok(());
                    }
                    // It is opened later, and is by then what it is.
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) if is_refused(&e) => {
                        self.shared.left_out(&found.entry.path, &e);
                        return Ok(());
                    }
                    other => {
                        let (file, entry) = other.map_err(|e| TreeError::io("open", &found.entry.path, e))?;
                        found.entry = entry.clone();
                        open = Some((file, entry));
                    }
                }
            }
            let id = NodeId { dev: found.entry.dev, ino: found.entry.ino };
            if let Some(first) = self.first.get(&id) {
                if found.entry.is_file()
                    && let Some(index) = &mut self.index
                {
                    index.add(&found.entry)?;
                }
                self.links.push((*first, self.paths.add(&found.entry.path)));
                return Ok(());
            }
            self.first.insert(id, self.paths.add(&found.entry.path));
        }
        if found.entry.is_file() { self.file(Job { found, open }) } else { self.other(found) }
    }

    fn file(&mut self, job: Job) -> TreeResult<()> {
        let entry = &job.found.entry;
        let mut settled = true;
        if let Some(index) = &mut self.index {
            index.add(entry)?;
            // Younger than what the index before was made of can only be where a clock was set back.
            settled = index.settled(entry);
        }
        if let Some(previous) = &mut self.previous
            && settled
            && previous.link(entry, &self.shared.writer)
        {
            count(&self.shared.counts.unchanged, 1);
            count(&self.shared.counts.size, entry.size);
            self.shared.done(0);
            return Ok(());
        }
        self.sync_source()?;
        if entry.path.as_bytes().len() > LONG_PATH {
            return self.shared.copy_file(job);
        }
        self.queue.send(job).map_err(|_| TreeError::Cancelled)
    }

    /// A page that a program has mapped and written to stays writable, without a change of ctime, until it is
    /// written back. Writing back everything before the first copy makes every later change show in ctime.
    fn sync_source(&mut self) -> TreeResult<()> {
        if self.index.is_some() && !self.synced {
            rustix::fs::syncfs(&*self.shared.root)
                .map_err(|e| TreeError::io("sync the file system of", &RelPath::root(), e))?;
            self.synced = true;
        }
        Ok(())
    }

    fn other(&mut self, mut found: WalkEntry) -> TreeResult<()> {
        match found.read_xattrs() {
            Ok(()) => {}
            Err(e) if gone(&e) && !found.entry.is_dir() => {
                self.first.remove(&NodeId { dev: found.entry.dev, ino: found.entry.ino });
                self.shared.vanished();
                return Ok(());
            }
            // A directory that is going away: its entry still has to carry what was found in it.
            Err(e) if gone(&e) => {}
            Err(e) => return Err(TreeError::io("read the extended attributes of", &found.entry.path, e)),
        }
        self.shared.unread(&found.entry);
        self.shared.writer.create(&found.entry)?;
        self.shared.done(0);
        Ok(())
    }
}
