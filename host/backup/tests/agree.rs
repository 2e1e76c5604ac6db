//! Whatever looks into a backup of any tree tells what a full restore of it brings back: lists, archives,
//! parts and searches; and a comparison of two tells what a plain look at two restored trees does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use common::acts::{Act, act, perform};
use common::look;
use common::{Store, describe, restore_tree};
use convoy_backup::look::{Archive, Change, Compare, Pattern, compare, dump, find, list};
use convoy_backup::{
    BackupOptions, Browse, Existing, PartsOptions, Progress, Searched, Selection, browse_directory,
    restore_parts,
};
use convoy_tree::{Entry, RelPath};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A backup for each of the steps.
async fn back_up(steps: &[&[Act]]) -> Store {
    let (store, source) = (Store::quick().await, tempfile::tempdir().unwrap());
    for dir in ["d/e", "d.e"] {
        std::fs::create_dir_all(source.path().join(dir)).unwrap();
    }
    for (n, acts) in steps.iter().enumerate() {
        for act in *acts {
            let _ = perform(source.path(), act);
        }
        let (name, tree) = (format!("b-{n}"), common::tree(source.path()));
        common::backup(&store.store, &name, tree, &BackupOptions::default()).await.unwrap();
    }
    store
}

/// What `ls -R` tells, in words.
fn listed(browse: &dyn Browse) -> Vec<String> {
    let mut told = Vec::new();
    list(browse, &RelPath::root(), true, &CancellationToken::new(), &mut |node| {
        told.push(look::say(&node));
        Ok(())
    })
    .unwrap();
    told
}

/// What GNU tar makes of an archive of everything.
fn untarred(browse: &dyn Browse) -> tempfile::TempDir {
    let (target, archive) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let mut out = std::fs::File::create(archive.path()).unwrap();
    dump(browse, &RelPath::root(), Archive::Tar, &mut out, &CancellationToken::new()).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--same-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*"]);
    let ran = tar.arg("--file").arg(archive.path()).arg("--directory").arg(target.path()).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    target
}

/// Without what says that names are of one thing, where that is no regular file: an archive has each by
/// itself.
fn apart(told: Vec<String>) -> Vec<String> {
    let of_link = |line: String| match line.split_once(" first=") {
        Some((before, after)) if !before.contains(" File ") => {
            format!("{before}{}", after.split_once(' ').map_or("", |(_, rest)| rest))
        }
        _ => line,
    };
    told.into_iter().map(of_link).collect()
}

/// What a restore of everything into an empty directory that others may use makes.
fn parts(browse: &dyn Browse) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    let options = PartsOptions {
        selection: Selection::new(Vec::new(), &[]).unwrap(),
        at: RelPath::root(),
        existing: Existing::Replace,
        delete_extra: true,
        dry_run: false,
        suffix: ".old".to_owned(),
    };
    let root = std::fs::File::open(target.path()).unwrap().into();
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    let summary = restore_parts(browse, root, &options, &mut |_| Ok(()), &progress, &cancel).unwrap();
    assert_eq!(summary.failed, 0, "{:?}", summary.failures);
    target
}

/// The entries of a tree that was restored, by path, with what is in files.
fn entries(root: &Path) -> BTreeMap<RelPath, (Entry, Vec<u8>)> {
    let browse = browse_directory(root).unwrap();
    let of = |node: convoy_backup::Node| {
        let entry = node.entry;
        let data = if entry.is_file() { std::fs::read(entry.path.below(root)).unwrap() } else { Vec::new() };
        (entry.path.clone(), (entry, data))
    };
    look::walk(&*browse, &RelPath::root(), None).into_iter().map(of).collect()
}

/// The signs of `diff` that two restored trees stand for, by path. Where data that is the same has another
/// time, either may be told: it may be stored in other pieces. Only backups of one store tell data apart that
/// has the same size and time.
fn naive(old: &Path, new: &Path, one_store: bool) -> BTreeMap<RelPath, &'static str> {
    let (old, new) = (entries(old), entries(new));
    let paths: BTreeSet<&RelPath> = old.keys().chain(new.keys()).collect();
    let differ = |(a, one): &(Entry, Vec<u8>), (b, other): &(Entry, Vec<u8>)| {
        a.kind != b.kind
            || a.size != b.size && a.is_file()
            || one != other && (one_store || a.mtime != b.mtime)
    };
    let sign = |path: &RelPath| match (old.get(path), new.get(path)) {
        (Some(_), None) => Some("-"),
        (None, _) => Some("+"),
        (Some(a), Some(b)) if differ(a, b) => Some("M"),
        (Some((a, _)), Some((b, _))) => {
            let moved = !a.is_dir() && a.mtime != b.mtime;
            let said = |it: &Entry| (it.mode, it.uid, it.gid, it.flags, it.project, it.xattrs.clone());
            match (moved && a.is_file(), moved || said(a) != said(b)) {
                (true, _) => Some("MU"),
                (false, true) => Some("U"),
                (false, false) => None,
            }
        }
    };
    paths.into_iter().filter_map(|path| Some((path.clone(), sign(path)?))).collect()
}

fn compared(old: &dyn Browse, new: &dyn Browse, one_store: bool) -> BTreeMap<RelPath, &'static str> {
    let mut told = BTreeMap::new();
    let trees = Compare { old, new, one_store };
    compare(trees, &RelPath::root(), &CancellationToken::new(), &mut |change| {
        let (sign, node) = match change {
            Change::Added(node) => ("+", node),
            Change::Removed(node) => ("-", node),
            Change::Data { new, .. } => ("M", new),
            Change::Metadata { new, .. } => ("U", new),
        };
        assert!(told.insert(node.entry.path, sign).is_none(), "told twice");
        Ok(())
    })
    .unwrap();
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 30, ..ProptestConfig::default() })]

    #[test]
    fn a_list_an_archive_and_parts_of_any_tree_are_those_of_a_full_restore(
        acts in prop::collection::vec(act(), 1..30),
    ) {
        let runtime = runtime();
        let (store, full) = runtime.block_on(async {
            let store = back_up(&[&acts]).await;
            let full = restore_tree(&store.store, "vol1", "b-0").await;
            (store, full)
        });
        let browse = runtime.block_on(look::browse(&store.store, "vol1", "b-0"));
        let restored = browse_directory(full.path()).unwrap();
        let told = listed(&*browse);
        prop_assert_eq!(&told, &listed(&*restored));
        let mut found = Vec::new();
        let all = Pattern::new("*").unwrap();
        find(&*browse, &all, &mut Searched::default(), &CancellationToken::new(), &mut |node| {
            found.push(look::say(&node));
            Ok(())
        }).unwrap();
        found.retain(|line| told.contains(line));
        prop_assert_eq!(&found, &told, "a pattern for every name finds what a list tells");
        let expected = describe(full.path());
        prop_assert_eq!(&describe(parts(&*browse).path()), &expected);
        prop_assert_eq!(apart(describe(untarred(&*browse).path())), apart(expected));
    }

    #[test]
    fn a_comparison_of_any_two_backups_is_that_of_two_restored_trees(
        first in prop::collection::vec(act(), 1..20),
        then in prop::collection::vec(act(), 0..20),
    ) {
        let runtime = runtime();
        let (store, old, new) = runtime.block_on(async {
            let store = back_up(&[&first, &then]).await;
            let old = restore_tree(&store.store, "vol1", "b-0").await;
            let new = restore_tree(&store.store, "vol1", "b-1").await;
            (store, old, new)
        });
        let stored = |name: &str| runtime.block_on(look::browse(&store.store, "vol1", name));
        let (one, other) = (stored("b-0"), stored("b-1"));
        let plain = |dir: &tempfile::TempDir| browse_directory(dir.path()).unwrap();
        let (one_plain, other_plain) = (plain(&old), plain(&new));
        for (what, one_store, told) in [
            ("two backups of a store", true, compared(&*one, &*other, true)),
            ("two backups of different stores", false, compared(&*one, &*other, false)),
            ("two directories", false, compared(&*one_plain, &*other_plain, false)),
            ("a directory and a backup", false, compared(&*one_plain, &*other, false)),
        ] {
            let expected = naive(old.path(), new.path(), one_store);
            prop_assert!(told.keys().eq(expected.keys()), "{}: {:?} and not {:?}", what, told, expected);
            for (path, sign) in &told {
                let expected = expected[path];
                prop_assert!(expected.contains(sign), "{}: {} {} {}", what, sign, path, expected);
            }
        }
    }
}
