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
    let open = Open { root: root.path().join("digitalocean"), ..Open::default() };
    let context = || context().with_deadline(None);
    let (driver, _) = DigitalOcean::open(open, &context()).unwrap();
    let volume = name("convoy-live-test");
    let request = CreateVolume { name: volume.clone(), size: Some(1 << 30), options: options(&[]) };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        driver.create_volume(request, &context()).unwrap();
        let mount = MountVolume { name: volume.clone(), mountpoint: None };
        let at = driver.mount_volume(mount, &context()).unwrap().mountpoint;
        std::fs::write(at.join("file"), "content").unwrap();
        let snapshot = CreateSnapshot { volume: volume.clone(), snapshot: name("one"), freeze: true };
        driver.create_snapshot(snapshot, &context()).unwrap();
        driver.resize_volume(ResizeVolume { name: volume.clone(), size: 2 << 30 }, &context()).unwrap();
        assert_eq!(std::fs::read_to_string(at.join("file")).unwrap(), "content");
    }));
    let _ = driver.unmount_volume(UnmountVolume { name: volume.clone() }, &context());
    driver.delete_volume(DeleteVolume { name: volume, reference_only: false }, &context()).unwrap();
    outcome.unwrap();
}
