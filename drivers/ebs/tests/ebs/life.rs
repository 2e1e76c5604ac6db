//! Everything goes well.

use crate::aws::{REGION, ZONE, texts};
use crate::world::{World, context, expect, name, options};
use convoy_driver_ebs::ec2::ACTIONS;
use convoy_driver_sdk::protocol::{
    AbortRestore, CloseSnapshot, CreateBackup, CreateVolume, DeleteBackup, DeleteSnapshot, FinishRestore,
    Health, InspectBackup, ListBackups, ListVolumes, OpenSnapshot, PrepareRestore, ResizeVolume, SourceKind,
    SourceLocation, TargetLocation,
};
use convoy_driver_sdk::{Driver, ErrorKind};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const GIB: u64 = 1 << 30;

fn size_of(path: &Path) -> u64 {
    let output = Command::new("df").args(["-B1", "--output=size"]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap()
}

#[test]
fn a_volume_from_its_making_to_its_end() {
    let mut world = World::new();
    let made = world.create("Data.1", &[("iops", "4000"), ("throughput", "250"), ("fs", "xfs")]).unwrap();
    assert_eq!((made.size, made.health.clone()), (GIB, Health::Good));
    let shown: Vec<_> = ["Type", "IOPS", "Throughput", "State", "AvailiablityZone", "KmsKeyId"]
        .map(|key| made.info[key].as_str())
        .to_vec();
    assert_eq!(shown, ["gp3", "4000", "250", "in-use", ZONE, ""]);
    assert!(made.info["Device"].ends_with("n1") && made.info["EBSVolumeID"].starts_with("vol-"));
    let tags = world.cloud.state().ask(REGION, "Action=DescribeTags&Version=2016-11-15");
    for tag in ["Data.1", "storage", "42", "volume"] {
        assert!(texts(&tags, "value").contains(&tag), "{tags}");
    }
    expect(world.create("Data.1", &[]), ErrorKind::AlreadyExists, "exists already");

    let at = world.mount("Data.1").unwrap();
    let container = world.scratch.path().join("container");
    std::fs::create_dir(&container).unwrap();
    assert!(Command::new("mount").arg("--bind").arg(&at).arg(&container).status().unwrap().success());
    std::fs::write(container.join("page"), "one").unwrap();
    expect(world.delete("Data.1", false), ErrorKind::InUse, "is mounted");

    // A snapshot, frozen; it is stored while the container goes on.
    world.reopen_with(&[("ebs.fsfreeze", "true")]);
    world.snapshot("Data.1", "snap").unwrap();
    std::fs::write(container.join("page"), "two").unwrap();
    assert!(Command::new("umount").arg(&container).status().unwrap().success());
    world.cloud.state().pending = 3;
    let backup = CreateBackup::new(name("Data.1"), name("snap")).options(options(&[]));
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = std::sync::Arc::clone(&seen);
    let watched = context().with_progress(move |progress| sink.lock().unwrap().push(progress.done));
    let url = world.driver().create_backup(backup, &watched).unwrap().url;
    assert!(url.starts_with("ebs://us-east-1/snap-"), "{url}");
    assert_eq!(seen.lock().unwrap().as_slice(), [42, 42, 42]);

    let info = world.driver().inspect_backup(InspectBackup::new(url.clone()), &context()).unwrap();
    assert_eq!((info.volume.as_str(), info.snapshot.as_str(), info.size), ("Data.1", "snap", GIB));
    assert_eq!(info.info["State"], "completed");
    let request =
        ListBackups::new().destination(Some("ebs://us-east-1".to_owned())).volume(Some(name("Data.1")));
    assert_eq!(world.driver().list_backups(request, &context()).unwrap().backups, [info]);

    // Restored beside its origin, larger.
    let request = CreateVolume::new(name("copy"))
        .size(Some(2 * GIB))
        .options(options(&[("backup", url.as_str()), ("type", "gp2")]));
    assert_eq!(world.driver().create_volume(request, &context()).unwrap().info["Type"], "gp2");
    let copy = world.mount("copy").unwrap();
    assert_eq!(std::fs::read_to_string(copy.join("page")).unwrap(), "one");
    assert!(size_of(&copy) > 19 * GIB / 10);

    // Grown while mounted, and again.
    let resize = ResizeVolume::new(name("copy"), 3 * GIB);
    assert_eq!(world.driver().resize_volume(resize.clone(), &context()).unwrap().size, 3 * GIB);
    assert_eq!(world.driver().resize_volume(resize, &context()).unwrap().size, 3 * GIB);
    assert!(size_of(&copy) > 29 * GIB / 10);
    world.unmount("copy").unwrap();

    // The snapshot is forgotten, the backup stays; then it goes too.
    let delete = DeleteSnapshot::new(name("Data.1"), name("snap"));
    world.driver().delete_snapshot(delete, &context()).unwrap();
    assert_eq!(world.left().1, 1);
    world.driver().delete_backup(DeleteBackup::new(url.clone()), &context()).unwrap();
    assert_eq!(world.left().1, 0);
    expect(
        world.driver().delete_backup(DeleteBackup::new(url), &context()),
        ErrorKind::NotFound,
        "no backup",
    );

    // A backup whose snapshot is still wanted goes on as a snapshot, and ends with its volume.
    world.snapshot("Data.1", "two").unwrap();
    let backup = CreateBackup::new(name("Data.1"), name("two")).options(options(&[]));
    let url = world.driver().create_backup(backup, &context()).unwrap().url;
    world.driver().delete_backup(DeleteBackup::new(url), &context()).unwrap();
    assert!(world.driver().list_backups(ListBackups::default(), &context()).unwrap().backups.is_empty());
    assert_eq!(world.left().1, 1);

    // Kept by reference, found again by its tag.
    world.unmount("Data.1").unwrap();
    world.delete("copy", true).unwrap();
    let opened = world.reopen();
    assert!(opened.warnings[0].contains("`convoy create copy` takes it"), "{opened:?}");
    world.create("copy", &[]).unwrap();
    let copy = world.mount("copy").unwrap();
    assert_eq!(std::fs::read_to_string(copy.join("page")).unwrap(), "one");
    world.unmount("copy").unwrap();

    // From another region: only when asked for, and the copy does not stay.
    let disk = made.info["EBSVolumeID"].clone();
    let away = world.cloud.snapshot_abroad("eu-west-1", 1, &disk);
    let away = format!("ebs://eu-west-1/{away}");
    expect(world.create("far", &[("backup", &away)]), ErrorKind::InvalidArgument, "copy=true");
    world.cloud.state().pending = 1;
    world.create("far", &[("backup", &away), ("copy", "true")]).unwrap();
    world.mount("far").unwrap();
    let listed = ListBackups::new().destination(Some("ebs://eu-west-1/".to_owned()));
    assert_eq!(world.driver().list_backups(listed, &context()).unwrap().backups[0].volume, "far");
    world.unmount("far").unwrap();

    for volume in ["far", "copy", "Data.1"] {
        world.delete(volume, false).unwrap();
    }
    assert_eq!(world.left(), (0, 1, 0), "what is left is the snapshot in the other region");
    let asked: BTreeSet<_> = world.cloud.actions().into_iter().collect();
    assert_eq!(asked, ACTIONS.iter().map(|action| (*action).to_owned()).collect(), "every action is needed");
}

#[test]
fn every_type_is_made_as_asked() {
    let world = World::new();
    for (kind, gib, iops) in [
        ("gp2", 1, None),
        ("io1", 4, Some("200")),
        ("io2", 4, Some("300")),
        ("st1", 125, None),
        ("sc1", 125, None),
        ("standard", 1, None),
    ] {
        let mut pairs = vec![("type", kind)];
        pairs.extend(iops.map(|iops| ("iops", iops)));
        let request =
            CreateVolume::new(name(&format!("of-{kind}"))).size(Some(gib * GIB)).options(options(&pairs));
        let made = world.driver().create_volume(request, &context()).unwrap();
        assert_eq!((made.info["Type"].as_str(), made.size), (kind, gib * GIB));
        assert!(iops.is_none_or(|iops| made.info["IOPS"] == iops), "{made:?}");
    }
}

#[test]
fn older_instances_and_small_systems() {
    let mut world = World::new();
    world.cloud.state().nitro = false;
    let made = world.create("old", &[]).unwrap();
    assert!(made.info["Device"].ends_with("/xvdba"), "{made:?}");
    let at = world.mount("old").unwrap();
    std::fs::write(at.join("file"), "kept").unwrap();
    world.unmount("old").unwrap();
    world.mount("old").unwrap();
    world.unmount("old").unwrap();
    // A Nitro instance without udev's rule.
    let mut state = world.cloud.state();
    (state.nitro, state.udev) = (true, false);
    drop(state);
    world.create("small", &[]).unwrap();
    world.cloud.actions();
    world.mount("small").unwrap();
    assert_eq!(world.cloud.actions(), Vec::<String>::new(), "mounting what the kernel shows asks nobody");
    world.unmount("small").unwrap();

    // Records of 0.5; its snapshots are forgotten, not deleted, since any may be a backup.
    let id = world.get("old").unwrap().info["EBSVolumeID"].clone();
    world.snapshot("old", "s1").unwrap();
    let snapshot = world.get("old").unwrap().snapshots[0].info["EBSSnapshotID"].clone();
    let record = format!(
        r#"{{"Name":"old","EBSID":"{id}","Device":"/dev/xvdf","MountPoint":"","Snapshots":{{"s1":{{"Name":"s1","VolumeName":"old","EBSID":"{snapshot}"}}}}}}"#
    );
    std::fs::write(world.root().join("ebs_volume_old.json"), record).unwrap();
    std::fs::write(
        world.root().join("ebs.cfg"),
        r#"{"Root":"/var/lib/rancher/convoy/ebs","DefaultVolumeSize":2147483648,"DefaultVolumeType":"gp2","DefaultKmsKeyID":"","DefaultEncrypted":false}"#,
    )
    .unwrap();
    world.reopen();
    let old = world.get("old").unwrap();
    assert_eq!((old.snapshots.len(), old.info["EBSVolumeID"].as_str()), (1, id.as_str()));
    assert_eq!(world.driver().info(&context()).unwrap()["DefaultVolumeType"], "gp2");
    let at = world.mount("old").unwrap();
    assert_eq!(std::fs::read_to_string(at.join("file")).unwrap(), "kept");
    let written = std::fs::read_to_string(world.root().join("ebs_volume_old.json")).unwrap();
    assert!(written.contains(&format!(r#""EBSID":"{id}""#)) && !written.contains(r#""ID""#), "{written}");
    world.unmount("old").unwrap();
    let delete = DeleteSnapshot::new(name("old"), name("s1"));
    world.driver().delete_snapshot(delete, &context()).unwrap();
    assert_eq!(world.left().1, 1);
    world.create("encrypted", &[("encrypted", "true")]).unwrap();
    assert_eq!(world.get("encrypted").unwrap().info["Encrypted"], "true");
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
    let SourceLocation::Block { device, size, .. } = &opened.location else { panic!("{opened:?}") };
    assert_eq!(*size, GIB);
    let prepare = |kind, volume: &str| {
        let request = PrepareRestore::new(name(volume), kind).size(Some(GIB)).options(options(&[]));
        world.driver().prepare_restore(request, &context()).unwrap()
    };
    let block = prepare(SourceKind::Block, "block");
    let TargetLocation::Block { device: target, .. } = &block.location else { panic!("{block:?}") };
    let copied = Command::new("e2image").arg("-ra").args([device, target]).output().unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let tree = prepare(SourceKind::Tree, "tree");
    let TargetLocation::Tree { path, .. } = &tree.location else { panic!("{tree:?}") };
    std::fs::write(path.join("leaf"), "green").unwrap();
    let aborted = prepare(SourceKind::Tree, "aborted");
    for prepared in [block, tree] {
        world.driver().finish_restore(FinishRestore::new(prepared.handle), &context()).unwrap();
    }
    world.driver().abort_restore(AbortRestore::new(aborted.handle), &context()).unwrap();
    world.driver().close_snapshot(CloseSnapshot::new(opened.handle), &context()).unwrap();
    assert_eq!(world.left(), (3, 1, 0));
    let block = world.mount("block").unwrap();
    assert_eq!(std::fs::read(block.join("file")).unwrap(), vec![7; 1 << 20]);
    let tree = world.mount("tree").unwrap();
    assert_eq!(std::fs::read_to_string(tree.join("leaf")).unwrap(), "green");
    // What was restored whole is a volume like any other: found by its tag.
    world.unmount("tree").unwrap();
    world.delete("tree", true).unwrap();
    world.create("tree", &[]).unwrap();
    world.mount("tree").unwrap();
    // What an earlier life left open is closed.
    world.driver().open_snapshot(open, &context()).unwrap();
    assert_eq!(world.reopen().recovered.len(), 1);
    assert_eq!(world.left(), (3, 1, 0));
}

#[test]
fn a_hundred_volumes_are_listed_with_two_calls() {
    let world = World::new();
    for number in 0..120 {
        let id = world.cloud.add(ZONE, 1, &[], None);
        let record = format!(
            r#"{{"Name":"vol-{number:03}","EBSID":"{id}","Device":"","MountPoint":"","Snapshots":null}}"#
        );
        std::fs::write(world.root().join(format!("ebs_volume_vol-{number:03}.json")), record).unwrap();
    }
    world.cloud.actions();
    let request = ListVolumes::new().limit(Some(100));
    let listed = world.driver().list_volumes(request, &context()).unwrap();
    assert_eq!((listed.volumes.len(), listed.more), (100, true));
    assert!(listed.volumes.iter().all(|volume| volume.health == Health::Good && volume.size == GIB));
    assert_eq!(world.cloud.actions(), ["DescribeVolumes"]);
}
