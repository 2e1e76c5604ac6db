//! What readers of trees tell, to compare it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use convoy_backup::{BackupError, Browse, Node, ReadAt, RestoreOptions, Visit};
use convoy_objectstore::ObjectStore;
use convoy_tree::RelPath;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::engine;

pub async fn browse(store: &Arc<dyn ObjectStore>, volume: &str, backup: &str) -> Arc<dyn Browse> {
    let (options, cancel) = (RestoreOptions::default(), CancellationToken::new());
    engine().browse(store.clone(), volume, backup, &options, &cancel).await.unwrap()
}

pub async fn image(store: &Arc<dyn ObjectStore>, volume: &str, backup: &str) -> Arc<dyn ReadAt> {
    let (options, cancel) = (RestoreOptions::default(), CancellationToken::new());
    engine().open_image(store.clone(), volume, backup, &options, &cancel).await.unwrap()
}

pub fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

/// What all readers know of a node, in words.
pub fn say(node: &Node) -> String {
    let e = &node.entry;
    let size = if e.is_file() { e.size } else { 0 };
    format!(
        "{:?} {:?} {:o} {}:{} {:?} {:?} {:?} {} {size}",
        e.path, e.kind, e.mode, e.uid, e.gid, e.mtime, e.xattrs, e.flags, e.project
    )
}

/// The nodes of a walk.
pub fn walk(browse: &dyn Browse, top: &RelPath, skip: Option<&RelPath>) -> Vec<Node> {
    let mut nodes = Vec::new();
    browse
        .walk(top, &mut |node| {
            let skipped = skip == Some(&node.entry.path);
            nodes.push(node);
            Ok(ControlFlow::Continue(if skipped { Visit::SkipChildren } else { Visit::Continue }))
        })
        .unwrap();
    nodes
}

/// The nodes of a walk in words, with their first names.
pub fn walked(browse: &dyn Browse, top: &RelPath) -> Vec<String> {
    walk(browse, top, None).iter().map(|node| format!("{} first={:?}", say(node), node.first_name)).collect()
}

/// What a directory and all below it have, by listing page by page.
pub fn listed(browse: &dyn Browse, directory: &RelPath, limit: usize, nodes: &mut Vec<Node>) {
    let mut after = None;
    loop {
        let page = browse.list(directory, after.as_ref(), limit).unwrap();
        assert!(page.len() <= limit);
        let last = page.len() < limit;
        after = page.last().map(|node| node.entry.path.clone());
        for node in page {
            let below = node.entry.is_dir().then(|| node.entry.path.clone());
            nodes.push(node);
            if let Some(below) = below {
                listed(browse, &below, limit, nodes);
            }
        }
        if last {
            return;
        }
    }
}

fn is_beneath(path: &RelPath, directory: &RelPath) -> bool {
    path != directory && path.as_path().starts_with(directory.as_path())
}

/// Walks, lists, and looks at each path: all of it must tell the same.
pub fn agrees_with_itself(browse: &dyn Browse, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let all = walk(browse, &RelPath::root(), None);
    let words: Vec<String> = all.iter().map(say).collect();
    for limit in [1, 2, 3, 1000] {
        let mut nodes = vec![browse.stat(&RelPath::root()).unwrap()];
        listed(browse, &RelPath::root(), limit, &mut nodes);
        assert_eq!(nodes.iter().map(say).collect::<Vec<_>>(), words, "limit {limit}");
        for (listed, walked) in nodes.iter().zip(&all) {
            assert_eq!(listed.content, walked.content, "{:?}", walked.entry.path);
        }
    }
    for node in &all {
        let path = &node.entry.path;
        let found = browse.stat(path).unwrap();
        assert_eq!((say(&found), found.content), (say(node), node.content));
        let below = |n: &&Node| n.entry.path == *path || is_beneath(&n.entry.path, path);
        let expected: Vec<_> = all.iter().filter(below).map(say).collect();
        assert_eq!(walk(browse, path, None).iter().map(say).collect::<Vec<_>>(), expected);
        let rest: Vec<_> = all.iter().filter(|n| !is_beneath(&n.entry.path, path)).map(say).collect();
        assert_eq!(walk(browse, &RelPath::root(), Some(path)).iter().map(say).collect::<Vec<_>>(), rest);
        if node.entry.is_dir() {
            assert!(matches!(browse.open(path), Err(BackupError::NotFile { .. })));
            // Where a page begins need not be there.
            let after = path.join(&[b'a' + random.random_range(0..26_u8)]).unwrap();
            let expected: Vec<_> = (all.iter())
                .filter(|n| n.entry.path.split().is_some_and(|(parent, _)| parent == *path))
                .filter(|n| n.entry.path > after)
                .map(say)
                .collect();
            let page = browse.list(path, Some(&after), 1000).unwrap();
            assert_eq!(page.iter().map(say).collect::<Vec<_>>(), expected);
        } else {
            assert!(matches!(browse.list(path, None, 1), Err(BackupError::NotDirectory { .. })));
        }
        // What is not there: the nearest directory is.
        let missing = path.join(b"q").unwrap().join(b"x").unwrap();
        let Err(BackupError::NoPath { nearest, .. }) = browse.stat(&missing) else {
            panic!("{missing} is there")
        };
        let expected = if node.entry.is_dir() { path.clone() } else { path.split().unwrap().0 };
        assert_eq!(nearest, expected);
    }
}

/// Reads each file of a tree in pieces, and compares it with what is in a directory.
pub fn reads_what_is_in(browse: &dyn Browse, root: &Path, seed: u64) {
    for node in walk(browse, &RelPath::root(), None) {
        if node.entry.is_file() {
            let expected = std::fs::read(node.entry.path.below(root)).unwrap();
            let open = browse.open(&node.entry.path).unwrap();
            reads(&*open, &expected, seed);
        }
    }
}

/// Reads from anywhere, and from the beginning to the end.
pub fn reads(open: &dyn ReadAt, expected: &[u8], seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let size = expected.len();
    assert_eq!(open.size(), size as u64);
    for _ in 0..30 {
        let offset = random.random_range(0..=size + 5);
        let most = if random.random_bool(0.5) { 100 } else { 3_000_000 };
        let length = random.random_range(1..most);
        let bytes = open.read_at(offset as u64, length).unwrap();
        let rest = expected.get(offset..).unwrap_or_default();
        assert!(bytes.len() <= length && (bytes.is_empty() == rest.is_empty()), "{offset} {length}");
        assert!(bytes == rest[..bytes.len()], "{offset} {length} of {size}");
    }
    assert!(open.read_at(u64::MAX, usize::MAX).unwrap().is_empty());
    assert!(open.read_at(0, 0).unwrap().is_empty());
    let step = random.random_range(1..2_000_000);
    let mut at = 0;
    while at < size {
        let bytes = open.read_at(at as u64, step).unwrap();
        assert!(!bytes.is_empty() && bytes == expected[at..at + bytes.len()], "{at} of {size}");
        at += bytes.len();
    }
    // What is no data is zeros.
    let mut end = 0;
    while let Some(range) = open.next_data(end).unwrap() {
        assert!(range.start >= end && range.end > range.start && range.end <= size as u64, "{range:?}");
        assert!(
            expected[usize::try_from(end).unwrap()..usize::try_from(range.start).unwrap()]
                .iter()
                .all(|b| *b == 0)
        );
        end = range.end;
    }
    assert!(expected[usize::try_from(end).unwrap()..].iter().all(|b| *b == 0));
}
