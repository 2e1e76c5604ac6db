//! Any tree and any device, through any number of backups: what is restored is what was there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::acts::{act, perform};
use common::look;
use common::{Store, backup, describe, noise, restore_device, restore_tree, tree};
use convoy_backup::{BackupOptions, Extents, Source, SourceExtent};
use convoy_tree::RelPath;
use futures::StreamExt;
use proptest::prelude::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back_at_every_step(steps in prop::collection::vec(prop::collection::vec(act(), 1..12), 1..4)) {
        runtime().block_on(async {
            let store = Store::quick().await;
            let source = tempfile::tempdir().unwrap();
            for dir in ["d/e", "d.e"] {
                std::fs::create_dir_all(source.path().join(dir)).unwrap();
            }
            let mut expected = Vec::new();
            for (n, acts) in steps.iter().enumerate() {
                for act in acts {
                    let _ = perform(source.path(), act);
                }
                backup(&store.store, &format!("b-{n}"), tree(source.path()), &BackupOptions::default()).await.unwrap();
                expected.push(describe(source.path()));
            }
            for (n, expected) in expected.iter().enumerate() {
                let back = restore_tree(&store.store, "vol1", &format!("b-{n}")).await;
                assert_eq!(&describe(back.path()), expected);
            }
        });
    }

    #[test]
    fn every_reader_of_any_tree_tells_the_same(acts in prop::collection::vec(act(), 1..30), seed in any::<u64>()) {
        let (runtime, source) = (runtime(), tempfile::tempdir().unwrap());
        for dir in ["d/e", "d.e"] {
            std::fs::create_dir_all(source.path().join(dir)).unwrap();
        }
        for act in &acts {
            let _ = perform(source.path(), act);
        }
        let store = runtime.block_on(Store::quick());
        let plain = BackupOptions::default();
        runtime.block_on(backup(&store.store, "b-1", tree(source.path()), &plain)).unwrap();
        let restored = runtime.block_on(restore_tree(&store.store, "vol1", "b-1"));
        let plain = convoy_backup::browse_directory(source.path()).unwrap();
        let back = convoy_backup::browse_directory(restored.path()).unwrap();
        let stored = runtime.block_on(look::browse(&store.store, "vol1", "b-1"));
        let expected = look::walked(&*plain, &RelPath::root());
        prop_assert_eq!(&look::walked(&*back, &RelPath::root()), &expected);
        prop_assert_eq!(&look::walked(&*stored, &RelPath::root()), &expected);
        for browse in [&*plain, &*stored] {
            look::agrees_with_itself(browse, seed);
            look::reads_what_is_in(browse, source.path(), seed);
        }
    }

    #[test]
    fn any_extents_of_a_device_come_back(
        size in prop_oneof![Just(3u64 << 20), 1..5_000_000u64],
        steps in prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), 1..400_000u64, 0..4u64), 0..6), 1..4),
    ) {
        runtime().block_on(async {
            let store = Store::quick().await;
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut data = vec![0u8; usize::try_from(size).unwrap()];
            let mut base = None;
            let mut expected = Vec::new();
            for (n, writes) in steps.iter().enumerate() {
                let mut changed: Vec<SourceExtent> = Vec::new();
                for (at, len, seed) in writes {
                    let from = at.index(data.len());
                    let to = (from + usize::try_from(*len).unwrap()).min(data.len());
                    // Seed 0 discards.
                    data[from..to].copy_from_slice(&if *seed == 0 { vec![0; to - from] } else { noise(to - from, *seed) });
                    changed.push(SourceExtent { offset: from as u64, length: (to - from) as u64, discarded: *seed == 0 });
                }
                changed.sort_by_key(|e| e.offset);
                std::fs::write(file.path(), &data).unwrap();
                let stream = futures::stream::iter(changed.into_iter().map(Ok)).boxed();
                let extents = match base.take() {
                    None => Extents::InUse(stream),
                    Some(base) => Extents::Changed { base, extents: stream },
                };
                let source = Source::Block { device: file.path().into(), size, extents };
                backup(&store.store, &format!("b-{n}"), source, &BackupOptions::default()).await.unwrap();
                base = Some(format!("snap-of-b-{n}"));
                expected.push(data.clone());
            }
            for (n, expected) in expected.iter().enumerate() {
                assert!(restore_device(&store.store, "vol1", &format!("b-{n}"), size).await == *expected);
                let image = look::image(&store.store, "vol1", &format!("b-{n}")).await;
                tokio::task::block_in_place(|| look::reads(&*image, expected, size));
            }
        });
    }
}
