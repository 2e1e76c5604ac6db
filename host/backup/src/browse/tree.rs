//! Browses the manifest of a tree's backup.

use std::any::Any;
use std::sync::Arc;

use convoy_tree::{Kind, RelPath};
use parking_lot::Mutex;

use super::data::{Data, Following, Parts, Pieces};
use super::manifest::{Manifest, Place};
use super::walk::walk;
use super::{
    After, Browse, ContentId, Node, ReadAt, Searched, Visitor, Wanted, is_beneath, name_after, stream,
};
use crate::error::{BackupError, BackupResult};
use crate::format::segment::{Item, ItemKind};
use crate::format::wire::Piece;
use crate::memory::Charge;

/// Segments that are read to know the digest of a file which goes on over several. Such a one has tens of
/// gigabytes.
const CONTENT_SEGMENTS: usize = 16;
/// Segments that come with the one that a page of a directory goes on in.
const LIST_AHEAD: usize = 8;

/// So many items may be passed over by who opens files one after the other.
const NEXT_FILES: usize = 64;

/// Builds a [`ContentId`]: BLAKE3 over offset, chunk name and length of all pieces in order, and the size. In
/// one store the name of a chunk follows from its bytes (with the key, where there is one), so files with the
/// same digest have the same bytes in the same places, and holes elsewhere. The same bytes cut otherwise have
/// another digest.
#[derive(Debug, Default)]
pub(super) struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    pub(super) fn add(&mut self, pieces: &[Piece]) {
        for (at, chunk) in pieces {
            self.0.update(&at.to_le_bytes()).update(&chunk.id).update(&chunk.len.to_le_bytes());
        }
    }

    /// Each piece has 44 bytes and the size 8: no two lists give the same bytes.
    pub(super) fn finish(mut self, size: u64) -> ContentId {
        ContentId(*self.0.update(&size.to_le_bytes()).finalize().as_bytes())
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) manifest: Arc<Manifest>,
    place: String,
    /// The segment and the item of the file that was opened last.
    opened: Mutex<Option<(usize, usize)>>,
}

/// What is at a path, or the nearest directory.
enum Sought {
    Found(Place),
    Nothing { nearest: RelPath },
}

impl Tree {
    pub(super) fn new(manifest: Manifest) -> Self {
        let place = format!("backup {} of volume {}", manifest.root.backup, manifest.root.volume);
        Self { manifest: Arc::new(manifest), place, opened: Mutex::default() }
    }

    /// The item at exactly this path.
    fn seek_exactly(&self, path: &RelPath) -> BackupResult<Option<Place>> {
        let found = self.manifest.search(0, &|before| before < path)?;
        Ok(found.filter(|place| place.item().is_some_and(|item| item.path == *path)))
    }

    fn seek(&self, path: &RelPath) -> BackupResult<Sought> {
        if let Some(place) = self.seek_exactly(path)? {
            return Ok(Sought::Found(place));
        }
        // Directories on the way are there up to some depth: it is searched for as well.
        let bytes = path.as_bytes();
        let mut ends: Vec<usize> =
            bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).collect();
        ends.insert(0, 0);
        let (mut low, mut high) = (0, ends.len());
        let mut nearest = RelPath::root();
        while low < high {
            let middle = low + (high - low) / 2;
            let end = ends.get(middle).copied().unwrap_or_default();
            let above = RelPath::new(bytes.get(..end).unwrap_or_default().to_vec());
            let above = above.map_err(convoy_tree::TreeError::from)?;
            let found = self.seek_exactly(&above)?;
            let is_dir = |place: &Place| place.item().is_some_and(|i| i.kind == ItemKind::Own(Kind::Dir));
            if found.as_ref().is_some_and(is_dir) {
                (low, nearest) = (middle + 1, above);
            } else {
                high = middle;
            }
        }
        Ok(Sought::Nothing { nearest })
    }

    /// What is at `path`.
    pub(super) fn find(&self, path: &RelPath) -> BackupResult<Place> {
        match self.seek(path)? {
            Sought::Found(place) => Ok(place),
            Sought::Nothing { nearest } => {
                Err(BackupError::NoPath { place: self.place.clone(), path: path.clone(), nearest })
            }
        }
    }

    /// The item with the first name of a file that has several: it has the metadata and the data.
    fn first_name(&self, path: &RelPath, first: &RelPath) -> BackupResult<Place> {
        let damaged = || {
            let (path, first) = (path.shown(), first.shown());
            self.manifest
                .damaged(format_args!("{path} is a further name of {first}, which is no file before it"))
        };
        if first >= path {
            return Err(damaged());
        }
        let found = self.seek_exactly(first)?.ok_or_else(damaged)?;
        match found.item().map(|item| &item.kind) {
            Some(ItemKind::Own(kind)) if *kind != Kind::Dir => Ok(found),
            _ => Err(damaged()),
        }
    }

    /// Where the metadata and the data of what is at `place` are.
    fn first(&self, place: Place) -> BackupResult<Place> {
        match place.item() {
            Some(Item { path, kind: ItemKind::HardLink { first }, .. }) => self.first_name(path, first),
            _ => Ok(place),
        }
    }

    /// The node of a further name of a file.
    pub(super) fn linked(&self, path: &RelPath, first: &RelPath) -> BackupResult<Node> {
        let mut node = self.own_node(&self.first_name(path, first)?)?;
        node.first_name = Some(first.clone());
        node.entry.path = path.clone();
        Ok(node)
    }

    fn own_node(&self, place: &Place) -> BackupResult<Node> {
        let entry = place.item().and_then(Item::entry);
        let entry = entry.ok_or_else(|| self.manifest.damaged("an item is not where it belongs"))?;
        let content = if entry.is_file() { self.content(place, entry.size)? } else { None };
        Ok(Node { entry, first_name: None, content })
    }

    fn node(&self, place: &Place) -> BackupResult<Node> {
        match place.item() {
            Some(Item { path, kind: ItemKind::HardLink { first }, .. }) => self.linked(path, first),
            _ => self.own_node(place),
        }
    }

    fn content(&self, file: &Place, size: u64) -> BackupResult<Option<ContentId>> {
        let mut hasher = ContentHasher::default();
        let whole = self.manifest.each_part(file, CONTENT_SEGMENTS, &mut |_, _, pieces| {
            hasher.add(pieces);
            Ok(())
        })?;
        Ok(whole.then(|| hasher.finish(size)))
    }

    fn kind_at(&self, place: &Place) -> BackupResult<&'static str> {
        let first = self.first(place.clone())?;
        Ok(match first.item().map(|item| &item.kind) {
            Some(ItemKind::Own(kind)) => kind.describe(),
            _ => "nothing",
        })
    }

    /// The directory at `path`.
    fn directory(&self, path: &RelPath) -> BackupResult<Place> {
        let place = self.find(path)?;
        if place.item().is_some_and(|item| item.kind == ItemKind::Own(Kind::Dir)) {
            return Ok(place);
        }
        Err(BackupError::NotDirectory { path: path.clone(), found: self.kind_at(&place)? })
    }

    /// What is behind a file, if files are opened one after the other.
    fn following(&self, file: &Place) -> Option<Following> {
        let here = (file.segment, file.index);
        let last = self.opened.lock().replace(here)?;
        let goes_on =
            last < here && (last.0 < here.0 || here.1 - last.1 <= NEXT_FILES) && here.0 - last.0 <= 1;
        goes_on.then(|| Following { parsed: Arc::clone(&file.parsed), item: file.index })
    }

    /// The first entry of a directory, or the first one behind `after`.
    fn entry_behind(
        &self,
        directory: &RelPath,
        place: &Place,
        after: Option<&RelPath>,
    ) -> BackupResult<Option<Place>> {
        let after = match after.map(|after| name_after(directory, after)) {
            None | Some(After::All) => return self.manifest.next(place, 0),
            Some(After::Nothing) => return Ok(None),
            Some(After::Name(name)) => directory.join(name).map_err(convoy_tree::TreeError::from)?,
        };
        self.manifest.search_behind(place, &|path| *path <= after || is_beneath(path, &after))
    }
}

impl Browse for Tree {
    fn stat(&self, path: &RelPath) -> BackupResult<Node> {
        self.node(&self.find(path)?)
    }

    fn list(&self, directory: &RelPath, after: Option<&RelPath>, limit: usize) -> BackupResult<Vec<Node>> {
        let place = self.directory(directory)?;
        let mut nodes = Vec::new();
        if limit == 0 {
            return Ok(nodes);
        }
        let mut next = self.entry_behind(directory, &place, after)?;
        while let Some(place) = next {
            let Some(item) = place.item().filter(|item| is_beneath(&item.path, directory)) else { break };
            if item.path.split().is_none_or(|(parent, _)| parent != *directory) {
                return Err(self.manifest.damaged(format_args!("{} is in no directory", item.path.shown())));
            }
            nodes.push(self.node(&place)?);
            if nodes.len() >= limit {
                break;
            }
            next = self.manifest.next(&place, LIST_AHEAD)?;
            let deeper =
                next.as_ref().and_then(Place::item).is_some_and(|next| is_beneath(&next.path, &item.path));
            if deeper {
                let before = |path: &RelPath| *path <= item.path || is_beneath(path, &item.path);
                next = self.manifest.search_behind(&place, &before)?;
            }
        }
        Ok(nodes)
    }

    fn has_hard_links(&self) -> bool {
        self.manifest.root.hard_links
    }

    fn walk(&self, top: &RelPath, visit: Visitor<'_>) -> BackupResult<()> {
        let place = self.find(top)?;
        if place.item().is_some_and(|item| item.kind == ItemKind::Own(Kind::Dir)) {
            return walk(self, place.segment, top, visit);
        }
        visit(self.node(&place)?).map(drop)
    }

    fn search(
        &self,
        wanted: Wanted<'_>,
        searched: &mut Searched,
        visit: &mut dyn FnMut(Node) -> BackupResult<()>,
    ) -> BackupResult<()> {
        stream::search(self, wanted, searched, visit)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn open(&self, path: &RelPath) -> BackupResult<Box<dyn ReadAt>> {
        let place = self.find(path)?;
        let first = self.first(place.clone())?;
        let Some(item) = first.item().filter(|item| item.is_file()) else {
            return Err(BackupError::NotFile { path: path.clone(), found: self.kind_at(&place)? });
        };
        let name = format!("/{} of {}", path.shown(), self.place);
        let mut charge = self.manifest.chunks.ctx.memory.charge();
        let mut parts = Vec::new();
        self.manifest.each_part(&first, usize::MAX, &mut |segment, item, pieces| {
            // A list that grows is moved, and has room for more.
            charge.add(&name, 3 * size_of::<Part>())?;
            if let Some((at, _)) = pieces.first() {
                parts.push(Part { at: *at, segment, item });
            }
            Ok(())
        })?;
        let parts = FileParts { manifest: Arc::clone(&self.manifest), parts, _charge: charge };
        let chunks = Arc::clone(&self.manifest.chunks);
        let data = Data::new(chunks, Box::new(parts), item.size, name);
        Ok(Box::new(data.and(self.following(&first))))
    }
}

/// Pieces of a file that are in one item.
#[derive(Debug, Clone, Copy)]
struct Part {
    at: u64,
    segment: usize,
    item: usize,
}

/// The parts of a file's pieces.
#[derive(Debug)]
struct FileParts {
    manifest: Arc<Manifest>,
    parts: Vec<Part>,
    _charge: Charge,
}

impl Parts for FileParts {
    fn count(&self) -> usize {
        self.parts.len()
    }

    fn start(&self, number: usize) -> u64 {
        self.parts.get(number).map_or(u64::MAX, |part| part.at)
    }

    fn load(&self, number: usize) -> BackupResult<Pieces> {
        let part = self.parts.get(number).ok_or_else(|| self.manifest.damaged("a segment is missing"))?;
        Ok(Pieces { parsed: self.manifest.segment(part.segment, 0)?, item: part.item })
    }
}
