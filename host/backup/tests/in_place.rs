//! A whole tree in place: it becomes the source, and only what differs is written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use common::edits::{act, everything, perform, read, set_time, tree, write};
use common::{Store, noise};
use convoy_backup::{
    Action, BackupError, BackupOptions, BackupResult, Beside, Browse, Change, Node, PartsSummary, Progress,
    ReadAt, RestoreOptions, Visitor, browse_directory, restore_in_place,
};
use convoy_tree::RelPath;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

/// What was done, and what was told of it.
type Done = BackupResult<(PartsSummary, Vec<Change>)>;

fn go(source: &dyn Browse, target: &Path, dry_run: bool) -> Done {
    go_until(source, target, dry_run, &CancellationToken::new())
}

fn go_until(source: &dyn Browse, target: &Path, dry_run: bool, cancel: &CancellationToken) -> Done {
    let (mut changes, mut begun) = (Vec::new(), 0);
    let mut told = |change: &Change| {
        changes.push(change.clone());
        Ok(())
    };
    let mut begins = || {
        begun += 1;
        Ok(())
    };
    let root = fs::File::open(target).unwrap().into();
    let done = restore_in_place(source, root, dry_run, &mut begins, &mut told, &Progress::new(), cancel);
    assert_eq!(begun, usize::from(!dry_run));
    Ok((done?, changes))
}

fn here(source: &Path, target: &Path) -> (PartsSummary, Vec<Change>) {
    go(&*browse_directory(source).unwrap(), target, false).unwrap()
}

/// Of each path: which inode it is, and when that was written or changed last.
fn inodes(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let all = everything(root).into_keys();
    all.map(|path| {
        let meta = fs::symlink_metadata(root.join(&path)).unwrap();
        (path, (meta.ino(), meta.ctime(), meta.ctime_nsec()))
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 60, ..ProptestConfig::default() })]

    /// Any two trees: the one becomes the other; what was the same is not touched, and what is written has
    /// as many bytes as the files that differ.
    #[test]
    fn any_tree_becomes_any_other_and_only_what_differs_is_written(
        acts in prop::collection::vec(act(), 1..40),
        others in prop::collection::vec(act(), 0..30),
        shared in any::<bool>(),
    ) {
        let (source, target) = (tree(&acts), if shared { tree(&acts) } else { tree(&[]) });
        for act in &others {
            perform(target.path(), act);
        }
        let (expected, before) = (everything(source.path()), everything(target.path()));
        let inodes_before = inodes(target.path());
        let (would, would_change) = go(&*browse_directory(source.path()).unwrap(), target.path(), true).unwrap();
        prop_assert_eq!(&everything(target.path()), &before);
        let (summary, changes) = here(source.path(), target.path());
        prop_assert_eq!(summary.failed, 0, "{:?}", summary.failures);
        prop_assert_eq!(everything(target.path()), expected.clone());
        let told = |changes: &[Change]| -> Vec<(Action, RelPath)> {
            changes.iter().map(|change| (change.action, change.path.clone())).collect()
        };
        prop_assert_eq!(told(&would_change), told(&changes));
        prop_assert_eq!((would.same, would.updated), (summary.same, summary.updated));
        // What is written: no more than the files that differ in themselves or in their names.
        let changed: u64 = changes.iter().filter(|change| change.kind == "a regular file").map(|it| it.bytes).sum();
        prop_assert_eq!(summary.bytes, changed);
        let hash = |told: &String| told.split(' ').nth(5).unwrap().to_owned();
        for change in changes.iter().filter(|change| change.bytes > 0) {
            let path = PathBuf::from(change.path.to_string());
            let (was, is) = (before.get(&path), &expected[&path]);
            let same = was.is_some_and(|was| hash(was) == hash(is));
            let links = fs::metadata(source.path().join(&path)).unwrap().nlink();
            let linked = links > 1 || was.is_some_and(|was| was.split(' ').nth(6) != is.split(' ').nth(6));
            let others = inodes_before.iter().filter(|(other, (ino, ..))| {
                **other != path && inodes_before.get(&path).is_some_and(|(own, ..)| own == ino)
            });
            prop_assert!(!same || linked || others.count() > 0, "{path:?} was written again: {was:?} {is:?}");
        }
        // What was as it is to be, and no link of anything, is the same inode and was not changed.
        let after = inodes(target.path());
        for (path, was) in &before {
            let Some(is) = expected.get(path) else { continue };
            let full = target.path().join(path);
            let single = fs::symlink_metadata(&full).unwrap().nlink() == 1;
            let was_single = inodes_before.values().filter(|(ino, ..)| *ino == inodes_before[path].0).count() == 1;
            if was == is && single && was_single && full.is_file() && !full.is_symlink() {
                prop_assert_eq!(after[path], inodes_before[path], "{:?}", path);
            }
        }
        let (again, _) = here(source.path(), target.path());
        let done = (again.created, again.replaced, again.updated, again.deleted, again.bytes);
        prop_assert_eq!(done, (0, 0, 0, 0, 0), "{:?}", again);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Counts what is read of the source.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Browse>,
    read: Arc<AtomicU64>,
    /// After so many bytes that are read or compared it ends.
    cancel: Option<(u64, CancellationToken)>,
}

#[derive(Debug)]
struct CountedFile {
    inner: Box<dyn ReadAt>,
    read: Arc<AtomicU64>,
    cancel: Option<(u64, CancellationToken)>,
}

impl Counted {
    fn new(inner: Arc<dyn Browse>) -> Self {
        Self { inner, read: Arc::default(), cancel: None }
    }
}

impl Browse for Counted {
    fn stat(&self, path: &RelPath) -> BackupResult<Node> {
        self.inner.stat(path)
    }
    fn list(&self, directory: &RelPath, after: Option<&RelPath>, limit: usize) -> BackupResult<Vec<Node>> {
        self.inner.list(directory, after, limit)
    }
    fn walk(&self, top: &RelPath, visit: Visitor<'_>) -> BackupResult<()> {
        self.inner.walk(top, visit)
    }
    fn open(&self, path: &RelPath) -> BackupResult<Box<dyn ReadAt>> {
        let (inner, read, cancel) = (self.inner.open(path)?, Arc::clone(&self.read), self.cancel.clone());
        Ok(Box::new(CountedFile { inner, read, cancel }))
    }
}

impl ReadAt for CountedFile {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    fn read_at(&self, offset: u64, length: usize) -> BackupResult<Bytes> {
        let bytes = self.inner.read_at(offset, length)?;
        let before = self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some((most, cancel)) = &self.cancel
            && before + bytes.len() as u64 > *most
        {
            cancel.cancel();
        }
        Ok(bytes)
    }
    fn next_data(&self, offset: u64) -> BackupResult<Option<Range<u64>>> {
        self.inner.next_data(offset)
    }
    fn beside(&self, offset: u64, there: &fs::File) -> BackupResult<Option<Beside>> {
        self.inner.beside(offset, there)
    }
}

/// A backup of a tree, open.
async fn backed_up(source: &Path) -> (Arc<dyn Browse>, Store) {
    let store = Store::quick().await;
    common::backup(&store.store, "b-1", common::tree(source), &BackupOptions::default()).await.unwrap();
    let (options, cancel) = (RestoreOptions::default(), CancellationToken::new());
    let browse =
        common::engine().browse(store.store.clone(), "vol1", "b-1", &options, &cancel).await.unwrap();
    (browse, store)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    /// From a backup, too; and of files that are as in the backup nothing is fetched.
    #[test]
    fn any_tree_becomes_that_of_a_backup_and_nothing_is_fetched_twice(
        acts in prop::collection::vec(act(), 1..40),
        others in prop::collection::vec(act(), 0..20),
    ) {
        let runtime = runtime();
        let (source, target) = (tree(&acts), tree(&acts));
        for act in &others {
            perform(target.path(), act);
        }
        let (browse, _store) = runtime.block_on(backed_up(source.path()));
        let counted = Counted::new(browse);
        let (summary, _) = go(&counted, target.path(), false).unwrap();
        prop_assert_eq!(summary.failed, 0, "{:?}", summary.failures);
        prop_assert_eq!(everything(target.path()), everything(source.path()));
        prop_assert!(counted.read.load(Ordering::Relaxed) + summary.reused <= summary.bytes);
        let read = counted.read.swap(0, Ordering::Relaxed);
        let (again, _) = go(&counted, target.path(), false).unwrap();
        prop_assert_eq!((again.bytes, counted.read.load(Ordering::Relaxed)), (0, 0), "first {}", read);
    }
}

#[test]
fn of_a_large_file_only_the_part_that_differs_is_fetched() {
    let runtime = runtime();
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = noise(40_000_000, 7);
    let mut other = data.clone();
    for byte in &mut other[20_000_000..20_000_100] {
        *byte ^= 0xff;
    }
    for (root, data) in [(&source, &data), (&target, &other)] {
        fs::write(root.path().join("large"), data).unwrap();
        set_time(&root.path().join("large"), 1000);
    }
    let (browse, _store) = runtime.block_on(backed_up(source.path()));
    let counted = Counted::new(browse);
    let (summary, changes) = go(&counted, target.path(), false).unwrap();
    // That it has the same size and time does not hide what was changed in it.
    assert_eq!((summary.replaced, summary.bytes), (1, 40_000_000), "{changes:?}");
    let read = counted.read.load(Ordering::Relaxed);
    assert!(read > 0 && read < 9_000_000, "{read} bytes were fetched");
    assert_eq!(summary.reused + read, 40_000_000);
    assert_eq!(fs::read(target.path().join("large")).unwrap(), data);
}

#[test]
fn metadata_alone_is_given_to_the_file_that_is_there() {
    let runtime = runtime();
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for root in [&source, &target] {
        fs::write(root.path().join("file"), noise(3_000_000, 1)).unwrap();
        set_time(&root.path().join("file"), 1000);
    }
    let file = target.path().join("file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&file, Some(33), Some(34)).unwrap();
    rustix::fs::setxattr(&file, "user.more", b"x", rustix::fs::XattrFlags::empty()).unwrap();
    set_time(&file, 2000);
    let inode = fs::metadata(&file).unwrap().ino();
    let (browse, _store) = runtime.block_on(backed_up(source.path()));
    let counted = Counted::new(browse);
    let (summary, changes) = go(&counted, target.path(), false).unwrap();
    assert_eq!(
        (summary.updated, summary.files, summary.bytes),
        (1 + root_changed(&changes), 0, 0),
        "{changes:?}"
    );
    assert_eq!(counted.read.load(Ordering::Relaxed), 0);
    assert_eq!(fs::metadata(&file).unwrap().ino(), inode);
    assert_eq!(everything(target.path()), everything(source.path()));
}

/// The root's own time may differ.
fn root_changed(changes: &[Change]) -> u64 {
    changes.iter().filter(|change| change.path.is_root()).count() as u64
}

#[test]
fn files_that_were_linked_meanwhile_are_files_of_their_own_again() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["a", "b", "c"] {
        fs::write(source.path().join(name), "the same").unwrap();
        set_time(&source.path().join(name), 1000);
    }
    fs::write(target.path().join("a"), "the same").unwrap();
    set_time(&target.path().join("a"), 1000);
    for name in ["b", "c", "more"] {
        fs::hard_link(target.path().join("a"), target.path().join(name)).unwrap();
    }
    let (summary, _) = here(source.path(), target.path());
    assert_eq!((summary.replaced, summary.files, summary.deleted), (2, 2, 1), "{summary:?}");
    assert_eq!(everything(target.path()), everything(source.path()));
}

#[test]
fn what_is_protected_is_gone_over_and_protected_as_in_the_source() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(source.path(), "d/file", "new");
    write(source.path(), "d/meta", "same");
    write(target.path(), "d/file", "old");
    write(target.path(), "d/meta", "same");
    write(target.path(), "d/extra/inner", "old");
    fs::set_permissions(target.path().join("d/meta"), fs::Permissions::from_mode(0o600)).unwrap();
    let protected = ["d/file", "d/meta", "d/extra", "d"].map(|path| target.path().join(path));
    let set = |path: &PathBuf, on: bool| {
        let flags = rustix::fs::IFlags::IMMUTABLE;
        let flags = if on { flags } else { rustix::fs::IFlags::empty() };
        rustix::fs::ioctl_setflags(fs::File::open(path).unwrap(), flags)
    };
    if set(&protected[0], true).is_err() {
        eprintln!("this file system, or this user, knows no protected files");
        return;
    }
    for path in &protected[1..] {
        set(path, true).unwrap();
    }
    let (summary, _) = here(source.path(), target.path());
    for path in protected.iter().filter(|path| path.exists()) {
        set(path, false).unwrap();
    }
    assert_eq!(summary.failed, 0, "{:?}", summary.failures);
    assert_eq!(everything(target.path()), everything(source.path()));
}

#[test]
fn a_cancelled_restore_is_repeated_to_the_same_end() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for number in 0..60 {
        write(source.path(), &format!("d{}/f{number}", number % 5), &"x".repeat(30_000 + number));
        write(target.path(), &format!("d{}/f{number}", number % 7), &"y".repeat(20_000));
    }
    let expected = everything(source.path());
    for most in [0, 300_000, 900_000, 1_700_000] {
        let cancel = CancellationToken::new();
        let inner = browse_directory(source.path()).unwrap();
        let counted = Counted { cancel: Some((most, cancel.clone())), ..Counted::new(inner) };
        match go_until(&counted, target.path(), false, &cancel) {
            Err(error) => assert!(matches!(error, BackupError::Cancelled), "{error}"),
            Ok(_) => assert_eq!(everything(target.path()), expected),
        }
        assert!(everything(target.path()).keys().all(|path| !path.to_string_lossy().contains(".convoy-")));
    }
    here(source.path(), target.path());
    assert_eq!(everything(target.path()), expected);
    assert_eq!(read(target.path(), "d0/f0").len(), 30_000);
}

/// Set for a process that is to be killed: source and target.
const CHILD: &str = "CONVOY_TEST_RESTORES_IN_PLACE";

/// Calls that change what is on disk. (A name that a machine does not have is preceded by `?`.)
const CALLS: [&str; 17] = [
    "renameat",
    "renameat2",
    "unlinkat",
    "mkdirat",
    "linkat",
    "symlinkat",
    "?mknodat",
    "pwrite64",
    "ftruncate",
    "fchown",
    "fchmod",
    "utimensat",
    "setxattr",
    "removexattr",
    "fsync",
    "syncfs",
    "ioctl",
];

/// Restores in a process of its own, which is killed as it enters its `at`th `call`. Whether it came to that.
fn killed_at(source: &Path, target: &Path, call: &str, at: usize) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=KILL:when={at}")]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "killed_at_any_call_and_repeated_it_is_the_source"]);
    command.env(CHILD, format!("{}:{}", source.display(), target.display()));
    let out = command.output().unwrap();
    // strace ends as what it traced.
    let killed = out.status.signal() == Some(9) || out.status.code() == Some(137);
    assert!(killed || out.status.success(), "{out:?}");
    killed
}

#[test]
fn killed_at_any_call_and_repeated_it_is_the_source() {
    if let Ok(both) = std::env::var(CHILD) {
        let (source, target) = both.split_once(':').unwrap();
        here(Path::new(source), Path::new(target));
        return;
    }
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let (source, start) = (common::quick_dir(), common::quick_dir());
    for number in 0..12u64 {
        let name = format!("d{}/f{number:02}", number % 3);
        write(source.path(), &name, &format!("new {number}"));
        // Some are the same, some differ in data or in metadata, some are of another kind, some are missing.
        match number % 6 {
            0 => write(start.path(), &name, &format!("new {number}")),
            1 => write(start.path(), &name, "old"),
            2 => write(start.path(), &format!("{name}/inner"), "old"),
            3 => fs::create_dir_all(start.path().join(&name)).unwrap(),
            4 => {
                write(start.path(), &name, &format!("new {number}"));
                let user = rustix::fs::XattrFlags::empty();
                // Not every file system in memory has attributes for users.
                let _ = rustix::fs::setxattr(start.path().join(&name), "user.old", b"x", user);
                fs::set_permissions(start.path().join(&name), fs::Permissions::from_mode(0o600)).unwrap();
            }
            _ => {}
        }
        set_time(&source.path().join(&name), 1000 + i64::try_from(number).unwrap());
    }
    fs::hard_link(source.path().join("d1/f04"), source.path().join("linked")).unwrap();
    fs::hard_link(start.path().join("d0/f00"), start.path().join("more")).unwrap();
    std::os::unix::fs::symlink("d0", source.path().join("link")).unwrap();
    for number in 0..4 {
        write(start.path(), &format!("extra{}/e{number}", number % 2), "old");
    }
    let expected = everything(source.path());
    let (mut points, mut in_the_middle) = (0, 0);
    for call in CALLS {
        for at in 1.. {
            let target = common::quick_dir();
            let volume = target.path().join("v");
            fs::create_dir(&volume).unwrap();
            convoy_tree::copy_tree(start.path(), &volume, &Default::default()).unwrap();
            if !killed_at(source.path(), &volume, call, at) {
                assert_eq!(everything(&volume), expected);
                break;
            }
            points += 1;
            in_the_middle += usize::from(everything(&volume) != expected);
            let (summary, _) = here(source.path(), &volume);
            assert_eq!(summary.failed, 0, "{call} {at}: {:?}", summary.failures);
            assert_eq!(everything(&volume), expected, "killed at {call} {at}");
        }
    }
    assert!(in_the_middle > 20, "{in_the_middle} of {points} were killed in the middle");
}
