//! How backups are restored.

use std::fs;

use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::protocol::{AbortRestore, FinishRestore, PrepareRestore, SourceKind};

use crate::support::{Bed, Carrier, name, options, refused};

pub(crate) fn a_restore_becomes_a_volume(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    let (prepared, path) = client.prepare("back", &[("uid", "7"), ("mode", "0755")]).unwrap();
    fs::write(path.join("file"), b"x").unwrap();
    assert_eq!(client.names(), Vec::<String>::new());
    assert_eq!(bed.volume_dirs(), Vec::<String>::new());
    let finish = || client.call(FinishRestore::new(prepared.handle.clone()));
    let made = finish().unwrap();
    assert_eq!(finish().unwrap(), made, "an answer that was lost can be had again");
    client.call(AbortRestore::new(prepared.handle.clone())).unwrap();
    assert_eq!(client.names(), ["back"]);
    assert_eq!(fs::read(bed.volume("back").join("file")).unwrap(), b"x");
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(bed.volume("back")).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (7, 0o755));
    client.close();
    assert_eq!(bed.own_files(), ["lock", "vfs_volume_back.json", "work"]);
}

pub(crate) fn a_restore_goes_over_nothing(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("taken").unwrap();
    assert_eq!(refused(client.prepare("taken", &[])).kind, ErrorKind::AlreadyExists);
    client.delete("taken", true).unwrap();
    let error = refused(client.prepare("taken", &[]));
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
    assert!(error.hint.unwrap().contains(bed.volume("taken").to_str().unwrap()));
    assert_eq!(refused(client.prepare("config", &[])).kind, ErrorKind::InvalidArgument);
    assert_eq!(refused(client.prepare("new", &[("type", "x")])).kind, ErrorKind::InvalidArgument);
    let block = PrepareRestore::new(name("new"), SourceKind::Block).options(options(&[]));
    assert_eq!(refused(client.call(block)).kind, ErrorKind::Unsupported);
    // Taken while it was being restored.
    let (prepared, path) = client.prepare("late", &[]).unwrap();
    fs::write(path.join("file"), b"x").unwrap();
    client.create("late").unwrap();
    let finish = || client.call(FinishRestore::new(prepared.handle.clone()));
    assert_eq!(refused(finish()).kind, ErrorKind::AlreadyExists);
    assert!(!bed.volume("late").join("file").exists());
    client.delete("late", false).unwrap();
    finish().unwrap();
    assert!(bed.volume("late").join("file").exists());
}

pub(crate) fn an_aborted_restore_leaves_nothing(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    let (prepared, path) = client.prepare("back", &[]).unwrap();
    fs::write(path.join("file"), b"x").unwrap();
    for _ in 0..2 {
        client.call(AbortRestore::new(prepared.handle.clone())).unwrap();
    }
    assert_eq!(refused(client.call(FinishRestore::new(prepared.handle))).kind, ErrorKind::NotFound);
    // One that is open when the driver closes is undone too.
    let (_, path) = client.prepare("other", &[]).unwrap();
    fs::write(path.join("file"), b"x").unwrap();
    client.close();
    assert_eq!(bed.own_files(), ["lock", "work"]);
}

pub(crate) fn images_keep_their_flag_and_size(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create_with("guest", Some(4 << 20), &[("vm", "true")]).unwrap();
    client.snapshot("guest", "snap").unwrap();
    let (opened, from) = client.open_snapshot("guest", "snap").unwrap();
    assert_eq!(opened.restore_options, options(&[("vm", "true")]));
    let request = PrepareRestore::new(name("again"), SourceKind::Tree)
        .size(Some(8 << 20))
        .options(opened.restore_options.clone());
    let prepared = client.call(request).unwrap();
    let finish = || client.call(FinishRestore::new(prepared.handle.clone()));
    assert_eq!(refused(finish()).kind, ErrorKind::DataLoss, "nothing was restored yet");
    let convoy_driver_sdk::protocol::TargetLocation::Tree { path, .. } = &prepared.location else {
        panic!("tree")
    };
    fs::copy(from.join("disk.img"), path.join("disk.img")).unwrap();
    let made = finish().unwrap();
    assert_eq!((made.size, made.info["PrepareForVM"].as_str()), (8 << 20, "true"));
    assert_eq!(fs::metadata(bed.volume("again").join("disk.img")).unwrap().len(), 8 << 20);
    client.close_snapshot(opened);
}
