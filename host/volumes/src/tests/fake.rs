//! A driver whose every call the test can watch, hold up and fail.

use crate::driver::{ManagedDriver, QUICK};
use crate::driver_set::DriverSet;
use crate::ledger::Ledger;
use crate::service::Volumes;
use convoy_activity::events::Events;
use convoy_driver_sdk::dispatch::{Dispatch, Dispatcher};
use convoy_driver_sdk::protocol::{
    Capability, CloneVolume, CreateSnapshot, CreateVolume, DeleteSnapshot, DeleteVolume, Description,
    GetVolume, ListVolumes, ListedVolumes, MountVolume, Mounted, Open, Opened, OptionSpec, Probed,
    RevertVolume, Snapshot, UnmountVolume, Volume,
};
use convoy_driver_sdk::{Context, Driver, DriverError, ErrorKind, Name, Result, Timestamp};
use convoy_drivers::{DriverSpec, Drivers, SearchPath};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::Duration;

/// What a test holds of its driver.
#[derive(Debug, Default)]
pub(super) struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    volumes: BTreeMap<Name, Volume>,
    /// Where it mounts.
    dir: PathBuf,
    /// Calls to be held up, by method.
    held: Vec<&'static str>,
    /// Calls that arrived, by method.
    arrived: Vec<&'static str>,
    /// The next call of this method fails so, after it was carried out if so said.
    failing: HashMap<&'static str, (DriverError, bool)>,
    pages: Option<usize>,
    no_open: bool,
    /// What is wrong with the storage.
    trouble: Option<String>,
}

static CONTROLS: LazyLock<Mutex<HashMap<String, Arc<Control>>>> = LazyLock::new(Mutex::default);

impl Control {
    pub(super) fn hold(&self, method: &'static str) {
        self.state.lock().unwrap().held.push(method);
    }

    pub(super) fn let_go(&self) {
        self.state.lock().unwrap().held.clear();
        self.changed.notify_all();
    }

    /// The next call of a method fails; `done` says that it was carried out nonetheless.
    pub(super) fn fail(&self, method: &'static str, kind: ErrorKind, done: bool) {
        let error = DriverError::new(kind, format!("{method} was made to fail"));
        self.state.lock().unwrap().failing.insert(method, (error, done));
    }

    pub(super) fn refuse_to_open(&self, refuse: bool) {
        self.state.lock().unwrap().no_open = refuse;
    }

    pub(super) fn trouble(&self, message: Option<&str>) {
        self.state.lock().unwrap().trouble = message.map(str::to_owned);
    }

    pub(super) fn pages_of(&self, size: usize) {
        self.state.lock().unwrap().pages = Some(size);
    }

    /// What another host makes.
    pub(super) fn put(&self, name: &str, mountpoint: Option<&str>) {
        let name = Name::parse(name).unwrap();
        let mut volume = volume(&name);
        volume.mountpoint = mountpoint.map(Into::into);
        self.state.lock().unwrap().volumes.insert(name, volume);
    }

    pub(super) fn remove(&self, name: &str) {
        self.state.lock().unwrap().volumes.remove(name);
    }

    pub(super) fn volume(&self, name: &str) -> Option<Volume> {
        self.state.lock().unwrap().volumes.get(name).cloned()
    }

    pub(super) fn arrived(&self, method: &str) -> usize {
        self.state.lock().unwrap().arrived.iter().filter(|arrived| **arrived == method).count()
    }

    /// Waits for a call to arrive.
    pub(super) async fn wait_for(&self, method: &str) {
        for _ in 0..1000 {
            if self.arrived(method) > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{method} did not arrive");
    }

    /// Carries a call out, when it may.
    fn call<T>(&self, method: &'static str, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock().unwrap();
        state.arrived.push(method);
        while state.held.contains(&method) {
            state = self.changed.wait(state).unwrap();
        }
        match state.failing.remove(method) {
            Some((error, true)) => work(&mut state).and(Err(error)),
            Some((error, false)) => Err(error),
            None => work(&mut state),
        }
    }
}

/// The driver under the service.
pub(super) struct Fake(Arc<Control>);

pub(super) fn volume(name: &Name) -> Volume {
    Volume::new(name.clone(), 0, Timestamp::from_unix(0))
}

fn known<'a>(state: &'a mut State, name: &Name) -> Result<&'a mut Volume> {
    let missing = || DriverError::new(ErrorKind::NotFound, format!("no volume {name}"));
    state.volumes.get_mut(name).ok_or_else(missing)
}

impl Driver for Fake {
    fn describe() -> Description {
        Description::new("fake", "0", "")
            .capabilities(
                [Capability::Snapshots, Capability::Shared, Capability::Clone, Capability::Revert].into(),
            )
            .create_options(vec![OptionSpec::new("plain", "").for_docker(), OptionSpec::new("unsaid", "")])
    }

    fn open(request: Open, _: &Context) -> Result<(Self, Opened)> {
        let control = Arc::clone(&CONTROLS.lock().unwrap()[&request.options["control"]]);
        control.state.lock().unwrap().dir = PathBuf::from(&request.options["control"]);
        control.call("open", |state| match state.no_open {
            true => Err(DriverError::new(ErrorKind::Unavailable, "the storage is away")),
            false => Ok(()),
        })?;
        Ok((Self(control), Opened::default()))
    }

    fn info(&self, _: &Context) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::new())
    }

    fn probe(&self, _: &Context) -> Result<Probed> {
        self.0.call("driver.probe", |state| Ok(Probed::well().message(state.trouble.clone())))
    }

    fn create_volume(&self, request: CreateVolume, _: &Context) -> Result<Volume> {
        self.0.call("create", |state| {
            if state.volumes.contains_key(&request.name) {
                return Err(DriverError::new(ErrorKind::AlreadyExists, "it is there"));
            }
            let made = volume(&request.name);
            state.volumes.insert(request.name, made.clone());
            Ok(made)
        })
    }

    fn delete_volume(&self, request: DeleteVolume, _: &Context) -> Result<()> {
        self.0.call("delete", |state| {
            known(state, &request.name)?;
            state.volumes.remove(&request.name);
            Ok(())
        })
    }

    fn mount_volume(&self, request: MountVolume, _: &Context) -> Result<Mounted> {
        self.0.call("mount", |state| {
            let mountpoint = state.dir.join("mounts").join(request.name.as_str());
            known(state, &request.name)?.mountpoint = Some(mountpoint.clone());
            std::fs::create_dir_all(&mountpoint).map_err(|error| DriverError::io("mount", &error))?;
            Ok(Mounted::new(mountpoint))
        })
    }

    fn unmount_volume(&self, request: UnmountVolume, _: &Context) -> Result<()> {
        self.0.call("unmount", |state| {
            known(state, &request.name)?.mountpoint = None;
            Ok(())
        })
    }

    fn list_volumes(&self, request: ListVolumes, _: &Context) -> Result<ListedVolumes> {
        self.0.call("list", |state| {
            let size = state.pages.unwrap_or(usize::MAX);
            let rest = state
                .volumes
                .values()
                .filter(|volume| request.after.as_ref().is_none_or(|after| volume.name > *after));
            let volumes: Vec<Volume> = rest.clone().take(size).cloned().collect();
            let more = rest.count() > volumes.len();
            Ok(ListedVolumes::new(volumes).more(more))
        })
    }

    fn get_volume(&self, request: GetVolume, _: &Context) -> Result<Volume> {
        self.0.call("get", |state| known(state, &request.name).cloned())
    }

    fn create_snapshot(&self, request: CreateSnapshot, _: &Context) -> Result<Snapshot> {
        self.0.call("snapshot", |state| {
            let snapshot = Snapshot::new(request.snapshot, request.volume.clone(), Timestamp::from_unix(0));
            known(state, &request.volume)?.snapshots.push(snapshot.clone());
            Ok(snapshot)
        })
    }

    fn clone_volume(&self, request: CloneVolume, _: &Context) -> Result<Volume> {
        self.0.call("clone", |state| {
            let source = known(state, &request.source)?;
            assert!(source.snapshots.iter().any(|one| one.name == request.snapshot));
            let mut made = volume(&request.name);
            made.size = request.size.unwrap_or(source.size);
            state.volumes.insert(request.name, made.clone());
            Ok(made)
        })
    }

    fn revert_volume(&self, request: RevertVolume, _: &Context) -> Result<Volume> {
        self.0.call("revert", |state| {
            let reverted = known(state, &request.name)?;
            reverted.info.insert("RevertedTo".to_owned(), request.snapshot.to_string());
            Ok(reverted.clone())
        })
    }

    fn delete_snapshot(&self, request: DeleteSnapshot, _: &Context) -> Result<()> {
        self.0.call("unsnapshot", |state| {
            known(state, &request.volume)?.snapshots.retain(|one| one.name != request.snapshot);
            Ok(())
        })
    }
}

/// A service of one such driver, which is not open yet; `dir` is for the ledger and names the driver's
/// control.
pub(super) async fn service(dir: &Path) -> (Arc<Volumes>, Arc<Control>) {
    opening(dir, QUICK).await
}

/// The same, of a driver that may take its time to open.
pub(super) async fn opening(dir: &Path, patience: Duration) -> (Arc<Volumes>, Arc<Control>) {
    let id = dir.display().to_string();
    let control = Arc::clone(CONTROLS.lock().unwrap().entry(id.clone()).or_default());
    let drivers = Drivers::new(SearchPath::only(&[]))
        .builtin(Name::from_static("fake"), || Arc::new(Dispatcher::<Fake>::new()) as Arc<dyn Dispatch>);
    let handle = drivers.load(&DriverSpec::named(Name::from_static("fake"))).await.unwrap();
    let open = Open::default().options([("control".to_owned(), id)].into());
    let backend = Arc::new(ManagedDriver::loaded(handle, open));
    let ledger = Ledger::open(dir, &dir.join("run"), "boot").unwrap();
    let set = DriverSet::new(Arc::clone(&backend), Vec::new());
    let volumes = Arc::new(Volumes::new(set, ledger, Events::default()));
    // What the caller makes of a failure is its affair.
    let _ = backend.open(patience).await;
    (volumes, control)
}
