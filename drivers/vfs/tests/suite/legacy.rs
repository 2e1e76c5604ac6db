//! What convoy 0.5.2 left.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use convoy_driver_sdk::protocol::{Health, Info, MountVolume, Open, UnmountVolume};
use convoy_driver_sdk::{ErrorKind, Timestamp};

use crate::support::{Bed, Carrier, name, refused};

/// The state directory and the volumes of 0.5, as it left them but for the place.
fn state(carrier: Carrier) -> Bed {
    let bed = Bed::new(carrier);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let run = |command: &mut Command| assert!(command.status().unwrap().success());
    run(Command::new("cp").arg("-r").arg(fixtures.join("root")).arg(bed.path()));
    fs::create_dir(bed.volumes()).unwrap();
    run(Command::new("tar").arg("xzpf").arg(fixtures.join("volumes.tar.gz")).arg("-C").arg(bed.volumes()));
    // Nobody else enters it: what is done where others do is shown in `shelter`.
    fs::set_permissions(bed.volumes(), fs::Permissions::from_mode(0o700)).unwrap();
    let file = bed.root().join("vfs.cfg");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("/srv/volumes", bed.volumes().to_str().unwrap())).unwrap();
    bed
}

pub(crate) fn what_0_5_left_is_taken_over(carrier: Carrier) {
    let bed = state(carrier);
    let before = fs::read(bed.config().join("vfs_volume_web.json")).unwrap();
    // No option is given, as the users of 0.5 start it: its saved configuration holds.
    let (client, opened) = bed.open_with(Open { root: bed.root(), ..Open::default() }).unwrap();
    assert_eq!(opened.warnings, Vec::<String>::new());
    let info = client.call(Info {}).unwrap().info;
    assert_eq!(info["Path"], bed.volumes().to_str().unwrap());
    assert_eq!(info["DefaultVolumeSize"], "107374182400");
    assert_eq!(client.names(), ["ab", "db", "web"]);
    let web = client.get("web").unwrap();
    assert_eq!(web.created, Timestamp::parse("Mon Nov 23 09:48:38 +0000 2026").unwrap());
    assert_eq!((web.size, &web.health), (0, &Health::Good));
    assert_eq!(web.info["PrepareForVM"], "false");
    assert_eq!(web.snapshots.iter().map(|s| &*s.name).collect::<Vec<_>>(), ["first", "second"]);
    assert!(web.snapshots[0].info["FilePath"].ends_with("vfs/snapshots/web_first.tar.gz"));
    let mounted = client.call(MountVolume { name: name("web"), mountpoint: None }).unwrap();
    assert!(mounted.mountpoint.join("html/css/a.css").exists());
    assert_eq!(
        fs::read(bed.config().join("vfs_volume_web.json")).unwrap(),
        before,
        "looking changes nothing"
    );
    // A change keeps what 0.5 wrote.
    client.snapshot("web", "third").unwrap();
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(bed.config().join("vfs_volume_web.json")).unwrap()).unwrap();
    let old: serde_json::Value = serde_json::from_slice(&before).unwrap();
    for key in ["Name", "Size", "Path", "MountPoint", "PrepareForVM", "CreatedTime"] {
        assert_eq!(record[key], old[key], "{key}");
    }
    assert_eq!(record["Snapshots"]["first"], old["Snapshots"]["first"]);
    assert_eq!(record["Snapshots"]["third"]["VolumeUUID"], "web");
}

/// 0.5 was stopped with a volume mounted: its containers go on.
pub(crate) fn what_0_5_had_mounted_is_in_use(carrier: Carrier) {
    let bed = state(carrier);
    let record = bed.config().join("vfs_volume_web.json");
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains("\"MountPoint\":\"\""));
    fs::write(&record, text.replace("\"MountPoint\":\"\"", "\"MountPoint\":\"/srv/volumes/web\"")).unwrap();
    let client = bed.open();
    let mounted = |volume: &str| client.get(volume).unwrap().mountpoint;
    // Where it is now, should the directory be mounted elsewhere since.
    assert_eq!((mounted("web"), mounted("db")), (Some(bed.volume("web")), None));
    // A change of something else leaves that as it is; an unmount ends it, for this life and the next, and
    // may be repeated.
    client.snapshot("web", "third").unwrap();
    assert_eq!(mounted("web"), Some(bed.volume("web")));
    for _ in 0..2 {
        client.call(UnmountVolume { name: name("web") }).unwrap();
        assert_eq!(mounted("web"), None);
    }
    assert!(fs::read_to_string(&record).unwrap().contains("\"MountPoint\":\"\""));
    client.delete("web", false).unwrap();
}

pub(crate) fn its_snapshots_are_read_and_deleted(carrier: Carrier) {
    let bed = state(carrier);
    let client = bed.open();
    let (opened, path) = client.open_snapshot("web", "first").unwrap();
    assert_eq!(fs::metadata(path.join("html/copy.html")).unwrap().len(), 1200);
    let meta = |file: &str| fs::metadata(path.join(file)).unwrap();
    assert_eq!(meta("html/index.html").ino(), meta("html/copy.html").ino());
    assert_eq!(fs::read_link(path.join("html/home")).unwrap(), Path::new("index.html"));
    assert_eq!((meta("owned").gid(), meta("owned").mode() & 0o777, meta("owned").len()), (1001, 0o640, 1));
    assert_eq!(meta("sparse").len(), 3_145_731);
    assert!(meta("sparse").blocks() < 64, "zeros are holes again");
    assert_eq!(meta(".").mode() & 0o777, 0o700);
    assert_eq!(refused(client.drop_snapshot("web", "first")).kind, ErrorKind::InUse);
    client.close_snapshot(opened);
    assert!(!path.exists());
    let archive = bed.root().join("snapshots/web_first.tar.gz");
    assert!(archive.exists());
    client.drop_snapshot("web", "first").unwrap();
    assert!(!archive.exists());
    client.delete("web", false).unwrap();
    assert!(!bed.root().join("snapshots/web_second.tar.gz").exists());
    assert!(bed.root().join("snapshots/ab_abs.tar.gz").exists());
    client.close();
    bed.nothing_is_left();
}

pub(crate) fn a_hostile_archive_stays_inside(carrier: Carrier) {
    let bed = state(carrier);
    let client = bed.open();
    let outside = bed.path().join("outside");
    fs::create_dir(&outside).unwrap();
    // A link, and then a file through it.
    let build = bed.path().join("build");
    fs::create_dir_all(build.join("one")).unwrap();
    fs::create_dir_all(build.join("two/door")).unwrap();
    std::os::unix::fs::symlink(&outside, build.join("one/door")).unwrap();
    fs::write(build.join("two/door/evil"), b"x").unwrap();
    let archive = bed.root().join("snapshots/web_first.tar.gz");
    let tar = bed.path().join("evil.tar");
    let run = |command: &mut Command| assert!(command.status().unwrap().success());
    run(Command::new("tar").arg("cf").arg(&tar).arg("-C").arg(build.join("one")).arg("./door"));
    run(Command::new("tar").arg("rf").arg(&tar).arg("-C").arg(build.join("two")).arg("./door/evil"));
    run(Command::new("gzip").arg("-f").arg(&tar));
    fs::copy(bed.path().join("evil.tar.gz"), &archive).unwrap();
    refused(client.open_snapshot("web", "first"));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // Cut off.
    let whole = fs::read(bed.root().join("snapshots/web_second.tar.gz")).unwrap();
    fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(refused(client.open_snapshot("web", "first")).kind, ErrorKind::DataLoss);
    client.close();
    bed.nothing_is_left();
}
