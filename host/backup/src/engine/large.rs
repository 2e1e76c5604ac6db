//! Large files: one thread reads ahead, the walk cuts, and the chunks are parts of what was read, not copies.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use convoy_tree::{RelPath, WalkEntry, data_extents};
use crossbeam_channel::bounded;
use fastcdc::v2020::FastCDC;

use super::behind::was_read;
use super::ctx::{Ctx, Room, Taken, lock};
use crate::error::{BackupError, BackupResult};

/// Bytes of a file that are read at once. At least as many as the largest chunk has, and at most a third of the least room.
const BUFFER: usize = 4 << 20;
/// A file of so many bytes is worth a thread that reads ahead.
const AHEAD: u64 = 2 * BUFFER as u64;

/// Where a file is cut, by its size: small chunks where a change should cost little, larger ones where there would be too many of them.
/// The least, the average and the most bytes of a chunk.
fn cuts(size: u64) -> (usize, usize, usize) {
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
    room: Arc<Room>,
    unused: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(crate) fn new(room: Arc<Room>) -> Arc<Self> {
        Arc::new(Self { room, unused: Mutex::default() })
    }

    fn take(self: &Arc<Self>, len: usize, ctx: &Ctx) -> BackupResult<Buffer> {
        let taken = self.room.take(BUFFER, ctx)?;
        let mut bytes = lock(&self.unused).pop().unwrap_or_default();
        bytes.resize(len, 0);
        Ok(Buffer { bytes, buffers: Arc::clone(self), _taken: taken })
    }
}

/// Memory that is given back when nothing needs what is in it any more.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    buffers: Arc<Buffers>,
    _taken: Taken,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        lock(&self.buffers.unused).push(std::mem::take(&mut self.bytes));
    }
}

/// A chunk of a file.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Where in the file.
    pub(crate) at: u64,
    buffer: Arc<Buffer>,
    range: Range<usize>,
}

impl Chunk {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

/// What was read with one call or a few: `read` of the buffer, from `at` in the file on. There is room for a chunk before it.
struct Part {
    buffer: Buffer,
    read: Range<usize>,
    at: u64,
    /// A hole follows, or the end.
    last: bool,
}

/// Reads a file where it has data, and cuts it; gives the chunks in order.
pub(crate) fn read(
    ctx: &Ctx,
    buffers: &Arc<Buffers>,
    found: &WalkEntry,
    mut give: impl FnMut(Chunk) -> BackupResult<()>,
) -> BackupResult<()> {
    let path = &found.entry.path;
    let failed = |e| BackupError::io("read", path, e);
    let (file, opened) = found.open().map_err(failed)?;
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
    let cuts = cuts(opened.size);
    let reader = Reader { ctx, buffers, file: &file, path, size: opened.size, before: cuts.2 };
    let mut cutter = Cutter { cuts, rest: None };
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

struct Cutter {
    cuts: (usize, usize, usize),
    /// What the end of a part cut short. It is cut again with more behind it.
    rest: Option<(Arc<Buffer>, Range<usize>)>,
}

impl Cutter {
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
        let mut cut = 0;
        for chunk in FastCDC::new(data, least, average, most) {
            if !last && data.len() - chunk.offset < most {
                break;
            }
            cut = chunk.offset + chunk.length;
            let range = read.start + chunk.offset..read.start + cut;
            give(Chunk { at: at + chunk.offset as u64, buffer: Arc::clone(&buffer), range })?;
        }
        if cut < data.len() {
            self.rest = Some((Arc::clone(&buffer), read.start + cut..read.end));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypt::Crypt;
    use crate::layout::VolumeDir;
    use crate::progress::Progress;
    use convoy_tree::{Found, WalkOptions, walk};
    use rand::{Rng, SeedableRng};
    use tokio_util::sync::CancellationToken;

    /// The chunks of a file with this content, as they are read.
    fn chunks(ctx: &Ctx, content: &[(u64, &[u8])], size: u64) -> Vec<(u64, Vec<u8>)> {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("file")).unwrap();
        file.set_len(size).unwrap();
        content.iter().for_each(|(at, data)| file.write_all_at(data, *at).unwrap());
        let found = walk(dir.path(), WalkOptions::default()).unwrap().find_map(|found| match found {
            Ok(Found::Entry(entry)) if entry.entry.is_file() => Some(entry),
            _ => None,
        });
        // As little as there ever is. Others hold chunks for a while, and in the end give all of them back.
        let room = Room::new(12 << 20);
        let buffers = Buffers::new(Arc::clone(&room));
        let (taken, held) = bounded::<Chunk>(8);
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                held.iter().map(|chunk| (chunk.at, chunk.bytes().to_vec())).collect::<Vec<_>>()
            });
            read(ctx, &buffers, &found.unwrap(), |chunk| {
                taken.send(chunk).unwrap();
                Ok(())
            })
            .unwrap();
            drop(taken);
            let chunks = reading.join().unwrap();
            assert_eq!(room.take(12 << 20, ctx).map(drop).ok(), Some(()), "all memory was given back");
            chunks
        })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn chunks_are_those_of_the_whole_file_however_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(convoy_objectstore::DirectoryStore::open(dir.path()).await.unwrap());
        let volume = VolumeDir::new("vol1").unwrap();
        let ctx = Ctx::new(store, volume, Crypt::default(), Progress::new(), &CancellationToken::new());
        let mut random = rand::rngs::StdRng::seed_from_u64(1);
        let mut data = vec![0; 30 << 20];
        random.fill_bytes(&mut data);
        // Where nothing changes nothing is cut but at the most that a chunk may have.
        data[9 << 20..14 << 20].fill(7);
        let at_edges = [BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER - 1, 2 * BUFFER, 3 * BUFFER + 5];
        for size in at_edges.into_iter().chain([300 << 10, 30 << 20]) {
            let data = &data[..size];
            let (least, average, most) = cuts(size as u64);
            let expected: Vec<_> = FastCDC::new(data, least, average, most)
                .map(|chunk| (chunk.offset as u64, data[chunk.offset..chunk.offset + chunk.length].to_vec()))
                .collect();
            let found = tokio::task::block_in_place(|| chunks(&ctx, &[(0, data)], size as u64));
            assert!(found == expected, "{size}: {} chunks, not {}", found.len(), expected.len());
        }
        // Holes are not read, and end a chunk.
        let (one, two) = (&data[..5 << 20], &data[5 << 20..18 << 20]);
        let pieces = [(0, one), (16 << 20, two)];
        let found = tokio::task::block_in_place(|| chunks(&ctx, &pieces, 64 << 20));
        let joined = |from: u64, to: u64| -> Vec<u8> {
            found
                .iter()
                .filter(|(at, _)| (from..to).contains(at))
                .flat_map(|(_, data)| data.clone())
                .collect()
        };
        assert!(joined(0, 16 << 20) == one && joined(16 << 20, 64 << 20) == two);
        assert!(found.iter().any(|(at, data)| at + data.len() as u64 == 5 << 20));
    }
}
