//! Clones, and volumes that go back to a snapshot.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use convoy_driver_sdk::context::CancelFlag;
use convoy_driver_sdk::protocol::{CloneVolume, MountVolume, RevertVolume, UnmountVolume, Volume};
use convoy_driver_sdk::{Context, ErrorKind, Result};

use crate::compare::assert_same;
use crate::snapshots::fill;
use crate::support::{Bed, Carrier, Client, name, options, refused};

fn clone_of(source: &str, snapshot: &str, to: &str) -> CloneVolume {
    CloneVolume {
        name: name(to),
        source: name(source),
        snapshot: name(snapshot),
        size: None,
        options: options(&[]),
    }
}

fn revert(client: &Client, volume: &str, snapshot: &str) -> Result<Volume> {
    client.call(RevertVolume { name: name(volume), snapshot: name(snapshot) })
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

pub(crate) fn a_clone_is_whole_and_independent(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("vol1").unwrap();
    fill(&bed.volume("vol1"));
    client.snapshot("vol1", "snap").unwrap();
    let frozen = bed.path().join("frozen");
    copy(&bed.volume("vol1"), &frozen);
    fs::write(bed.volume("vol1").join("sub/file"), b"CONTENTS").unwrap();

    let made = client.call(clone_of("vol1", "snap", "new")).unwrap();
    assert_eq!((&*made.name, made.snapshots.len()), ("new", 0));
    assert_same(&frozen, &bed.volume("new"));
    assert_eq!(refused(client.call(clone_of("vol1", "snap", "new"))).kind, ErrorKind::AlreadyExists);
    // Writing to it changes nothing else, and it needs nothing else.
    fs::write(bed.volume("new").join("sub/file"), b"of the clone").unwrap();
    let (opened, path) = client.open_snapshot("vol1", "snap").unwrap();
    assert_same(&frozen, &path);
    client.close_snapshot(opened);
    client.delete("vol1", false).unwrap();
    client.snapshot("new", "its-own").unwrap();
    assert_eq!(fs::read(bed.volume("new").join("linked")).unwrap(), b"of the clone");
    let request = CloneVolume {
        options: options(&[("uid", "7"), ("mode", "0750")]),
        ..clone_of("new", "its-own", "third")
    };
    client.call(request).unwrap();
    let meta = fs::metadata(bed.volume("third")).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (7, 0o750));
    client.close();
    bed.nothing_is_left();
}

pub(crate) fn a_clone_of_what_is_not_there_makes_nothing(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("vol1").unwrap();
    client.snapshot("vol1", "snap").unwrap();
    let kind = |request| refused(client.call(request)).kind;
    assert_eq!(kind(clone_of("nope", "snap", "new")), ErrorKind::NotFound);
    assert_eq!(kind(clone_of("vol1", "nope", "new")), ErrorKind::NotFound);
    assert_eq!(kind(clone_of("vol1", "snap", "config")), ErrorKind::InvalidArgument);
    let unknown = CloneVolume { options: options(&[("sise", "1")]), ..clone_of("vol1", "snap", "new") };
    assert_eq!(kind(unknown), ErrorKind::InvalidArgument);
    let no_image = CloneVolume { options: options(&[("vm", "true")]), ..clone_of("vol1", "snap", "new") };
    assert_eq!(kind(no_image), ErrorKind::DataLoss);
    client.delete("vol1", true).unwrap();
    client.create("vol2").unwrap();
    client.snapshot("vol2", "snap").unwrap();
    // Data that was kept is not gone over.
    assert_eq!(kind(clone_of("vol2", "snap", "vol1")), ErrorKind::AlreadyExists);
    fs::remove_dir_all(bed.config().join("snapshots/vol2/snap")).unwrap();
    assert_eq!(kind(clone_of("vol2", "snap", "new")), ErrorKind::DataLoss);
    assert_eq!(client.names(), ["vol2"]);
    assert_eq!(bed.volume_dirs(), ["vol1", "vol2"]);
    client.close();
    bed.nothing_is_left();
}

pub(crate) fn images_are_cloned_and_go_back_with_their_size(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create_with("image", Some(1 << 20), &[("vm", "true")]).unwrap();
    client.snapshot("image", "small").unwrap();
    let of = |size| CloneVolume { size, ..clone_of("image", "small", "larger") };
    assert_eq!(refused(client.call(of(Some(4096)))).kind, ErrorKind::InvalidArgument);
    let larger = client.call(of(Some(2 << 20))).unwrap();
    assert_eq!((larger.size, &*larger.info["PrepareForVM"]), (2 << 20, "true"));
    assert_eq!(fs::metadata(bed.volume("larger").join("disk.img")).unwrap().len(), 2 << 20);

    let grown = convoy_driver_sdk::protocol::ResizeVolume { name: name("image"), size: 3 << 20 };
    assert_eq!(client.call(grown).unwrap().size, 3 << 20);
    assert_eq!(revert(&client, "image", "small").unwrap().size, 1 << 20);
    assert_eq!(client.get("image").unwrap().size, 1 << 20);
    assert_eq!(fs::metadata(bed.volume("image").join("disk.img")).unwrap().len(), 1 << 20);
}

pub(crate) fn a_volume_goes_back_and_forth(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("vol1").unwrap();
    fill(&bed.volume("vol1"));
    client.snapshot("vol1", "one").unwrap();
    let first = bed.path().join("first");
    copy(&bed.volume("vol1"), &first);
    fs::remove_dir_all(bed.volume("vol1").join("sub")).unwrap();
    fs::write(bed.volume("vol1").join("new"), b"x").unwrap();
    client.snapshot("vol1", "two").unwrap();
    let second = bed.path().join("second");
    copy(&bed.volume("vol1"), &second);
    fs::write(bed.volume("vol1").join("lost"), b"x").unwrap();

    for (snapshot, expected) in [("one", &first), ("two", &second), ("two", &second), ("one", &first)] {
        assert_eq!(revert(&client, "vol1", snapshot).unwrap().snapshots.len(), 2);
        assert_same(expected, &bed.volume("vol1"));
    }
    // A snapshot is not changed by what is written after it was gone back to.
    fs::write(bed.volume("vol1").join("sub/file"), b"CHANGED").unwrap();
    client.snapshot("vol1", "three").unwrap();
    revert(&client, "vol1", "one").unwrap();
    assert_same(&first, &bed.volume("vol1"));
    client.close();
    bed.nothing_is_left();
}

pub(crate) fn what_is_used_does_not_go_back(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let (client, other) = (bed.open(), bed.open());
    client.create("vol1").unwrap();
    client.snapshot("vol1", "snap").unwrap();
    fs::write(bed.volume("vol1").join("file"), b"x").unwrap();
    let mount = || client.call(MountVolume { name: name("vol1"), mountpoint: None }).unwrap();
    mount();
    mount();
    // Neither here nor on another host.
    for client in [&client, &other] {
        assert_eq!(refused(revert(client, "vol1", "snap")).kind, ErrorKind::InUse);
        assert_eq!(refused(client.delete("vol1", false)).kind, ErrorKind::InUse);
        assert_eq!(refused(client.delete("vol1", true)).kind, ErrorKind::InUse);
    }
    client.call(UnmountVolume { name: name("vol1") }).unwrap();
    assert_eq!(refused(revert(&client, "vol1", "nope")).kind, ErrorKind::NotFound);
    let cancel = CancelFlag::default();
    cancel.cancel();
    // Enough for a carrier to be told to cancel.
    for n in 0..2000 {
        fs::write(bed.volume("vol1").join(format!("f{n}")), b"x").unwrap();
    }
    client.snapshot("vol1", "many").unwrap();
    fs::write(bed.volume("vol1").join("file"), b"y").unwrap();
    let request = RevertVolume { name: name("vol1"), snapshot: name("many") };
    let stopped = refused(client.call_in(request, &Context::new("1").with_cancel(cancel)));
    assert_eq!(stopped.kind, ErrorKind::Cancelled);
    assert_eq!(fs::read(bed.volume("vol1").join("file")).unwrap(), b"y");
    revert(&other, "vol1", "snap").unwrap();
    assert_eq!(fs::read_dir(bed.volume("vol1")).unwrap().count(), 0);
    // A link is somebody else's arrangement.
    fs::rename(bed.volume("vol1"), bed.path().join("away")).unwrap();
    std::os::unix::fs::symlink(bed.path().join("away"), bed.volume("vol1")).unwrap();
    assert_eq!(refused(revert(&client, "vol1", "snap")).kind, ErrorKind::Unsupported);
}
