//! What a volume goes through.

use crate::support::{KINDS, Place, SIZE, context, name};
use convoy_driver_loop::LoopImages;
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{
    CloseSnapshot, CreateSnapshot, DeleteKept, DeleteSnapshot, DeleteVolume, GetVolume, Health, ListKept,
    ListVolumes, Open, ResizeVolume,
};
use convoy_driver_sdk::{Context, Driver, ErrorKind};
use convoy_tests::{Lab, Namespace, Result};
use std::path::Path;
use std::time::{Duration, Instant};

fn capacity(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_blocks * stat.f_frsize
}

#[test]
fn a_volume_is_made_used_grown_kept_and_deleted() -> Result<()> {
    Lab::run(|lab| {
        for kind in KINDS {
            let place = Place::new(lab, kind)?;
            let (driver, _) = place.open();
            assert_eq!(driver.create("vol1").unwrap().size, SIZE);
            assert_eq!(driver.create("vol1").unwrap_err().kind, ErrorKind::AlreadyExists);
            let path = driver.mount("vol1").unwrap();
            assert_eq!(driver.mount("vol1").unwrap(), path);
            assert_eq!(MountTable::read().unwrap().under(&path).count(), 1);
            std::fs::write(path.join("file"), "content").unwrap();

            let resize = |size| driver.0.resize_volume(ResizeVolume::new(name("vol1"), size), &context());
            let before = capacity(&path);
            assert_eq!(resize(SIZE / 2).unwrap_err().kind, ErrorKind::InvalidArgument);
            assert_eq!(resize(SIZE).unwrap().size, SIZE);

            let delete = |reference_only| {
                driver
                    .0
                    .delete_volume(DeleteVolume::new(name("vol1")).reference_only(reference_only), &context())
            };
            assert_eq!(delete(false).unwrap_err().kind, ErrorKind::InUse);
            driver.unmount("vol1").unwrap();
            driver.unmount("vol1").unwrap();
            assert_eq!(resize(3 * SIZE).unwrap().size, 3 * SIZE);
            driver.snapshot("vol1", "first").unwrap();
            let kept = || driver.0.list_kept(ListKept::default(), &context()).unwrap().kept;
            let delete_kept = || driver.0.delete_kept(DeleteKept::new(name("vol1")), &context());
            assert_eq!((kept(), delete_kept().unwrap_err().kind), (vec![], ErrorKind::NotFound));
            delete(true).unwrap();
            let told = &kept()[0];
            assert_eq!((told.name.as_str(), told.snapshots), ("vol1", 1));
            assert!(told.size.unwrap() > 0 && told.since.is_some(), "{told:?}");
            assert_eq!(driver.mount("vol1").unwrap_err().kind, ErrorKind::NotFound);
            let other = driver.create_with("vol1", Some(SIZE), &[]).unwrap_err();
            assert_eq!(other.kind, ErrorKind::AlreadyExists);
            let again = driver.create("vol1").unwrap();
            assert_eq!((again.size, again.snapshots.len()), (3 * SIZE, 1));
            driver.mount("vol1").unwrap();
            assert!(capacity(&path) > before + SIZE);
            assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), "content");
            driver.unmount("vol1").unwrap();
            delete(true).unwrap();
            delete_kept().unwrap();
            assert_eq!(kept(), []);
            driver.create("vol1").unwrap();
            delete(false).unwrap();
            assert_eq!(delete(false).unwrap_err().kind, ErrorKind::NotFound);
            assert!(!path.exists());
            assert!(driver.0.list_volumes(ListVolumes::default(), &context()).unwrap().volumes.is_empty());
            assert_eq!(std::fs::read_dir(place.images().join("volumes")).unwrap().count(), 0);
            assert_eq!(std::fs::read_dir(place.images().join("snapshots")).unwrap().count(), 0);
        }
        Ok(())
    })
}

/// Unmounted here and mounted in a namespace that has a copy, a file system is still the kernel's.
#[test]
fn what_another_namespace_holds_is_let_alone() -> Result<()> {
    Lab::run(|lab| {
        let place = Place::new(lab, "xfs")?;
        let (driver, _) = place.open();
        driver.create("vol1").unwrap();
        let path = driver.mount("vol1").unwrap();
        std::fs::write(path.join("file"), "content").unwrap();
        let before = capacity(&path);
        let holder = Namespace::new()?;
        driver.unmount("vol1").unwrap();

        let soon = || context().with_deadline(Some(Instant::now() + Duration::from_secs(2)));
        let larger = ResizeVolume::new(name("vol1"), 3 * SIZE);
        let refused = driver.0.resize_volume(larger.clone(), &soon()).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::InUse, "{refused}");
        assert!(refused.message.contains("/dev/loop"), "{refused}");
        let request = CreateSnapshot::new(name("vol1"), name("first")).freeze(true);
        let refused = driver.0.create_snapshot(request, &soon()).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::InUse, "{refused}");
        assert_eq!(driver.0.get_volume(GetVolume::new(name("vol1")), &context()).unwrap().size, SIZE);
        // It is one file system, however often it is mounted.
        driver.mount("vol1").unwrap();
        driver.unmount("vol1").unwrap();

        std::thread::scope(|scope| {
            let resized = scope.spawn(|| driver.0.resize_volume(larger, &context()));
            std::thread::sleep(Duration::from_millis(200));
            drop(holder);
            assert_eq!(resized.join().unwrap().unwrap().size, 3 * SIZE);
        });
        driver.mount("vol1").unwrap();
        assert!(capacity(&path) > before + SIZE);
        assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), "content");
        driver.unmount("vol1").unwrap();
        Ok(())
    })
}

#[test]
fn what_is_read_is_not_deleted() -> Result<()> {
    Lab::run(|lab| {
        let place = Place::new(lab, "xfs")?;
        let (driver, _) = place.open();
        driver.create("vol1").unwrap();
        driver.snapshot("vol1", "first").unwrap();
        assert_eq!(driver.snapshot("vol1", "first").unwrap_err().kind, ErrorKind::AlreadyExists);
        assert_eq!(driver.read("vol1", "second", None).unwrap_err().kind, ErrorKind::NotFound);
        let opened = driver.read("vol1", "first", None).unwrap();
        let drop_snapshot = || {
            let request = DeleteSnapshot::new(name("vol1"), name("first"));
            driver.0.delete_snapshot(request, &context())
        };
        let delete = || driver.0.delete_volume(DeleteVolume::new(name("vol1")), &context());
        assert_eq!(drop_snapshot().unwrap_err().kind, ErrorKind::InUse);
        assert_eq!(delete().unwrap_err().kind, ErrorKind::InUse);
        for _ in 0..2 {
            driver.0.close_snapshot(CloseSnapshot::new(opened.handle.clone()), &context()).unwrap();
        }
        drop_snapshot().unwrap();
        assert_eq!(drop_snapshot().unwrap_err().kind, ErrorKind::NotFound);
        delete().unwrap();
        Ok(())
    })
}

#[test]
fn a_volume_with_xfs_and_one_whose_image_is_gone() -> Result<()> {
    Lab::run(|lab| {
        let place = Place::new(lab, "btrfs")?;
        let (driver, _) = place.open();
        let few = driver.create_with("small", Some(SIZE), &[("fs", "xfs")]).unwrap_err();
        assert_eq!(few.kind, ErrorKind::InvalidArgument);
        driver.create_with("vol1", Some(300 << 20), &[("fs", "xfs")]).unwrap();
        let path = driver.mount("vol1").unwrap();
        let table = MountTable::read().unwrap();
        assert_eq!(table.at(&path).unwrap().fs_type, "xfs");
        let (before, larger) = (capacity(&path), ResizeVolume::new(name("vol1"), 400 << 20));
        for _ in 0..2 {
            assert_eq!(driver.0.resize_volume(larger.clone(), &context()).unwrap().size, 400 << 20);
        }
        assert!(capacity(&path) > before + (90 << 20));
        driver.snapshot("vol1", "first").unwrap();
        driver.unmount("vol1").unwrap();
        std::fs::remove_file(place.images().join("volumes/vol1.img")).unwrap();
        let get = || driver.0.get_volume(GetVolume::new(name("vol1")), &context()).unwrap();
        assert!(matches!(get().health, Health::Damaged(text) if text.contains("loop.path")));
        assert_eq!(driver.mount("vol1").unwrap_err().kind, ErrorKind::DataLoss);
        Ok(())
    })
}

#[test]
fn storage_without_shared_blocks_and_storage_of_another_are_refused() -> Result<()> {
    Lab::run(|lab| {
        let place = Place::new(lab, "xfs")?;
        let (_driver, _) = place.open();
        let soon = Context::new("test").with_deadline(Some(Instant::now() + Duration::from_millis(50)));
        let busy = LoopImages::open(place.request(), &soon).unwrap_err();
        assert_eq!(busy.kind, ErrorKind::Busy);
        assert!(busy.hint.unwrap().contains("loop.path"));
        let memory = tempfile::Builder::new().prefix("convoy-loop-").tempdir_in("/dev/shm").unwrap();
        let refused = LoopImages::open(Open::new(memory.path().to_owned()), &context());
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unsupported);
        assert!(refused.hint.unwrap().contains("btrfs"));
        Ok(())
    })
}
