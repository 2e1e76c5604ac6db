//! What every call of a driver costs beside the driver's own work: `cargo bench -p convoy-driver-sdk`.

#![allow(clippy::unwrap_used, reason = "it measures; what fails ends it")]

use convoy_driver_sdk::dispatch::{Dispatch, Dispatcher};
use convoy_driver_sdk::protocol::{
    CreateVolume, DeleteVolume, Description, GetVolume, ListVolumes, ListedVolumes, MountVolume, Mounted,
    Open, Opened, UnmountVolume, Volume,
};
use convoy_driver_sdk::{Context, Driver, DriverError, Name, Result, Timestamp};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

/// Volumes on a page of a list.
const VOLUMES: usize = 1000;

fn main() {
    divan::main();
}

/// Has volumes from the start, and does nothing with them.
struct Idle {
    volumes: Vec<Volume>,
}

impl Driver for Idle {
    fn describe() -> Description {
        Description::new("idle", "1.0.0", "does nothing")
    }

    fn open(_: Open, _: &Context) -> Result<(Self, Opened)> {
        let volume =
            |number| Ok(Volume::new(Name::parse(format!("volume-{number}"))?, 1 << 30, Timestamp::now()));
        Ok((Self { volumes: (0..VOLUMES).map(volume).collect::<Result<_>>()? }, Opened::default()))
    }

    fn create_volume(&self, _: CreateVolume, _: &Context) -> Result<Volume> {
        Err(DriverError::unsupported("making a volume"))
    }

    fn delete_volume(&self, _: DeleteVolume, _: &Context) -> Result<()> {
        Err(DriverError::unsupported("deleting a volume"))
    }

    fn mount_volume(&self, _: MountVolume, _: &Context) -> Result<Mounted> {
        Err(DriverError::unsupported("mounting a volume"))
    }

    fn unmount_volume(&self, _: UnmountVolume, _: &Context) -> Result<()> {
        Ok(())
    }

    fn list_volumes(&self, _: ListVolumes, _: &Context) -> Result<ListedVolumes> {
        Ok(ListedVolumes::new(self.volumes.clone()))
    }

    fn get_volume(&self, _: GetVolume, _: &Context) -> Result<Volume> {
        self.volumes.first().cloned().ok_or_else(|| DriverError::not_found("there is no volume"))
    }
}

fn opened() -> (Dispatcher<Idle>, Context) {
    let (driver, context) = (Dispatcher::new(), Context::new("bench"));
    driver.dispatch("driver.open", br#"{"root": "/nowhere"}"#, &context).unwrap();
    (driver, context)
}

#[divan::bench]
fn one_volume(bencher: Bencher) {
    let (driver, context) = opened();
    let request = br#"{"name": "volume-0"}"#;
    bencher.bench(|| driver.dispatch("volume.get", black_box(request), &context).unwrap());
}

#[divan::bench]
fn a_page_of_volumes(bencher: Bencher) {
    let (driver, context) = opened();
    let bencher = bencher.counter(ItemsCount::new(VOLUMES));
    bencher.bench(|| driver.dispatch("volume.list", black_box(b"{}"), &context).unwrap());
}

#[divan::bench]
fn an_unknown_method(bencher: Bencher) {
    let (driver, context) = opened();
    bencher.bench(|| driver.dispatch("volume.paint", black_box(b"{}"), &context).unwrap_err());
}
