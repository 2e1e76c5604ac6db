//! What a container can do with depth, width, links, leases and file flags: it costs no more than it has to,
//! and ends.
//!
//! Memory is counted by the allocator, as the most that was allocated at one time. One test at a time, so
//! that the count and the limit on open files are its own.

#![allow(unsafe_code, reason = "a test does by hand what the product must withstand")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use parking_lot::{Mutex, MutexGuard};
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use convoy_tree::{
    CopyOptions, Found, Previous, TreeError, WalkOptions, copy_tree, limits, remove_tree, walk,
};
use rustix::fs::{AtFlags, CWD, IFlags, Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

/// Counts what is allocated.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn grow(by: usize) {
    MOST.fetch_max(NOW.fetch_add(by, Ordering::Relaxed) + by, Ordering::Relaxed);
}

// SAFETY: everything is the system's allocator; only numbers are added up.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` allocates at most beyond what there is, in MiB, rounded up.
fn mebibytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let done = work();
    (done, (MOST.load(Ordering::Relaxed) - before).div_ceil(1 << 20))
}

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock()
}

/// On a disk: file systems in memory have no flags, and this much does not belong there.
fn place() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Directories inside each other, far beyond any path that the kernel takes at once; `each` is called in
/// every one.
fn chain(root: &Path, levels: usize, name: &str, each: impl Fn(&OwnedFd, usize)) {
    fs::create_dir(root).unwrap();
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(CWD, root, flags, Mode::empty()).unwrap();
    for level in 0..levels {
        each(&at, level);
        rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, name, flags, Mode::empty()).unwrap();
    }
}

fn touch(dir: &OwnedFd, name: &str) {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).unwrap();
}

#[test]
fn four_thousand_directories_with_long_names_are_copied_and_linked_in_64_mebibytes() {
    let _alone = alone();
    let dir = place();
    let (from, one, two) = (dir.path().join("from"), dir.path().join("one"), dir.path().join("two"));
    chain(&from, 4000, &"d".repeat(255), |at, level| {
        if level.is_multiple_of(8) {
            touch(at, "a");
            rustix::fs::linkat(at, "a", at, "another", AtFlags::empty()).unwrap();
            // Something to come back to on the way up.
            touch(at, "z");
        }
    });
    let copy = |to: &Path, previous: Option<Previous>| {
        fs::create_dir(to).unwrap();
        let index = Some(to.with_extension("index"));
        let options = CopyOptions { index, previous, ..CopyOptions::default() };
        let (report, used) = mebibytes(|| copy_tree(&from, to, &options).unwrap());
        assert_eq!((report.entries, report.vanished), (5501, 0));
        assert!(used <= 64, "{used} MiB");
    };
    copy(&one, None);
    copy(&two, Some(Previous { tree: one.clone(), index: one.with_extension("index") }));
    let entries = |tree: &Path| {
        let walk = walk(tree, WalkOptions::default()).unwrap().map(|found| match found.unwrap() {
            Found::Entry(found) => {
                let second = found.entry.path.as_bytes().ends_with(b"another");
                assert!(!second || found.entry.is_linked());
                (found.entry.path.as_bytes().len(), found.entry.mtime)
            }
            Found::Vanished(path) => panic!("{path} vanished"),
            Found::Refused { path, error } => panic!("{path}: {error}"),
        });
        walk.collect::<Vec<_>>()
    };
    let (original, used) = mebibytes(|| entries(&from));
    assert!(used <= 16, "{used} MiB");
    assert!(original == entries(&one) && original == entries(&two));
    for tree in [from, one, two] {
        let ((), used) = mebibytes(|| remove_tree(&tree).unwrap());
        assert!(used <= 8 && !tree.exists(), "{used} MiB");
    }
}

#[test]
fn any_depth_is_removed_in_the_same_memory() {
    let _alone = alone();
    let dir = place();
    let removed_with = |levels: usize| {
        let tree = dir.path().join("tree");
        chain(&tree, levels, "d", |at, level| {
            if level.is_multiple_of(7) {
                touch(at, "a");
                rustix::fs::mkdirat(at, "z", Mode::RWXU).unwrap();
            }
        });
        let ((), used) = mebibytes(|| remove_tree(&tree).unwrap());
        assert!(!tree.exists());
        used
    };
    assert!(removed_with(1000) <= 2);
    assert!(removed_with(10_000) <= 2);
}

#[test]
fn a_directory_with_very_many_names_is_removed_in_the_same_memory() {
    let _alone = alone();
    let dir = place();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..8000 {
        File::create(tree.join(format!("{number:0200}"))).unwrap();
    }
    let ((), used) = mebibytes(|| remove_tree(&tree).unwrap());
    assert!(used <= 1 && !tree.exists(), "{used} MiB");
}

#[test]
fn what_is_deeper_than_the_limit_is_told_in_few_words() {
    let _alone = alone();
    let dir = place();
    let told = |levels: usize, name: &str, limit: limits::Limit, work: &dyn Fn(&Path) -> TreeError| {
        let from = dir.path().join("from");
        chain(&from, levels, name, |_, _| ());
        let (error, used) = mebibytes(|| work(&from));
        assert!(matches!(error, TreeError::Limit { limit: found, .. } if found == limit), "{error}");
        let text = error.to_string();
        assert!(
            text.len() < 1000 && text.contains(&limit.to_string()) && text.contains(" bytes) "),
            "{text}"
        );
        assert!(used <= 64, "{used} MiB");
        remove_tree(&from).unwrap();
    };
    // The walk names that place, and goes on elsewhere.
    let walked = |from: &Path| {
        let mut errors = walk(from, WalkOptions::default()).unwrap().filter_map(Result::err);
        let error = errors.next().unwrap();
        assert_eq!(errors.count(), 0);
        error
    };
    let copied = |from: &Path| {
        let to = dir.path().join("to");
        fs::create_dir(&to).unwrap();
        let error = copy_tree(from, &to, &CopyOptions::default()).unwrap_err();
        remove_tree(&to).unwrap();
        error
    };
    told(limits::DEPTH + 1, "d", limits::Limit::Depth, &walked);
    let long = "d".repeat(255);
    told(limits::PATH / 256 + 1, &long, limits::Limit::Path(limits::PATH), &copied);
}

/// As few open files as a process has by default, or less; until it is dropped.
struct FewFiles(Rlimit);

impl FewFiles {
    fn new(most: u64) -> Self {
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..before }).unwrap();
        Self(before)
    }
}

impl Drop for FewFiles {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).unwrap();
    }
}

#[test]
fn hard_links_between_very_many_directories_keep_none_of_them_open() {
    let _alone = alone();
    let dir = place();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    for number in 0..2000 {
        let sub = from.join(format!("d{number}"));
        fs::create_dir(&sub).unwrap();
        match number {
            0 => fs::write(sub.join("file"), "data").unwrap(),
            _ => fs::hard_link(from.join("d0/file"), sub.join("file")).unwrap(),
        }
    }
    fs::create_dir(&to).unwrap();
    // A queue full of files, and the workers: each may have a file and its directory.
    let _few = FewFiles::new(512);
    let report = copy_tree(&from, &to, &CopyOptions::default()).unwrap();
    assert_eq!(report.entries, 4001);
    assert_eq!(fs::metadata(to.join("d1999/file")).unwrap().nlink(), 2000);
}

/// Whoever has a lease is told with this signal, and would be ended by it.
fn ignore_lease_signals() {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

fn lease(file: &File, kind: libc::c_int) -> bool {
    // SAFETY: the call takes numbers only.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) == 0 }
}

#[test]
fn files_with_leases_are_copied_once_their_holder_has_given_them_up() {
    let _alone = alone();
    ignore_lease_signals();
    let dir = place();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    let mut held = Vec::new();
    for number in 0..40 {
        let path = from.join(format!("leased{number}"));
        fs::write(&path, "data").unwrap();
        if number % 2 == 0 {
            fs::hard_link(&path, from.join(format!("second{number}"))).unwrap();
        }
        let file = File::options().read(true).write(true).open(&path).unwrap();
        assert!(lease(&file, libc::F_WRLCK), "{}", std::io::Error::last_os_error());
        held.push(file);
    }
    let start = Instant::now();
    let patience = Duration::from_secs(1);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(patience);
            held.iter().for_each(|file| assert!(lease(file, libc::F_UNLCK)));
        });
        copy_tree(&from, &to, &CopyOptions::default()).unwrap()
    });
    assert!(start.elapsed() >= patience);
    assert_eq!((report.entries, report.vanished), (61, 0));
    for number in 0..40 {
        let copy = to.join(format!("leased{number}"));
        assert_eq!(fs::read(&copy).unwrap(), b"data");
        assert_eq!(fs::metadata(&copy).unwrap().nlink(), if number % 2 == 0 { 2 } else { 1 });
    }
}

#[test]
#[ignore = "takes as long as the kernel lets anybody keep a lease: 45 seconds"]
fn a_lease_that_is_never_given_up_is_waited_for_and_taken_away() {
    let _alone = alone();
    ignore_lease_signals();
    let dir = place();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    let mut held = Vec::new();
    for number in 0..100 {
        let path = from.join(format!("leased{number}"));
        fs::write(&path, "data").unwrap();
        held.push(File::options().read(true).write(true).open(&path).unwrap());
        assert!(held.last().is_some_and(|file| lease(file, libc::F_WRLCK)));
    }
    let start = Instant::now();
    assert_eq!(copy_tree(&from, &to, &CopyOptions::default()).unwrap().entries, 101);
    // All at the same time, not one after the other.
    assert!(start.elapsed() < Duration::from_secs(90), "{:?}", start.elapsed());
}

fn set_flags(path: &Path, flags: IFlags) {
    let file = File::open(path).unwrap();
    let now = rustix::fs::ioctl_getflags(&file).unwrap();
    rustix::fs::ioctl_setflags(&file, now | flags).unwrap();
}

#[test]
fn immutable_and_append_only_things_are_removed() {
    let _alone = alone();
    let dir = place();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("fixed/inside")).unwrap();
    fs::create_dir_all(tree.join("log")).unwrap();
    for file in ["fixed/inside/file", "fixed/file", "log/old", "immutable", "append"] {
        fs::write(tree.join(file), "data").unwrap();
    }
    for (path, flags) in [
        ("append", IFlags::APPEND),
        ("immutable", IFlags::IMMUTABLE),
        ("log", IFlags::APPEND),
        ("fixed/inside/file", IFlags::IMMUTABLE | IFlags::APPEND),
        ("fixed", IFlags::IMMUTABLE),
        ("", IFlags::IMMUTABLE),
    ] {
        set_flags(&tree.join(path), flags);
    }
    assert!(fs::remove_file(tree.join("immutable")).is_err());
    remove_tree(&tree).unwrap();
    assert!(!tree.exists());
    let file = dir.path().join("file");
    fs::write(&file, "data").unwrap();
    set_flags(&file, IFlags::IMMUTABLE);
    remove_tree(&file).unwrap();
    assert!(!file.exists());
}

#[test]
fn what_cannot_be_removed_keeps_nothing_else() {
    let _alone = alone();
    let dir = place();
    let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
    fs::create_dir(&other).unwrap();
    // Mounted on the deepest: what is below a mount point is out of reach.
    chain(&tree, 200, "d", |at, _| touch(at, "z"));
    let stuck = tree.join(vec!["d"; 200].join("/"));
    rustix::mount::mount_bind(&other, &stuck).unwrap();
    let error = remove_tree(&tree).unwrap_err();
    rustix::mount::unmount(&stuck, rustix::mount::UnmountFlags::DETACH)
        .or_else(|_| {
            // It was moved up with what it is in.
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let at = table.lines().find(|line| line.contains(dir.path().to_str().unwrap())).unwrap();
            let at = at.split(' ').nth(4).unwrap();
            rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH)
        })
        .unwrap();
    assert!(matches!(error, TreeError::MountPoint { .. }), "{error}");
    let left = walk(&tree, WalkOptions::default()).unwrap().map(|found| match found.unwrap() {
        Found::Entry(found) => assert!(found.entry.is_dir(), "{}", found.entry.path),
        Found::Vanished(path) => panic!("{path} vanished"),
        Found::Refused { path, error } => panic!("{path}: {error}"),
    });
    assert!(left.count() <= 202);
    remove_tree(&tree).unwrap();
}
