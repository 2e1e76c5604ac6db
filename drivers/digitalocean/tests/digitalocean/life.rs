//! Everything goes well.

use crate::cloud::REGION;
use crate::world::{World, context, expect, name, options};
use convoy_driver_sdk::protocol::{
    AbortRestore, CloseSnapshot, CreateBackup, DeleteBackup, DeleteSnapshot, Extent, FinishRestore, Health,
    InspectBackup, ListBackups, ListExtents, ListVolumes, MountVolume, OpenSnapshot, PrepareRestore,
    ResizeVolume, SourceKind, SourceLocation, TargetLocation,
};
use convoy_driver_sdk::{Driver, ErrorKind};
use std::process::Command;

const GIB: u64 = 1 << 30;

#[test]
fn a_volume_is_made_used_kept_and_found_again() {
    let mut world = World::new();
    let made = world.create("web_Data.1", &[]).unwrap();
    assert_eq!((made.size, made.health.clone()), (GIB, Health::Good));
    assert!(made.info["Name"].starts_with("cv-web-data-1-"), "{made:?}");
    assert!(!made.info["ID"].is_empty() && !made.info["Device"].is_empty());
    expect(world.create("web_Data.1", &[]), ErrorKind::AlreadyExists, "exists already");

    let at = world.mount("web_Data.1").unwrap();
    assert_eq!(at, world.root().join("mounts/web_Data.1"));
    assert_eq!(world.mount("web_Data.1").unwrap(), at, "repeating it changes nothing");
    // As a container has it: a bind mount.
    let container = world.scratch.path().join("container");
    std::fs::create_dir(&container).unwrap();
    assert!(Command::new("mount").arg("--bind").arg(&at).arg(&container).status().unwrap().success());
    std::fs::write(container.join("page"), "content").unwrap();
    expect(world.delete("web_Data.1", false), ErrorKind::InUse, "is mounted");
    // Unmounted where it was, and still there for who has a copy of the mount.
    world.unmount("web_Data.1").unwrap();
    for reference_only in [true, false] {
        expect(world.delete("web_Data.1", reference_only), ErrorKind::InUse, "in another mount namespace");
    }
    assert_eq!(world.mount("web_Data.1").unwrap(), at);
    assert!(Command::new("umount").arg(&container).status().unwrap().success());

    // A new life: the mount is the kernel's, the volume the cloud's.
    world.reopen();
    assert_eq!(world.get("web_Data.1").unwrap().mountpoint, Some(at.clone()));
    world.cloud.requests();
    world.unmount("web_Data.1").unwrap();
    world.unmount("web_Data.1").unwrap();
    world.mount("web_Data.1").unwrap();
    assert_eq!(world.cloud.requests(), Vec::<String>::new(), "mounting what is attached asks nobody");
    world.unmount("web_Data.1").unwrap();

    // Kept, and found by its name, never replaced by an empty one.
    world.delete("web_Data.1", true).unwrap();
    expect(world.get("web_Data.1"), ErrorKind::NotFound, "no volume");
    assert_eq!(world.cloud.state().volumes.values().filter(|volume| volume.droplet.is_some()).count(), 0);
    let opened = world.reopen();
    assert!(opened.warnings[0].contains("`convoy create web_Data.1` takes it"), "{opened:?}");
    expect(world.create_sized("web_Data.1", 2 * GIB), ErrorKind::AlreadyExists, "1 GiB, not the 2 GiB");
    world.create("web_Data.1", &[]).unwrap();
    let at = world.mount("web_Data.1").unwrap();
    assert_eq!(std::fs::read_to_string(at.join("page")).unwrap(), "content");
    world.unmount("web_Data.1").unwrap();
    assert_eq!(world.cloud.state().volumes.len(), 1);

    world.delete("web_Data.1", false).unwrap();
    expect(world.delete("web_Data.1", false), ErrorKind::NotFound, "no volume");
    assert!(world.cloud.state().volumes.is_empty());
    assert_eq!((world.list().len(), world.intents()), (0, 0));
}

#[test]
fn snapshots_backups_and_what_is_made_of_them() {
    let world = World::new();
    world.create("data", &[("fs", "xfs")]).unwrap();
    let at = world.mount("data").unwrap();
    std::fs::write(at.join("state"), "one").unwrap();
    world.snapshot("data", "Snap_1").unwrap();
    std::fs::write(at.join("state"), "two").unwrap();
    expect(world.snapshot("data", "Snap_1"), ErrorKind::AlreadyExists, "has a snapshot");
    let shown = &world.get("data").unwrap().snapshots[0];
    assert_eq!((shown.info["Size"].as_str(), shown.info["State"].as_str()), ("1073741824", "completed"));

    let backup = CreateBackup::new(name("data"), name("Snap_1")).options(options(&[]));
    assert!(world.driver().list_backups(ListBackups::default(), &context()).unwrap().backups.is_empty());
    let url = world.driver().create_backup(backup, &context()).unwrap().url;
    assert!(url.starts_with(&format!("do://{REGION}/")), "{url}");
    let info = world.driver().inspect_backup(InspectBackup::new(url.clone()), &context()).unwrap();
    assert_eq!((info.volume.as_str(), info.snapshot.as_str(), info.size), ("data", "Snap_1", GIB));
    let listed = world.driver().list_backups(
        ListBackups::new().destination(Some(format!("do://{REGION}"))).volume(Some(name("data"))),
        &context(),
    );
    assert_eq!(listed.unwrap().backups, [info]);

    // Restored while the origin is mounted, larger than it was.
    world.create_sized("plain", GIB).unwrap();
    let request = convoy_driver_sdk::protocol::CreateVolume::new(name("copy"))
        .size(Some(2 * GIB))
        .options(options(&[("backup", url.as_str())]));
    assert_eq!(world.driver().create_volume(request, &context()).unwrap().size, 2 * GIB);
    let copy = world.mount("copy").unwrap();
    assert_eq!(std::fs::read_to_string(copy.join("state")).unwrap(), "one");
    assert!(rustix_blocks(&copy) > 19 * GIB / 10, "the file system has grown with it");
    expect(world.create("copy2", &[("backup", "do://nyc1/x")]), ErrorKind::InvalidArgument, "found nyc1");
    expect(world.create("copy2", &[("backup", "ebs://fra1/x")]), ErrorKind::InvalidArgument, "do://<region>");
    expect(world.create("copy2", &[("backup", "do://fra1/unknown")]), ErrorKind::NotFound, "no backup");

    // The snapshot goes, the backup stays; the backup goes, and with it the last trace.
    let delete = DeleteSnapshot::new(name("data"), name("Snap_1"));
    world.driver().delete_snapshot(delete, &context()).unwrap();
    assert_eq!(world.cloud.state().snapshots.len(), 1);
    let from_afar = world.driver().inspect_backup(InspectBackup::new(url.clone()), &context()).unwrap();
    assert_eq!((from_afar.volume.as_str(), from_afar.snapshot.as_str()), ("data", "Snap_1"));
    world.driver().delete_backup(DeleteBackup::new(url.clone()), &context()).unwrap();
    expect(
        world.driver().delete_backup(DeleteBackup::new(url), &context()),
        ErrorKind::NotFound,
        "no backup",
    );
    assert!(world.cloud.state().snapshots.is_empty());

    // A snapshot that is nothing else goes with its volume.
    world.snapshot("data", "again").unwrap();
    world.unmount("data").unwrap();
    world.delete("data", false).unwrap();
    assert!(world.cloud.state().snapshots.is_empty());
    assert_eq!(world.cloud.names(), ["copy", "plain"]);
}

fn rustix_blocks(path: &std::path::Path) -> u64 {
    let output = Command::new("df").args(["-B1", "--output=size"]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap()
}

#[test]
fn a_snapshot_is_read_and_restored_by_the_backup_engine() {
    let mut world = World::new();
    world.create("data", &[]).unwrap();
    let at = world.mount("data").unwrap();
    std::fs::write(at.join("file"), vec![7; 1 << 20]).unwrap();
    world.snapshot("data", "one").unwrap();
    let open = OpenSnapshot::new(name("data"), name("one"));
    let opened = world.driver().open_snapshot(open.clone(), &context()).unwrap();
    let SourceLocation::Block { device, size, changed_only, .. } = opened.location else {
        panic!("{opened:?}")
    };
    assert_eq!((size, changed_only), (GIB, false));
    let extents = ListExtents::new(opened.handle.clone());
    let extents = world.driver().list_extents(extents, &context()).unwrap();
    assert_eq!((extents.extents, extents.next), (vec![Extent { offset: 0, length: GIB }], None));
    let delete = DeleteSnapshot::new(name("data"), name("one"));
    expect(world.driver().delete_snapshot(delete, &context()), ErrorKind::InUse, "being read");

    // The engine's part: copy what is used of the device.
    let prepare =
        |kind, volume: &str| PrepareRestore::new(name(volume), kind).size(Some(GIB)).options(options(&[]));
    let prepared = world.driver().prepare_restore(prepare(SourceKind::Block, "block"), &context()).unwrap();
    let TargetLocation::Block { device: target, size, .. } = &prepared.location else {
        panic!("{prepared:?}")
    };
    assert_eq!(*size, GIB);
    expect(world.get("block"), ErrorKind::NotFound, "no volume");
    let copied = Command::new("e2image").arg("-ra").args([&device, target]).output().unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let finish = FinishRestore::new(prepared.handle.clone());
    assert_eq!(world.driver().finish_restore(finish.clone(), &context()).unwrap().size, GIB);
    // Its answer was lost.
    assert_eq!(world.driver().finish_restore(finish, &context()).unwrap().name, name("block"));
    world.unmount("data").unwrap();
    let restored = world.mount("block").unwrap();
    assert_eq!(std::fs::read(restored.join("file")).unwrap(), vec![7; 1 << 20]);

    let prepared = world.driver().prepare_restore(prepare(SourceKind::Tree, "tree"), &context()).unwrap();
    let TargetLocation::Tree { path, .. } = &prepared.location else { panic!("{prepared:?}") };
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0, "an empty directory");
    std::fs::write(path.join("leaf"), "green").unwrap();
    world.driver().finish_restore(FinishRestore::new(prepared.handle.clone()), &context()).unwrap();
    let tree = world.mount("tree").unwrap();
    assert_eq!(std::fs::read_to_string(tree.join("leaf")).unwrap(), "green");

    // Aborted, closed: twice each; and an opening that an earlier life left.
    let prepared = world.driver().prepare_restore(prepare(SourceKind::Tree, "never"), &context()).unwrap();
    let handle = prepared.handle.clone();
    world.driver().abort_restore(AbortRestore::new(handle.clone()), &context()).unwrap();
    world.driver().abort_restore(AbortRestore::new(handle), &context()).unwrap();
    let close = CloseSnapshot::new(opened.handle);
    world.driver().close_snapshot(close.clone(), &context()).unwrap();
    world.driver().close_snapshot(close, &context()).unwrap();
    assert_eq!(world.cloud.names(), ["block", "data", "tree"]);
    let left = world.driver().open_snapshot(open, &context()).unwrap();
    let begun = world.driver().prepare_restore(prepare(SourceKind::Tree, "begun"), &context()).unwrap();
    let opened = world.reopen();
    assert_eq!(opened.recovered.len(), 2, "{opened:?}");
    assert_eq!((world.cloud.names().len(), world.intents()), (3, 0));
    world.driver().close_snapshot(CloseSnapshot::new(left.handle), &context()).unwrap();
    let finish = FinishRestore::new(begun.handle);
    expect(world.driver().finish_restore(finish, &context()), ErrorKind::NotFound, "nothing is open");
}

/// Whether this process has CAP_SYS_RESOURCE, which growing a mounted ext4 takes.
fn may_grow_mounted() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    u64::from_str_radix(effective, 16).unwrap() & (1 << 24) != 0
}

#[test]
fn a_volume_grows_mounted_or_not() {
    let world = World::new();
    for (volume, fs) in [("e4", "ext4"), ("xf", "xfs")] {
        world.create(volume, &[("fs", fs)]).unwrap();
        for (size, mounted) in [(2, true), (3, false)] {
            if mounted {
                world.mount(volume).unwrap();
            }
            let resize = ResizeVolume::new(name(volume), size * GIB);
            if mounted && fs == "ext4" && !may_grow_mounted() {
                let error = world.driver().resize_volume(resize.clone(), &context());
                expect(error, ErrorKind::PermissionDenied, "unmount the volume");
                world.unmount(volume).unwrap();
            }
            assert_eq!(world.driver().resize_volume(resize.clone(), &context()).unwrap().size, size * GIB);
            assert_eq!(world.driver().resize_volume(resize, &context()).unwrap().size, size * GIB, "again");
            let at = world.mount(volume).unwrap();
            assert!(rustix_blocks(&at) > size * GIB * 9 / 10, "{fs} {size}");
            world.unmount(volume).unwrap();
        }
        let shrink = ResizeVolume::new(name(volume), GIB);
        expect(world.driver().resize_volume(shrink, &context()), ErrorKind::InvalidArgument, "cannot shrink");
    }
}

#[test]
fn a_hundred_volumes_are_listed_with_a_handful_of_calls() {
    let world = World::new();
    let droplet = Some(crate::cloud::DROPLET);
    for number in 0..250 {
        let id = world.cloud.add(&format!("vol-{number:03}"), 1, "", droplet);
        let record = format!(
            r#"{{"Name":"vol-{number:03}","ID":"{id}","Device":"","MountPoint":"","Size":1073741824}}"#
        );
        std::fs::write(world.root().join(format!("digitalocean_volume_vol-{number:03}.json")), record)
            .unwrap();
    }
    world.cloud.requests();
    let page = |after: Option<&str>| {
        let request = ListVolumes::new().after(after.map(name)).limit(Some(100));
        world.driver().list_volumes(request, &context()).unwrap()
    };
    let first = page(None);
    assert_eq!((first.volumes.len(), first.more), (100, true));
    assert!(first.volumes.iter().all(|volume| volume.health == Health::Good && volume.size == GIB));
    assert_eq!(world.cloud.requests().len(), 2, "two pages of the region's volumes");
    assert_eq!(page(None).volumes.len(), 100);
    assert_eq!(world.cloud.requests().len(), 0, "the same again is remembered for a moment");
    let last = page(Some("vol-199"));
    assert_eq!((last.volumes.len(), last.more), (50, false));
}

#[test]
fn records_of_0_5_and_foreign_volumes_are_taken() {
    let mut world = World::new();
    let id = world.cloud.add("old", 1, "", None);
    let disk = world.cloud.state().disk(&id);
    assert!(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk).status().unwrap().success());
    let record = format!(
        r#"{{"Name":"old","ID":"{id}","Device":"/dev/disk/by-id/scsi-0DO_Volume_old","MountPoint":"","Size":1073741824}}"#
    );
    std::fs::write(world.root().join("digitalocean_volume_old.json"), record).unwrap();
    std::fs::write(
        world.root().join("digitalocean.cfg"),
        r#"{"Root":"/var/lib/convoy/digitalocean","DefaultVolumeSize":2147483648}"#,
    )
    .unwrap();
    world.reopen();
    assert_eq!(world.list().len(), 1);
    // It is not attached any more; its record has no cloud name: the cloud is asked.
    world.mount("old").unwrap();
    world.unmount("old").unwrap();

    // By id: what is on it stays, nothing is ever formatted.
    let blank = world.cloud.add("blank", 1, "", None);
    expect(world.create("taken", &[("id", &blank)]), ErrorKind::InvalidArgument, "run mkfs on it by hand");
    assert!(world.cloud.state().volumes[&blank].droplet.is_none(), "detached again");
    expect(world.create("taken", &[("id", &id)]), ErrorKind::AlreadyExists, "is the volume old already");
    expect(world.create("taken", &[("id", "nothing")]), ErrorKind::NotFound, "no volume");
    world.delete("old", true).unwrap();
    world.create("taken", &[("id", &id)]).unwrap();
    world.mount("taken").unwrap();
    assert_eq!(world.intents(), 0);
    let elsewhere = world.root().join("else");
    let request = MountVolume::new(name("taken")).mountpoint(Some(elsewhere.clone()));
    expect(world.driver().mount_volume(request.clone(), &context()), ErrorKind::InUse, "is mounted at");
    world.unmount("taken").unwrap();
    assert_eq!(world.driver().mount_volume(request, &context()).unwrap().mountpoint, elsewhere);
    assert_eq!(world.get("taken").unwrap().mountpoint, Some(elsewhere));
    world.unmount("taken").unwrap();
}
