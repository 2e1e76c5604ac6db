//! The driver through both carriers, as the host runs it: a shared library and a process, the latter killed.

use super::check::{Failure, Step};
use super::lab::{MIB, Setup, name, no_leaks, sh};
use crate::{ensure, ensure_eq};
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::{
    CloseSnapshot, CreateSnapshot, CreateVolume, DeleteVolume, GetVolume, ListExtents, MountVolume, Open,
    OpenSnapshot, Request, UnmountVolume,
};
use convoy_driver_sdk::{DriverError, ErrorKind};
use convoy_drivers::{DriverHandle, Drivers, RequestContext, SearchPath};
use convoy_tests::patience;
use std::path::Path;
use std::time::Duration;

/// A handle, with calls that wait.
struct Remote {
    runtime: tokio::runtime::Runtime,
    handle: DriverHandle,
}

impl Remote {
    fn open(spec: &str) -> Step<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let drivers = Drivers::new(SearchPath::standard(&[]));
        let handle = runtime.block_on(drivers.load(&spec.parse()?))?;
        let setup = Setup::default();
        let open = Open::new(setup.root).options(setup.options);
        let opened = runtime.block_on(handle.open(open, options()))?;
        ensure!(opened.warnings.is_empty(), "{opened:?}");
        Ok(Self { runtime, handle })
    }

    fn call<R: Request>(&self, request: R) -> Result<R::Reply, DriverError> {
        self.runtime.block_on(self.handle.call(request, options()))
    }
}

fn options() -> RequestContext {
    RequestContext::new("test").within(Duration::from_secs(60))
}

pub(super) fn run() -> Step {
    let here = std::env::current_exe()?;
    let beside = |file: &str| here.with_file_name(file).display().to_string();
    for spec in [
        beside("libconvoy_driver_devicemapper.so"),
        format!("process:{}", beside("convoy-driver-devicemapper")),
    ] {
        println!("{spec}");
        let remote = Remote::open(&spec).map_err(|failure| {
            Failure::new(format!("{failure} (cargo build -p convoy-driver-devicemapper)"))
        })?;
        everyday(&remote)?;
        remote.runtime.block_on(remote.handle.stop(Duration::from_secs(5)));
        no_leaks(&["convoy-pool"])?;
    }
    let remote = Remote::open(&format!("process:{}", beside("convoy-driver-devicemapper")))?;
    killed(&remote)
}

fn everyday(remote: &Remote) -> Step {
    let volume = || name("v1");
    let options = [("fs".to_owned(), FsKind::Ext4.to_string())].into();
    remote.call(CreateVolume::new(volume()).size(Some(64 * MIB)).options(options))?;
    let mountpoint = remote.call(MountVolume::new(volume()))?.mountpoint;
    std::fs::write(mountpoint.join("file"), "content")?;
    remote.call(CreateSnapshot::new(volume(), name("s1")).freeze(true))?;
    let opened = remote.call(OpenSnapshot::new(volume(), name("s1")))?;
    let page = remote.call(ListExtents::new(opened.handle.clone()))?;
    ensure!(!page.extents.is_empty() && page.next.is_none(), "{page:?}");
    remote.call(CloseSnapshot::new(opened.handle))?;
    remote.call(UnmountVolume::new(volume()))?;
    remote.call(DeleteVolume::new(volume()))?;
    Ok(())
}

/// The process dies while a volume is mounted: the mount stays, and the next process knows everything.
fn killed(remote: &Remote) -> Step {
    let volume = || name("v2");
    remote.call(CreateVolume::new(volume()).size(Some(64 * MIB)))?;
    let mountpoint = remote.call(MountVolume::new(volume()))?.mountpoint;
    std::fs::write(mountpoint.join("file"), "content")?;
    let pid = sh("pgrep -f ^[^[:space:]]*convoy-driver-devicemapper | head -1")?;
    sh(&format!("kill -9 {pid}"))?;
    ensure_eq!(std::fs::read_to_string(mountpoint.join("file"))?, "content");
    let get = || remote.call(GetVolume::new(volume()));
    let unavailable = |error: DriverError| error.kind == ErrorKind::Unavailable;
    patience::wait("the driver after a kill", Duration::from_secs(60), || {
        Step::Ok(!get().is_err_and(unavailable))
    })?;
    let found = get()?;
    ensure_eq!(found.mountpoint.as_deref(), Some(mountpoint.as_path()));
    remote.call(UnmountVolume::new(volume()))?;
    remote.call(DeleteVolume::new(volume()))?;
    remote.runtime.block_on(remote.handle.stop(Duration::from_secs(5)));
    ensure!(Path::new("/dev/mapper/convoy-pool").exists(), "the pool is gone");
    no_leaks(&["convoy-pool"])
}
