//! What convoy 0.5 got wrong, one by one, and other bad input: a clear error, an unchanged world, everything
//! else still served.

use crate::harness::{Daemon, names};
use std::sync::Barrier;

fn create(daemon: &Daemon, name: &str) -> u16 {
    daemon.call("POST", "/volumes/create", &format!("{{\"Name\":\"{name}\"}}")).status
}

#[test]
fn names_that_are_none() {
    let daemon = Daemon::start();
    assert_eq!(create(&daemon, "good1"), 200);
    for bad in ["x", "../x", "/../../escaped", ".", "..", "a/b", "-a", "a b", "config/x", &"n".repeat(201)] {
        for (method, path, body) in [
            ("POST", "/volumes/create", format!("{{\"Name\":\"{bad}\"}}")),
            ("POST", "/VolumeDriver.Create", format!("{{\"Name\":\"{bad}\"}}")),
            ("POST", "/volumes/mount", format!("{{\"VolumeName\":\"{bad}\"}}")),
            ("DELETE", "/volumes/", format!("{{\"VolumeName\":\"{bad}\"}}")),
            ("POST", "/snapshots/create", format!("{{\"VolumeName\":\"good1\",\"Name\":\"{bad}\"}}")),
            ("DELETE", "/snapshots/", format!("{{\"SnapshotName\":\"{bad}\"}}")),
        ] {
            let answer = daemon.call(method, path, &body);
            let refused = answer.status == 400 || answer.body.contains("\"Err\"");
            assert!(refused && answer.body.contains("nvalid"), "{path} {body}: {answer:?}");
        }
    }
    assert_eq!(names(&daemon.volumes()), ["config", "good1"]);
    assert_eq!(names(daemon.dir.path()), ["convoy.sock", "convoy.sock.lock", "log", "root", "volumes"]);
    // A name that the driver needs for itself.
    let reserved = daemon.call("POST", "/volumes/create", r#"{"Name":"config"}"#);
    assert_eq!(reserved.status, 400, "{reserved:?}");
    assert!(daemon.docker("List", "").contains("good1"));
}

#[test]
fn bodies_that_are_no_requests() {
    let daemon = Daemon::start();
    for body in [
        "",
        " ",
        "{bad",
        "[]",
        "5",
        "\"x\"",
        "{\"Name\":5}",
        "{\"Name\":[\"a\"]}",
        "{\"Name\":\"vol1\"",
        "\u{0}",
    ] {
        let admin = daemon.call("POST", "/volumes/create", body);
        assert_eq!(admin.status, 400, "{body:?}: {admin:?}");
        assert!(admin.body.len() > 3 && admin.body.ends_with('\n'), "{body:?}: {admin:?}");
        assert!(daemon.docker("Create", body).contains("\"Err\""), "{body:?}");
    }
    for (field, value) in [
        ("Size", "-1"),
        ("Size", "1.5"),
        ("Size", "99999999999999999999"),
        ("Size", "9223372036854775808"),
        ("IOPS", "\"abc\""),
    ] {
        let answer =
            daemon.call("POST", "/volumes/create", &format!("{{\"Name\":\"vol1\",\"{field}\":{value}}}"));
        assert_eq!(answer.status, 400, "{field} {value}: {answer:?}");
    }
    let huge = format!("{{\"Name\":\"{}\"}}", "n".repeat(2 << 20));
    let answer = daemon.call("POST", "/volumes/create", &huge);
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert_eq!(daemon.docker("List", ""), "{}");
    // As Go reads JSON: keys in any case, null is missing, the first value counts.
    assert_eq!(daemon.call("POST", "/volumes/create", r#"{"nAmE":"vol1","Size":null} more"#).body, "vol1");
}

#[test]
fn unknown_options_are_refused_with_the_known_ones() {
    let daemon = Daemon::start();
    let refused = daemon.docker("Create", r#"{"Name":"vol1","Opts":{"bogus":"1"}}"#);
    for known in ["unknown option", "bogus", "vm", "size", "backup"] {
        assert!(refused.contains(known), "{known} in {refused}");
    }
    // Those that every driver was always sent are ignored by one that has no use for them.
    assert_eq!(daemon.docker("Create", r#"{"Name":"vol1","Opts":{"type":"x","iops":"100","id":"y"}}"#), "{}");
    let endpoint = daemon.call("POST", "/volumes/create", r#"{"Name":"v2","Endpoint":"http://e"}"#);
    assert_eq!(endpoint.body, "Endpoint option can only be used when creating a volume from a backup.\n");
}

#[test]
fn one_of_many_creates_of_a_name_wins() {
    let daemon = Daemon::start();
    for round in 0..5 {
        let barrier = Barrier::new(16);
        let wins: usize = std::thread::scope(|scope| {
            let all: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        create(&daemon, &format!("race{round}"))
                    })
                })
                .collect();
            all.into_iter().map(|one| usize::from(one.join().unwrap() == 200)).sum()
        });
        assert_eq!(wins, 1);
        // Docker's create succeeds for everybody.
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    let body = format!("{{\"Name\":\"docker{round}\"}}");
                    assert_eq!(daemon.docker("Create", &body), "{}");
                });
            }
        });
    }
}

#[test]
fn snapshot_names_come_free_with_their_volume() {
    let daemon = Daemon::start();
    assert_eq!(create(&daemon, "va"), 200);
    assert_eq!(daemon.call("POST", "/snapshots/create", r#"{"VolumeName":"va","Name":"s1"}"#).body, "s1");
    let taken = daemon.call("POST", "/volumes/create", r#"{"Name":"s1"}"#);
    assert_eq!(taken.body, "Volume name s1 is taken by a snapshot\n");
    assert_eq!(daemon.call("DELETE", "/volumes/", r#"{"VolumeName":"va"}"#).status, 200);
    assert_eq!(create(&daemon, "vb"), 200);
    assert_eq!(daemon.call("POST", "/snapshots/create", r#"{"VolumeName":"vb","Name":"s1"}"#).body, "s1");
    assert_eq!(daemon.call("DELETE", "/snapshots/", r#"{"SnapshotName":"s1"}"#).status, 200);
    // Volume and snapshot names that only differ in where they are cut.
    for (volume, snapshot) in [("aa_bb", "cc"), ("aa", "bb_cc")] {
        assert_eq!(create(&daemon, volume), 200);
        std::fs::write(daemon.volumes().join(volume).join("f"), volume).unwrap();
        let body = format!("{{\"VolumeName\":\"{volume}\",\"Name\":\"{snapshot}\"}}");
        assert_eq!(daemon.call("POST", "/snapshots/create", &body).body, snapshot);
    }
    for snapshot in ["bb_cc", "cc"] {
        let body = format!("{{\"SnapshotName\":\"{snapshot}\"}}");
        assert_eq!(daemon.call("DELETE", "/snapshots/", &body).status, 200, "{snapshot}");
    }
}

#[test]
fn a_damaged_record_hides_nothing() {
    let mut daemon = Daemon::start();
    for name in ["good1", "bad1"] {
        assert_eq!(create(&daemon, name), 200);
    }
    daemon.kill();
    let record = daemon.volumes().join("config/vfs_volume_bad1.json");
    std::fs::write(&record, "").unwrap();
    daemon.launch();
    let listed = daemon.call("GET", "/volumes/list", "").body;
    assert!(
        listed.contains("\"good1\"") && listed.contains("\"bad1\"") && listed.contains("\"Error\""),
        "{listed}"
    );
    let mount = daemon.docker("Mount", r#"{"Name":"bad1","ID":"a"}"#);
    assert!(mount.contains("\"Err\"") && mount.contains("bad1"), "{mount}");
    assert!(daemon.docker("Mount", r#"{"Name":"good1","ID":"a"}"#).contains("Mountpoint"));
    assert_eq!(create(&daemon, "bad1"), 400, "its name is not free");
    assert_eq!(std::fs::read(&record).unwrap(), b"", "what is damaged is left as it is");
}

#[test]
fn what_other_hosts_change_is_seen() {
    let daemon = Daemon::start();
    let mut second = Daemon::bare(&[]);
    second.launch();
    second.stop();
    let shared = format!("vfs.path={}", daemon.volumes().display());
    let mut second = Daemon::bare(&["--driver-opts", &shared]);
    second.launch();
    assert_eq!(create(&daemon, "vol1"), 200);
    assert!(
        second.docker("Get", r#"{"Name":"vol1"}"#).contains("vol1"),
        "a name that is not in memory is asked for"
    );
    assert_eq!(create(&second, "vol1"), 400);
    assert_eq!(daemon.call("DELETE", "/volumes/", r#"{"VolumeName":"vol1"}"#).status, 200);
    let gone = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        !second.docker("List", "").contains("vol1")
    });
    assert!(gone, "what another host deleted is seen after a while");
}
