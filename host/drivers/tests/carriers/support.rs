//! Where the built drivers are, and what they logged.

use crate::driver::Misbehaving;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::dispatch::Dispatcher;
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{CreateVolume, Open, Volume};
use convoy_driver_tmpfs::Tmpfs;
use convoy_drivers::{DriverHandle, Drivers, RequestContext, RestartPolicy, SearchPath};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Once, OnceLock};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// `target/debug`, where this test was built.
fn build_dir() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().to_owned()
}

/// The directories of the test drivers; builds what is not there.
pub(crate) fn built() -> [PathBuf; 2] {
    static BUILT: Once = Once::new();
    let (dir, examples) = (build_dir(), build_dir().join("examples"));
    BUILT.call_once(|| {
        let build = |args: &[&str]| {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(["build", "--quiet", "--package"]).args(args);
            if !cfg!(debug_assertions) {
                cargo.arg("--release");
            }
            assert!(cargo.status().unwrap().success());
        };
        let there = |dir: &Path, name: &str| {
            let library = format!("libconvoy_driver_{name}.so");
            dir.join(library).exists() && dir.join(format!("convoy-driver-{name}")).exists()
        };
        if !there(&examples, "misbehaving")
            || !examples.join("libconvoy_driver_otherlayout.so").exists()
            || !examples.join("visit").exists()
        {
            build(&["convoy-drivers", "--examples"]);
        }
        for driver in ["tmpfs", "vfs"] {
            if !there(&dir, driver) {
                build(&[&format!("convoy-driver-{driver}")]);
            }
        }
    });
    [examples, dir]
}

/// All carriers of the test drivers, with quick restarts.
pub(crate) fn drivers() -> Drivers {
    watch_logs();
    Drivers::new(SearchPath::only(&built()))
        .builtin(Name::from_static("misbehaving"), || Arc::new(Dispatcher::<Misbehaving>::new()))
        .builtin(Name::from_static("tmpfs"), || Arc::new(Dispatcher::<Tmpfs>::new()))
        .restarts(RestartPolicy {
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_millis(100),
            well_after: Duration::from_secs(60),
            give_up_after: 4,
        })
}

/// A directory for a driver that mounts; unmounts whatever a failed test left.
pub(crate) struct Root(tempfile::TempDir);

impl Root {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for mount in MountTable::read().unwrap().under(self.path()) {
            let _ = rustix::mount::unmount(&mount.mountpoint, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// A driver that is open, on a directory of its own.
pub(crate) struct Opened {
    pub(crate) driver: DriverHandle,
    pub(crate) root: tempfile::TempDir,
}

pub(crate) async fn open(spec: &str) -> Opened {
    let root = tempfile::tempdir().unwrap();
    let driver = drivers().load(&spec.parse().unwrap()).await.unwrap();
    let request = Open::new(root.path().to_owned());
    driver.open(request, RequestContext::new("open")).await.unwrap();
    Opened { driver, root }
}

/// A create that does something else.
pub(crate) fn doing(what: &str, ms: u64) -> CreateVolume {
    let options = [("do".to_owned(), what.to_owned()), ("ms".to_owned(), ms.to_string())];
    CreateVolume::new(Name::from_static("vol1")).options(options.into())
}

impl Opened {
    pub(crate) async fn create(
        &self,
        what: &str,
        ms: u64,
        options: RequestContext,
    ) -> convoy_driver_sdk::Result<Volume> {
        self.driver.call(doing(what, ms), options).await
    }
}

/// What the host logged.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) level: tracing::Level,
    pub(crate) fields: BTreeMap<String, String>,
}

impl Logged {
    pub(crate) fn is(&self, message: &str) -> bool {
        self.fields.get("message").is_some_and(|text| text.contains(message))
    }
}

struct Collect;

impl<S: tracing::Subscriber> Layer<S> for Collect {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        log().lock().unwrap().push(Logged { level: *event.metadata().level(), fields: fields.0 });
    }
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

fn log() -> &'static Mutex<Vec<Logged>> {
    static LOG: OnceLock<Mutex<Vec<Logged>>> = OnceLock::new();
    LOG.get_or_init(Mutex::default)
}

fn watch_logs() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let filter = tracing::level_filters::LevelFilter::INFO;
        let subscriber = tracing_subscriber::registry().with(Collect.with_filter(filter));
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

/// Waits for a record.
pub(crate) async fn logged(matches: impl Fn(&Logged) -> bool) -> Logged {
    for _ in 0..500 {
        if let Some(found) = log().lock().unwrap().iter().find(|record| matches(record)) {
            return found.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not logged; there is: {:#?}", log().lock().unwrap());
}
