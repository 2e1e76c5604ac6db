//! A droplet with a kernel, a cloud, and the driver on it.

use crate::cloud::{Cloud, TOKEN};
use convoy_cloud_lab::kernel::{Kernel, Scratch};
use convoy_driver_digitalocean::DigitalOcean;
use convoy_driver_digitalocean::config::Config;
use convoy_driver_sdk::protocol::{
    CreateSnapshot, CreateVolume, DeleteVolume, GetVolume, ListVolumes, MountVolume, Open, Opened,
    UnmountVolume, Volume,
};
use convoy_driver_sdk::{Context, Driver, DriverError, ErrorKind, Name, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) struct World {
    pub(crate) driver: Option<DigitalOcean>,
    pub(crate) scratch: Scratch,
    pub(crate) cloud: Cloud,
    pub(crate) kernel: Arc<Kernel>,
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn context() -> Context {
    Context::new("test").with_deadline(Some(Instant::now() + Duration::from_secs(60)))
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
        let cloud = Cloud::start(Arc::clone(&kernel));
        let mut world = Self { driver: None, scratch: Scratch::new().unwrap(), cloud, kernel };
        world.reopen();
        world
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.scratch.path().join("digitalocean")
    }

    /// As from options and environment, with the droplet's kernel in place of this one.
    pub(crate) fn config(&self, extra: &[(&str, &str)]) -> Config {
        let token = self.scratch.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let mut given = options(&[
            ("do.tokenfile", token.to_str().unwrap()),
            ("do.endpoint", self.cloud.server.url().unwrap().as_str()),
            ("do.metadata-endpoint", self.cloud.metadata.url().unwrap().as_str()),
            ("do.defaultvolumesize", "1G"),
        ]);
        given.extend(options(extra));
        let request = Open { root: self.root(), options: given, ..Open::default() };
        let mut config = Config::read(&request).unwrap();
        config.dev = self.kernel.dev();
        config.sys = self.kernel.sys();
        config
    }

    pub(crate) fn open_with(&self, config: Config) -> Result<(DigitalOcean, Opened)> {
        let request = Open { root: self.root(), ..Open::default() };
        DigitalOcean::open_with(config, request, &context())
    }

    /// A new life of the driver.
    pub(crate) fn reopen(&mut self) -> Opened {
        self.driver = None;
        let (driver, opened) = self.open_with(self.config(&[])).unwrap();
        self.driver = Some(driver);
        opened
    }

    pub(crate) fn driver(&self) -> &DigitalOcean {
        self.driver.as_ref().unwrap()
    }

    pub(crate) fn create(&self, volume: &str, pairs: &[(&str, &str)]) -> Result<Volume> {
        let request = CreateVolume { name: name(volume), size: None, options: options(pairs) };
        self.driver().create_volume(request, &context())
    }

    pub(crate) fn create_sized(&self, volume: &str, bytes: u64) -> Result<Volume> {
        let request = CreateVolume { name: name(volume), size: Some(bytes), options: BTreeMap::new() };
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

    pub(crate) fn snapshot(
        &self,
        volume: &str,
        snapshot: &str,
    ) -> Result<convoy_driver_sdk::protocol::Snapshot> {
        let request = CreateSnapshot { volume: name(volume), snapshot: name(snapshot), freeze: false };
        self.driver().create_snapshot(request, &context())
    }

    /// Names of the volumes that the cloud has, sorted.
    pub(crate) fn cloud_names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.cloud.state().volumes.values().map(|volume| volume.name.clone()).collect();
        names.sort();
        names
    }

    /// The requests since the last time, as method and path.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.cloud.server.line.take_seen().iter().map(|request| request.line()).collect()
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

    /// Intents that are still on disk.
    pub(crate) fn intents(&self) -> usize {
        std::fs::read_dir(self.root().join("intents")).unwrap().count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let violations = std::mem::take(&mut self.cloud.state().violations);
        if !std::thread::panicking() {
            assert_eq!(violations, Vec::<String>::new(), "requests that DigitalOcean does not describe");
        }
    }
}
