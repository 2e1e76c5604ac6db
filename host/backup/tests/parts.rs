//! Parts of a tree, restored into a directory that others use.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use common::edits::{PATHS, act, everything, perform, read, seen, set_time, tell, tree, write};
use common::{Store, noise};
use convoy_backup::{
    Action, BackupError, BackupOptions, BackupResult, Browse, Change, Existing, Node, PartsOptions,
    PartsSummary, Progress, ReadAt, RestoreOptions, Selection, Visitor, browse_directory, path_in_tree,
    restore_parts,
};
use convoy_tree::RelPath;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

/// What is asked for.
#[derive(Debug, Clone, Default)]
struct Asked {
    paths: Vec<&'static str>,
    exclude: Vec<&'static str>,
    at: &'static str,
    existing: Existing,
    delete_extra: bool,
    dry_run: bool,
}

impl Asked {
    fn options(&self) -> PartsOptions {
        let paths = self.paths.iter().map(|path| path_in_tree(path.as_bytes()).unwrap()).collect();
        let exclude: Vec<String> = self.exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
        PartsOptions {
            selection: Selection::new(paths, &exclude).unwrap(),
            at: path_in_tree(self.at.as_bytes()).unwrap(),
            existing: self.existing,
            delete_extra: self.delete_extra,
            dry_run: self.dry_run,
            suffix: ".old".to_owned(),
        }
    }

    fn with(&self, source: &dyn Browse, target: &Path) -> BackupResult<(PartsSummary, Vec<Change>)> {
        self.until(source, target, &CancellationToken::new())
    }

    fn until(
        &self,
        source: &dyn Browse,
        target: &Path,
        cancel: &CancellationToken,
    ) -> BackupResult<(PartsSummary, Vec<Change>)> {
        let mut changes = Vec::new();
        let mut told = |change: &Change| {
            changes.push(change.clone());
            Ok(())
        };
        let root = fs::File::open(target).unwrap().into();
        let summary = restore_parts(source, root, &self.options(), &mut told, &Progress::new(), cancel)?;
        Ok((summary, changes))
    }

    fn run(&self, source: &Path, target: &Path) -> (PartsSummary, Vec<Change>) {
        self.with(&*browse_directory(source).unwrap(), target).unwrap()
    }
}

fn told(changes: &[Change]) -> Vec<String> {
    let told = changes.iter().map(|change| {
        let other = change.other.as_ref().map(|other| format!(" {other}")).unwrap_or_default();
        format!("{} {}{other}", change.action.as_str(), change.path)
    });
    told.collect()
}

fn asked() -> impl Strategy<Value = Asked> {
    let paths = prop::collection::vec(prop::sample::select(&PATHS[..]), 0..3);
    let patterns: &'static [&str] = &["*.log", "/d/e", "e/", "b", "!x.log", "d/**/a", "z"];
    let exclude = prop::collection::vec(prop::sample::select(patterns), 0..3);
    let existing =
        prop::sample::select(&[Existing::Keep, Existing::Replace, Existing::Rename, Existing::Newer][..]);
    let at = prop::sample::select(&["", "d", "new/place"][..]);
    (paths, exclude, at, existing, any::<bool>()).prop_map(|(paths, exclude, at, existing, delete_extra)| {
        Asked { paths, exclude, at, existing, delete_extra, dry_run: false }
    })
}

fn rel(path: &Path) -> RelPath {
    use std::os::unix::ffi::OsStrExt;
    RelPath::new(path.as_os_str().as_bytes()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 60, ..ProptestConfig::default() })]

    /// Into an empty directory: what was selected is there, as in the source, and nothing else.
    #[test]
    fn any_parts_are_those_of_the_whole(acts in prop::collection::vec(act(), 1..40), asked in asked()) {
        let (source, target) = (tree(&acts), tempfile::tempdir().unwrap());
        let browsed = browse_directory(source.path()).unwrap();
        let Ok((summary, changes)) = asked.with(&*browsed, target.path()) else {
            // A path that is not there, or is excluded, or a file where only directories will do.
            prop_assert!(everything(target.path()).is_empty());
            return Ok(());
        };
        prop_assert_eq!(summary.failed, 0, "{:?}", summary.failures);
        let expected = selected(source.path(), &asked);
        let base = target.path().join(asked.at);
        prop_assert_eq!(if base.is_dir() { everything(&base) } else { BTreeMap::new() }, expected);
        // The root is there before, and all else is made.
        let made = |change: &Change| match change.path.is_root() {
            true => change.action == Action::Update,
            false => change.action == Action::Create,
        };
        prop_assert!(changes.iter().all(made), "{:?}", told(&changes));
    }

    /// Over anything: a dry run tells what is then done and does nothing, and what is not asked for stays.
    #[test]
    fn a_dry_run_tells_what_is_then_done(
        acts in prop::collection::vec(act(), 1..40),
        more in prop::collection::vec(act(), 0..15),
        asked in asked(),
    ) {
        let (source, target) = (tree(&acts), tree(&acts));
        for act in &more {
            perform(target.path(), act);
        }
        let browsed = browse_directory(source.path()).unwrap();
        let before = everything(target.path());
        let dry = Asked { dry_run: true, ..asked.clone() }.with(&*browsed, target.path());
        prop_assert_eq!(&everything(target.path()), &before);
        let Ok((would, would_change)) = dry else {
            prop_assert!(asked.with(&*browsed, target.path()).is_err());
            prop_assert_eq!(&everything(target.path()), &before);
            return Ok(());
        };
        let (summary, changes) = asked.with(&*browsed, target.path()).unwrap();
        prop_assert_eq!(told(&would_change), told(&changes));
        prop_assert_eq!((would.created, would.kept, would.same), (summary.created, summary.kept, summary.same));
        let after = everything(target.path());
        let left: Vec<_> = after.keys().filter(|path| path.to_string_lossy().contains("convoy")).collect();
        prop_assert!(left.is_empty(), "{left:?}");
        // Data of before is there still, unless it was asked to be gone.
        if matches!(asked.existing, Existing::Keep | Existing::Rename) && !asked.delete_extra {
            let hash = |told: &String| told.split(' ').nth(5).unwrap().to_owned();
            let now: Vec<String> = after.values().map(hash).collect();
            for (path, told) in &before {
                prop_assert!(now.contains(&hash(told)), "{path:?} is gone: {:?}", changes);
            }
        }
        // Once more: nothing is left to do.
        let (again, _) = asked.with(&*browsed, target.path()).unwrap();
        if asked.existing == Existing::Replace && summary.failed == 0 {
            let done = (again.created, again.replaced, again.updated, again.deleted);
            prop_assert_eq!(done, (0, 0, 0, 0), "{:?}", again);
        }
    }

    /// Replace all and delete the rest: the target is the source.
    #[test]
    fn all_of_it_makes_the_target_the_source(
        acts in prop::collection::vec(act(), 1..40),
        others in prop::collection::vec(act(), 0..40),
    ) {
        let (source, target) = (tree(&acts), tree(&others));
        let asked = Asked { existing: Existing::Replace, delete_extra: true, ..Asked::default() };
        let (summary, _) = asked.run(source.path(), target.path());
        prop_assert_eq!(summary.failed, 0, "{:?}", summary.failures);
        prop_assert_eq!(everything(target.path()), everything(source.path()));
    }
}

/// What was selected of a tree, with the directories on the way there.
fn selected(root: &Path, asked: &Asked) -> BTreeMap<PathBuf, String> {
    let selection = asked.options().selection;
    seen(root, &|path: &Path, directory: bool| {
        let path = rel(path);
        let way = selection
            .tops()
            .iter()
            .any(|top| directory && top.as_bytes().starts_with(&[path.as_bytes(), b"/"].concat()));
        way || !selection.leaves_out(&path, directory)
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Opens a backup to look into it.
async fn look_into(store: &Store, backup: &str) -> Arc<dyn Browse> {
    let (options, cancel) = (RestoreOptions::default(), CancellationToken::new());
    common::engine().browse(store.store.clone(), "vol1", backup, &options, &cancel).await.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_parts_of_a_backup_are_those_of_its_full_restore(
        acts in prop::collection::vec(act(), 1..40),
        asked in asked(),
    ) {
        let runtime = runtime();
        let (source, target) = (tree(&acts), tempfile::tempdir().unwrap());
        let (full, browsed) = runtime.block_on(async {
            let store = Store::quick().await;
            let options = BackupOptions::default();
            common::backup(&store.store, "b-1", common::tree(source.path()), &options).await.unwrap();
            let full = common::restore_tree(&store.store, "vol1", "b-1").await;
            (full, (look_into(&store, "b-1").await, store))
        });
        let Ok((summary, _)) = asked.with(&*browsed.0, target.path()) else {
            prop_assert!(everything(target.path()).is_empty());
            return Ok(());
        };
        prop_assert_eq!(summary.failed, 0, "{:?}", summary.failures);
        let base = target.path().join(asked.at);
        let there = if base.is_dir() { everything(&base) } else { BTreeMap::new() };
        prop_assert_eq!(there, selected(full.path(), &asked));
    }
}

#[test]
fn a_damaged_pack_costs_only_the_files_that_have_a_part_in_it() {
    let runtime = runtime();
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for number in 0..30 {
        fs::write(source.path().join(format!("f{number:02}")), noise(700_000, number)).unwrap();
    }
    let (store, browsed) = runtime.block_on(async {
        let store = Store::new().await;
        let options = BackupOptions::default();
        common::backup(&store.store, "b-1", common::tree(source.path()), &options).await.unwrap();
        let browsed = look_into(&store, "b-1").await;
        (store, browsed)
    });
    // A byte of data somewhere in the middle of the largest object.
    let mut objects = Vec::new();
    files_below(store.dir.path(), &mut objects);
    let largest = objects.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(largest, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(largest, bytes).unwrap();
    let (summary, changes) = Asked::default().with(&*browsed, target.path()).unwrap();
    assert!((1..=2).contains(&summary.failed), "{:?}", told(&changes));
    assert_eq!(summary.created + summary.failed, 30);
    let failed: Vec<PathBuf> = summary.failures.iter().map(|(path, _)| path.as_path().to_owned()).collect();
    assert!(summary.failures.iter().all(|(_, why)| why.contains("damaged")), "{:?}", summary.failures);
    let whole = seen(source.path(), &|path, _| !failed.contains(&path.to_owned()));
    assert_eq!(everything(target.path()), whole);
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// A file, a directory and a link, and others in their places.
fn pair() -> (tempfile::TempDir, tempfile::TempDir) {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (path, content) in
        [("new", "s"), ("older", "s"), ("newer", "s"), ("d/in", "s"), ("full", "s"), ("empty", "s")]
    {
        write(source.path(), path, content);
        set_time(&source.path().join(path), 1000);
    }
    symlink("to", source.path().join("link")).unwrap();
    for (path, content) in
        [("older", "t"), ("newer", "t"), ("link", "t"), ("d", "t"), ("full/in", "t"), ("extra", "t")]
    {
        write(target.path(), path, content);
    }
    fs::create_dir(target.path().join("empty")).unwrap();
    set_time(&target.path().join("older"), 2000);
    set_time(&target.path().join("newer"), 500);
    (source, target)
}

#[test]
fn what_is_there_is_kept_unless_asked() {
    let (source, target) = pair();
    let before = everything(target.path());
    let (summary, changes) = Asked::default().run(source.path(), target.path());
    assert_eq!((summary.created, summary.kept, summary.failed), (1, 6, 0), "{:?}", told(&changes));
    let mut after = everything(target.path());
    assert!(after.remove(Path::new("new")).is_some());
    assert_eq!(after, before);
}

#[test]
fn what_is_replaced_is_gone_but_for_full_directories() {
    let (source, target) = pair();
    let asked = Asked { existing: Existing::Replace, ..Asked::default() };
    let (summary, changes) = asked.run(source.path(), target.path());
    assert_eq!((summary.replaced, summary.failed), (5, 1), "{:?}", told(&changes));
    assert_eq!(summary.failures[0].0, rel(Path::new("full")));
    assert!(summary.failures[0].1.contains("--existing rename keeps both"), "{:?}", summary.failures);
    for path in ["older", "newer", "d/in", "empty"] {
        assert_eq!(read(target.path(), path), "s", "{path}");
    }
    assert_eq!(read(target.path(), "full/in"), "t");
    assert_eq!(read(target.path(), "extra"), "t");
    assert_eq!(fs::read_link(target.path().join("link")).unwrap(), Path::new("to"));
}

#[test]
fn what_is_renamed_is_still_there() {
    let (source, target) = pair();
    write(target.path(), "older.old", "earlier");
    let asked = Asked { existing: Existing::Rename, ..Asked::default() };
    let (summary, changes) = asked.run(source.path(), target.path());
    assert_eq!((summary.renamed, summary.failed, summary.kept), (6, 0, 0), "{:?}", told(&changes));
    for (path, content) in [
        ("older", "s"),
        ("older.old", "earlier"),
        ("older.old-2", "t"),
        ("newer.old", "t"),
        ("d/in", "s"),
        ("d.old", "t"),
        ("full", "s"),
        ("full.old/in", "t"),
        ("link.old", "t"),
        ("extra", "t"),
    ] {
        assert_eq!(read(target.path(), path), content, "{path}");
    }
    assert!(target.path().join("empty.old").is_dir());
    assert!(told(&changes).contains(&"rename older older.old-2".to_owned()), "{:?}", told(&changes));
}

#[test]
fn only_what_was_changed_earlier_is_replaced() {
    let (source, target) = pair();
    let asked = Asked { existing: Existing::Newer, paths: vec!["older", "newer", "new"], ..Asked::default() };
    let (summary, changes) = asked.run(source.path(), target.path());
    assert_eq!((summary.replaced, summary.kept, summary.created), (1, 1, 1), "{:?}", told(&changes));
    assert_eq!(
        (read(target.path(), "older"), read(target.path(), "newer")),
        ("t".to_owned(), "s".to_owned())
    );
}

#[test]
fn extras_are_deleted_below_what_is_restored_and_nowhere_else() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for path in ["d/a", "d/e/b", "other/a"] {
        write(source.path(), path, "s");
        write(target.path(), path, "s");
    }
    for path in ["d/extra", "d/e/deep/er/x", "d/x.log", "other/extra", "top"] {
        write(target.path(), path, "t");
    }
    let asked = Asked {
        paths: vec!["d"],
        exclude: vec!["*.log"],
        existing: Existing::Replace,
        delete_extra: true,
        ..Asked::default()
    };
    let (summary, changes) = asked.run(source.path(), target.path());
    assert_eq!((summary.deleted, summary.failed), (2, 0), "{:?}", told(&changes));
    for (path, there) in [
        ("d/extra", false),
        ("d/e/deep", false),
        ("d/x.log", true),
        ("other/extra", true),
        ("top", true),
        ("d/e/b", true),
    ] {
        assert_eq!(target.path().join(path).exists(), there, "{path}");
    }
    let refused = Asked { paths: vec!["d/a"], delete_extra: true, ..Asked::default() };
    let error = refused.with(&*browse_directory(source.path()).unwrap(), target.path()).unwrap_err();
    assert!(error.to_string().contains("name its directory"), "{error}");
}

#[test]
fn a_path_that_is_not_there_names_the_nearest_and_changes_nothing() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(source.path(), "d/a", "s");
    let asked = Asked { paths: vec!["d/a", "d/b/c"], ..Asked::default() };
    let error = asked.with(&*browse_directory(source.path()).unwrap(), target.path()).unwrap_err();
    assert!(
        matches!(&error, BackupError::NoPath { nearest, .. } if *nearest == rel(Path::new("d"))),
        "{error}"
    );
    // Nor does a link on the way to where it is to be.
    symlink("/etc", target.path().join("elsewhere")).unwrap();
    let asked = Asked { paths: vec!["d"], at: "elsewhere/x", ..Asked::default() };
    let error = asked.with(&*browse_directory(source.path()).unwrap(), target.path()).unwrap_err();
    assert!(error.to_string().contains("is a symbolic link"), "{error}");
    assert_eq!(everything(target.path()).len(), 1);
}

/// A source in which something is wrong.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn Browse>,
    /// Files with this in their path are damaged.
    damaged: &'static str,
    /// After so many bytes the restore is cancelled.
    cancel: Option<(Arc<AtomicU64>, u64, CancellationToken)>,
}

#[derive(Debug)]
struct FaultyFile {
    inner: Box<dyn ReadAt>,
    damaged: bool,
    cancel: Option<(Arc<AtomicU64>, u64, CancellationToken)>,
}

impl Browse for Faulty {
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
        let damaged = !self.damaged.is_empty() && path.to_string().contains(self.damaged);
        Ok(Box::new(FaultyFile { inner: self.inner.open(path)?, damaged, cancel: self.cancel.clone() }))
    }
}

impl ReadAt for FaultyFile {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    fn read_at(&self, offset: u64, length: usize) -> BackupResult<Bytes> {
        if self.damaged && offset > 0 {
            return Err(BackupError::Damaged {
                key: "pack 7".to_owned(),
                why: "its chunk 3 is other".to_owned(),
            });
        }
        let bytes = self.inner.read_at(offset, length)?;
        if let Some((read, most, cancel)) = &self.cancel
            && read.fetch_add(bytes.len() as u64, Ordering::Relaxed) > *most
        {
            cancel.cancel();
        }
        Ok(bytes)
    }
    fn next_data(&self, offset: u64) -> BackupResult<Option<Range<u64>>> {
        self.inner.next_data(offset)
    }
}

#[test]
fn a_damaged_file_fails_with_its_name_and_every_other_is_restored() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for number in 0..20 {
        fs::write(source.path().join(format!("f{number:02}")), noise(2_000_000, number)).unwrap();
    }
    fs::write(target.path().join("f13"), "as it was").unwrap();
    write(target.path(), "extra", "t");
    let inner = browse_directory(source.path()).unwrap();
    let faulty = Faulty { inner, damaged: "f13", cancel: None };
    let asked = Asked { existing: Existing::Replace, delete_extra: true, ..Asked::default() };
    let (summary, changes) = asked.with(&faulty, target.path()).unwrap();
    assert_eq!((summary.created, summary.failed, summary.deleted), (19, 1, 0), "{:?}", told(&changes));
    let (path, why) = &summary.failures[0];
    assert_eq!(*path, rel(Path::new("f13")));
    assert!(why.contains("pack 7 is damaged"), "{why}");
    assert!(summary.warnings[0].contains("nothing was deleted"), "{:?}", summary.warnings);
    assert_eq!(read(target.path(), "f13"), "as it was");
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 21);
}

#[test]
fn a_cancelled_restore_leaves_whole_files_and_nothing_else() {
    let source = tempfile::tempdir().unwrap();
    for number in 0..300 {
        let dir = source.path().join(format!("d{}", number % 7));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{number:03}")), noise(20_000, number)).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o2750)).unwrap();
    }
    let expected = everything(source.path());
    for most in [0, 700_000, 3_000_000, 5_900_000] {
        let target = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let inner = browse_directory(source.path()).unwrap();
        let faulty = Faulty { inner, damaged: "", cancel: Some((Arc::default(), most, cancel.clone())) };
        let error = Asked::default().until(&faulty, target.path(), &cancel).unwrap_err();
        assert!(matches!(error, BackupError::Cancelled), "{error}");
        let there = everything(target.path());
        for (path, told) in &there {
            // A directory gets its time last.
            if !target.path().join(path).is_dir() {
                assert_eq!(Some(told), expected.get(path), "{path:?} after {most} bytes");
            }
        }
        assert!(there.len() < expected.len());
        Asked::default().run(source.path(), target.path());
        assert_eq!(everything(target.path()), expected);
    }
}

/// Set for a process that is to be killed: source and target.
const CHILD: &str = "CONVOY_TEST_RESTORES_PARTS";

#[test]
fn killed_at_any_time_and_repeated_it_is_whole() {
    if let Ok(both) = std::env::var(CHILD) {
        let (source, target) = both.split_once(':').unwrap();
        Asked::default().run(Path::new(source), Path::new(target));
        return;
    }
    let source = tempfile::tempdir().unwrap();
    for number in 0..200u64 {
        let dir = source.path().join(format!("d{}/e{}", number % 7, number % 5));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join(format!("f{number:03}"));
        fs::write(&file, noise(30_000, number)).unwrap();
        if number % 3 == 0 {
            fs::hard_link(&file, source.path().join(format!("link{number}"))).unwrap();
        }
        set_time(&file, i64::try_from(number).unwrap());
    }
    for number in 0..7 {
        let dir = source.path().join(format!("d{number}"));
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o2751)).unwrap();
        set_time(&dir, 77);
    }
    let expected = everything(source.path());
    let (mut begun, mut drafts) = (0, 0);
    for round in 0..14u64 {
        let target = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_at_any_time_and_repeated_it_is_whole"])
            .env(CHILD, format!("{}:{}", source.path().display(), target.path().display()))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Not by the clock: once so many entries are there.
        let enough = usize::try_from(round * 20).unwrap();
        while child.try_wait().unwrap().is_none() {
            let count = walkdir(target.path());
            if count > enough {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let there = everything(target.path());
        begun += usize::from(!there.is_empty() && there.len() < expected.len());
        for (path, told) in &there {
            if path.to_string_lossy().contains(".convoy-restoring-") {
                drafts += 1;
            } else if fs::symlink_metadata(target.path().join(path)).unwrap().is_file() {
                let hash = |told: &String| told.split(' ').nth(5).unwrap().to_owned();
                assert_eq!(hash(told), hash(&expected[path]), "{path:?} is not whole");
            }
        }
        let (summary, _) = Asked::default().run(source.path(), target.path());
        assert_eq!((summary.kept, summary.failed), (0, 0), "{:?}", summary.failures);
        assert_eq!(everything(target.path()), expected, "in round {round}");
    }
    assert!(begun > 3 && drafts > 0, "{begun} were killed in the middle, {drafts} drafts were left");
}

/// Counts what is in a directory that changes.
fn walkdir(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { 1 + walkdir(&entry.path()) } else { 1 }).sum()
}

#[test]
fn what_is_exchanged_for_links_while_it_is_written_leads_nowhere() {
    let (source, target, outside) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for number in 0..40 {
        write(source.path(), &format!("d{}/e/f{number}", number % 4), "from the backup");
        write(source.path(), &format!("file{}", number % 4), "from the backup");
    }
    for path in ["e/f0", "precious", "e/precious"] {
        write(outside.path(), path, "the host's");
    }
    let before = everything(outside.path());
    let names: Vec<PathBuf> =
        (0..4).flat_map(|n| [format!("d{n}"), format!("file{n}")]).map(|n| target.path().join(n)).collect();
    for name in &names {
        symlink(outside.path(), name.with_extension("link")).unwrap();
    }
    let stop = AtomicBool::new(false);
    let exchanged = std::thread::scope(|scope| {
        let hostile = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                for name in &names {
                    let (flags, cwd) = (rustix::fs::RenameFlags::EXCHANGE, rustix::fs::CWD);
                    count += usize::from(
                        rustix::fs::renameat_with(cwd, name, cwd, name.with_extension("link"), flags).is_ok(),
                    );
                }
            }
            count
        });
        let browsed = browse_directory(source.path()).unwrap();
        for round in 0..60 {
            let existing = [Existing::Replace, Existing::Keep, Existing::Rename, Existing::Newer][round % 4];
            let delete_extra = round % 3 == 0 && existing == Existing::Replace;
            let asked = Asked { existing, delete_extra, ..Asked::default() };
            // What it finds in its way it may fail at.
            let _ = asked.with(&*browsed, target.path());
            for name in &names {
                // Anything may be there by now but what leads outside.
                if !name.with_extension("link").is_symlink() && !name.is_symlink() {
                    let _ = symlink(outside.path(), name.with_extension("link"));
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        hostile.join().unwrap()
    });
    assert!(exchanged > 100, "{exchanged} were exchanged");
    assert_eq!(everything(outside.path()), before);
}

#[test]
fn a_default_acl_of_the_target_is_not_given_to_what_is_restored() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(source.path(), "d/a", "s");
    fs::create_dir(target.path().join("d")).unwrap();
    // rwx for the owner, user 5 and a mask; nothing for others.
    let acl: Vec<u8> =
        [2u32.to_le_bytes().to_vec()]
            .into_iter()
            .chain([(1u16, 7u16, !0u32), (2, 7, 5), (4, 7, !0), (16, 7, !0), (32, 0, !0)].map(
                |(tag, perm, id)| [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat(),
            ))
            .flatten()
            .collect();
    let flags = rustix::fs::XattrFlags::empty();
    let set = rustix::fs::setxattr(target.path().join("d"), "system.posix_acl_default", &acl, flags);
    if set == Err(rustix::io::Errno::NOTSUP) {
        return;
    }
    set.unwrap();
    Asked::default().run(source.path(), target.path());
    let mut first = HashMap::new();
    let path = Path::new("d/a");
    assert_eq!(tell(target.path(), path, &mut first), tell(source.path(), path, &mut HashMap::new()));
}
