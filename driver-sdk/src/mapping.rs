//! Where the blocks of a file are (`FIEMAP`): what of an image is in use, and what differs between two images
//! that share blocks.
//!
//! # Why the comparison is right
//!
//! A physical block has one content. If two files of one file system map a range to the same physical blocks
//! *now*, a reader finds the same bytes in both *now*, whatever their history; if one has no block there (a
//! hole, or blocks that were never written) and the other none either, both read as zeros. Only such ranges
//! count as unchanged. It takes four things, and where one is missing the range counts as changed, or the
//! whole comparison is given up:
//!
//! - **The maps are final.** What is only in the page cache has no block yet, or keeps an old one until it is
//!   written out. Both files are written out first (`FIEMAP_FLAG_SYNC`), and an extent whose place the kernel
//!   calls delayed or unknown counts as changed.
//! - **The block holds plain bytes.** Two files can use different parts of one compressed extent and report
//!   the same place for it (btrfs), and a small file may lie within metadata. Extents that are encoded,
//!   encrypted, inline or not aligned count as changed.
//! - **Nobody writes either file, or moves its blocks, while both maps are read.** That is the caller's part
//!   for writing: compare snapshots. For moving (`xfs_fsr`, `btrfs balance`, deduplication) the base is
//!   mapped a second time, after the other: if a block of it has moved, it may have been used anew between
//!   the two looks, and the comparison is given up.
//! - **The places are on one device.** Files of two file systems are not compared. XFS with a realtime device
//!   has two address spaces; files there cannot share blocks with files of the other, but they can have equal
//!   numbers: do not mix both in what you compare.

#![allow(unsafe_code, reason = "FIEMAP has no safe call")]

use crate::protocol::{Extent, Extents, ListExtents};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

const FIEMAP: Opcode = opcode::read_write::<Header>(b'f', 11);

/// Flags of requests and extents, from `linux/fiemap.h`.
const SYNC: u32 = 0x1;
const LAST: u32 = 0x1;
const UNWRITTEN: u32 = 0x800;
const MERGED: u32 = 0x1000;
const SHARED: u32 = 0x2000;

/// Extents asked for at a time.
const BATCH: usize = 256;
/// Extents in a page, if the caller does not say how many.
const PAGE: usize = 10_000;

/// `struct fiemap` without its extents.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
}

/// One extent as the kernel gives it: `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Raw {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Batch {
    header: Header,
    extents: [Raw; BATCH],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At this byte of the device.
    At(u64),
    /// It has blocks, which were never written: it reads as zeros.
    Unwritten,
    /// It has content, and its place says nothing about it.
    Unsure,
}

/// A piece of a file that has blocks. What no piece covers is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    offset: u64,
    length: u64,
    place: Place,
}

impl Piece {
    fn new(raw: &Raw) -> Self {
        let place = if raw.flags & !(LAST | UNWRITTEN | MERGED | SHARED) != 0 {
            Place::Unsure
        } else if raw.flags & UNWRITTEN != 0 {
            Place::Unwritten
        } else {
            Place::At(raw.physical)
        };
        Self { offset: raw.logical, length: raw.length, place }
    }

    fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }

    /// The place of a byte within it.
    fn at(&self, offset: u64) -> Place {
        match self.place {
            Place::At(physical) => Place::At(physical.saturating_add(offset - self.offset)),
            other => other,
        }
    }
}

/// What is in use, or what differs from a base: both sorted, without overlaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ranges {
    /// With content, or with changed content.
    pub extents: Vec<Extent>,
    /// With content in the base, and zeros now.
    pub discarded: Vec<Extent>,
}

impl Ranges {
    /// What `snapshot.extents` answers: extents from a byte on, both kinds in step. What is not in this page
    /// begins at `next` or later.
    pub fn page(&self, request: &ListExtents) -> Extents {
        let limit = request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE).max(1);
        let take = |ranges: &[Extent]| -> Vec<Extent> {
            let begin = ranges.partition_point(|extent| extent.offset < request.from);
            ranges.iter().skip(begin).take(limit + 1).copied().collect()
        };
        let (mut extents, mut discarded) = (take(&self.extents), take(&self.discarded));
        let mut offsets: Vec<u64> = extents.iter().chain(&discarded).map(|extent| extent.offset).collect();
        offsets.sort_unstable();
        let next = offsets.get(limit).copied();
        if let Some(next) = next {
            extents.retain(|extent| extent.offset < next);
            discarded.retain(|extent| extent.offset < next);
        }
        Extents::new(extents).discarded(discarded).next(next)
    }
}

/// The ranges of a file that have content; all others read as zeros.
///
/// # Errors
/// When the file system has no `FIEMAP`, or the file cannot be read.
pub fn in_use(file: &File) -> io::Result<Ranges> {
    Ok(compare(&[], &map(file)?, file.metadata()?.len()))
}

/// What differs between two files that nobody writes meanwhile; `None` if it cannot be told: then everything
/// in use may differ.
pub fn changes(base: &File, file: &File) -> io::Result<Option<Ranges>> {
    let (old, new) = (base.metadata()?, file.metadata()?);
    if old.dev() != new.dev() {
        return Ok(None);
    }
    let before = map(base)?;
    let now = map(file)?;
    // See above: a base whose blocks move may have lent them to the other.
    if map(base)? != before {
        return Ok(None);
    }
    Ok(Some(compare(&before, &now, new.len())))
}

/// Every piece of a file, sorted, after writing it out.
fn map(file: &File) -> io::Result<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    let count = u32::try_from(BATCH).unwrap_or(u32::MAX);
    let mut batch = Box::new(Batch {
        header: Header { start: 0, length: u64::MAX, flags: SYNC, mapped: 0, count, reserved: 0 },
        extents: [Raw::default(); BATCH],
    });
    loop {
        // SAFETY: the opcode is `FS_IOC_FIEMAP`, which takes a `struct fiemap` followed by as many
        // `struct fiemap_extent` as its member `fm_extent_count` says: those of `batch`.
        unsafe { ioctl(file, Updater::<FIEMAP, Batch>::new(&mut batch)) }?;
        let found = usize::try_from(batch.header.mapped).unwrap_or(BATCH).min(BATCH);
        pieces.extend(batch.extents[..found].iter().map(Piece::new));
        let end = pieces.last().map_or(0, Piece::end);
        let last = batch.extents[..found].last().is_none_or(|raw| raw.flags & LAST != 0);
        if last || end <= batch.header.start {
            return Ok(pieces);
        }
        batch.header.start = end;
        batch.header.length = u64::MAX - end;
        batch.header.mapped = 0;
    }
}

/// Goes through two maps side by side.
fn compare(base: &[Piece], file: &[Piece], size: u64) -> Ranges {
    let mut cuts: Vec<u64> = base.iter().chain(file).flat_map(|piece| [piece.offset, piece.end()]).collect();
    cuts.retain(|cut| *cut < size);
    cuts.push(size);
    cuts.sort_unstable();
    cuts.dedup();
    let (mut old, mut new) = (Cursor::new(base), Cursor::new(file));
    let mut ranges = Ranges::default();
    for (from, to) in cuts.iter().zip(cuts.iter().skip(1)) {
        let (was, is) = (old.at(*from), new.at(*from));
        let zeros = |place: Option<Place>| matches!(place, None | Some(Place::Unwritten));
        match (was, is) {
            (was, is) if zeros(was) && zeros(is) => {}
            (Some(Place::At(was)), Some(Place::At(is))) if was == is => {}
            (_, is) if zeros(is) => add(&mut ranges.discarded, *from, *to),
            _ => add(&mut ranges.extents, *from, *to),
        }
    }
    ranges
}

fn add(ranges: &mut Vec<Extent>, from: u64, to: u64) {
    match ranges.last_mut() {
        Some(last) if last.offset + last.length == from => last.length = to - last.offset,
        _ => ranges.push(Extent { offset: from, length: to - from }),
    }
}

/// Finds the piece at a byte, for bytes that only grow.
struct Cursor<'a> {
    pieces: &'a [Piece],
}

impl<'a> Cursor<'a> {
    fn new(pieces: &'a [Piece]) -> Self {
        Self { pieces }
    }

    fn at(&mut self, offset: u64) -> Option<Place> {
        while let [first, rest @ ..] = self.pieces
            && first.end() <= offset
        {
            self.pieces = rest;
        }
        self.pieces.first().filter(|piece| piece.offset <= offset).map(|piece| piece.at(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: u64 = 4096;
    const BLOCKS: usize = 24;

    /// A file as its blocks: where each is, if anywhere.
    type Blocks = Vec<Option<Place>>;

    fn blocks() -> impl Strategy<Value = Blocks> {
        let place = prop_oneof![
            2 => Just(None),
            4 => (0u64..40).prop_map(|block| Some(Place::At(block * BLOCK))),
            1 => Just(Some(Place::Unwritten)),
            1 => Just(Some(Place::Unsure)),
        ];
        proptest::collection::vec(place, 0..BLOCKS)
    }

    /// As the kernel would say it: joined where they follow each other, sometimes.
    fn pieces(blocks: &Blocks, join: bool) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for (block, place) in blocks.iter().enumerate() {
            let Some(place) = *place else { continue };
            let offset = block as u64 * BLOCK;
            match pieces.last_mut() {
                Some(last) if join && last.end() == offset && last.at(offset) == place => {
                    last.length += BLOCK
                }
                _ => pieces.push(Piece { offset, length: BLOCK, place }),
            }
        }
        pieces
    }

    fn covered(ranges: &[Extent], block: usize) -> bool {
        let at = block as u64 * BLOCK;
        ranges.iter().any(|extent| extent.offset <= at && at < extent.offset + extent.length)
    }

    fn sorted(ranges: &[Extent]) -> bool {
        ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| a.offset + a.length < b.offset)
    }

    proptest! {
        #[test]
        fn every_block_is_judged_as_if_alone(base in blocks(), file in blocks(), join: [bool; 2], size in 0..=BLOCKS) {
            let found = compare(&pieces(&base, join[0]), &pieces(&file, join[1]), size as u64 * BLOCK);
            prop_assert!(sorted(&found.extents) && sorted(&found.discarded));
            for block in 0..BLOCKS {
                let (was, is) = (base.get(block).copied().flatten(), file.get(block).copied().flatten());
                let (zeros_before, zeros_now) =
                    (matches!(was, None | Some(Place::Unwritten)), matches!(is, None | Some(Place::Unwritten)));
                let same = (zeros_before && zeros_now) || (was == is && matches!(is, Some(Place::At(_))));
                let within = block < size;
                prop_assert_eq!(covered(&found.extents, block), within && !same && !zeros_now, "{}", block);
                prop_assert_eq!(covered(&found.discarded, block), within && !same && zeros_now, "{}", block);
            }
        }

        #[test]
        fn pages_put_together_are_the_whole(kinds in proptest::collection::vec(0u8..3, 0..60), limit in 1u32..7) {
            let ranges = |wanted: u8| -> Vec<Extent> {
                let blocks = kinds.iter().enumerate().filter(|(_, kind)| **kind == wanted);
                blocks.map(|(block, _)| Extent { offset: block as u64 * 8, length: 4 }).collect()
            };
            let whole = Ranges { extents: ranges(1), discarded: ranges(2) };
            let (mut got, mut from) = (Ranges::default(), 0);
            loop {
                let request = ListExtents::new(String::new()).from(from).limit(Some(limit));
                let page = whole.page(&request);
                prop_assert!(page.extents.len() + page.discarded.len() <= limit as usize);
                got.extents.extend(page.extents);
                got.discarded.extend(page.discarded);
                match page.next {
                    Some(next) => {
                        prop_assert!(next > from || from == 0);
                        from = next;
                    }
                    None => break,
                }
            }
            prop_assert_eq!(got, whole);
        }
    }
}
