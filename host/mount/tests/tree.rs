//! Backups that are mounted: the kernel and the tools of others see in them what was backed up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails that way")]

mod common;

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{Backups, Mounted, describe, one, shell};
use convoy_backup::{
    BackupError, BackupKind, BackupOptions, BackupResult, Browse, Node, ReadAt, Visitor, browse_directory,
};
use convoy_mount::{Listed, MountError, Shelf, View};
use convoy_objectstore::{DirectoryStore, Fault, FaultStore, ObjectStore};
use convoy_tests::{Lab, Result, patience};
use convoy_tree::RelPath;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::runtime::Runtime;

/// Long enough for a machine that is busy.
const LONG: Duration = Duration::from_secs(120);

fn store_in(dir: &Path) -> impl FnOnce(&Runtime) -> Arc<dyn ObjectStore> + use<> {
    let dir = dir.to_owned();
    move |runtime| {
        fs::create_dir_all(&dir).unwrap();
        Arc::new(runtime.block_on(DirectoryStore::open(&dir)).unwrap())
    }
}

/// Something to put into a tree.
#[derive(Debug, Clone)]
enum Thing {
    /// Pieces of data, each behind a hole of so many blocks; and the size behind the last.
    File {
        pieces: Vec<(u8, u16)>,
        tail: u16,
    },
    Directory,
    Symlink(Vec<u8>),
    Fifo,
    Device,
    /// A further name of the first file there is.
    Link,
}

#[derive(Debug, Clone)]
struct Planned {
    directory: usize,
    name: Vec<u8>,
    thing: Thing,
    mode: u32,
    owner: u32,
    time: (i64, u32),
    xattrs: u8,
}

fn planned() -> impl Strategy<Value = Planned> {
    let thing = prop_oneof![
        4 => (prop::collection::vec((0_u8..40, 1_u16..9000), 0..4), any::<u16>())
            .prop_map(|(pieces, tail)| Thing::File { pieces, tail }),
        3 => Just(Thing::Directory),
        1 => prop::collection::vec(1_u8..255, 1..60).prop_map(Thing::Symlink),
        1 => Just(Thing::Fifo),
        1 => Just(Thing::Device),
        2 => Just(Thing::Link),
    ];
    let name = prop::collection::vec(prop_oneof![b'a'..=b'z', 1_u8..b'/', b'0'..=255], 1..30);
    let time = (-4_000_000_000_i64..4_000_000_000, 0_u32..1_000_000_000);
    (any::<prop::sample::Index>(), name, thing, 0_u32..0o10000, 0_u32..70_000, time, 0_u8..4).prop_map(
        |(directory, name, thing, mode, owner, time, xattrs)| Planned {
            directory: directory.index(1000),
            name,
            thing,
            mode,
            owner,
            time,
            xattrs,
        },
    )
}

/// Makes a tree of what is planned; what cannot be is left out.
fn make(root: &Path, plan: &[Planned]) {
    let mut directories = vec![root.to_owned()];
    let mut first_file = None;
    for planned in plan {
        let name = std::ffi::OsStr::from_bytes(&planned.name);
        let path = directories[planned.directory % directories.len()].join(name);
        if matches!(planned.name.as_slice(), b"." | b"..") || path.symlink_metadata().is_ok() {
            continue;
        }
        match &planned.thing {
            Thing::File { pieces, tail } => {
                let file = File::create(&path).unwrap();
                let mut at = 0;
                for (hole, length) in pieces {
                    at += u64::from(*hole) * 4096;
                    let data: Vec<u8> = (0..*length).map(|n| (n % 251) as u8 ^ *hole).collect();
                    file.write_all_at(&data, at).unwrap();
                    at += u64::from(*length);
                }
                file.set_len(at + u64::from(*tail)).unwrap();
                first_file.get_or_insert(path.clone());
            }
            Thing::Directory => {
                fs::create_dir(&path).unwrap();
                directories.push(path.clone());
            }
            Thing::Symlink(target) => symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap(),
            Thing::Fifo => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::empty()).unwrap(),
            Thing::Device => {
                let device = nix::sys::stat::makedev(259, 70_000);
                let mode = nix::sys::stat::Mode::empty();
                nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFBLK, mode, device).unwrap();
            }
            Thing::Link => {
                if let Some(first) = &first_file {
                    fs::hard_link(first, &path).unwrap();
                }
                continue;
            }
        }
        std::os::unix::fs::lchown(&path, Some(planned.owner), Some(planned.owner / 2)).unwrap();
        if !matches!(planned.thing, Thing::Symlink(_)) {
            fs::set_permissions(&path, fs::Permissions::from_mode(planned.mode)).unwrap();
            let user = matches!(planned.thing, Thing::File { .. } | Thing::Directory);
            for number in 0..planned.xattrs {
                let name = format!("{}.test-{number}", if user && number > 0 { "user" } else { "trusted" });
                let value = vec![number; usize::from(number) * 300];
                rustix::fs::setxattr(&path, name, &value, rustix::fs::XattrFlags::empty()).unwrap();
            }
        }
        let time = rustix::fs::Timespec { tv_sec: planned.time.0, tv_nsec: planned.time.1.into() };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let here = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, here).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_is_mounted_is_what_a_restore_gives(plan in prop::collection::vec(planned(), 0..40)) {
        let compared = Lab::run(|lab| {
            let tree = lab.make("tree")?;
            make(&tree, &plan);
            fs::set_permissions(&tree, fs::Permissions::from_mode(0o2710)).unwrap();
            std::os::unix::fs::lchown(&tree, Some(77), Some(88)).unwrap();
            let backups = Backups::new(store_in(&lab.path("store")));
            backups.back_up("b-1", &tree, &BackupOptions::default());
            backups.restore("b-1", &lab.path("restored"));
            let view = View::of_backup(backups.list().remove(0), backups.clone()).unwrap();
            let mounted = Mounted::new(Arc::new(view), &lab.path("mnt"));
            let (there, restored) = (describe(&mounted.path), describe(&lab.path("restored")));
            mounted.end();
            assert_eq!(there, restored);
            Ok(())
        });
        compared.unwrap();
    }
}

#[test]
fn names_of_one_file_have_one_inode_and_tools_copy_links_and_holes() -> Result<()> {
    Lab::run(|lab| {
        let tree = lab.make("tree")?;
        shell(
            "cd $1; mkdir d; echo x > a; ln a d/b; ln a d/c; truncate -s 30M hole; echo end >> hole; ln -s a l",
            &[&tree],
        )?;
        let backups = Backups::new(store_in(&lab.path("store")));
        backups.back_up("b-1", &tree, &BackupOptions::default());
        let view = View::of_backup(backups.list().remove(0), backups.clone()).unwrap();
        let mounted = Mounted::new(Arc::new(view), &lab.path("mnt"));
        let inode = |name: &str| mounted.path.join(name).symlink_metadata().unwrap().ino();
        assert_eq!((inode("a"), inode("a")), (inode("d/b"), inode("d/c")));
        assert_ne!(inode("a"), inode("l"));
        let copy = lab.path("copy");
        shell(
            "cp -a $1/. $2; cd $2; test a -ef d/b; test a -ef d/c; test $(du -k hole | cut -f1) -lt 1000",
            &[&mounted.path, &copy],
        )?;
        assert_eq!(describe(&copy), describe(&tree));
        let archive = shell("tar -C $1 -cSf - . | tar -tvf - | sort", &[&mounted.path])?;
        assert!(archive.contains("link to ./a"), "{archive}");
        mounted.end();
        Ok(())
    })
}

/// Bytes that do not compress.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(bytes).collect()
}

#[test]
fn a_damaged_chunk_fails_its_file_and_no_other() -> Result<()> {
    Lab::run(|lab| {
        let tree = lab.make("tree")?;
        let damaged = noise(300_000, 1);
        fs::write(tree.join("damaged"), &damaged).unwrap();
        for number in 0..50 {
            fs::write(tree.join(format!("file-{number}")), noise(20_000, 100 + number)).unwrap();
        }
        let store = lab.path("store");
        let backups = Backups::new(store_in(&store));
        backups.back_up("b-1", &tree, &BackupOptions { level: None, ..BackupOptions::default() });
        // A bit of its data is flipped in the pack that has it.
        let packs = shell("find $1 -type f -size +100k", &[&store])?;
        let flipped = packs.lines().any(|pack| {
            let mut bytes = fs::read(pack).unwrap();
            let found = bytes.windows(64).position(|window| window == &damaged[1000..1064]);
            let Some(at) = found else { return false };
            bytes[at] ^= 1;
            fs::set_permissions(pack, fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(pack, bytes).unwrap();
            true
        });
        assert!(flipped, "the data is in one of {packs}");
        let view = View::of_backup(backups.list().remove(0), backups.clone()).unwrap();
        let mounted = Mounted::new(Arc::new(view), &lab.path("mnt"));
        let error = fs::read(mounted.path.join("damaged")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "{error}");
        for number in 0..50 {
            let read = fs::read(mounted.path.join(format!("file-{number}"))).unwrap();
            assert!(read == noise(20_000, 100 + number), "file-{number}");
        }
        mounted.end();
        Ok(())
    })
}

/// Counts the backups that are opened, of which there may be very many.
#[derive(Debug)]
struct Counted(Arc<Backups>, AtomicU64);

impl Shelf for Counted {
    fn open_tree(&self, _: &Listed) -> BackupResult<Arc<dyn Browse>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.open_tree(&one(BackupKind::Tree))
    }

    fn open_image(&self, listed: &Listed) -> BackupResult<Arc<dyn ReadAt>> {
        self.0.open_image(listed)
    }

    fn has_files(&self) -> bool {
        true
    }

    fn open_files(&self, image: Arc<dyn ReadAt>) -> std::result::Result<Arc<dyn Browse>, MountError> {
        self.0.open_files(image)
    }
}

#[test]
fn a_thousand_backups_are_listed_without_a_manifest() -> Result<()> {
    Lab::run(|lab| {
        let tree = lab.make("tree")?;
        fs::write(tree.join("file"), "text").unwrap();
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o2710)).unwrap();
        let (dir, manifests) = (lab.path("store"), Arc::new(Mutex::new(Vec::new())));
        let noted = Arc::clone(&manifests);
        let backups = Backups::new(|runtime| {
            fs::create_dir_all(&dir).unwrap();
            let store = runtime.block_on(DirectoryStore::open(&dir)).unwrap();
            Arc::new(FaultStore::new(store, move |call| {
                if call.op.starts_with("get") && call.key.contains("/manifest") {
                    noted.lock().push(call.key.to_owned());
                }
                None
            }))
        });
        for number in 1..=5 {
            backups.back_up(&format!("b-{number}"), &tree, &BackupOptions::default());
        }
        manifests.lock().clear();
        // What the store is asked for, with five.
        let view = Arc::new(View::new(backups.list(), backups.clone()));
        let mounted = Mounted::new(Arc::clone(&view), &lab.path("mnt"));
        let volume = mounted.path.join("volumes/vol");
        assert_eq!(
            shell("ls -l $1; stat $1/*", &[&volume])?
                .lines()
                .filter(|line| line.contains("latest ->"))
                .count(),
            2
        );
        assert_eq!(*manifests.lock(), Vec::<String>::new());
        assert_eq!(fs::read(volume.join("latest/file")).unwrap(), b"text");
        assert!(!manifests.lock().is_empty());
        mounted.end();
        // What is opened, with a thousand.
        let many = (0..1000).map(|number| Listed {
            created: Some(convoy_driver_sdk::Timestamp::from_unix(number)),
            backup: format!("b-{number}"),
            ..one(BackupKind::Tree)
        });
        let counted = Arc::new(Counted(backups.clone(), AtomicU64::new(0)));
        let view = Arc::new(View::new(many.collect(), counted.clone()));
        let mounted = Mounted::new(Arc::clone(&view), &lab.path("mnt"));
        let volume = mounted.path.join("volumes/vol");
        // Paths only: each entry would keep the directory open, and with it the mount.
        let listed: Vec<_> = fs::read_dir(&volume).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(listed.len(), 1001);
        for path in &listed {
            assert!(path.symlink_metadata().unwrap().mtime() < 1000, "when it was made");
        }
        assert_eq!(counted.1.load(Ordering::Relaxed), 0);
        for path in listed.iter().take(30) {
            assert_eq!(fs::read(path.join("file")).unwrap(), b"text");
            // Once it was entered, it has the mode of the volume's root.
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o2710);
        }
        assert!(view.open_count() <= 8);
        mounted.end();
        Ok(())
    })
}

/// A tree of which one file waits until it is told to fail.
#[derive(Debug)]
struct Stuck {
    tree: Arc<dyn Browse>,
    waiting: AtomicU64,
    fails: AtomicBool,
}

impl Stuck {
    fn wait(&self) -> BackupError {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while !self.fails.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        BackupError::Cancelled
    }
}

#[derive(Debug)]
struct StuckShelf(Arc<Stuck>);

#[derive(Debug)]
struct StuckTree(Arc<Stuck>);

#[derive(Debug)]
struct StuckFile(Arc<Stuck>);

impl Browse for StuckTree {
    fn stat(&self, path: &RelPath) -> BackupResult<Node> {
        self.0.tree.stat(path)
    }

    fn list(&self, directory: &RelPath, after: Option<&RelPath>, limit: usize) -> BackupResult<Vec<Node>> {
        self.0.tree.list(directory, after, limit)
    }

    fn walk(&self, top: &RelPath, visit: Visitor<'_>) -> BackupResult<()> {
        self.0.tree.walk(top, visit)
    }

    fn open(&self, path: &RelPath) -> BackupResult<Box<dyn ReadAt>> {
        match path.as_bytes() {
            b"stuck" => Ok(Box::new(StuckFile(Arc::clone(&self.0)))),
            _ => self.0.tree.open(path),
        }
    }
}

impl ReadAt for StuckFile {
    fn size(&self) -> u64 {
        4096
    }

    fn read_at(&self, _: u64, _: usize) -> BackupResult<Bytes> {
        Err(self.0.wait())
    }

    fn next_data(&self, _: u64) -> BackupResult<Option<std::ops::Range<u64>>> {
        Ok(None)
    }
}

impl Shelf for StuckShelf {
    fn open_tree(&self, _: &Listed) -> BackupResult<Arc<dyn Browse>> {
        Ok(Arc::new(StuckTree(Arc::clone(&self.0))))
    }

    fn open_image(&self, _: &Listed) -> BackupResult<Arc<dyn ReadAt>> {
        Err(BackupError::Cancelled)
    }

    fn has_files(&self) -> bool {
        false
    }

    fn open_files(&self, _: Arc<dyn ReadAt>) -> std::result::Result<Arc<dyn Browse>, MountError> {
        Err(MountError::Keeper("there are none".to_owned()))
    }
}

#[test]
fn who_waits_for_a_store_keeps_nobody_waiting_and_it_is_unmounted_all_the_same() -> Result<()> {
    Lab::run(|lab| {
        let tree = lab.make("tree")?;
        fs::write(tree.join("stuck"), [0; 4096]).unwrap();
        fs::write(tree.join("well"), "text").unwrap();
        let stuck = Arc::new(Stuck {
            tree: browse_directory(&tree).unwrap(),
            waiting: AtomicU64::new(0),
            fails: AtomicBool::new(false),
        });
        let shelf = Arc::new(StuckShelf(Arc::clone(&stuck)));
        let view = View::of_backup(one(BackupKind::Tree), shelf).unwrap();
        let mounted = Mounted::new(Arc::new(view), &lab.path("mnt"));
        let path = mounted.path.join("stuck");
        let reader = std::thread::spawn(move || fs::read(path).map(drop));
        patience::until("the reader to wait", LONG, || Ok(stuck.waiting.load(Ordering::SeqCst) > 0))?;
        assert_eq!(fs::read(mounted.path.join("well")).unwrap(), b"text");
        mounted.detach();
        assert_eq!(fs::read_dir(&mounted.path).unwrap().count(), 0, "nothing is mounted there any more");
        assert!(!reader.is_finished());
        stuck.fails.store(true, Ordering::SeqCst);
        let error = reader.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "{error}");
        mounted.end();
        Ok(())
    })
}

#[test]
fn a_store_that_is_gone_is_an_error_and_is_used_again_when_it_is_back() -> Result<()> {
    Lab::run(|lab| {
        let tree = lab.make("tree")?;
        for number in 0..20 {
            fs::write(tree.join(format!("file-{number:02}")), noise(400_000, number)).unwrap();
        }
        let (dir, gone) = (lab.path("store"), Arc::new(AtomicBool::new(false)));
        let asked = Arc::clone(&gone);
        let backups = Backups::new(|runtime| {
            fs::create_dir_all(&dir).unwrap();
            let store = runtime.block_on(DirectoryStore::open(&dir)).unwrap();
            let gone = move || asked.load(Ordering::SeqCst).then_some(Fault::Refuse);
            Arc::new(FaultStore::new(store, move |_| gone()))
        });
        backups.back_up("b-1", &tree, &BackupOptions::default());
        let view = View::new(backups.list(), backups.clone());
        let mounted = Mounted::new(Arc::new(view), &lab.path("mnt"));
        let latest = mounted.path.join("volumes/vol/latest");
        gone.store(true, Ordering::SeqCst);
        let failed = |error: io::Error| error.raw_os_error() == Some(nix::libc::EIO);
        assert!(fs::read_dir(&latest).is_err_and(failed));
        gone.store(false, Ordering::SeqCst);
        assert_eq!(fs::read_dir(&latest).unwrap().count(), 20);
        gone.store(true, Ordering::SeqCst);
        assert!(fs::read(latest.join("file-19")).is_err_and(failed));
        gone.store(false, Ordering::SeqCst);
        assert!(fs::read(latest.join("file-19")).unwrap() == noise(400_000, 19));
        mounted.end();
        Ok(())
    })
}
