//! How snapshots are taken, listed and deleted.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::time::{Duration, Instant};

use convoy_driver_sdk::context::CancelFlag;
use convoy_driver_sdk::protocol::CreateSnapshot;
use convoy_driver_sdk::{Context, ErrorKind};

use crate::compare::assert_same;
use crate::support::{Bed, Carrier, name, refused};

pub(crate) fn fill(root: &std::path::Path) {
    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("sub/file"), b"contents").unwrap();
    std::os::unix::fs::chown(root.join("sub/file"), Some(1001), Some(1002)).unwrap();
    fs::set_permissions(root.join("sub/file"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::hard_link(root.join("sub/file"), root.join("linked")).unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(b"x", 4 << 20).unwrap();
    rustix::fs::lsetxattr(root.join("linked"), "user.a", b"b", rustix::fs::XattrFlags::empty()).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o1711)).unwrap();
}

pub(crate) fn a_snapshot_is_frozen_and_whole(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("vol1").unwrap();
    fill(&bed.volume("vol1"));
    let taken = client.snapshot("vol1", "one").unwrap();
    assert_eq!(taken.info["VolumeUUID"], "vol1");
    let copy = bed.path().join("copy");
    let status =
        std::process::Command::new("cp").arg("-a").arg(bed.volume("vol1")).arg(&copy).status().unwrap();
    assert!(status.success());
    fs::write(bed.volume("vol1").join("sub/file"), b"CONTENTS").unwrap();
    fs::remove_file(bed.volume("vol1").join("link")).unwrap();
    client.snapshot("vol1", "two").unwrap();
    let (opened, path) = client.open_snapshot("vol1", "one").unwrap();
    assert_eq!(path.to_str().unwrap(), taken.info["FilePath"]);
    assert_same(&copy, &path);
    client.close_snapshot(opened);
    let (opened, path) = client.open_snapshot("vol1", "two").unwrap();
    assert_same(&bed.volume("vol1"), &path);
    client.close_snapshot(opened);
}

pub(crate) fn the_unchanged_costs_nothing(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("vol1").unwrap();
    for n in 0..200 {
        fs::write(bed.volume("vol1").join(format!("f{n}")), vec![1; 100_000]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(150));
    client.snapshot("vol1", "one").unwrap();
    fs::write(bed.volume("vol1").join("f7"), b"changed").unwrap();
    client.snapshot("vol1", "two").unwrap();
    let ino = |snapshot: &str, file: &str| {
        let (opened, path) = client.open_snapshot("vol1", snapshot).unwrap();
        client.close_snapshot(opened);
        fs::metadata(path.join(file)).unwrap().ino()
    };
    assert_eq!(ino("one", "f8"), ino("two", "f8"));
    assert_ne!(ino("one", "f7"), ino("two", "f7"));
    // The one between goes; what both others share stays.
    client.drop_snapshot("vol1", "one").unwrap();
    client.snapshot("vol1", "three").unwrap();
    assert_eq!(ino("two", "f8"), ino("three", "f8"));
    assert_ne!(ino("three", "f8"), fs::metadata(bed.volume("vol1").join("f8")).unwrap().ino());
}

pub(crate) fn snapshots_come_and_go(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("vol1").unwrap();
    assert_eq!(refused(client.snapshot("nope", "snap")).kind, ErrorKind::NotFound);
    client.snapshot("vol1", "snap").unwrap();
    assert_eq!(refused(client.snapshot("vol1", "snap")).kind, ErrorKind::AlreadyExists);
    assert_eq!(refused(client.drop_snapshot("vol1", "nope")).kind, ErrorKind::NotFound);
    assert_eq!(refused(client.open_snapshot("vol1", "nope")).kind, ErrorKind::NotFound);
    client.snapshot("vol1", "other").unwrap();
    assert_eq!(client.get("vol1").unwrap().snapshots.len(), 2);
    client.drop_snapshot("vol1", "snap").unwrap();
    assert_eq!(refused(client.drop_snapshot("vol1", "snap")).kind, ErrorKind::NotFound);
    // Somebody removed it by hand: said when it is read, and no obstacle to deleting it.
    fs::remove_dir_all(bed.config().join("snapshots/vol1/other")).unwrap();
    assert_eq!(refused(client.open_snapshot("vol1", "other")).kind, ErrorKind::DataLoss);
    client.drop_snapshot("vol1", "other").unwrap();
    assert_eq!(client.get("vol1").unwrap().snapshots, []);
    client.close();
    assert_eq!(bed.own_files(), ["lock", "snapshots", "vfs_volume_vol1.json", "work"]);
}

pub(crate) fn what_is_read_is_not_deleted(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("vol1").unwrap();
    fs::write(bed.volume("vol1").join("file"), b"x").unwrap();
    client.snapshot("vol1", "snap").unwrap();
    let (first, path) = client.open_snapshot("vol1", "snap").unwrap();
    let (second, _) = client.open_snapshot("vol1", "snap").unwrap();
    for held in [first, second] {
        assert_eq!(refused(client.drop_snapshot("vol1", "snap")).kind, ErrorKind::InUse);
        assert_eq!(refused(client.delete("vol1", false)).kind, ErrorKind::InUse);
        assert!(path.join("file").exists() && bed.volume("vol1").join("file").exists());
        client.close_snapshot(held.clone());
        client.close_snapshot(held);
    }
    client.delete("vol1", false).unwrap();
}

pub(crate) fn a_stopped_snapshot_leaves_nothing(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("vol1").unwrap();
    fill(&bed.volume("vol1"));
    // Enough for the driver to report progress, at which a carrier is told to cancel.
    for n in 0..2000 {
        fs::write(bed.volume("vol1").join(format!("f{n}")), b"x").unwrap();
    }
    let request = || CreateSnapshot::new(name("vol1"), name("snap"));
    let cancel = CancelFlag::default();
    cancel.cancel();
    let error = refused(client.call_in(request(), &Context::new("1").with_cancel(cancel)));
    assert_eq!(error.kind, ErrorKind::Cancelled);
    let late = Context::new("2").with_deadline(Some(Instant::now()));
    assert_eq!(refused(client.call_in(request(), &late)).kind, ErrorKind::DeadlineExceeded);
    assert_eq!(client.get("vol1").unwrap().snapshots, []);
    client.call(request()).unwrap();
    client.close();
    bed.nothing_is_left();
}

pub(crate) fn volumes_take_their_snapshots_along(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("vol1").unwrap();
    client.snapshot("vol1", "snap").unwrap();
    client.delete("vol1", false).unwrap();
    assert_eq!(client.create("vol1").unwrap().snapshots, []);
    client.snapshot("vol1", "snap").unwrap();
}
