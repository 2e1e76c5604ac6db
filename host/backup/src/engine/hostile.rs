//! Manifests that somebody made by hand: whatever they say, a restore stays inside its target or fails.

use std::path::Path;
use std::sync::Arc;

use convoy_objectstore::DirectoryStore;
use convoy_tree::{FileFlags, Kind, RawBytes, RelPath, Timestamp, Xattrs};
use crossbeam_channel::Receiver;

use super::ctx::Ctx;
use super::index::Index;
use super::packer::{Lane, Packer};
use super::relocations::Relocations;
use super::tree_restore;
use crate::crypt::Crypt;
use crate::error::BackupResult;
use crate::format::chunk::Encoder;
use crate::format::manifest::{BackupKind, Root};
use crate::format::pack::PackBuilder;
use crate::format::segment::{Item, ItemKind, Segment};
use crate::format::wire::{Piece, WireChunk, WirePack, read_piece};

fn item(path: &str, kind: ItemKind) -> Item {
    Item {
        path: RelPath::new(path.as_bytes()).unwrap(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: Timestamp::default(),
        xattrs: Xattrs::new(),
        pieces: Vec::new(),
        identity: None,
        flags: FileFlags::empty(),
        project: 0,
    }
}

fn root() -> Item {
    item("", ItemKind::Own(Kind::Dir))
}

fn link(path: &str, target: &Path) -> Item {
    item(path, ItemKind::Own(Kind::Symlink { target: RawBytes::from(target.to_str().unwrap()) }))
}

/// Restores a tree of these items, with a chunk of data to use in them.
async fn try_restore(
    target: &Path,
    items: impl FnOnce(Piece) -> Vec<Item> + Send + 'static,
) -> BackupResult<()> {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(DirectoryStore::open(dir.path()).await.unwrap());
    let ctx = Ctx::for_test(store);
    let target = target.to_owned();
    tokio::task::spawn_blocking(move || {
        let index = Index::new(100);
        let (packer, packs): (Packer<'_>, Receiver<PackBuilder>) = Packer::new(&ctx, &index, 1, 1 << 20);
        let mut encoder = Encoder::new(Crypt::default(), None).unwrap();
        let segments = std::thread::scope(|scope| {
            scope.spawn(|| packer.upload(&packs));
            let data = packer.put(&mut encoder, b"hostile", Lane::Data).unwrap();
            let segment = Segment::Tree(items((0, data))).to_bytes().unwrap();
            let segment = packer.put(&mut encoder, &segment, Lane::Manifest).unwrap();
            packer.flush(Lane::Data).unwrap();
            packer.flush(Lane::Manifest).unwrap();
            packer.close();
            vec![(0, segment)]
        });
        let root = Root {
            kind: BackupKind::Tree,
            volume: "vol1".into(),
            backup: "b-1".into(),
            size: 0,
            block_size: 0,
            record_code: false,
            hard_links: true,
            segments,
        };
        tree_restore::restore(&ctx, 2, &root, &Relocations::default(), &target).map(|_| ())
    })
    .await
    .unwrap()
}

fn file(path: &str, piece: Piece, size: u64) -> Item {
    Item { size, pieces: vec![piece], ..item(path, ItemKind::Own(Kind::File)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_outside_of_the_target() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("precious"), "old").unwrap();
    let out = outside.path().to_owned();
    type Items = Box<dyn FnOnce(Piece) -> Vec<Item> + Send>;
    let (a, b, c, d) = (out.clone(), out.clone(), out.clone(), out.clone());
    let attacks: Vec<Items> = vec![
        Box::new(move |p| vec![root(), link("l", &a), file("l/made", p, 7)]),
        Box::new(move |p| vec![root(), link("l", &b), file("l/precious", p, 7)]),
        Box::new(move |_| vec![root(), link("l", &c), item("l/dir", ItemKind::Own(Kind::Dir))]),
        Box::new(move |p| {
            let through = ItemKind::HardLink { first: RelPath::new(&b"l/precious"[..]).unwrap() };
            vec![root(), link("l", &d), file("f", p, 7), item("h", through)]
        }),
        Box::new(|p| vec![root(), file("f", p, 7), file("f", p, 7)]),
        Box::new(|p| vec![root(), file("f", p, 3)]),
        Box::new(|p| vec![root(), file("f", (u64::MAX - 20, p.1), u64::MAX)]),
        Box::new(|p| vec![file("f", p, 7)]),
        Box::new(|p| vec![root(), Item::continued(RelPath::root(), vec![p])]),
        Box::new(|_| vec![link("", Path::new("/etc"))]),
        Box::new(|_| {
            vec![root(), item("h", ItemKind::HardLink { first: RelPath::new(&b"nowhere"[..]).unwrap() })]
        }),
        Box::new(|p| vec![root(), file("missing/dir/f", p, 7)]),
    ];
    for (n, attack) in attacks.into_iter().enumerate() {
        let target = tempfile::tempdir().unwrap();
        assert!(try_restore(target.path(), attack).await.is_err(), "attack {n}");
        let names: Vec<_> = outside.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["precious"], "attack {n}");
        assert_eq!(std::fs::read(outside.path().join("precious")).unwrap(), b"old", "attack {n}");
    }
    // And what is in order works.
    let target = tempfile::tempdir().unwrap();
    let (inner, out) = (target.path().join("d/f"), out.clone());
    try_restore(target.path(), move |p| {
        vec![root(), item("d", ItemKind::Own(Kind::Dir)), file("d/f", p, 7), link("l", &out)]
    })
    .await
    .unwrap();
    assert_eq!(std::fs::read(inner).unwrap(), b"hostile");
}

#[test]
fn references_that_cannot_be_are_refused() {
    let packs = [WirePack { run: 1, seq: 1, used: 0 }];
    let good = WireChunk { at: 0, id: [0; 32], len: 1, pack: 0, offset: 0, stored: 1, encoding: 0 };
    assert!(read_piece("k", &packs, &good).is_ok());
    for bad in [
        WireChunk { pack: 1, ..good },
        WireChunk { encoding: 9, ..good },
        WireChunk { len: 0, ..good },
        WireChunk { len: u32::MAX, ..good },
        WireChunk { at: u64::MAX, ..good },
        WireChunk { offset: u32::MAX, ..good },
    ] {
        assert!(read_piece("k", &packs, &bad).is_err(), "{bad:?}");
    }
}
