//! Where a file has data, and where it has holes.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// The parts of an open file between `start` and `end` that may hold something else than zeros, in order, as
/// byte ranges.
///
/// A file system that knows no holes gives the whole range. Moves the file's position.
pub fn data_extents(file: &File, range: Range<u64>) -> DataExtents<'_> {
    DataExtents { file, at: range.start, end: range.end }
}

/// The ranges of a file that have data: see [`data_extents`].
#[derive(Debug)]
pub struct DataExtents<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl DataExtents<'_> {
    fn advance(&mut self) -> io::Result<Option<Range<u64>>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let start = match rustix::fs::seek(self.file, SeekFrom::Data(self.at)) {
            // Nothing but a hole from here on, or the file has become shorter.
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL) => self.at,
            other => other?,
        };
        if start >= self.end {
            return Ok(None);
        }
        let stop = match rustix::fs::seek(self.file, SeekFrom::Hole(start)) {
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL) => self.end,
            other => other?.min(self.end),
        };
        self.at = stop;
        Ok(Some(start..stop))
    }
}

impl Iterator for DataExtents<'_> {
    type Item = io::Result<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance().transpose();
        if matches!(item, None | Some(Err(_))) {
            self.at = self.end;
        }
        item
    }
}
