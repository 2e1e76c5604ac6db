//! Against DigitalOcean itself, on a droplet, with a token of your own: `CONVOY_TEST_LIVE_DO=1 DO_TOKEN=..`.
//!
//! It makes one volume of 1 GiB and one snapshot of it, and deletes both: about a cent. What it makes is
//! named `convoy-live-test`; if it is cut off, run it again, or delete what bears that name.

use crate::world::{context, name, options};
use convoy_driver_digitalocean::DigitalOcean;
use convoy_driver_sdk::Driver;
use convoy_driver_sdk::protocol::{
    CreateSnapshot, CreateVolume, DeleteVolume, MountVolume, Open, ResizeVolume, UnmountVolume,
};

#[test]
fn a_volume_on_a_real_droplet() {
    if std::env::var("CONVOY_TEST_LIVE_DO").as_deref() != Ok("1") {
        eprintln!("skipped: set CONVOY_TEST_LIVE_DO=1 and DO_TOKEN on a droplet");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let open = Open::new(root.path().join("digitalocean"));
    let context = || context().with_deadline(None);
    let (driver, _) = DigitalOcean::open(open, &context()).unwrap();
    let volume = name("convoy-live-test");
    let request = CreateVolume::new(volume.clone()).size(Some(1 << 30)).options(options(&[]));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        driver.create_volume(request, &context()).unwrap();
        let mount = MountVolume::new(volume.clone());
        let at = driver.mount_volume(mount, &context()).unwrap().mountpoint;
        std::fs::write(at.join("file"), "content").unwrap();
        let snapshot = CreateSnapshot::new(volume.clone(), name("one")).freeze(true);
        driver.create_snapshot(snapshot, &context()).unwrap();
        driver.resize_volume(ResizeVolume::new(volume.clone(), 2 << 30), &context()).unwrap();
        assert_eq!(std::fs::read_to_string(at.join("file")).unwrap(), "content");
    }));
    let _ = driver.unmount_volume(UnmountVolume::new(volume.clone()), &context());
    driver.delete_volume(DeleteVolume::new(volume), &context()).unwrap();
    outcome.unwrap();
}
