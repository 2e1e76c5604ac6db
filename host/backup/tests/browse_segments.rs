//! Manifests cut anywhere, which an independent writer made, read against a plain model of them; and ones
//! that lie.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use common::forge::{CONTINUED, Cbor, DIR, FILE, Forge, Ref, cbor, item, packs, refs};
use common::look::{self, path};
use common::{Store, engine};
use convoy_backup::look::{Change, Compare, compare};
use convoy_backup::{BackupError, Browse, ReadAt, RestoreOptions, Searched, Visit};
use convoy_tree::RelPath;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

/// A further name.
const LINK: u8 = 7;

/// What a model has at a path.
#[derive(Debug, Clone)]
enum Model {
    Dir,
    /// Data, as (hole before, which chunk).
    File(Vec<(u64, usize)>, u64),
}

/// What is written as one item.
#[derive(Debug, Clone)]
struct Written {
    path: Vec<u8>,
    kind: u8,
    size: u64,
    pieces: Vec<(u64, usize)>,
    first: Option<Vec<u8>>,
}

const CHUNKS: [&[u8]; 3] = [b"one chunk", b"another one, which is longer", b"x"];

/// A path, its data as (hole before, which chunk), and the hole at its end.
type AnyFile = (Vec<u8>, Vec<(u64, usize)>, u64);

fn names() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec!["a", "b", "a.b", "a-", "c", "zz"]);
    prop::collection::vec(name, 1..5).prop_map(|names| names.join("/").into_bytes())
}

fn files() -> impl Strategy<Value = Vec<AnyFile>> {
    let piece = (prop_oneof![3 => Just(0), 1 => 1..50u64], 0..3usize);
    prop::collection::vec((names(), prop::collection::vec(piece, 0..7), 0..9u64), 0..50)
}

/// The tree of these files: a file where a directory must be is left out.
fn model(files: Vec<AnyFile>) -> BTreeMap<RelPath, Model> {
    let mut tree = BTreeMap::from([(RelPath::root(), Model::Dir)]);
    for (path, pieces, tail) in files {
        let path = RelPath::new(path).unwrap();
        let mut parents = Vec::new();
        let mut at = path.clone();
        while let Some((parent, _)) = at.split() {
            parents.push(parent.clone());
            at = parent;
        }
        if tree.contains_key(&path) || parents.iter().any(|p| matches!(tree.get(p), Some(Model::File(..)))) {
            continue;
        }
        parents.into_iter().for_each(|parent| drop(tree.insert(parent, Model::Dir)));
        tree.insert(path, Model::File(pieces, tail));
    }
    tree
}

fn data(pieces: &[(u64, usize)], tail: u64) -> Vec<u8> {
    let mut data = Vec::new();
    for (hole, chunk) in pieces {
        data.resize(data.len() + *hole as usize, 0);
        data.extend_from_slice(CHUNKS[*chunk]);
    }
    data.resize(data.len() + tail as usize, 0);
    data
}

/// The items of a tree; `split` says after how many pieces a file goes on in another item.
fn items(tree: &BTreeMap<RelPath, Model>, split: usize) -> Vec<Written> {
    let mut items = Vec::new();
    for (path, model) in tree {
        let path = path.as_bytes().to_vec();
        match model {
            Model::Dir => items.push(Written { path, kind: DIR, size: 0, pieces: Vec::new(), first: None }),
            Model::File(pieces, tail) => {
                let (mut at, mut placed) = (0, Vec::new());
                for (hole, chunk) in pieces {
                    at += hole;
                    placed.push((at, *chunk));
                    at += CHUNKS[*chunk].len() as u64;
                }
                let first = &placed[..split.min(placed.len())];
                items.push(Written {
                    path,
                    kind: FILE,
                    size: at + tail,
                    pieces: first.to_vec(),
                    first: None,
                });
                for more in placed[first.len()..].chunks(split.max(1)) {
                    // Nobody looks at it; but no two segments may be the same.
                    let path = items.last().map(|item: &Written| item.path.clone()).unwrap_or_default();
                    items.push(Written {
                        path,
                        kind: CONTINUED,
                        size: 0,
                        pieces: more.to_vec(),
                        first: None,
                    });
                }
            }
        }
    }
    items
}

fn write_item(e: &mut Cbor, written: &Written, chunks: &[Ref]) {
    let keys = u64::from(written.first.is_some()) + u64::from(!written.pieces.is_empty());
    item(e, &written.path, written.kind, written.size, keys, |e| {
        if let Some(first) = &written.first {
            e.u8(7).unwrap().bytes(first).unwrap();
        }
        if !written.pieces.is_empty() {
            e.u8(11).unwrap();
            let list: Vec<Ref> = written.pieces.iter().map(|(at, c)| Ref { at: *at, ..chunks[*c] }).collect();
            refs(e, &list);
        }
    });
}

/// Writes a backup `b-1` of these items, so many in each segment in turn.
fn forge(dir: &std::path::Path, items: &[Written], cuts: &[usize]) {
    let mut forge = Forge::new(dir);
    let chunks: Vec<Ref> = CHUNKS.iter().map(|chunk| forge.chunk(chunk)).collect();
    let (mut rest, mut segments) = (items, Vec::new());
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (these, others) = rest.split_at((*cut).clamp(1, rest.len()));
        rest = others;
        segments.push(cbor(|e| {
            e.map(2).unwrap().u8(0).unwrap();
            packs(e, &forge.pack());
            e.u8(1).unwrap().array(these.len() as u64).unwrap();
            these.iter().for_each(|written| write_item(e, written, &chunks));
        }));
    }
    forge.tree(&segments);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn wherever_a_manifest_is_cut_it_tells_the_same(
        files in files(),
        cuts in prop::collection::vec(1..6usize, 1..9),
        split in 1..5usize,
        seed in any::<u64>(),
    ) {
        let runtime = runtime();
        let store = runtime.block_on(Store::quick());
        let tree = model(files);
        forge(store.dir.path(), &items(&tree, split), &cuts);
        let browse = runtime.block_on(look::browse(&store.store, "vol1", "b-1"));
        let walked = look::walk(&*browse, &RelPath::root(), None);
        let paths: Vec<_> = walked.iter().map(|node| node.entry.path.clone()).collect();
        prop_assert_eq!(paths, tree.keys().cloned().collect::<Vec<_>>());
        look::agrees_with_itself(&*browse, seed);
        for (path, model) in &tree {
            match model {
                Model::Dir => prop_assert!(browse.stat(path).unwrap().entry.is_dir()),
                Model::File(pieces, tail) => {
                    look::reads(&*browse.open(path).unwrap(), &data(pieces, *tail), seed);
                }
            }
        }
    }

    /// Segments that two backups share are read once by a search, and not at all by a comparison.
    #[test]
    fn what_two_backups_share_is_passed_over_and_nothing_is_missed(
        files in files(),
        others in files(),
        dropped in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        cuts in prop::collection::vec(1..4usize, 1..3),
        split in 1..5usize,
        touched in prop::collection::vec((any::<prop::sample::Index>(), 0..3usize), 0..3),
        letter in prop::sample::select(vec!["a", "b", "z"]),
    ) {
        let runtime = runtime();
        let (mut after, few) = (files.clone(), others.len().min(3));
        for index in dropped {
            if !after.is_empty() {
                after.remove(index.index(after.len()));
            }
        }
        after.extend_from_slice(&others[..few]);
        let trees = [model(files), model(after)];
        let stores = [runtime.block_on(Store::quick()), runtime.block_on(Store::quick())];
        for (number, (store, tree)) in stores.iter().zip(&trees).enumerate() {
            let mut items = items(tree, split);
            // A further name of a file; in the other backup, maybe of one with other data and the same time.
            if let Some(first) = items.iter().find(|item| item.kind == FILE).map(|item| item.path.clone()) {
                items.push(Written { path: b"zzz".to_vec(), kind: LINK, size: 0, pieces: Vec::new(), first: Some(first) });
            }
            for (index, chunk) in touched.iter().filter(|_| number == 1) {
                let at = index.index(items.len());
                if let Some((_, piece)) = items[at].pieces.first_mut()
                    && CHUNKS[*piece].len() == CHUNKS[*chunk].len()
                {
                    *piece = *chunk;
                }
                if items[at].kind == FILE && items[at].pieces.is_empty() {
                    items[at].size = *chunk as u64;
                }
            }
            forge(store.dir.path(), &items, &cuts);
        }
        let [old, new] = stores.each_ref().map(|store| runtime.block_on(look::browse(&store.store, "vol1", "b-1")));
        let key = |node: &convoy_backup::Node| format!("{} {:?}", look::say(node), node.content);
        // Searching.
        let (mut searched, mut told, mut expected) = (Searched::default(), Vec::new(), Vec::new());
        for browse in [&new, &old] {
            let wanted = |path: &RelPath| path.as_path().to_str().unwrap().contains(letter);
            let mut visit = |node| {
                let key = key(&node);
                if !told.contains(&key) {
                    told.push(key);
                }
                Ok(())
            };
            browse.search(&mut |path| Ok(wanted(path)), &mut searched, &mut visit).unwrap();
            for node in look::walk(&**browse, &RelPath::root(), None) {
                let key = key(&node);
                if wanted(&node.entry.path) && !expected.contains(&key) {
                    expected.push(key);
                }
            }
        }
        prop_assert_eq!(told, expected);
        // Comparing.
        let by_path = |browse: &Arc<dyn Browse>| -> BTreeMap<RelPath, String> {
            let nodes = look::walk(&**browse, &RelPath::root(), None);
            nodes.iter().map(|node| (node.entry.path.clone(), key(node))).collect()
        };
        let (before, after) = (by_path(&old), by_path(&new));
        let all: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
        let expected: Vec<_> = all.into_iter().filter(|path| before.get(path) != after.get(path)).collect();
        let mut told = Vec::new();
        let compared = Compare { old: &*old, new: &*new, one_store: true };
        compare(compared, &RelPath::root(), &CancellationToken::new(), &mut |change| {
            let (Change::Added(node) | Change::Removed(node)) = &change else {
                let (Change::Data { new, .. } | Change::Metadata { new, .. }) = change else { return Ok(()) };
                told.push(new.entry.path);
                return Ok(());
            };
            told.push(node.entry.path.clone());
            Ok(())
        })
        .unwrap();
        prop_assert_eq!(told, expected);
    }

    /// Whatever is said, and in whatever order: every call ends, and what a restore refuses is never told as
    /// a whole tree.
    #[test]
    fn what_is_out_of_order_is_refused_by_who_reads_it_all(
        files in files(),
        cuts in prop::collection::vec(1..6usize, 1..9),
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
        links in prop::collection::vec((any::<prop::sample::Index>(), names()), 0..3),
    ) {
        let runtime = runtime();
        let store = runtime.block_on(Store::quick());
        let mut items = items(&model(files), 2);
        let whole: Vec<_> = items.iter().map(|item| (item.path.clone(), item.kind)).collect();
        for (one, other) in swaps {
            let (one, other) = (one.index(items.len()), other.index(items.len()));
            items.swap(one, other);
        }
        for (at, first) in links {
            let at = at.index(items.len());
            items[at] = Written { kind: LINK, first: Some(first), pieces: Vec::new(), ..items[at].clone() };
        }
        let changed = whole != items.iter().map(|item| (item.path.clone(), item.kind)).collect::<Vec<_>>();
        forge(store.dir.path(), &items, &cuts);
        let browse = runtime.block_on(look::browse(&store.store, "vol1", "b-1"));
        let mut visited = 0;
        let walked = browse.walk(&RelPath::root(), &mut |_| {
            visited += 1;
            Ok(ControlFlow::Continue(Visit::Continue))
        });
        prop_assert!(visited <= items.len());
        let restored = runtime.block_on(async {
            let into = tempfile::tempdir().unwrap();
            let target = convoy_backup::Target::Tree { path: into.path().to_owned() };
            common::restore(&store.store, "vol1", "b-1", target).await
        });
        // A further name of what is no file before it is the one thing that is looked at more closely here.
        if changed && restored.is_err() {
            prop_assert!(walked.is_err(), "a restore says {:?}", restored);
        }
        for path in items.iter().filter_map(|item| RelPath::new(item.path.clone()).ok()) {
            let _ = browse.stat(&path);
            let _ = browse.list(&path, None, 3);
            let _ = browse.walk(&path, &mut |_| Ok(ControlFlow::Continue(Visit::SkipChildren)));
            if let Ok(open) = browse.open(&path) {
                let mut at = 0;
                while at < open.size().min(10_000) {
                    let Ok(bytes) = open.read_at(at, 4096) else { break };
                    prop_assert!(!bytes.is_empty());
                    at += bytes.len() as u64;
                }
            }
        }
    }
}

async fn open(dir: &std::path::Path, write: impl FnOnce(&mut Forge)) -> Result<Arc<dyn Browse>, BackupError> {
    write(&mut Forge::new(dir));
    let store = Arc::new(convoy_objectstore::DirectoryStore::open(dir).await.unwrap());
    engine().browse(store, "vol1", "b-1", &RestoreOptions::default(), &CancellationToken::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_about_chunks_and_blocks_are_told_as_damage() {
    let dir = tempfile::tempdir().unwrap();
    let browse = open(dir.path(), |forge| {
        let whole = forge.chunk(b"twelve bytes");
        let segment = cbor(|e| {
            e.map(2).unwrap().u8(0).unwrap();
            packs(e, &forge.pack());
            e.u8(1).unwrap().array(4).unwrap();
            item(e, b"", DIR, 0, 0, |_| ());
            for (name, chunk, size) in [
                (&b"good"[..], whole, 12),
                (b"long", Ref { len: 4096, ..whole }, 4096),
                (b"other", Ref { id: [7; 32], ..whole }, 12),
            ] {
                item(e, name, FILE, size, 1, |e| {
                    e.u8(11).unwrap();
                    refs(e, &[chunk]);
                });
            }
        });
        forge.tree(&[segment]);
    })
    .await
    .unwrap();
    tokio::task::block_in_place(|| {
        let read = |name: &str| browse.open(&path(name)).and_then(|open| open.read_at(0, 1 << 20));
        // Before and after the chunk is cached under its name.
        assert!(matches!(read("long"), Err(BackupError::Damaged { .. })));
        assert_eq!(&*read("good").unwrap(), b"twelve bytes");
        assert!(matches!(read("long"), Err(BackupError::Damaged { .. })));
        assert!(matches!(read("other"), Err(BackupError::Damaged { .. })));
    });
    // Blocks that lie elsewhere than the root says, overlap, or go beyond the end.
    for (number, at) in [[0_u64, 4096], [8192, 4096], [0, 100], [0, (8 << 20) - 3]].into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let mut forge = Forge::new(dir.path());
        let chunk = forge.chunk(&[9; 4096]);
        let segment = common::forge::blocks(&forge.pack(), &at.map(|at| Ref { at, ..chunk }));
        forge.device(8 << 20, 4096, &[(if number == 0 { 4096 } else { 0 }, segment)]);
        let store: Arc<dyn convoy_objectstore::ObjectStore> =
            Arc::new(convoy_objectstore::DirectoryStore::open(dir.path()).await.unwrap());
        let image: Arc<dyn ReadAt> = look::image(&store, "vol1", "b-1").await;
        let read = tokio::task::block_in_place(|| image.read_at(4096, 4096));
        assert!(matches!(read, Err(BackupError::Damaged { .. })), "{number}: {read:?}");
    }
}
