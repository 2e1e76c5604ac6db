//! Backups and restores, bit for bit.

use crate::support::{KINDS, Place, SIZE, block, context, name};
use convoy_driver_sdk::protocol::{
    AbortRestore, CloseSnapshot, FinishRestore, PrepareRestore, SourceKind, TargetLocation,
};
use convoy_driver_sdk::{Driver, ErrorKind};
use convoy_tests::{Lab, Result, tree};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let step = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 56) as u8
    };
    (0..length).map(|_| step(&mut state)).collect()
}

/// What a host does with an incremental backup: the base, with the extents of the difference over it.
fn patched(base: &Path, new: &Path, found: &convoy_driver_sdk::protocol::Extents) -> Vec<u8> {
    let (mut bytes, new) = (std::fs::read(base).unwrap(), File::open(new).unwrap());
    for extent in &found.extents {
        let range = extent.offset as usize..(extent.offset + extent.length) as usize;
        new.read_exact_at(&mut bytes[range], extent.offset).unwrap();
    }
    for extent in &found.discarded {
        bytes[extent.offset as usize..(extent.offset + extent.length) as usize].fill(0);
    }
    bytes
}

#[test]
fn a_difference_between_snapshots_is_all_of_it_and_little_more() -> Result<()> {
    Lab::run(|lab| {
        for kind in KINDS {
            let place = Place::new(lab, kind)?;
            let (driver, _) = place.open();
            driver.create("vol1").unwrap();
            let path = driver.mount("vol1").unwrap();
            std::fs::write(path.join("stays"), noise(4 << 20, 1)).unwrap();
            std::fs::write(path.join("goes"), noise(4 << 20, 2)).unwrap();
            driver.snapshot("vol1", "monday").unwrap();
            let mut file = OpenOptions::new().append(true).open(path.join("stays")).unwrap();
            file.write_all(&noise(100_000, 3)).unwrap();
            drop(file);
            std::fs::remove_file(path.join("goes")).unwrap();
            driver.snapshot("vol1", "tuesday").unwrap();
            // Nothing that comes later is in them.
            std::fs::write(path.join("later"), noise(1 << 20, 4)).unwrap();

            let whole = driver.read("vol1", "monday", None).unwrap();
            let (monday, changed_only) = block(&whole);
            assert!(!changed_only);
            let in_use: u64 = driver.extents(&whole.handle).extents.iter().map(|extent| extent.length).sum();
            assert!((8 << 20..16 << 20).contains(&in_use), "{kind}: {in_use} bytes in use");
            assert_eq!(whole.restore_options["fs"], "ext4");

            let changed = driver.read("vol1", "tuesday", Some("monday")).unwrap();
            let (tuesday, changed_only) = block(&changed);
            assert!(changed_only);
            let found = driver.extents(&changed.handle);
            assert!(patched(&monday, &tuesday, &found) == std::fs::read(&tuesday).unwrap(), "{kind}");
            let sum = |extents: &[convoy_driver_sdk::protocol::Extent]| -> u64 {
                extents.iter().map(|extent| extent.length).sum()
            };
            let (bytes, gone) = (sum(&found.extents), sum(&found.discarded));
            assert!((100_000..3 << 20).contains(&bytes), "{kind}: {bytes} bytes differ");
            // `discard`: the blocks of the removed file are holes now.
            assert!(gone >= 3 << 20, "{kind}: {gone} bytes are gone");
            let nothing = driver.read("vol1", "tuesday", Some("tuesday")).unwrap();
            assert_eq!(driver.extents(&nothing.handle).extents, []);
            let unknown = driver.read("vol1", "tuesday", Some("sunday")).unwrap();
            assert!(!block(&unknown).1);
            for opened in [whole, changed, nothing, unknown] {
                driver.0.close_snapshot(CloseSnapshot::new(opened.handle), &context()).unwrap();
            }
            driver.unmount("vol1").unwrap();
        }
        Ok(())
    })
}

#[test]
fn an_image_and_files_become_volumes() -> Result<()> {
    Lab::run(|lab| {
        let place = Place::new(lab, "xfs")?;
        let (driver, _) = place.open();
        driver.create("vol1").unwrap();
        let path = driver.mount("vol1").unwrap();
        std::fs::write(path.join("file"), noise(3 << 20, 1)).unwrap();
        std::os::unix::fs::symlink("file", path.join("link")).unwrap();
        let expected = tree::describe(&path)?;
        driver.snapshot("vol1", "monday").unwrap();
        let (image, _) = block(&driver.read("vol1", "monday", None).unwrap());

        let prepare = |volume: &str, kind, size| {
            let request = PrepareRestore::new(name(volume), kind).size(Some(size));
            driver.0.prepare_restore(request, &context())
        };
        let finish =
            |handle: &str| driver.0.finish_restore(FinishRestore::new(handle.to_owned()), &context());
        let taken = prepare("vol1", SourceKind::Block, SIZE).unwrap_err();
        assert_eq!(taken.kind, ErrorKind::AlreadyExists);

        // The image, into a volume that is larger.
        let target = prepare("vol2", SourceKind::Block, 2 * SIZE).unwrap();
        let TargetLocation::Block { device, size, .. } = &target.location else { panic!("{target:?}") };
        assert_eq!(*size, 2 * SIZE);
        let device = OpenOptions::new().write(true).open(device).unwrap();
        device.write_all_at(&std::fs::read(&image).unwrap(), 0).unwrap();
        assert_eq!(finish(&target.handle).unwrap().size, 2 * SIZE);
        assert_eq!(finish(&target.handle).unwrap().name, name("vol2"));
        let second = driver.mount("vol2").unwrap();
        assert_eq!(tree::describe(&second)?, expected);
        let space = rustix::fs::statvfs(&second).unwrap();
        assert!(space.f_blocks * space.f_frsize > SIZE);

        // Its files, beside the first.
        let target = prepare("vol3", SourceKind::Tree, SIZE).unwrap();
        let TargetLocation::Tree { path: files, .. } = &target.location else { panic!("{target:?}") };
        assert_eq!(std::fs::read_dir(files).unwrap().count(), 0);
        let copied = Command::new("cp").arg("-a").arg(path.join(".")).arg(files).status().unwrap();
        assert!(copied.success());
        finish(&target.handle).unwrap();
        let third = driver.mount("vol3").unwrap();
        assert!(std::fs::read(third.join("file")).unwrap() == noise(3 << 20, 1));
        assert!(third.join("link").is_symlink());

        // Two for one name, one of them for nothing.
        let (one, two) = (
            prepare("vol4", SourceKind::Tree, SIZE).unwrap(),
            prepare("vol4", SourceKind::Block, SIZE).unwrap(),
        );
        finish(&one.handle).unwrap();
        assert_eq!(finish(&two.handle).unwrap_err().kind, ErrorKind::AlreadyExists);
        for handle in [&two.handle, &two.handle, &one.handle] {
            driver.0.abort_restore(AbortRestore::new(handle.clone()), &context()).unwrap();
        }
        driver.mount("vol4").unwrap();
        assert_eq!(std::fs::read_dir(place.images().join("work")).unwrap().count(), 0);
        for volume in ["vol1", "vol2", "vol3", "vol4"] {
            driver.unmount(volume).unwrap();
        }
        Ok(())
    })
}
