//! Creating, deleting, listing, using volumes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::Duration;

use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::protocol::{
    Describe, GetVolume, Health, Info, ListVolumes, MountVolume, Open, Probe, ResizeVolume, UnmountVolume,
};

use crate::support::{Bed, Carrier, name, options, refused};

pub(crate) fn a_volume_lives_and_dies(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    let made = client.create("vol1").unwrap();
    assert_eq!(made.size, 0);
    assert_eq!(
        made.info,
        options(&[("Path", bed.volume("vol1").to_str().unwrap()), ("PrepareForVM", "false")])
    );
    assert_eq!(fs::metadata(bed.volume("vol1")).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(refused(client.create("vol1")).kind, ErrorKind::AlreadyExists);
    let mount = || client.call(MountVolume { name: name("vol1"), mountpoint: None }).unwrap().mountpoint;
    assert_eq!(mount(), bed.volume("vol1"));
    assert_eq!(mount(), bed.volume("vol1"));
    let elsewhere = client.call(MountVolume { name: name("vol1"), mountpoint: Some("/mnt/x".into()) });
    assert_eq!(refused(elsewhere).message, "VFS doesn't support specified mount point");
    client.call(UnmountVolume { name: name("vol1") }).unwrap();
    fs::write(bed.volume("vol1").join("file"), b"x").unwrap();
    assert_eq!(client.get("vol1").unwrap(), made);
    client.delete("vol1", false).unwrap();
    assert_eq!(bed.volume_dirs(), Vec::<String>::new());
    for error in [
        refused(client.get("vol1")),
        refused(client.delete("vol1", false)),
        refused(client.delete("vol1", true)),
        refused(client.call(UnmountVolume { name: name("vol1") })),
    ] {
        assert_eq!(error.kind, ErrorKind::NotFound);
    }
    client.close();
    assert_eq!(bed.own_files(), ["lock", "work"]);
}

pub(crate) fn options_shape_the_directory(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create_with("shared", None, &[("uid", "1000"), ("gid", "1001"), ("mode", "2775")]).unwrap();
    let meta = fs::metadata(bed.volume("shared")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1000, 1001, 0o2775));
}

pub(crate) fn bad_input_changes_nothing(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    let unknown = refused(client.create_with("vol1", None, &[("type", "ssd")]));
    assert_eq!(unknown.kind, ErrorKind::InvalidArgument);
    assert_eq!(unknown.hint.unwrap(), "known options: vm, uid, gid, mode");
    for bad in [("vm", "yes"), ("mode", "999"), ("uid", "-1")] {
        let error = refused(client.create_with("vol1", None, &[bad]));
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{bad:?}");
    }
    assert_eq!(refused(client.create("config")).kind, ErrorKind::InvalidArgument);
    fs::write(bed.volume("taken"), b"a file").unwrap();
    assert_eq!(refused(client.create("taken")).kind, ErrorKind::InvalidArgument);
    assert_eq!(fs::read(bed.volume("taken")).unwrap(), b"a file");
    assert_eq!(client.names(), Vec::<String>::new());
    assert_eq!(bed.volume_dirs(), ["taken"]);
    client.close();
    assert_eq!(bed.own_files(), ["lock"]);
}

pub(crate) fn names_do_not_meet_our_own(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    let odd = [
        "x.tmp",
        "x.json",
        "work",
        "snapshots",
        "x.json.lock",
        "data",
        "volume.0.x",
        "vfs.cfg",
        "aa_bb",
        "aa",
    ];
    for volume in odd {
        client.create(volume).unwrap();
        fs::write(bed.volume(volume).join("mine"), volume).unwrap();
        client.snapshot(volume, "tree").unwrap();
    }
    client.snapshot("aa", "bb_cc").unwrap();
    client.snapshot("aa_bb", "cc").unwrap();
    client.close();
    let client = bed.open();
    assert_eq!(client.names().len(), odd.len());
    for volume in odd {
        assert_eq!(fs::read_to_string(bed.volume(volume).join("mine")).unwrap(), volume);
        let (opened, path) = client.open_snapshot(volume, "tree").unwrap();
        assert_eq!(fs::read_to_string(path.join("mine")).unwrap(), volume);
        client.close_snapshot(opened);
    }
    for volume in odd {
        client.delete(volume, false).unwrap();
    }
    client.close();
    assert_eq!(bed.own_files(), ["lock", "snapshots", "work"]);
}

pub(crate) fn kept_data_comes_back(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("keep").unwrap();
    fs::write(bed.volume("keep").join("file"), b"x").unwrap();
    client.snapshot("keep", "snap").unwrap();
    client.delete("keep", true).unwrap();
    assert_eq!(client.names(), Vec::<String>::new());
    assert_eq!(refused(client.prepare("keep", &[])).kind, ErrorKind::AlreadyExists);
    let again = client.create("keep").unwrap();
    assert_eq!(fs::read(bed.volume("keep").join("file")).unwrap(), b"x");
    assert_eq!(again.snapshots.len(), 1);
    let (opened, path) = client.open_snapshot("keep", "snap").unwrap();
    assert_eq!(fs::read(path.join("file")).unwrap(), b"x");
    client.close_snapshot(opened);
    client.delete("keep", false).unwrap();
    assert_eq!(client.create("keep").unwrap().snapshots, []);
    // A directory that the administrator brought.
    fs::create_dir(bed.volume("brought")).unwrap();
    fs::write(bed.volume("brought").join("file"), b"y").unwrap();
    client.create("brought").unwrap();
    assert_eq!(fs::read(bed.volume("brought").join("file")).unwrap(), b"y");
}

pub(crate) fn an_image_has_a_size(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    let made = client.create_with("guest", Some(64 << 20), &[("vm", "true")]).unwrap();
    assert_eq!((made.size, made.info["PrepareForVM"].as_str()), (64 << 20, "true"));
    let image = bed.volume("guest").join("disk.img");
    let meta = fs::metadata(&image).unwrap();
    assert_eq!((meta.len(), meta.blocks()), (64 << 20, 0));
    let resize = |volume: &str, size| client.call(ResizeVolume { name: name(volume), size });
    assert_eq!(resize("guest", 128 << 20).unwrap().size, 128 << 20);
    assert_eq!(resize("guest", 128 << 20).unwrap().size, 128 << 20);
    assert_eq!(fs::metadata(&image).unwrap().len(), 128 << 20);
    assert_eq!(refused(resize("guest", 1 << 20)).kind, ErrorKind::InvalidArgument);
    client.create("plain").unwrap();
    assert_eq!(refused(resize("plain", 1 << 30)).kind, ErrorKind::Unsupported);
    assert_eq!(client.create_with("default", None, &[("vm", "true")]).unwrap().size, 100 << 30);
    client.delete("guest", true).unwrap();
    let again = client.create("guest").unwrap();
    assert_eq!((again.size, again.info["PrepareForVM"].as_str()), (128 << 20, "true"));
}

pub(crate) fn images_are_not_followed_out(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create_with("guest", Some(1 << 20), &[("vm", "true")]).unwrap();
    let outside = bed.path().join("outside");
    fs::write(&outside, b"precious").unwrap();
    let image = bed.volume("guest").join("disk.img");
    fs::remove_file(&image).unwrap();
    symlink(&outside, &image).unwrap();
    refused(client.call(ResizeVolume { name: name("guest"), size: 2 << 20 }));
    client.delete("guest", false).unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

pub(crate) fn something_mounted_inside_is_not_deleted(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("busy").unwrap();
    let (inside, other) = (bed.volume("busy").join("inside"), bed.path().join("other"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("precious"), b"x").unwrap();
    fs::write(bed.volume("busy").join("file"), b"x").unwrap();
    rustix::mount::mount_bind(&other, &inside).unwrap();
    {
        let _mounted = Mounted(inside.clone());
        let error = refused(client.delete("busy", false));
        assert_eq!(error.kind, ErrorKind::InUse);
        assert!(error.message.contains(inside.to_str().unwrap()), "{error}");
        assert!(bed.volume("busy").join("file").exists());
    }
    client.delete("busy", false).unwrap();
    assert!(other.join("precious").exists());
}

pub(crate) fn damage_hides_nothing(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    for volume in ["good1", "half", "good2", "future"] {
        client.create(volume).unwrap();
    }
    let record = |volume: &str| bed.config().join(format!("vfs_volume_{volume}.json"));
    fs::write(record("half"), r#"{"Name":"half","#).unwrap();
    fs::write(record("x"), r#"{"Name":"x"}"#).unwrap();
    let text = fs::read_to_string(record("future")).unwrap().replace("\"Format\":1", "\"Format\":9");
    fs::write(record("future"), text).unwrap();
    client.close();
    let client = bed.open();
    let listed = client.list();
    let health = |volume: &str| listed.volumes.iter().find(|v| &*v.name == volume).unwrap().health.clone();
    assert_eq!((health("good1"), health("good2")), (Health::Good, Health::Good));
    let Health::Damaged(half) = health("half") else { panic!("not damaged") };
    assert!(half.contains(record("half").to_str().unwrap()), "{half}");
    let Health::Damaged(future) = health("future") else { panic!("not damaged") };
    assert!(future.contains("update convoy"), "{future}");
    assert!(listed.warnings.iter().any(|w| w.contains("vfs_volume_x.json")), "{:?}", listed.warnings);
    assert_eq!(refused(client.get("half")).kind, ErrorKind::DataLoss);
    assert_eq!(refused(client.delete("half", false)).kind, ErrorKind::DataLoss);
    assert_eq!(refused(client.create("half")).kind, ErrorKind::AlreadyExists);
    assert!(bed.volume("half").is_dir());
}

pub(crate) fn missing_data_is_said(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("lost").unwrap();
    fs::remove_dir(bed.volume("lost")).unwrap();
    let error = refused(client.call(MountVolume { name: name("lost"), mountpoint: None }));
    assert_eq!(error.kind, ErrorKind::DataLoss);
    assert!(error.hint.unwrap().contains("mounted"));
    assert!(matches!(client.get("lost").unwrap().health, Health::Damaged(_)));
    assert!(matches!(client.list().volumes[0].health, Health::Damaged(_)));
    assert_eq!(refused(client.snapshot("lost", "snap")).kind, ErrorKind::DataLoss);
    client.delete("lost", false).unwrap();
    // The whole file system is gone.
    fs::rename(bed.config(), bed.path().join("away")).unwrap();
    assert_eq!(refused(client.get("vol1")).kind, ErrorKind::Unavailable);
    assert_eq!(refused(client.call(ListVolumes::default())).kind, ErrorKind::Unavailable);
    let probed = client.call(Probe {}).unwrap();
    assert!(!probed.healthy && probed.message.unwrap().contains("mounted"));
    let error = refused(bed.open_with(bed.request()).map(|_| ()));
    assert_eq!(error.kind, ErrorKind::Unavailable);
}

pub(crate) fn listing_in_pages_and_generations(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    for number in 0..25 {
        client.create(&format!("v{number:02}")).unwrap();
    }
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = client.call(ListVolumes { after, limit: Some(10), generation: None }).unwrap();
        assert!(page.volumes.len() <= 10);
        names.extend(page.volumes.iter().map(|v| v.name.to_string()));
        after = page.volumes.last().map(|v| v.name.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!(names, (0..25).map(|n| format!("v{n:02}")).collect::<Vec<_>>());
    assert_eq!(client.list().generation, None, "too fresh to be told from the next change");
    std::thread::sleep(Duration::from_millis(2200));
    let settled = client.list();
    let generation = settled.generation.clone();
    assert!(generation.is_some());
    let again =
        client.call(ListVolumes { generation: generation.clone(), ..ListVolumes::default() }).unwrap();
    assert!(again.unchanged && again.volumes.is_empty());
    bed.open().delete("v07", true).unwrap();
    let changed = client.call(ListVolumes { generation, ..ListVolumes::default() }).unwrap();
    assert!(!changed.unchanged);
    assert_eq!(changed.volumes.len(), 24);
}

pub(crate) fn settings_are_kept_and_not_overridden(carrier: Carrier) {
    let bed = Bed::new(carrier);
    // Nothing said: beside the driver's root.
    let root = bed.path().join("other/vfs");
    let plain = Open { root: root.clone(), ..Open::default() };
    let (client, _) = bed.open_with(plain.clone()).unwrap();
    let info = client.call(Info {}).unwrap().info;
    let path = root.join("volumes");
    assert_eq!(
        info,
        options(&[
            ("DefaultVolumeSize", "107374182400"),
            ("Path", path.to_str().unwrap()),
            ("Root", root.to_str().unwrap())
        ])
    );
    client.create("vol1").unwrap();
    assert!(path.join("vol1").is_dir());
    client.close();
    // Said again, the same: fine. Said otherwise: an error with both values.
    let with =
        |pairs: &[(&str, &str)]| Open { root: root.clone(), options: options(pairs), ..Open::default() };
    bed.open_with(with(&[("vfs.path", path.to_str().unwrap()), ("vfs.defaultvolumesize", "100G")])).unwrap();
    let error = refused(bed.open_with(with(&[("vfs.path", "/somewhere/else")])).map(|_| ()));
    assert!(
        error.message.contains("/somewhere/else") && error.message.contains(path.to_str().unwrap()),
        "{error}"
    );
    let error = refused(bed.open_with(with(&[("vfs.defaultvolumesize", "5G")])).map(|_| ()));
    assert!(error.message.contains("107374182400") && error.message.contains("5368709120"), "{error}");
    let error = refused(bed.open_with(with(&[("vfs.pth", "/x")])).map(|_| ()));
    assert_eq!(error.hint.unwrap(), "known options: vfs.path, vfs.defaultvolumesize, vfs.strictsize");
    for bad in [("vfs.path", "relative"), ("vfs.defaultvolumesize", "big"), ("vfs.defaultvolumesize", "0")] {
        let request = Open { root: bed.path().join("new/vfs"), options: options(&[bad]), ..Open::default() };
        assert_eq!(refused(bed.open_with(request).map(|_| ())).kind, ErrorKind::InvalidArgument, "{bad:?}");
        assert!(!bed.path().join("new").exists());
    }
    // Said to be taken: it is, is remembered, and leaves the rest as it was.
    let larger = Open { override_saved: true, ..with(&[("vfs.defaultvolumesize", "5G")]) };
    bed.open_with(larger).unwrap();
    let (client, _) = bed.open_with(with(&[])).unwrap();
    let info = client.call(Info {}).unwrap().info;
    assert_eq!((&*info["DefaultVolumeSize"], &*info["Path"]), ("5368709120", path.to_str().unwrap()));
    let described = client.call(Describe {}).unwrap();
    assert_eq!(&*described.name, "vfs");
}

pub(crate) fn two_hosts_see_each_other(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let here = bed.open();
    // Another host has a root of its own, and the share mounted elsewhere.
    let mounted = bed.path().join("mnt");
    symlink(bed.volumes(), &mounted).unwrap();
    let there = Open {
        root: bed.path().join("there/vfs"),
        options: options(&[("vfs.path", mounted.to_str().unwrap())]),
        ..Open::default()
    };
    let (there, _) = bed.open_with(there).unwrap();
    here.create("vol1").unwrap();
    fs::write(bed.volume("vol1").join("file"), b"x").unwrap();
    here.snapshot("vol1", "snap").unwrap();
    let seen = there.call(GetVolume { name: name("vol1") }).unwrap();
    assert_eq!(seen.info["Path"], mounted.join("vol1").to_str().unwrap());
    assert_eq!(seen.snapshots.len(), 1);
    assert_eq!(refused(there.create("vol1")).kind, ErrorKind::AlreadyExists);
    let (opened, path) = there.open_snapshot("vol1", "snap").unwrap();
    assert_eq!(fs::read(path.join("file")).unwrap(), b"x");
    assert_eq!(refused(here.drop_snapshot("vol1", "snap")).kind, ErrorKind::InUse);
    there.close_snapshot(opened);
    there.delete("vol1", false).unwrap();
    assert_eq!(refused(here.get("vol1")).kind, ErrorKind::NotFound);
}

pub(crate) fn one_of_many_creators_wins(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let clients: Vec<_> = (0..3).map(|_| bed.open()).collect();
    for round in 0..10 {
        let volume = format!("race{round}");
        let won: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..12)
                .map(|n| {
                    let (client, volume) = (&clients[n % 3], &volume);
                    scope.spawn(move || match client.create(volume) {
                        Ok(_) => 1,
                        Err(error) => {
                            assert_eq!(error.kind, ErrorKind::AlreadyExists);
                            0
                        }
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
    }
}

/// A small file system of its own.
fn tmpfs(bed: &Bed, size: &str) -> Mounted {
    fs::create_dir(bed.volumes()).unwrap();
    let data = std::ffi::CString::new(format!("size={size},mode=0700")).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", bed.volumes(), "tmpfs", flags, Some(data.as_c_str())).unwrap();
    Mounted(bed.volumes())
}

pub(crate) fn a_full_disk_is_an_error_and_nothing_else(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let _mounted = tmpfs(&bed, "1m");
    let client = bed.open();
    client.create("vol1").unwrap();
    fs::write(bed.volume("vol1").join("big"), vec![1; 600 << 10]).unwrap();
    let error = refused(client.snapshot("vol1", "snap"));
    assert_eq!(error.kind, ErrorKind::Exhausted, "{error}");
    // To the last byte.
    let filler = bed.volume("vol1").join("filler");
    let mut size = 1 << 20;
    while size > 0 {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(&filler).unwrap();
        if std::io::Write::write_all(&mut file, &vec![1; size]).is_err() {
            size /= 2;
        }
    }
    assert_eq!(refused(client.create("vol2")).kind, ErrorKind::Exhausted);
    assert_eq!(client.names(), ["vol1"]);
    assert_eq!(client.get("vol1").unwrap().snapshots, []);
    assert_eq!(bed.volume_dirs(), ["vol1"]);
    fs::remove_file(filler).unwrap();
    fs::write(bed.volume("vol1").join("big"), b"small").unwrap();
    client.create("vol2").unwrap();
    client.snapshot("vol1", "snap").unwrap();
    client.close();
    bed.nothing_is_left();
}

pub(crate) fn a_read_only_place_still_serves_what_it_has(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let _mounted = tmpfs(&bed, "8m");
    let client = bed.open();
    client.create("vol1").unwrap();
    fs::write(bed.volume("vol1").join("file"), b"x").unwrap();
    client.snapshot("vol1", "snap").unwrap();
    client.close();
    let read_only = rustix::mount::MountFlags::RDONLY;
    rustix::mount::mount_remount(bed.volumes(), read_only, c"").unwrap();
    let client = bed.open();
    assert_eq!(client.names(), ["vol1"]);
    client.call(MountVolume { name: name("vol1"), mountpoint: None }).unwrap();
    let (opened, path) = client.open_snapshot("vol1", "snap").unwrap();
    assert_eq!(fs::read(path.join("file")).unwrap(), b"x");
    client.close_snapshot(opened);
    for error in [
        refused(client.create("vol2")),
        refused(client.delete("vol1", false)),
        refused(client.delete("vol1", true)),
        refused(client.snapshot("vol1", "more")),
        refused(client.drop_snapshot("vol1", "snap")),
    ] {
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
        assert!(error.hint.unwrap().contains("read-only"));
    }
    assert_eq!(client.names(), ["vol1"]);
    assert!(fs::metadata(bed.volume("vol1")).unwrap().permissions().mode() & 0o700 == 0o700);
}
