//! Backups in a store of a test, shown as a person's command shows them.

#![allow(dead_code, unreachable_pub)]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use convoy_backup::{
    BackupKind, BackupMeta, BackupOptions, BackupResult, Browse, Engine, Progress, ReadAt, RestoreOptions,
    SameFile, Source, Target,
};
use convoy_driver_sdk::{Context, Timestamp};
use convoy_mount::{Attached, Listed, MountError, Mountpoint, Served, Shelf, View, browse_image, serve_view};
use convoy_objectstore::ObjectStore;
use convoy_tests::{Result as TestResult, run};
use convoy_tree::{Found, WalkOptions, data_extents, walk};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A store, and an engine that reads it.
#[derive(Debug)]
pub struct Backups {
    pub store: Arc<dyn ObjectStore>,
    pub engine: Engine,
    pub runtime: Runtime,
    pub cancel: CancellationToken,
}

impl Backups {
    pub fn new(store: impl FnOnce(&Runtime) -> Arc<dyn ObjectStore>) -> Arc<Self> {
        let runtime = Runtime::new().unwrap();
        let store = store(&runtime);
        Arc::new(Self { store, engine: Engine::default(), runtime, cancel: CancellationToken::new() })
    }

    /// Backs up a directory.
    pub fn back_up(&self, backup: &str, path: &Path, options: &BackupOptions) {
        let meta = BackupMeta {
            backup: backup.into(),
            volume: "vol".into(),
            driver: "vfs".into(),
            volume_size: 0,
            volume_created: "Mon Nov 23 08:38:07 +0000 2026".into(),
            snapshot: format!("snap-of-{backup}"),
            snapshot_created: "Mon Nov 23 08:38:08 +0000 2026".into(),
            created: String::new(),
            options: Default::default(),
            labels: Default::default(),
        };
        let source = Source::Tree { path: path.to_owned(), same: SameFile::BirthTime };
        let (store, progress) = (Arc::clone(&self.store), Progress::new());
        let running = self.engine.backup(store, meta, source, options, &progress, &self.cancel);
        self.runtime.block_on(running).unwrap();
    }

    /// Restores a whole backup into a directory that is not there yet.
    pub fn restore(&self, backup: &str, path: &Path) {
        std::fs::create_dir(path).unwrap();
        let (store, progress, options) =
            (Arc::clone(&self.store), Progress::new(), RestoreOptions::default());
        let target = Target::Tree { path: path.to_owned() };
        let running = self.engine.restore(store, "vol", backup, target, &options, &progress, &self.cancel);
        self.runtime.block_on(running).unwrap();
    }

    /// The list of records.
    pub fn list(&self) -> Vec<Listed> {
        let listing = self.runtime.block_on(self.engine.list(Arc::clone(&self.store), None)).unwrap();
        let listed = |info: convoy_backup::BackupInfo| Listed {
            volume: info.volume,
            backup: info.backup,
            created: Timestamp::parse(&info.created).ok(),
            kind: info.kind,
        };
        listing.backups.into_iter().map(listed).collect()
    }
}

impl Shelf for Backups {
    fn open_tree(&self, of: &Listed) -> BackupResult<Arc<dyn Browse>> {
        let (store, options) = (Arc::clone(&self.store), RestoreOptions::default());
        self.runtime.block_on(self.engine.browse(store, &of.volume, &of.backup, &options, &self.cancel))
    }

    fn open_image(&self, of: &Listed) -> BackupResult<Arc<dyn ReadAt>> {
        let (store, options) = (Arc::clone(&self.store), RestoreOptions::default());
        self.runtime.block_on(self.engine.open_image(store, &of.volume, &of.backup, &options, &self.cancel))
    }

    fn has_files(&self) -> bool {
        true
    }

    fn open_files(&self, image: Arc<dyn ReadAt>) -> Result<Arc<dyn Browse>, MountError> {
        browse_image(image, &Context::new("test"))
    }
}

/// One backup that is whatever a test says.
pub fn one(kind: BackupKind) -> Listed {
    Listed { volume: "vol".to_owned(), backup: "b-1".to_owned(), created: None, kind }
}

/// A view that is mounted, until it is dropped.
#[derive(Debug)]
pub struct Mounted {
    pub path: PathBuf,
    attached: Attached,
    served: Option<Served>,
}

impl Mounted {
    pub fn new(view: Arc<View>, path: &Path) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let (attached, fuse) = Mountpoint::open(path).unwrap().attach(false).unwrap();
        let served = serve_view(view, fuse, false).unwrap();
        Self { path: path.to_owned(), attached, served: Some(served) }
    }

    /// Unmounts, and waits until nobody uses it any more.
    pub fn end(mut self) {
        self.attached.detach().unwrap();
        self.served.take().unwrap().wait().unwrap();
    }

    pub fn detach(&self) {
        self.attached.detach().unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.attached.detach();
    }
}

/// Runs a script, and gives what it prints.
pub fn shell(script: &str, words: &[&Path]) -> TestResult<String> {
    run::capture(Command::new("sh").args(["-ec", script, "sh"]).args(words))?.ok()
}

/// Everything that a backup keeps of a tree, in words: a line for each thing.
pub fn describe(root: &Path) -> Vec<String> {
    let mut first = std::collections::HashMap::new();
    let mut lines = Vec::new();
    for found in walk(root, WalkOptions::default()).unwrap() {
        let Found::Entry(found) = found.unwrap() else { panic!("something cannot be read") };
        let entry = &found.entry;
        let name = first.entry(entry.ino).or_insert_with(|| entry.path.clone()).clone();
        let content = if entry.is_file() {
            let file = File::open(entry.path.below(root)).unwrap();
            let data: Vec<_> = data_extents(&file, 0..entry.size).map(|extent| extent.unwrap()).collect();
            let mut bytes = Vec::new();
            (&file).read_to_end(&mut bytes).unwrap();
            let sum = bytes.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
            format!("{} {sum} {data:?}", bytes.len())
        } else {
            String::new()
        };
        let xattrs: Vec<_> = entry.xattrs.iter().collect();
        lines.push(format!(
            "{} {:?} {:o} {}:{} {:?} first={name} {xattrs:?} {content}",
            entry.path, entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime
        ));
    }
    lines
}
