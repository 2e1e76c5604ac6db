//! Against AWS itself, on an instance whose role has the policy of the documentation:
//! `CONVOY_TEST_LIVE_EBS=1`.
//!
//! It makes one gp3 volume of 1 GiB, one snapshot of it and one volume of that, and deletes them: about a
//! cent. What it makes bears the tag `ConvoyVolumeName` with `convoy-live-test` or `convoy-live-copy`; if it
//! is cut off, run it again, or delete what bears that tag.

use crate::world::{context, name, options};
use convoy_driver_ebs::Ebs;
use convoy_driver_sdk::Driver;
use convoy_driver_sdk::protocol::{
    CreateBackup, CreateSnapshot, CreateVolume, DeleteBackup, DeleteVolume, MountVolume, Open, ResizeVolume,
    UnmountVolume,
};

#[test]
fn a_volume_on_a_real_instance() {
    if std::env::var("CONVOY_TEST_LIVE_EBS").as_deref() != Ok("1") {
        eprintln!("skipped: set CONVOY_TEST_LIVE_EBS=1 on an EC2 instance");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let open = Open::new(root.path().join("ebs"));
    let context = || context().with_deadline(None);
    let (driver, _) = Ebs::open(open, &context()).unwrap();
    let (volume, copy) = (name("convoy-live-test"), name("convoy-live-copy"));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let request = CreateVolume::new(volume.clone()).size(Some(1 << 30)).options(options(&[]));
        driver.create_volume(request, &context()).unwrap();
        let mount = |volume| driver.mount_volume(MountVolume::new(volume), &context()).unwrap().mountpoint;
        let at = mount(volume.clone());
        std::fs::write(at.join("file"), "content").unwrap();
        let snapshot = CreateSnapshot::new(volume.clone(), name("one")).freeze(true);
        driver.create_snapshot(snapshot, &context()).unwrap();
        let backup = CreateBackup::new(volume.clone(), name("one")).options(options(&[]));
        let url = driver.create_backup(backup, &context()).unwrap().url;
        let request = CreateVolume::new(copy.clone()).options(options(&[("backup", url.as_str())]));
        driver.create_volume(request, &context()).unwrap();
        assert_eq!(std::fs::read_to_string(mount(copy.clone()).join("file")).unwrap(), "content");
        driver.delete_backup(DeleteBackup::new(url), &context()).unwrap();
        driver.resize_volume(ResizeVolume::new(volume.clone(), 2 << 30), &context()).unwrap();
    }));
    for volume in [copy, volume] {
        let _ = driver.unmount_volume(UnmountVolume::new(volume.clone()), &context());
        let _ = driver.delete_volume(DeleteVolume::new(volume), &context());
    }
    outcome.unwrap();
}
