//! What the tests of the driver share: a place for its files, and a client of its protocol over any carrier.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_driver_sdk::dispatch::{Dispatch, Dispatcher};
use convoy_driver_sdk::protocol::{
    Close, CloseSnapshot, CreateSnapshot, CreateVolume, DeleteSnapshot, DeleteVolume, GetVolume, ListVolumes,
    ListedVolumes, Open, OpenSnapshot, Opened, OpenedSnapshot, PrepareRestore, PreparedRestore, Request,
    Snapshot, SourceKind, SourceLocation, TargetLocation, Volume,
};
use convoy_driver_sdk::{Context, DriverError, Name, Result};
use convoy_driver_vfs::VfsDriver;
use convoy_drivers::{DriverHandle, Drivers, RequestContext, SearchPath};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Gives a driver that is not open yet.
pub(crate) type Carrier = fn() -> Client;

/// The driver in this process.
pub(crate) fn builtin() -> Client {
    Client(Way::Builtin(Arc::new(Dispatcher::<VfsDriver>::new())))
}

/// The driver as the shared library that the build made.
pub(crate) fn library() -> Client {
    load("library:vfs")
}

/// The driver as a program of its own.
pub(crate) fn process() -> Client {
    load("process:vfs")
}

fn load(spec: &str) -> Client {
    let dir = Path::new(env!("CARGO_BIN_EXE_convoy-driver-vfs")).parent().unwrap();
    let drivers = Drivers::new(SearchPath::only(&[dir.to_owned()]));
    let runtime = Runtime::new().unwrap();
    let handle = runtime.block_on(drivers.load(&spec.parse().unwrap())).unwrap();
    Client(Way::Loaded(Arc::new(Loaded { runtime, handle })))
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

thread_local! {
    /// Where this thread's next [`Bed`] is made; under `/tmp` when nothing is said.
    pub(crate) static PLACE: std::cell::Cell<Option<PathBuf>> = const { std::cell::Cell::new(None) };
}

/// A root and a `vfs.path`.
pub(crate) struct Bed {
    dir: TempDir,
    pub(crate) carrier: Carrier,
}

impl Bed {
    pub(crate) fn new(carrier: Carrier) -> Self {
        Self::on(carrier, &PLACE.take().unwrap_or_else(std::env::temp_dir))
    }

    /// On another file system.
    pub(crate) fn on(carrier: Carrier, place: &Path) -> Self {
        Self { dir: TempDir::new_in(place).unwrap(), carrier }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root/vfs")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.dir.path().join("volumes")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.volumes().join("config")
    }

    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.volumes().join(name)
    }

    pub(crate) fn request(&self) -> Open {
        let options = options(&[("vfs.path", self.volumes().to_str().unwrap())]);
        Open::new(self.root()).options(options)
    }

    pub(crate) fn open(&self) -> Client {
        self.open_with(self.request()).unwrap().0
    }

    pub(crate) fn open_with(&self, request: Open) -> Result<(Client, Opened)> {
        let client = (self.carrier)();
        let opened = client.open(request)?;
        Ok((client, opened))
    }

    /// Checks that nothing is left in the driver's workspace: what the end of one driver cut off, the next
    /// removes, which takes as long as the machine needs.
    pub(crate) fn nothing_is_left(&self) {
        let give_up = Instant::now() + Duration::from_secs(200);
        while self.own_files().iter().any(|file| file.starts_with("work/")) {
            assert!(Instant::now() < give_up, "{:?}", self.own_files());
            let client = self.open();
            std::thread::sleep(Duration::from_millis(50));
            client.close();
        }
    }

    /// All files of the driver's own, for "nothing unknown is left".
    pub(crate) fn own_files(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.config(), Path::new(""), &mut found);
        found.sort();
        found
    }

    pub(crate) fn volume_dirs(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.volumes())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "config")
            .collect();
        names.sort();
        names
    }
}

fn list(root: &Path, at: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(at)).unwrap() {
        let entry = entry.unwrap();
        let path = at.join(entry.file_name());
        // What is in a snapshot is the volume's business.
        if entry.file_type().unwrap().is_dir() && entry.file_name() != "tree" {
            list(root, &path, found);
        }
        found.push(path.to_str().unwrap().to_owned());
    }
}

struct Loaded {
    runtime: Runtime,
    handle: DriverHandle,
}

#[derive(Clone)]
enum Way {
    Builtin(Arc<dyn Dispatch>),
    Loaded(Arc<Loaded>),
}

/// A client of a driver.
#[derive(Clone)]
pub(crate) struct Client(Way);

impl Client {
    pub(crate) fn open(&self, request: Open) -> Result<Opened> {
        match &self.0 {
            Way::Builtin(_) => self.call(request),
            Way::Loaded(loaded) => {
                loaded.runtime.block_on(loaded.handle.open(request, RequestContext::new("open")))
            }
        }
    }

    pub(crate) fn call<R: Request>(&self, request: R) -> Result<R::Reply> {
        self.call_in(request, &Context::new("test"))
    }

    pub(crate) fn call_in<R: Request>(&self, request: R, context: &Context) -> Result<R::Reply> {
        match &self.0 {
            Way::Builtin(driver) => {
                let json = serde_json::to_vec(&request).unwrap();
                let reply = driver.dispatch(R::METHOD, &json, context)?;
                Ok(serde_json::from_slice(&reply).unwrap())
            }
            Way::Loaded(loaded) => {
                let mut options = RequestContext::new(context.request_id());
                if context.cancel_flag().is_cancelled() {
                    // As soon as the driver shows that it is at it.
                    let cancel = CancellationToken::new();
                    options = options.with_cancel(cancel.clone()).with_progress(move |_| cancel.cancel());
                }
                if let Some(remaining) = context.remaining() {
                    options = options.within(remaining);
                }
                loaded.runtime.block_on(loaded.handle.call(request, options))
            }
        }
    }

    pub(crate) fn create(&self, volume: &str) -> Result<Volume> {
        self.create_with(volume, None, &[])
    }

    pub(crate) fn create_with(
        &self,
        volume: &str,
        size: Option<u64>,
        pairs: &[(&str, &str)],
    ) -> Result<Volume> {
        self.call(CreateVolume::new(name(volume)).size(size).options(options(pairs)))
    }

    pub(crate) fn delete(&self, volume: &str, reference_only: bool) -> Result<()> {
        self.call(DeleteVolume::new(name(volume)).reference_only(reference_only)).map(drop)
    }

    pub(crate) fn get(&self, volume: &str) -> Result<Volume> {
        self.call(GetVolume::new(name(volume)))
    }

    pub(crate) fn list(&self) -> ListedVolumes {
        self.call(ListVolumes::default()).unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.list().volumes.into_iter().map(|volume| volume.name.to_string()).collect()
    }

    pub(crate) fn snapshot(&self, volume: &str, snapshot: &str) -> Result<Snapshot> {
        self.call(CreateSnapshot::new(name(volume), name(snapshot)))
    }

    pub(crate) fn drop_snapshot(&self, volume: &str, snapshot: &str) -> Result<()> {
        self.call(DeleteSnapshot::new(name(volume), name(snapshot))).map(drop)
    }

    pub(crate) fn open_snapshot(&self, volume: &str, snapshot: &str) -> Result<(OpenedSnapshot, PathBuf)> {
        let opened = self.call(OpenSnapshot::new(name(volume), name(snapshot)))?;
        let SourceLocation::Tree { path, .. } = opened.location.clone() else { panic!("not a tree") };
        Ok((opened, path))
    }

    pub(crate) fn close_snapshot(&self, opened: OpenedSnapshot) {
        self.call(CloseSnapshot::new(opened.handle)).unwrap();
    }

    pub(crate) fn prepare(&self, volume: &str, pairs: &[(&str, &str)]) -> Result<(PreparedRestore, PathBuf)> {
        let prepared =
            self.call(PrepareRestore::new(name(volume), SourceKind::Tree).options(options(pairs)))?;
        let TargetLocation::Tree { path, .. } = prepared.location.clone() else { panic!("not a tree") };
        Ok((prepared, path))
    }

    pub(crate) fn close(&self) {
        self.call(Close::new()).unwrap();
    }
}

/// The error, whose kind the caller compares.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T>) -> DriverError {
    result.unwrap_err()
}
