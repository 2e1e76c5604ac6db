//! Volumes from snapshots, going back, and the check.

use crate::support::{KINDS, Place, SIZE, context, name};
use convoy_driver_sdk::protocol::{Check, CloneVolume, DeleteVolume, RevertVolume, Severity};
use convoy_driver_sdk::{Driver, ErrorKind};
use convoy_tests::{Lab, Result};

#[test]
fn a_copy_is_independent_and_a_volume_goes_back() -> Result<()> {
    Lab::run(|lab| {
        for kind in KINDS {
            let place = Place::new(lab, kind)?;
            let (driver, _) = place.open();
            driver.create("vol1").unwrap();
            let path = driver.mount("vol1").unwrap();
            std::fs::write(path.join("file"), "first").unwrap();
            driver.snapshot("vol1", "monday").unwrap();
            std::fs::write(path.join("file"), "second").unwrap();
            driver.snapshot("vol1", "tuesday").unwrap();

            let copy = |size, fs: &str| {
                let options = [("fs".to_owned(), fs.to_owned())].into();
                let request =
                    CloneVolume::new(name("vol2"), name("vol1"), name("monday")).size(size).options(options);
                driver.0.clone_volume(request, &context())
            };
            assert_eq!(copy(None, "xfs").unwrap_err().kind, ErrorKind::InvalidArgument);
            assert_eq!(copy(Some(SIZE / 2), "ext4").unwrap_err().kind, ErrorKind::InvalidArgument);
            assert_eq!(copy(Some(2 * SIZE), "ext4").unwrap().size, 2 * SIZE);
            assert_eq!(copy(None, "ext4").unwrap_err().kind, ErrorKind::AlreadyExists);
            // Both are mounted at once, and one is written.
            let second = driver.mount("vol2").unwrap();
            assert_eq!(std::fs::read_to_string(second.join("file")).unwrap(), "first");
            let space = rustix::fs::statvfs(&second).unwrap();
            assert!(space.f_blocks * space.f_frsize > SIZE);
            std::fs::write(second.join("file"), "third").unwrap();

            let revert = |snapshot: &str| {
                driver.0.revert_volume(RevertVolume::new(name("vol1"), name(snapshot)), &context())
            };
            assert_eq!(revert("monday").unwrap_err().kind, ErrorKind::InUse);
            driver.unmount("vol1").unwrap();
            assert_eq!(revert("sunday").unwrap_err().kind, ErrorKind::NotFound);
            for (snapshot, content) in [("monday", "first"), ("monday", "first"), ("tuesday", "second")] {
                assert_eq!(revert(snapshot).unwrap().snapshots.len(), 2);
                driver.mount("vol1").unwrap();
                assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), content);
                driver.unmount("vol1").unwrap();
            }
            assert_eq!(std::fs::read_to_string(second.join("file")).unwrap(), "third");
            driver.unmount("vol2").unwrap();
            // The copy stays when its source goes.
            driver.0.delete_volume(DeleteVolume::new(name("vol1")), &context()).unwrap();
            driver.mount("vol2").unwrap();
            assert_eq!(std::fs::read_to_string(second.join("file")).unwrap(), "third");
            driver.unmount("vol2").unwrap();
        }
        Ok(())
    })
}

#[test]
fn a_check_says_what_is_not_as_it_should_be() -> Result<()> {
    Lab::run(|lab| {
        let place = Place::new(lab, "xfs")?;
        let (driver, _) = place.open();
        let check = || driver.0.check(Check::new(), &context()).unwrap().findings;
        for volume in ["good", "gone", "kept"] {
            driver.create(volume).unwrap();
            driver.snapshot(volume, "monday").unwrap();
        }
        assert_eq!(check(), []);
        driver.0.delete_volume(DeleteVolume::new(name("kept")).reference_only(true), &context()).unwrap();
        std::fs::remove_file(place.images().join("volumes/gone.img")).unwrap();
        std::fs::write(place.images().join("volumes/strange.img"), "").unwrap();
        std::fs::write(place.root.join("loop_volume_torn.json"), "{").unwrap();
        let found: Vec<_> = check().into_iter().map(|found| (found.severity, found.subject)).collect();
        // What is kept is told by `kept.list`.
        let expected = [
            (Severity::Error, "volume gone"),
            (Severity::Error, "volume torn"),
            (Severity::Warning, "images"),
        ];
        assert_eq!(found, expected.map(|(severity, subject)| (severity, subject.to_owned())));
        Ok(())
    })
}
