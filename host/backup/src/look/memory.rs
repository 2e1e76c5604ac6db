//! A small tree in memory, for tests.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use convoy_tree::{Entry, Kind, RelPath, Timestamp, Xattrs};
use proptest::prelude::*;

use crate::browse::{Browse, ContentId, Node, ReadAt, Visit, Visitor};
use crate::error::{BackupError, BackupResult};

/// The tree: nodes by path, and what is in files.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) nodes: BTreeMap<RelPath, Node>,
    pub(super) data: BTreeMap<RelPath, Vec<u8>>,
    /// Where files cannot be read.
    pub(super) damage: BTreeMap<RelPath, u64>,
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

impl Default for Memory {
    fn default() -> Self {
        let mut tree = Self { nodes: BTreeMap::new(), data: BTreeMap::new(), damage: BTreeMap::new() };
        tree.put(RelPath::root(), Kind::Dir);
        tree
    }
}

impl Memory {
    pub(super) fn put(&mut self, path: RelPath, kind: Kind) -> &mut Entry {
        let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
        let time = Timestamp { sec: 1_700_000_000, nsec: 5 };
        let entry = Entry {
            path: path.clone(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: time,
            atime: time,
            ctime: time,
            btime: None,
            dev: 1,
            ino: 1,
            nlink: 1,
            xattrs: Xattrs::new(),
            flags: Default::default(),
            project: 0,
            unread: Vec::new(),
        };
        self.nodes.insert(path.clone(), Node { entry, first_name: None, content: None });
        &mut self.nodes.get_mut(&path).unwrap().entry
    }

    pub(super) fn dir(&mut self, name: &str) -> &mut Entry {
        self.put(path(name), Kind::Dir)
    }

    pub(super) fn file(&mut self, name: &str, data: &[u8]) -> &mut Entry {
        self.raw_file(path(name), data)
    }

    pub(super) fn raw_file(&mut self, path: RelPath, data: &[u8]) -> &mut Entry {
        self.put(path.clone(), Kind::File).size = data.len() as u64;
        self.data.insert(path.clone(), data.to_vec());
        let node = self.nodes.get_mut(&path).unwrap();
        node.content = Some(ContentId(blake3::hash(data).into()));
        &mut node.entry
    }

    pub(super) fn link(&mut self, name: &str, first: &str) {
        let (name, first) = (path(name), path(first));
        let mut node = self.nodes[&first].clone();
        node.entry.path = name.clone();
        node.first_name = Some(first.clone());
        self.data.insert(name.clone(), self.data[&first].clone());
        self.nodes.insert(name, node);
    }

    fn below<'a>(&'a self, top: &'a RelPath) -> impl Iterator<Item = &'a Node> {
        let depth = top.components().count();
        let within = move |path: &RelPath| path.components().take(depth).eq(top.components());
        self.nodes.iter().filter(move |(path, _)| within(path)).map(|(_, node)| node)
    }
}

impl Browse for Memory {
    fn stat(&self, path: &RelPath) -> BackupResult<Node> {
        self.nodes.get(path).cloned().ok_or_else(|| {
            let mut nearest = path.clone();
            while !self.nodes.contains_key(&nearest) {
                nearest = nearest.split().unwrap().0;
            }
            BackupError::NoPath { place: "the tree".to_owned(), path: path.clone(), nearest }
        })
    }

    fn list(&self, directory: &RelPath, after: Option<&RelPath>, limit: usize) -> BackupResult<Vec<Node>> {
        let depth = directory.components().count() + 1;
        let children = self.below(directory).filter(|node| node.entry.path.components().count() == depth);
        let wanted = children.filter(|node| after.is_none_or(|after| node.entry.path > *after));
        Ok(wanted.take(limit).cloned().collect())
    }

    fn walk(&self, top: &RelPath, visit: Visitor<'_>) -> BackupResult<()> {
        self.stat(top)?;
        for node in self.below(top) {
            match visit(node.clone())? {
                ControlFlow::Continue(Visit::Continue) => {}
                ControlFlow::Continue(Visit::SkipChildren) => unreachable!("no command skips"),
                ControlFlow::Break(()) => break,
            }
        }
        Ok(())
    }

    fn open(&self, path: &RelPath) -> BackupResult<Box<dyn ReadAt>> {
        let node = self.stat(path)?;
        if !node.entry.is_file() {
            let found = node.entry.kind.describe();
            return Err(BackupError::NotFile { path: path.clone(), found });
        }
        Ok(Box::new(Data { bytes: self.data[path].clone(), damage: self.damage.get(path).copied() }))
    }
}

#[derive(Debug)]
struct Data {
    bytes: Vec<u8>,
    damage: Option<u64>,
}

impl ReadAt for Data {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, length: usize) -> BackupResult<Bytes> {
        if self.damage.is_some_and(|damage| offset >= damage) {
            return Err(BackupError::damaged("a pack", "its chunk is not what it was"));
        }
        // Shorter than asked for, as a reader may answer.
        let rest = &self.bytes[usize::try_from(offset).unwrap()..];
        Ok(Bytes::copy_from_slice(&rest[..rest.len().min(length).min(3)]))
    }

    fn next_data(&self, offset: u64) -> BackupResult<Option<Range<u64>>> {
        Ok((offset < self.size()).then_some(offset..self.size()))
    }
}

/// Small trees, which have much in common with each other.
pub(super) fn trees() -> impl Strategy<Value = Memory> {
    let node = prop_oneof![
        3 => (0..3_u8, 0..2_i64).prop_map(|(data, time)| (Some(data), time)),
        2 => (0..1_i64).prop_map(|time| (None, time)),
    ];
    let name = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("a.b")];
    let place = prop::collection::vec(name, 1..4);
    prop::collection::vec((place, node, any::<bool>(), prop::bool::weighted(0.2)), 0..12).prop_map(|made| {
        let mut tree = Memory::default();
        for (parts, (data, time), told, private) in made {
            let mut at = RelPath::root();
            for (number, part) in parts.iter().enumerate() {
                if tree.nodes[&at].entry.is_file() {
                    break;
                }
                at = at.join(part.as_bytes()).unwrap();
                if tree.nodes.contains_key(&at) {
                    continue;
                }
                match data {
                    Some(data) if number + 1 == parts.len() => {
                        tree.raw_file(at.clone(), &vec![data; usize::from(data % 2) + 4]);
                        tree.nodes.get_mut(&at).unwrap().content.take_if(|_| !told);
                    }
                    _ => drop(tree.put(at.clone(), Kind::Dir)),
                }
                let entry = &mut tree.nodes.get_mut(&at).unwrap().entry;
                entry.mtime.sec += time;
                entry.mode ^= if private { 0o44 } else { 0 };
            }
        }
        tree
    })
}
