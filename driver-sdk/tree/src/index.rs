//! What a copy of a tree remembers of the files it was made from, to know at the next copy which have not changed.
//!
//! A text file: a header, then one JSON line per regular file in the order of a walk. It is written and read as a
//! stream, so a million files take no memory; where it is damaged or cut off, files simply count as changed.
//!
//! Whether a file changed is told by inode, size, mtime and ctime. No program can set ctime, so a file changed in place
//! whose mtime was set back is noticed. What the clock of the file system cannot tell apart is not put into the index: a file whose
//! ctime is not clearly before the start of the copy may change again within the same tick.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dir::stat_fd;
use crate::entry::{Entry, Timestamp};
use crate::error::{TreeError, TreeResult};
use crate::path::RelPath;

const VERSION: u32 = 1;
/// File systems of Linux stamp with the timer tick, at most 10 ms; NFS servers and network delays ask for more.
const MARGIN_NS: u64 = 100_000_000;
/// Where stamps are whole seconds (or two, as on FAT).
const COARSE_MARGIN_NS: u64 = 2_100_000_000;

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
    /// Files changed before this moment can be told from files changed later.
    settled: Timestamp,
}

impl IndexWriter {
    /// Starts an index, at the moment from which the file system's clock counts.
    pub(crate) fn create(path: &Path) -> TreeResult<Self> {
        let start = || -> io::Result<Self> {
            let file = File::create_new(path)?;
            let now: Timestamp = stat_fd(&file)?.stx_ctime.into();
            let margin = if now.nsec == 0 { COARSE_MARGIN_NS } else { MARGIN_NS };
            let mut index = Self { out: BufWriter::new(file), settled: now.minus_ns(margin) };
            index.line(&Header { convoy_tree_index: VERSION })?;
            Ok(index)
        };
        start().map_err(|e| TreeError::at("create the index", path, e))
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    pub(crate) fn add(&mut self, entry: &Entry) -> TreeResult<()> {
        if entry.ctime >= self.settled || entry.path.as_bytes().len() > LONGEST {
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
}

impl IndexReader {
    /// Opens an index; none when it cannot be used, which only means that everything is copied.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        let mut lines = BufReader::new(File::open(path).ok()?).split(b'\n');
        let header: Header = serde_json::from_slice(&lines.next()?.ok()?).ok()?;
        if header.convoy_tree_index != VERSION {
            return None;
        }
        let mut reader = Self { lines, current: None };
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
        })
    }
}
