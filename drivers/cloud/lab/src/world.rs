//! A machine of a cloud: its kernel, and the driver on it.

// The rule against panics spares tests, but not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::http::{Line, Reply, Request};
use crate::kernel::{Kernel, Scratch};
use convoy_driver_cloud::{CloudDriver, Config, Provider};
use convoy_driver_sdk::protocol::{
    CreateSnapshot, CreateVolume, DeleteVolume, GetVolume, ListVolumes, MountVolume, Open, Opened, Snapshot,
    UnmountVolume, Volume,
};
use convoy_driver_sdk::{Context, Driver, DriverError, ErrorKind, Name, Result, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a request to a cloud's API may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    CreateVolume,
    DeleteVolume,
    AttachVolume,
    CreateSnapshot,
}

/// A cloud for tests, with real disks behind its volumes.
pub trait Cloud: Sized + 'static {
    /// What the driver makes of it.
    type Provider: Provider;
    const REGION: &'static str;
    /// The key of a snapshot's id in what is shown of it.
    const SNAPSHOT_ID: &'static str;

    /// Begins, with an instance whose kernel shows what is attached to it.
    fn start(kernel: Arc<Kernel>) -> Self;

    /// The driver's options that lead here; what they need of files is made in a directory.
    fn options(&self, scratch: &Path) -> BTreeMap<String, String>;

    fn line(&self) -> &Line;

    fn volumes(&self) -> BTreeSet<String>;

    fn snapshots(&self) -> BTreeSet<String>;

    /// From now on the disks of new volumes have something on them.
    fn stain(&self);

    fn asks_for(action: Action, request: &Request) -> bool;

    /// What it answers to somebody without permission.
    fn refusal() -> Reply;

    /// Ends what is stuck and what is slow, now and from now on.
    fn calm(&self) {}

    /// What was asked that the provider does not describe, and what was answered so.
    fn violations(&self) -> Vec<String>;
}

/// The machine. When it is dropped, whatever was asked of the cloud must have been as its provider describes
/// it.
pub struct World<C: Cloud> {
    /// The driver, in its present life.
    pub driver: Option<CloudDriver<C::Provider>>,
    pub scratch: Scratch,
    pub cloud: C,
    /// The kernel that shows the cloud's disks.
    pub kernel: Arc<Kernel>,
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A call that has a minute.
pub fn context() -> Context {
    hurried(60_000)
}

/// A call that has less.
pub fn hurried(milliseconds: u64) -> Context {
    Context::new("test").with_deadline(Some(Instant::now() + Duration::from_millis(milliseconds)))
}

/// The error of a call that must fail with that kind and these words.
#[track_caller]
pub fn expect<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, words: &str) -> DriverError {
    let error = result.expect_err(words);
    assert_eq!(error.kind, kind, "{error:?}");
    let text = format!("{} {}", error.message, error.hint.as_deref().unwrap_or_default());
    assert!(text.contains(words), "{words:?} not in {error:?}");
    error
}

impl<C: Cloud> World<C> {
    #[allow(clippy::new_without_default, reason = "it starts servers")]
    pub fn new() -> Self {
        let kernel = Arc::new(Kernel::new().unwrap());
        let cloud = C::start(Arc::clone(&kernel));
        let mut world = Self { driver: None, scratch: Scratch::new().unwrap(), cloud, kernel };
        world.reopen();
        world
    }

    pub fn root(&self) -> PathBuf {
        self.scratch.path().join(C::Provider::DRIVER)
    }

    pub fn options(&self) -> BTreeMap<String, String> {
        self.cloud.options(self.scratch.path())
    }

    /// As from options, with this kernel in place of the machine's.
    pub fn config(&self, extra: &[(&str, &str)]) -> Config<<C::Provider as Provider>::Own> {
        let mut given = self.options();
        given.extend(options(extra));
        let request = Open::new(self.root()).options(given);
        let mut config = Config::read::<C::Provider>(&request).unwrap();
        config.places.dev = self.kernel.dev();
        config.places.sys = self.kernel.sys();
        config
    }

    /// Opens a driver on this root.
    pub fn open_with(
        &self,
        config: Config<<C::Provider as Provider>::Own>,
    ) -> Result<(CloudDriver<C::Provider>, Opened)> {
        let request = Open::new(self.root());
        CloudDriver::open_with(config, request, &context())
    }

    pub fn reopen(&mut self) -> Opened {
        self.reopen_with(&[])
    }

    /// A new life of the driver, with further options.
    pub fn reopen_with(&mut self, extra: &[(&str, &str)]) -> Opened {
        self.driver = None;
        let (driver, opened) = self.open_with(self.config(extra)).unwrap();
        self.driver = Some(driver);
        opened
    }

    pub fn driver(&self) -> &CloudDriver<C::Provider> {
        self.driver.as_ref().unwrap()
    }

    pub fn create(&self, volume: &str, pairs: &[(&str, &str)]) -> Result<Volume> {
        let request = CreateVolume::new(name(volume)).options(options(pairs));
        self.driver().create_volume(request, &context())
    }

    pub fn create_sized(&self, volume: &str, bytes: u64) -> Result<Volume> {
        let request = CreateVolume::new(name(volume)).size(Some(bytes));
        self.driver().create_volume(request, &context())
    }

    pub fn get(&self, volume: &str) -> Result<Volume> {
        self.driver().get_volume(GetVolume::new(name(volume)), &context())
    }

    /// All volumes; there must be nothing to warn of.
    pub fn list(&self) -> Vec<Volume> {
        let listed = self.driver().list_volumes(ListVolumes::default(), &context()).unwrap();
        assert_eq!(listed.warnings, Vec::<String>::new());
        listed.volumes
    }

    /// Mounts a volume at its usual place.
    pub fn mount(&self, volume: &str) -> Result<PathBuf> {
        let request = MountVolume::new(name(volume));
        Ok(self.driver().mount_volume(request, &context())?.mountpoint)
    }

    pub fn unmount(&self, volume: &str) -> Result<()> {
        self.driver().unmount_volume(UnmountVolume::new(name(volume)), &context())
    }

    /// Deletes a volume, or forgets it.
    pub fn delete(&self, volume: &str, reference_only: bool) -> Result<()> {
        self.driver()
            .delete_volume(DeleteVolume::new(name(volume)).reference_only(reference_only), &context())
    }

    pub fn snapshot(&self, volume: &str, snapshot: &str) -> Result<Snapshot> {
        let request = CreateSnapshot::new(name(volume), name(snapshot));
        self.driver().create_snapshot(request, &context())
    }

    /// How many volumes and snapshots the cloud has, and how many intents are on disk.
    pub fn left(&self) -> (usize, usize, usize) {
        (self.cloud.volumes().len(), self.cloud.snapshots().len(), self.intents())
    }

    /// How many intents are on disk.
    pub fn intents(&self) -> usize {
        std::fs::read_dir(self.root().join("intents")).unwrap().count()
    }

    /// Makes the intents on disk an hour older.
    pub fn age_intents(&self) {
        let earlier = Timestamp::from_unix(Timestamp::now().unix() - 3600);
        for entry in std::fs::read_dir(self.root().join("intents")).unwrap() {
            let path = entry.unwrap().path();
            let mut intent: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            if let Some(started) = intent.get_mut("started") {
                *started = earlier.to_string().into();
            }
            std::fs::write(&path, intent.to_string()).unwrap();
        }
    }
}

impl<C: Cloud> std::fmt::Debug for World<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("root", &self.root()).finish_non_exhaustive()
    }
}

impl<C: Cloud> Drop for World<C> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(
                self.cloud.violations(),
                Vec::<String>::new(),
                "not as the provider describes its API"
            );
        }
    }
}
