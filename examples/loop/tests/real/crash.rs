//! What a driver that was killed has left, and what the next one makes of it.

use crate::support::{KINDS, Place, SIZE, block, context, name};
use convoy_driver_sdk::Driver;
use convoy_driver_sdk::protocol::{ListVolumes, PrepareRestore, SourceKind};
use convoy_tests::{Lab, Result, run};
use std::process::Command;

fn edit_record(place: &Place, volume: &str, from: &str, to: &str) {
    let path = place.root.join(format!("loop_volume_{volume}.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
}

#[test]
fn a_cut_off_call_is_finished_or_undone() -> Result<()> {
    Lab::run(|lab| {
        for kind in KINDS {
            let place = Place::new(lab, kind)?;
            let (driver, _) = place.open();
            for volume in ["good", "half-made", "half-gone"] {
                driver.create(volume).unwrap();
                driver.snapshot(volume, "first").unwrap();
            }
            let path = driver.mount("good").unwrap();
            std::fs::write(path.join("file"), "content").unwrap();
            let request = PrepareRestore::new(name("vol9"), SourceKind::Tree).size(Some(SIZE));
            driver.0.prepare_restore(request, &context()).unwrap();
            // A kill runs none of what `drop` or `close` would do: the lock is dropped by the kernel, all
            // else stays.
            drop(driver);

            edit_record(&place, "half-made", "ready", "making");
            edit_record(&place, "half-gone", "ready", "deleting");
            let images = place.images();
            std::fs::copy(images.join("volumes/good.img"), images.join("snapshots/good/second.img")).unwrap();
            std::fs::write(images.join("work/create-7.img"), "half").unwrap();
            let unused = images.join("snapshots/good/first.img");
            run::capture(Command::new("losetup").args(["--find", "--show"]).arg(&unused))?.ok()?;
            run::capture(Command::new("fsfreeze").arg("--freeze").arg(&path))?.ok()?;

            let (driver, opened) = place.open();
            let said = opened.recovered.join("\n");
            for part in
                ["half-made", "half-gone", "second of good", "undid the restore", "loop device", "unfinished"]
            {
                assert!(said.contains(part), "{kind}: {part} is missing in {said}");
            }
            assert_eq!(opened.warnings, [""; 0]);
            let listed = driver.0.list_volumes(ListVolumes::default(), &context()).unwrap();
            let names: Vec<_> = listed.volumes.iter().map(|volume| volume.name.as_str()).collect();
            assert_eq!(names, ["good"]);
            assert_eq!(listed.volumes[0].snapshots.len(), 1);
            // Thawed: this would wait for ever.
            std::fs::write(path.join("more"), "content").unwrap();
            assert_eq!(std::fs::read_dir(images.join("work")).unwrap().count(), 0);
            assert_eq!(std::fs::read_dir(images.join("volumes")).unwrap().count(), 1);
            let (image, _) = block(&driver.read("good", "first", None).unwrap());
            assert!(image.exists());
            driver.unmount("good").unwrap();
        }
        Ok(())
    })
}

#[test]
fn a_damaged_record_costs_its_volume_alone() -> Result<()> {
    Lab::run(|lab| {
        let place = Place::new(lab, "xfs")?;
        let (driver, _) = place.open();
        for volume in ["good", "torn"] {
            driver.create(volume).unwrap();
            driver.snapshot(volume, "first").unwrap();
        }
        drop(driver);
        let record = place.root.join("loop_volume_torn.json");
        let whole = std::fs::read(&record).unwrap();
        std::fs::write(&record, &whole[..whole.len() / 2]).unwrap();
        let (driver, opened) = place.open();
        assert!(opened.warnings.iter().any(|warning| warning.contains("torn")), "{opened:?}");
        driver.mount("good").unwrap();
        driver.unmount("good").unwrap();
        // Its data was left alone, so a good copy of the record brings it back.
        drop(driver);
        std::fs::write(&record, whole).unwrap();
        let (driver, _) = place.open();
        driver.read("torn", "first", None).unwrap();
        Ok(())
    })
}
