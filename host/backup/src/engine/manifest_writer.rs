//! Cuts a manifest into segments as it is made, and stores them.

use super::packer::{Lane, Packer};
use crate::error::BackupResult;
use crate::format::chunk::Encoder;
use crate::format::segment::{Item, ItemKind, Segment};
use crate::format::wire::{PackTable, Piece};

/// A segment is not cut before it has about so many bytes.
const SEGMENT_MIN: usize = 64 << 10;
/// Nor does it grow far beyond so many.
const SEGMENT_MAX: usize = 1 << 20;
/// Pieces in one item; a file with more is continued in others.
const PIECES_MAX: usize = 4096;
/// Blocks whose pieces share a segment: so segments begin at the same places in every backup.
pub(crate) const BLOCKS_PER_SEGMENT: u64 = 2048;

/// What comes out at the end.
pub(crate) struct ManifestParts {
    pub(crate) segments: Vec<Piece>,
    /// The packs of the data, with what is used of them.
    pub(crate) packs: PackTable,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) hard_links: bool,
}

/// See the [module](self).
pub(crate) struct ManifestWriter<'a> {
    packer: &'a Packer<'a>,
    encoder: Encoder,
    items: Vec<Item>,
    blocks: Vec<Piece>,
    /// About the bytes of what is waiting.
    weight: usize,
    /// Of a device: bytes of a block, and the first byte after the current segment.
    block_size: u64,
    segment_end: u64,
    done: ManifestParts,
}

impl<'a> ManifestWriter<'a> {
    pub(crate) fn new(packer: &'a Packer<'a>, encoder: Encoder, block_size: u64) -> Self {
        let done = ManifestParts {
            segments: Vec::new(),
            packs: PackTable::default(),
            files: 0,
            bytes: 0,
            hard_links: false,
        };
        Self {
            packer,
            encoder,
            items: Vec::new(),
            blocks: Vec::new(),
            weight: 0,
            block_size,
            segment_end: 0,
            done,
        }
    }

    /// Adds an item of a tree.
    pub(crate) fn item(&mut self, mut item: Item) -> BackupResult<()> {
        self.done.hard_links |= matches!(item.kind, ItemKind::HardLink { .. });
        self.done.files += u64::from(item.is_file());
        for piece in &item.pieces {
            self.count(piece);
        }
        let mut rest =
            if item.pieces.len() > PIECES_MAX { item.pieces.split_off(PIECES_MAX) } else { Vec::new() };
        // With its path: the segments of two files with the same data would be the same, and no root names one
        // segment twice.
        let path = item.path.clone();
        self.push(item)?;
        while !rest.is_empty() {
            let next = if rest.len() > PIECES_MAX { rest.split_off(PIECES_MAX) } else { Vec::new() };
            self.push(Item::continued(path.clone(), std::mem::replace(&mut rest, next)))?;
        }
        Ok(())
    }

    fn push(&mut self, item: Item) -> BackupResult<()> {
        // Where to cut follows from the path, so that a change moves no cut but its own. About one path in
        // 512 cuts.
        let cut = {
            let hash = blake3::hash(item.path.as_bytes());
            let [a, b, ..] = *hash.as_bytes();
            a == 0 && b & 1 == 0
        };
        let xattrs: usize =
            item.xattrs.iter().map(|(n, v)| n.as_bytes().len() + v.as_bytes().len() + 8).sum();
        self.weight += 64 + item.path.as_bytes().len() + item.pieces.len() * 52 + xattrs;
        self.items.push(item);
        if (self.weight >= SEGMENT_MIN && cut) || self.weight >= SEGMENT_MAX { self.cut() } else { Ok(()) }
    }

    /// Adds a block of a device.
    pub(crate) fn block(&mut self, piece: Piece) -> BackupResult<()> {
        if piece.0 >= self.segment_end {
            self.cut()?;
            let stretch = (self.block_size * BLOCKS_PER_SEGMENT).max(1);
            self.segment_end = (piece.0 / stretch + 1) * stretch;
        }
        self.count(&piece);
        self.blocks.push(piece);
        Ok(())
    }

    fn count(&mut self, (_, chunk): &Piece) {
        self.done.bytes += u64::from(chunk.len);
        self.done.packs.number(chunk.place.pack, chunk.place.stored);
    }

    /// Stores what is waiting as a segment.
    fn cut(&mut self) -> BackupResult<()> {
        self.weight = 0;
        let (segment, at) = if let Some((first, _)) = self.blocks.first() {
            let at = *first;
            (Segment::Blocks(std::mem::take(&mut self.blocks)), at)
        } else if self.items.is_empty() {
            return Ok(());
        } else {
            (Segment::Tree(std::mem::take(&mut self.items)), self.done.segments.len() as u64)
        };
        let chunk = self.packer.put(&mut self.encoder, &segment.to_bytes()?, Lane::Manifest)?;
        self.done.segments.push((at, chunk));
        Ok(())
    }

    /// Stores the last segment.
    pub(crate) fn finish(mut self) -> BackupResult<ManifestParts> {
        self.cut()?;
        Ok(self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypt::Crypt;
    use crate::engine::ctx::Ctx;
    use crate::engine::index::Index;
    use crate::format::manifest::{BackupKind, Root};
    use crate::format::{ChunkLocation, ChunkRef, Encoding, PackId};
    use crate::memory::Memory;
    use convoy_tree::{Kind, RelPath};
    use std::sync::Arc;

    /// A file of so many chunks of 1 MiB, the same in each such file.
    fn large(path: &str, chunks: u32) -> Item {
        let piece = |number: u32| {
            let place = ChunkLocation {
                pack: PackId { run: 1, seq: number / 1000 },
                offset: number % 1000,
                stored: 1 << 20,
                encoding: Encoding::Raw,
            };
            (
                u64::from(number) << 20,
                ChunkRef { id: *blake3::hash(&number.to_le_bytes()).as_bytes(), len: 1 << 20, place },
            )
        };
        let path = RelPath::new(path.as_bytes()).unwrap();
        let file = Item::continued(path, (0..chunks).map(piece).collect());
        Item { kind: ItemKind::Own(Kind::File), size: u64::from(chunks) << 20, ..file }
    }

    /// A root that names a segment twice is refused: two large files with the same data must not share one.
    #[tokio::test]
    async fn large_files_with_the_same_data_can_be_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(convoy_objectstore::DirectoryStore::open(dir.path()).await.unwrap());
        let ctx = Ctx::for_test(store);
        let index = Index::new(10);
        let (packer, _packs) = Packer::new(&ctx, &index, 1, 64 << 20);
        let encoder = Encoder::new(Crypt::default(), Some(1)).unwrap();
        let mut writer = ManifestWriter::new(&packer, encoder, 0);
        for path in ["one", "two"] {
            writer.item(large(path, 20 * 4096)).unwrap();
        }
        let parts = writer.finish().unwrap();
        assert!(parts.segments.len() > 6, "{}", parts.segments.len());
        let root = Root {
            kind: BackupKind::Tree,
            volume: "vol1".into(),
            backup: "b-1".into(),
            size: 0,
            block_size: 0,
            record_code: false,
            hard_links: false,
            segments: parts.segments,
        };
        let bytes = root.to_bytes(parts.packs, &Crypt::default()).unwrap();
        let mut charge = Memory::new(64 << 20).charge();
        let read = Root::parse("k", &bytes, "vol1", "b-1", &Crypt::default(), &mut charge).unwrap();
        assert_eq!(read.segments, root.segments);
    }
}
