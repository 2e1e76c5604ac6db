//! What a copy of a tree remembers of the files it was made from, to know at the next copy which have not
//! changed.
//!
//! A text file: a header, then one JSON line per regular file in the order of a walk. It is written and read
//! as a stream, so a million files take no memory; where it is damaged or cut off, files simply count as
//! changed.
//!
//! Whether a file changed is told by inode, size, mtime and ctime. No program can set ctime, so a file
//! changed in place whose mtime was set back is noticed. What the clock of the file system that holds the file
//! cannot tell apart ([`FileClock`]) is not put into the index, and is not trusted when it is found in one.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::{FileClock, kernel_now};
use crate::dir::Dir;
use crate::entry::{Entry, Timestamp};
use crate::error::{TreeError, TreeResult};
use crate::path::RelPath;

const VERSION: u32 = 2;
/// It took the index's own file system for that of the files: what it has with whole seconds is not trusted.
const WRONG_CLOCK: u32 = 1;

/// Files with a longer path are not put into the index: many in one deep directory would make it larger than
/// themselves. They are copied each time.
const LONGEST: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Header {
    convoy_tree_index: u32,
}

#[derive(Serialize, Deserialize)]
struct Record {
    path: RelPath,
    ino: u64,
    size: u64,
    mtime: Timestamp,
    ctime: Timestamp,
}

pub(crate) struct IndexWriter {
    out: BufWriter<File>,
    clock: FileClock,
}

impl IndexWriter {
    /// Starts an index of the tree at `root`, which is read from now on.
    pub(crate) fn create(path: &Path, root: &Arc<Dir>) -> TreeResult<Self> {
        let now = kernel_now();
        let file = File::create_new(path).map_err(|e| TreeError::at("create the index", path, e))?;
        let clock = FileClock::of(root, Some(&file), now)?;
        let mut index = Self { out: BufWriter::new(file), clock };
        index
            .line(&Header { convoy_tree_index: VERSION })
            .map_err(|e| TreeError::at("create the index", path, e))?;
        Ok(index)
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    /// Whether the times of `entry` tell whether it changes from now on.
    pub(crate) fn settled(&self, entry: &Entry) -> bool {
        self.clock.settled(entry.ctime)
    }

    pub(crate) fn add(&mut self, entry: &Entry) -> TreeResult<()> {
        if !self.settled(entry) || entry.path.as_bytes().len() > LONGEST {
            return Ok(());
        }
        let Entry { path, ino, size, mtime, ctime, .. } = entry.clone();
        self.line(&Record { path, ino, size, mtime, ctime })
            .map_err(|e| TreeError::io("index", &entry.path, e))
    }

    pub(crate) fn finish(mut self, path: &Path) -> TreeResult<()> {
        self.out.flush().map_err(|e| TreeError::at("write the index", path, e))
    }
}

/// Reads an index side by side with a walk.
pub(crate) struct IndexReader {
    lines: io::Split<BufReader<File>>,
    current: Option<Record>,
    version: u32,
}

impl IndexReader {
    /// Opens an index; none when it cannot be used, which only means that everything is copied.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        let mut lines = BufReader::new(File::open(path).ok()?).split(b'\n');
        let header: Header = serde_json::from_slice(&lines.next()?.ok()?).ok()?;
        let version = header.convoy_tree_index;
        if ![WRONG_CLOCK, VERSION].contains(&version) {
            return None;
        }
        let mut reader = Self { lines, current: None, version };
        reader.advance();
        Some(reader)
    }

    fn advance(&mut self) {
        // A damaged line does not read as a record: the rest counts as unknown.
        self.current =
            self.lines.next().and_then(Result::ok).and_then(|line| serde_json::from_slice(&line).ok());
    }

    /// Whether the file is known and has not changed. Must be asked in the order of a walk.
    pub(crate) fn unchanged(&mut self, entry: &Entry) -> bool {
        while self.current.as_ref().is_some_and(|record| record.path < entry.path) {
            self.advance();
        }
        self.current.as_ref().is_some_and(|record| {
            record.path == entry.path
                && record.ino == entry.ino
                && record.size == entry.size
                && record.mtime == entry.mtime
                && record.ctime == entry.ctime
                && (self.version != WRONG_CLOCK || record.ctime.nsec != 0)
        })
    }
}
