//! Large files: one thread reads ahead, the walk cuts, and the chunks are parts of what was read, not copies.
//!
//! Where a file is cut follows from the bytes since the cut before, so what has not changed is cut as it was.
//! To find that out is to hash it, which has to be done anyway, and is less work than to look for the cut.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use convoy_tree::{RelPath, WalkEntry, data_extents};
use crossbeam_channel::bounded;
use fastcdc::v2020::FastCDC;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use parking_lot::Mutex;

use super::ctx::{ByteBudget, BytePermit, Ctx};
use super::page_cache::was_read;
use crate::error::{BackupError, BackupResult};
use crate::format::wire::Piece;
use crate::format::{ChunkId, ChunkRef};

/// Bytes of a file that are read at once. At least as many as the largest chunk has, and at most a third of
/// the least budget.
const BUFFER: usize = 4 << 20;
/// A file of so many bytes is worth a thread that reads ahead.
const AHEAD: u64 = 2 * BUFFER as u64;

/// Where a file is cut, by its size: small chunks where a change should cost little, larger ones where there
/// would be too many of them. The least, the average and the most bytes of a chunk.
pub(crate) fn cuts(size: u64) -> (usize, usize, usize) {
    let average = match size {
        0..=0x2_0000_0000 => 256 << 10,
        0x2_0000_0001..=0x40_0000_0000 => 1 << 20,
        _ => 2 << 20,
    };
    (average / 4, average, average * 2)
}

/// Memory for what was read. It is used again: the kernel would have to clear new memory each time.
#[derive(Debug)]
pub(crate) struct Buffers {
    budget: Arc<ByteBudget>,
    unused: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(crate) fn new(budget: Arc<ByteBudget>) -> Arc<Self> {
        Arc::new(Self { budget, unused: Mutex::default() })
    }

    fn take(self: &Arc<Self>, len: usize, ctx: &Ctx) -> BackupResult<Buffer> {
        let taken = self.budget.take(BUFFER, ctx)?;
        let mut bytes = self.unused.lock().pop().unwrap_or_default();
        bytes.resize(len, 0);
        Ok(Buffer { bytes, buffers: Arc::clone(self), _taken: taken })
    }
}

/// Memory that is given back when nothing needs what is in it any more.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    buffers: Arc<Buffers>,
    _taken: BytePermit,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.buffers.unused.lock().push(std::mem::take(&mut self.bytes));
    }
}

/// A chunk of a file.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Where in the file.
    pub(crate) at: u64,
    /// Its hash, if the parent backup has it.
    pub(crate) id: Option<ChunkId>,
    buffer: Arc<Buffer>,
    range: Range<usize>,
}

impl Chunk {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

/// What was read with one call or a few: `read` of the buffer, from `at` in the file on. There is room for a
/// chunk before it.
struct Part {
    buffer: Buffer,
    read: Range<usize>,
    at: u64,
    /// A hole follows, or the end.
    last: bool,
}

/// Reads a file where it has data, and cuts it; gives the chunks in order. `earlier` is what the parent
/// backup has of it, in order.
pub(crate) fn read(
    ctx: &Ctx,
    buffers: &Arc<Buffers>,
    found: &WalkEntry,
    earlier: &[Piece],
    mut give: impl FnMut(Chunk) -> BackupResult<()>,
) -> BackupResult<()> {
    let path = &found.entry.path;
    let failed = |e| BackupError::io("read", path, e);
    let (file, opened) = found.open().map_err(failed)?;
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
    let cuts = cuts(opened.size);
    let reader = Reader { ctx, buffers, file: &file, path, size: opened.size, before: cuts.2 };
    let mut cutter =
        Cutter { ctx, cuts, earlier: Earlier { pieces: earlier, size: opened.size }, rest: None };
    if opened.size < AHEAD {
        reader.read(&mut |part| cutter.cut(part, &mut give))?;
    } else {
        std::thread::scope(|scope| {
            let (parts, queue) = bounded(1);
            let reader = scope
                .spawn(move || reader.read(&mut |part| parts.send(part).map_err(|_| BackupError::Cancelled)));
            let cut = queue.iter().try_for_each(|part| cutter.cut(part, &mut give));
            drop(queue);
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // Of a cut that failed the reader knows only that nobody listens.
            cut.and(read)
        })?;
    }
    let now = found.restat(&file).map_err(failed)?;
    if (now.size, now.mtime) != (found.entry.size, found.entry.mtime) {
        return Err(BackupError::SourceChanged { path: path.to_string() });
    }
    Ok(())
}

struct Reader<'a> {
    ctx: &'a Ctx,
    buffers: &'a Arc<Buffers>,
    file: &'a File,
    path: &'a RelPath,
    size: u64,
    /// Bytes to leave free before what is read.
    before: usize,
}

impl Reader<'_> {
    fn read(&self, give: &mut dyn FnMut(Part) -> BackupResult<()>) -> BackupResult<()> {
        let failed = |e| BackupError::io("read", self.path, e);
        for extent in data_extents(self.file, 0..self.size) {
            let extent = extent.map_err(failed)?;
            let mut at = extent.start;
            while at < extent.end {
                self.ctx.check()?;
                let mut buffer = self.buffers.take(self.before + BUFFER, self.ctx)?;
                let wanted = usize::try_from(extent.end - at).unwrap_or(BUFFER).min(BUFFER);
                let read = self.before..self.before + wanted;
                let mut to = buffer.bytes.get_mut(read.clone()).unwrap_or_default();
                let from = at;
                while !to.is_empty() {
                    let got = self.file.read_at(to, at).map_err(failed)?;
                    if got == 0 {
                        return Err(BackupError::SourceChanged { path: self.path.to_string() });
                    }
                    was_read(self.file, at, got);
                    at += got as u64;
                    to = to.split_at_mut(got).1;
                }
                give(Part { buffer, read, at: from, last: at == extent.end })?;
            }
        }
        Ok(())
    }
}

/// Where the parent backup has cut the file.
struct Earlier<'a> {
    /// Those not passed yet.
    pieces: &'a [Piece],
    /// Bytes of the file as it is now.
    size: u64,
}

impl Earlier<'_> {
    /// What began at this place, if it ended where its bytes said: not where the file did, or its data.
    /// Places are asked for in order.
    fn at(&mut self, at: u64) -> Option<&ChunkRef> {
        while let Some((_, passed)) = self.pieces.split_first().filter(|(piece, _)| piece.0 < at) {
            self.pieces = passed;
        }
        let (first, next) = self.pieces.split_first().filter(|(piece, _)| piece.0 == at)?;
        let end = at + u64::from(first.1.len);
        let cut = next.first().map_or(self.size, |piece| piece.0) == end;
        cut.then_some(&first.1)
    }
}

struct Cutter<'a> {
    ctx: &'a Ctx,
    cuts: (usize, usize, usize),
    earlier: Earlier<'a>,
    /// What the end of a part cut short. It is cut again with more behind it.
    rest: Option<(Arc<Buffer>, Range<usize>)>,
}

impl Cutter<'_> {
    fn cut(&mut self, part: Part, give: &mut impl FnMut(Chunk) -> BackupResult<()>) -> BackupResult<()> {
        let Part { mut buffer, mut read, mut at, last } = part;
        if let Some((before, rest)) = self.rest.take() {
            // Shorter than a chunk can be: there is room for it.
            let start = read.start - rest.len();
            buffer.bytes[start..read.start].copy_from_slice(&before.bytes[rest.clone()]);
            at -= rest.len() as u64;
            read.start = start;
        }
        let buffer = Arc::new(buffer);
        let (least, average, most) = self.cuts;
        let data = &buffer.bytes[read.clone()];
        let cutter = FastCDC::new(data, least, average, most);
        let mut start = 0;
        while start < data.len() && (last || data.len() - start >= most) {
            let here = at + start as u64;
            let known = self.known(here, &data[start..]);
            let end = match known {
                Some((len, _)) => start + len,
                None => cutter.cut(start, data.len() - start).1,
            };
            let range = read.start + start..read.start + end;
            give(Chunk { at: here, id: known.map(|(_, id)| id), buffer: Arc::clone(&buffer), range })?;
            start = end;
        }
        if start < data.len() {
            self.rest = Some((Arc::clone(&buffer), read.start + start..read.end));
        }
        Ok(())
    }

    /// How long the chunk at this place is, and its hash, if it is that of the parent backup.
    fn known(&mut self, at: u64, data: &[u8]) -> Option<(usize, ChunkId)> {
        let chunk = self.earlier.at(at)?;
        let len = usize::try_from(chunk.len).ok().filter(|len| (1..=self.cuts.2).contains(len))?;
        (self.ctx.crypt.hash(data.get(..len)?) == chunk.id).then_some((len, chunk.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ChunkLocation, Encoding, PackId};
    use convoy_tree::{Found, WalkOptions, walk};
    use rand::{Rng, RngExt, SeedableRng};

    /// The chunks of a file with this content, as they are read.
    fn chunks(
        ctx: &Ctx,
        content: &[(u64, &[u8])],
        size: u64,
        earlier: &[Piece],
    ) -> Vec<(u64, Vec<u8>, Option<ChunkId>)> {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("file")).unwrap();
        file.set_len(size).unwrap();
        content.iter().for_each(|(at, data)| file.write_all_at(data, *at).unwrap());
        let found = walk(dir.path(), WalkOptions::default()).unwrap().find_map(|found| match found {
            Ok(Found::Entry(entry)) if entry.entry.is_file() => Some(entry),
            _ => None,
        });
        // As little as there ever is. Others hold chunks for a while, and in the end give all of them back.
        let budget = ByteBudget::new(12 << 20);
        let buffers = Buffers::new(Arc::clone(&budget));
        let (taken, held) = bounded::<Chunk>(8);
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                held.iter().map(|chunk| (chunk.at, chunk.bytes().to_vec(), chunk.id)).collect::<Vec<_>>()
            });
            read(ctx, &buffers, &found.unwrap(), earlier, |chunk| {
                taken.send(chunk).unwrap();
                Ok(())
            })
            .unwrap();
            drop(taken);
            let chunks = reading.join().unwrap();
            assert_eq!(budget.take(12 << 20, ctx).map(drop).ok(), Some(()), "all memory was given back");
            chunks
        })
    }

    /// What needs a store, which nothing is put into.
    async fn context() -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(convoy_objectstore::DirectoryStore::open(dir.path()).await.unwrap());
        (dir, Ctx::for_test(store))
    }

    /// How a whole file in memory is cut.
    fn whole(data: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let (least, average, most) = cuts(data.len() as u64);
        FastCDC::new(data, least, average, most)
            .map(|chunk| (chunk.offset as u64, data[chunk.offset..chunk.offset + chunk.length].to_vec()))
            .collect()
    }

    /// What a backup of a file that is cut like this has of it.
    fn pieces(ctx: &Ctx, chunks: &[(u64, Vec<u8>)]) -> Vec<Piece> {
        let place =
            ChunkLocation { pack: PackId { run: 1, seq: 1 }, offset: 0, stored: 1, encoding: Encoding::Raw };
        let piece = |(at, data): &(u64, Vec<u8>)| {
            (*at, ChunkRef { id: ctx.crypt.hash(data), len: u32::try_from(data.len()).unwrap(), place })
        };
        chunks.iter().map(piece).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn chunks_are_those_of_the_whole_file_however_it_is_read() {
        let (_dir, ctx) = context().await;
        let mut random = rand::rngs::StdRng::seed_from_u64(1);
        let mut data = vec![0; 30 << 20];
        random.fill_bytes(&mut data);
        // Where nothing changes nothing is cut but at the most that a chunk may have.
        data[9 << 20..14 << 20].fill(7);
        let at_edges = [BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER - 1, 2 * BUFFER, 3 * BUFFER + 5];
        for size in at_edges.into_iter().chain([300 << 10, 30 << 20]) {
            let data = &data[..size];
            let expected = whole(data);
            let found = tokio::task::block_in_place(|| chunks(&ctx, &[(0, data)], size as u64, &[]));
            let found: Vec<_> = found.into_iter().map(|(at, data, _)| (at, data)).collect();
            assert!(found == expected, "{size}: {} chunks, not {}", found.len(), expected.len());
        }
        // Holes are not read, and end a chunk.
        let (one, two) = (&data[..5 << 20], &data[5 << 20..18 << 20]);
        let parts = [(0, one), (16 << 20, two)];
        let found = tokio::task::block_in_place(|| chunks(&ctx, &parts, 64 << 20, &[]));
        let joined = |from: u64, to: u64| -> Vec<u8> {
            found
                .iter()
                .filter(|(at, ..)| (from..to).contains(at))
                .flat_map(|(_, data, _)| data.clone())
                .collect()
        };
        assert!(joined(0, 16 << 20) == one && joined(16 << 20, 64 << 20) == two);
        assert!(found.iter().any(|(at, data, _)| at + data.len() as u64 == 5 << 20));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_the_parent_has_is_recognized_and_the_rest_cut_as_ever() {
        let (_dir, ctx) = context().await;
        let mut random = rand::rngs::StdRng::seed_from_u64(2);
        let mut old = vec![0; 24 << 20];
        random.fill_bytes(&mut old);
        old[6 << 20..9 << 20].fill(7);
        let cut = |new: &[u8], earlier: &[Piece]| {
            let found = tokio::task::block_in_place(|| chunks(&ctx, &[(0, new)], new.len() as u64, earlier));
            let (mut plain, mut known) = (Vec::new(), Vec::new());
            for (at, data, id) in found {
                assert!(id.is_none_or(|id| id == ctx.crypt.hash(&data)), "a wrong hash at {at}");
                known.extend(id.map(|_| at));
                plain.push((at, data));
            }
            assert!(plain == whole(new), "cut otherwise");
            known
        };
        let before = whole(&old);
        let earlier = pieces(&ctx, &before);
        assert_eq!(cut(&old, &earlier).len(), before.len());
        for round in 0..12 {
            let mut new = old.clone();
            for _ in 0..=round {
                let at = random.random_range(0..new.len());
                let end = new.len().min(at + random.random_range(1..200_000));
                random.fill_bytes(&mut new[at..end]);
            }
            // Some grow, some become shorter: where the file ended was no cut.
            let mut more = vec![0; 300 << 10];
            random.fill_bytes(&mut more);
            match round % 3 {
                0 => new.extend(more),
                1 => new.truncate(old.len() - (300 << 10)),
                _ => {}
            }
            let same = before.iter().filter(|(at, data)| {
                let at = usize::try_from(*at).unwrap();
                new.get(at..at + data.len()) == Some(&data[..])
            });
            // But for the last, and for one behind a change, which begins elsewhere now and then.
            let known = cut(&new, &earlier).len();
            assert!(
                known + 2 * round + 3 >= same.clone().count() && known <= same.count(),
                "{round}: {known}"
            );
        }
        // What is said to be there, and is not, has no effect.
        let mut lies = earlier.clone();
        for (number, (at, chunk)) in lies.iter_mut().enumerate() {
            match number % 5 {
                0 => chunk.id = [9; 32],
                1 => chunk.len = u32::MAX,
                2 => chunk.len = 0,
                3 => *at += 1,
                _ => {}
            }
        }
        cut(&old, &lies);
        lies.reverse();
        assert_eq!(cut(&old, &lies), Vec::<u64>::new());
    }
}
