//! Somebody who can write to a directory of backups puts links, FIFOs and devices into it: nothing outside is
//! read, written or deleted, nothing hangs, and what is in order goes on working. Everything with `openat2`
//! and without.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/forbid.rs"]
mod forbid;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use convoy_objectstore::{Depth, DirectoryStore, ObjectStore, StoreError, list_all};
use forbid::{Forbidden, forbid};
use futures::StreamExt;
use rustix::fs::{CWD, FileType, Mode, RenameFlags};

/// Runs a test twice: as it is, and where there is no `openat2`.
fn both_ways<F: Future<Output = ()>>(test: impl Fn() -> F + Send + Sync) {
    let run = |forbidden: &[Forbidden]| {
        forbid(forbidden);
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    };
    let without = [Forbidden { call: libc::SYS_openat2, error: libc::ENOSYS, argument: None }];
    std::thread::scope(|scope| {
        for forbidden in [&[], &without[..]] {
            let run = &run;
            scope.spawn(move || run(forbidden)).join().unwrap();
        }
    });
}

/// Old filters of containers refuse in another way than old kernels what they do not know.
#[tokio::test]
async fn a_filter_that_forbids_openat2_changes_nothing() {
    forbid(&[Forbidden { call: libc::SYS_openat2, error: libc::EPERM, argument: None }]);
    let scene = Scene::new().await;
    symlink(scene.path("outside"), scene.path("store/l")).unwrap();
    scene.store.put("new/one", Bytes::from_static(b"1")).await.unwrap();
    assert_eq!(scene.store.get("new/one", 1).await.unwrap(), "1");
    assert!(matches!(scene.store.get("l/file", 9).await, Err(StoreError::Foreign { .. })));
}

/// A store, and what is outside of it and precious.
struct Scene {
    dir: tempfile::TempDir,
    store: DirectoryStore,
}

/// Every file below a directory, with what is in it.
type Tree = BTreeMap<PathBuf, Vec<u8>>;

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["store/a/b", "outside/b/c"] {
            std::fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        for file in ["outside/file", "outside/b/file", "outside/b/c/file", OLD_PARTIAL] {
            std::fs::write(dir.path().join(file), "precious").unwrap();
        }
        std::fs::write(dir.path().join("store/a/b/file"), "ours").unwrap();
        let old = SystemTime::now() - Duration::from_secs(100_000);
        std::fs::File::open(dir.path().join(OLD_PARTIAL)).unwrap().set_modified(old).unwrap();
        let store = DirectoryStore::open(dir.path().join("store")).await.unwrap();
        Self { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn outside(&self) -> Tree {
        tree(&self.path("outside"))
    }
}

const OLD_PARTIAL: &str = "outside/b/.convoy-partial-0123456789abcdef";

fn tree(dir: &Path) -> Tree {
    let mut found = Tree::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let (path, kind) = entry.map(|e| (e.path(), e.file_type().unwrap())).unwrap();
        if kind.is_dir() {
            found.extend(tree(&path));
            found.insert(path, Vec::new());
        } else {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    found
}

/// Every operation there is. What they do inside is their affair; what they give back is looked at.
async fn everything(store: &DirectoryStore, key: &str) {
    let dir = key.rsplit_once('/').map_or("", |(dir, _)| dir);
    let dirs = [format!("{dir}/"), format!("{key}/"), String::new()];
    let read = [store.get(key, 1 << 20).await, store.get_range(key, 0..8).await];
    for read in read.into_iter().flatten() {
        assert_ne!(read, "precious", "{key}");
    }
    let _ = store.head(key).await;
    for dir in dirs.iter().filter(|dir| *dir != "/") {
        for depth in [Depth::One, Depth::All] {
            let _ = list_all(store, dir, depth).await;
        }
        let _ = store.sweep(dir, Duration::from_secs(3600)).await;
    }
    let _ = store.put_if_absent(key, Bytes::from_static(b"hostile")).await;
    let _ = store.put(key, Bytes::from_static(b"hostile")).await;
    let stream = futures::stream::iter([Ok(Bytes::from_static(b"hos")), Ok(Bytes::from_static(b"tile"))]);
    let _ = store.put_stream(key, stream.boxed()).await;
    let _ = store.put(&format!("{key}/deeper"), Bytes::from_static(b"hostile")).await;
    let _ = store.delete(&[format!("{key}/deeper"), key.to_owned()]).await;
}

#[test]
fn links_at_any_level_lead_nowhere() {
    both_ways(|| async {
        // Where the link is, and the key that would lead through it.
        let attacks = [
            ("store/l", "l"),
            ("store/l", "l/file"),
            ("store/l", "l/b/file"),
            ("store/l", "l/b/c/file"),
            ("store/l", "l/new/file"),
            ("store/a/l", "a/l/file"),
            ("store/a/l", "a/l/b/c/file"),
            ("store/a/b/l", "a/b/l"),
            ("store/a/b/l", "a/b/l/b/file"),
        ];
        for (at, key) in attacks {
            for target in ["outside", "outside/file", "outside/missing", "relative", "magic"] {
                let scene = Scene::new().await;
                let before = scene.outside();
                match target {
                    "relative" => {
                        symlink("../".repeat(at.matches('/').count()) + "outside", scene.path(at)).unwrap()
                    }
                    "magic" => {
                        let outside = std::fs::File::open(scene.path("outside")).unwrap();
                        let fd = std::os::fd::AsRawFd::as_raw_fd(&outside);
                        symlink(format!("/proc/self/fd/{fd}"), scene.path(at)).unwrap();
                        std::mem::forget(outside);
                    }
                    target => symlink(scene.path(target), scene.path(at)).unwrap(),
                }
                if key.contains("/file") {
                    let error = scene.store.get(key, 100).await.unwrap_err();
                    assert!(matches!(error, StoreError::Foreign { kind: "symbolic link", .. }), "{error}");
                    let error = scene.store.put(key, Bytes::new()).await.unwrap_err();
                    assert!(matches!(error, StoreError::Foreign { .. }) && !error.retryable(), "{error}");
                }
                everything(&scene.store, key).await;
                assert_eq!(scene.outside(), before, "{at} to {target}, {key}");
                assert_eq!(std::fs::read(scene.path("store/a/b/file")).unwrap(), b"ours");
            }
        }
    });
}

#[test]
fn a_link_in_the_place_of_an_object_is_replaced_and_deleted_itself() {
    both_ways(|| async {
        let scene = Scene::new().await;
        let before = scene.outside();
        symlink(scene.path("outside/file"), scene.path("store/one")).unwrap();
        symlink(scene.path("outside"), scene.path("store/two")).unwrap();
        let shown = list_all(&scene.store, "", Depth::All).await.unwrap();
        assert_eq!(shown.objects.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["a/b/file"]);
        scene.store.put("one", Bytes::from_static(b"new")).await.unwrap();
        assert_eq!(scene.store.get("one", 10).await.unwrap(), "new");
        scene.store.delete(&["two".to_owned(), "one".to_owned()]).await.unwrap();
        assert!(std::fs::symlink_metadata(scene.path("store/two")).is_err());
        assert_eq!(scene.outside(), before);
    });
}

/// The root is the operator's, who may say where it is as they like.
#[test]
fn the_root_itself_may_be_a_link_and_may_be_another_directory_by_and_by() {
    both_ways(|| async {
        let scene = Scene::new().await;
        symlink(scene.path("store"), scene.path("link")).unwrap();
        let store = DirectoryStore::open(scene.path("link")).await.unwrap();
        assert_eq!(store.get("a/b/file", 10).await.unwrap(), "ours");
        // As when a file system is mounted there that was not before.
        std::fs::rename(scene.path("store"), scene.path("unmounted")).unwrap();
        let error = store.get("a/b/file", 10).await.unwrap_err();
        assert!(matches!(error, StoreError::NoDirectory { .. }), "{error}");
        assert!(store.list("", Depth::One, None).await.is_err());
        std::fs::create_dir_all(scene.path("store/a/b")).unwrap();
        std::fs::write(scene.path("store/a/b/file"), "other").unwrap();
        assert_eq!(store.get("a/b/file", 10).await.unwrap(), "other");
    });
}

/// 1,100 reads of FIFOs once took every thread there is, for ever.
#[test]
fn nothing_that_could_hang_or_act_is_opened() {
    both_ways(|| async {
        let scene = Scene::new().await;
        let make = |name: &str, kind, dev| {
            rustix::fs::mknodat(CWD, scene.path(name), kind, Mode::RWXU, dev).unwrap();
        };
        make("store/fifo", FileType::Fifo, 0);
        // Who may not make devices (a container) has the other kinds.
        let device = rustix::fs::makedev(1, 3);
        let may = rustix::fs::mknodat(
            CWD,
            scene.path("store/device"),
            FileType::CharacterDevice,
            Mode::RWXU,
            device,
        );
        std::os::unix::net::UnixListener::bind(scene.path("store/socket")).unwrap();
        let kinds = [("fifo", "FIFO"), ("socket", "socket"), ("device", "device")];
        for (name, what) in kinds.into_iter().take(if may.is_ok() { 3 } else { 2 }) {
            let error = scene.store.get(name, 100).await.unwrap_err();
            assert!(matches!(error, StoreError::Foreign { kind, .. } if kind == what), "{error}");
            assert!(scene.store.get_range(name, 0..1).await.is_err());
            assert!(scene.store.head(name).await.is_err());
            let below = scene.store.get(&format!("{name}/x"), 100).await.unwrap_err();
            assert!(below.not_found(), "{below}");
            assert!(
                scene.store.list(&format!("{name}/"), Depth::All, None).await.unwrap().objects.is_empty()
            );
        }
        let reads = (0..1100).map(|_| scene.store.get("fifo", 100));
        let reads = futures::future::join_all(reads);
        let reads = tokio::time::timeout(Duration::from_secs(120), reads).await.expect("nothing hangs");
        assert!(reads.iter().all(Result::is_err));
        assert_eq!(scene.store.get("a/b/file", 100).await.unwrap(), "ours");
        // What is there does not keep an object from its place.
        scene.store.put("fifo", Bytes::from_static(b"whole")).await.unwrap();
        assert_eq!(scene.store.get("fifo", 100).await.unwrap(), "whole");
        assert!(std::fs::symlink_metadata(scene.path("store/socket")).unwrap().file_type().is_socket());
    });
}

#[test]
fn only_what_is_named_as_unfinished_writes_are_is_swept() {
    both_ways(|| async {
        let scene = Scene::new().await;
        let before = scene.outside();
        let old = SystemTime::now() - Duration::from_secs(100_000);
        let names = [
            ".convoy-partial-0123456789abcdef",
            ".convoy-partial-0123456789ABCDEF",
            ".convoy-partial-0123456789abcde",
            ".convoy-partial-0123456789abcdef0",
            ".convoy-partial-",
            ".convoy-partial-../../../x".get(..18).unwrap(),
            "convoy-partial-0123456789abcdef",
        ];
        for name in names {
            let path = scene.path("store/a/b").join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::File::open(path).unwrap().set_modified(old).unwrap();
        }
        std::fs::create_dir(scene.path("store/a/.convoy-partial-0000000000000000")).unwrap();
        symlink(scene.path("outside/file"), scene.path("store/a/.convoy-partial-0000000000000001")).unwrap();
        symlink(scene.path("outside/b"), scene.path("store/a/linked")).unwrap();
        assert_eq!(scene.store.sweep("", Duration::from_secs(3600)).await.unwrap(), 1);
        for (name, there) in names.into_iter().zip([false, true, true, true, true, true, true]) {
            assert_eq!(scene.path("store/a/b").join(name).exists(), there, "{name}");
        }
        assert_eq!(scene.outside(), before);
    });
}

/// A directory and a link to another one change places all the time while everything is done at once.
#[test]
fn places_that_are_swapped_meanwhile_lead_nowhere() {
    both_ways(|| async {
        let scene = Scene::new().await;
        let before = scene.outside();
        // Directories against links, at two levels, and files against links and FIFOs.
        let pairs = [("a", "dir-link"), ("deep/b", "deep/link"), ("file", "file-link"), ("file", "fifo")];
        let refill = || refill(&scene);
        refill();
        let stop = Arc::new(AtomicBool::new(false));
        let swapping = std::thread::spawn({
            let (store, stop) = (scene.path("store"), stop.clone());
            move || {
                let mut swaps = 0_u64;
                while !stop.load(Ordering::SeqCst) {
                    for (one, two) in pairs.map(|(one, two)| (store.join(one), store.join(two))) {
                        // What is not there at this moment is tried again.
                        let swapped = rustix::fs::renameat_with(CWD, one, CWD, two, RenameFlags::EXCHANGE);
                        swaps += u64::from(swapped.is_ok());
                    }
                }
                swaps
            }
        });
        let keys = [
            "a/b/file",
            "a/new/file",
            "dir-link/b/file",
            "deep/b/file",
            "deep/link/b/c/file",
            "file",
            "file-link",
        ];
        for _ in 0..5 {
            for key in keys {
                let work = everything(&scene.store, key);
                tokio::time::timeout(Duration::from_secs(300), work).await.expect("nothing hangs");
                // The attack goes on, whatever was deleted.
                refill();
            }
        }
        stop.store(true, Ordering::SeqCst);
        let swaps = swapping.join().unwrap();
        assert!(swaps > 100, "{swaps} swaps are no attack");
        assert_eq!(scene.outside(), before);
    });
}

/// Makes what the attack needs, where it is missing. Follows no link itself.
fn refill(scene: &Scene) {
    let new = scene.path("new");
    let place = |to: &str| {
        // Where something is already it may stay.
        let placed =
            rustix::fs::renameat_with(CWD, &new, CWD, scene.path("store").join(to), RenameFlags::NOREPLACE);
        if placed.is_err() {
            let _ = std::fs::remove_dir_all(&new).or_else(|_| std::fs::remove_file(&new));
        }
    };
    for dir in ["a", "deep", "deep/b"] {
        std::fs::create_dir_all(new.join("b/c")).unwrap();
        std::fs::write(new.join("b/file"), "ours").unwrap();
        place(dir);
    }
    std::fs::write(&new, "ours").unwrap();
    place("file");
    rustix::fs::mknodat(CWD, &new, FileType::Fifo, Mode::RWXU, 0).unwrap();
    place("fifo");
    for (link, target) in [("dir-link", "outside"), ("deep/link", "outside"), ("file-link", "outside/file")] {
        symlink(scene.path(target), &new).unwrap();
        place(link);
    }
}
