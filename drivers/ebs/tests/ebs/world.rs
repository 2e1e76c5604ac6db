//! An instance with a kernel, EC2, and the driver on it.

use crate::aws::Aws;
use convoy_cloud_lab::kernel::{Kernel, Scratch};
use convoy_driver_ebs::Ebs;
use convoy_driver_ebs::config::Config;
use convoy_driver_sdk::protocol::{
    CreateSnapshot, CreateVolume, DeleteVolume, GetVolume, ListVolumes, MountVolume, Open, Opened, Snapshot,
    UnmountVolume, Volume,
};
use convoy_driver_sdk::{Context, Driver, DriverError, ErrorKind, Name, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) struct World {
    pub(crate) driver: Option<Ebs>,
    pub(crate) scratch: Scratch,
    pub(crate) aws: Aws,
    pub(crate) kernel: Arc<Kernel>,
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn context() -> Context {
    hurried(60_000)
}

pub(crate) fn hurried(milliseconds: u64) -> Context {
    Context::new("test").with_deadline(Some(Instant::now() + Duration::from_millis(milliseconds)))
}

#[track_caller]
pub(crate) fn expect<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, words: &str) -> DriverError {
    let error = result.expect_err(words);
    assert_eq!(error.kind, kind, "{error:?}");
    let text = format!("{} {}", error.message, error.hint.as_deref().unwrap_or_default());
    assert!(text.contains(words), "{words:?} not in {error:?}");
    error
}

impl World {
    pub(crate) fn new() -> Self {
        let kernel = Arc::new(Kernel::new().unwrap());
        let aws = Aws::start(Arc::clone(&kernel));
        let mut world = Self { driver: None, scratch: Scratch::new().unwrap(), aws, kernel };
        world.reopen();
        world
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.scratch.path().join("ebs")
    }

    pub(crate) fn options(&self) -> BTreeMap<String, String> {
        options(&[
            ("ebs.endpoint", self.aws.server.url().unwrap().as_str()),
            ("ebs.metadata-endpoint", self.aws.metadata.server.url().unwrap().as_str()),
            ("ebs.defaultvolumesize", "1G"),
            ("ebs.tags", "team=storage,cost centre=42"),
        ])
    }

    /// As from options, with the instance's kernel in place of this one.
    pub(crate) fn config(&self, extra: &[(&str, &str)]) -> Config {
        let mut given = self.options();
        given.extend(options(extra));
        let request = Open { root: self.root(), options: given, ..Open::default() };
        let mut config = Config::read(&request).unwrap();
        config.dev = self.kernel.dev();
        config.sys = self.kernel.sys();
        config
    }

    pub(crate) fn open_with(&self, config: Config) -> Result<(Ebs, Opened)> {
        let request = Open { root: self.root(), ..Open::default() };
        Ebs::open_with(config, request, &context())
    }

    /// A new life of the driver.
    pub(crate) fn reopen(&mut self) -> Opened {
        self.reopen_with(&[])
    }

    pub(crate) fn reopen_with(&mut self, extra: &[(&str, &str)]) -> Opened {
        self.driver = None;
        let (driver, opened) = self.open_with(self.config(extra)).unwrap();
        self.driver = Some(driver);
        opened
    }

    pub(crate) fn driver(&self) -> &Ebs {
        self.driver.as_ref().unwrap()
    }

    pub(crate) fn create(&self, volume: &str, pairs: &[(&str, &str)]) -> Result<Volume> {
        let request = CreateVolume { name: name(volume), size: None, options: options(pairs) };
        self.driver().create_volume(request, &context())
    }

    pub(crate) fn get(&self, volume: &str) -> Result<Volume> {
        self.driver().get_volume(GetVolume { name: name(volume) }, &context())
    }

    pub(crate) fn list(&self) -> Vec<Volume> {
        let listed = self.driver().list_volumes(ListVolumes::default(), &context()).unwrap();
        assert_eq!(listed.warnings, Vec::<String>::new());
        listed.volumes
    }

    pub(crate) fn mount(&self, volume: &str) -> Result<PathBuf> {
        let request = MountVolume { name: name(volume), mountpoint: None };
        Ok(self.driver().mount_volume(request, &context())?.mountpoint)
    }

    pub(crate) fn unmount(&self, volume: &str) -> Result<()> {
        self.driver().unmount_volume(UnmountVolume { name: name(volume) }, &context())
    }

    pub(crate) fn delete(&self, volume: &str, reference_only: bool) -> Result<()> {
        self.driver().delete_volume(DeleteVolume { name: name(volume), reference_only }, &context())
    }

    pub(crate) fn snapshot(&self, volume: &str, snapshot: &str) -> Result<Snapshot> {
        let request = CreateSnapshot { volume: name(volume), snapshot: name(snapshot), freeze: false };
        self.driver().create_snapshot(request, &context())
    }

    /// How many volumes and snapshots there are in the cloud, and intents on disk.
    pub(crate) fn left(&self) -> (usize, usize, usize) {
        let intents = std::fs::read_dir(self.root().join("intents")).unwrap().count();
        let state = self.aws.state();
        (state.volumes.len(), state.snapshots.len(), intents)
    }

    /// The actions asked for since the last time.
    pub(crate) fn actions(&self) -> Vec<String> {
        std::mem::take(&mut self.aws.state().actions)
    }

    /// Makes the intents on disk an hour older.
    pub(crate) fn age_intents(&self) {
        let earlier =
            convoy_driver_sdk::Timestamp::from_unix(convoy_driver_sdk::Timestamp::now().unix() - 3600);
        for entry in std::fs::read_dir(self.root().join("intents")).unwrap() {
            let path = entry.unwrap().path();
            let mut intent: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            intent["started"] = earlier.to_string().into();
            std::fs::write(&path, intent.to_string()).unwrap();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mut violations = std::mem::take(&mut self.aws.state().violations);
        violations.extend(self.aws.metadata.violations());
        if !std::thread::panicking() {
            assert_eq!(violations, Vec::<String>::new(), "requests that AWS does not describe");
        }
    }
}
