//! Mounts, counted by Docker's ids, over restarts.

use crate::harness::Daemon;

fn mounted(daemon: &Daemon, name: &str) -> bool {
    daemon.docker("Path", &format!("{{\"Name\":\"{name}\"}}")).contains("Mountpoint")
}

fn mount(daemon: &Daemon, name: &str, id: &str) {
    let answer = daemon.docker("Mount", &format!("{{\"Name\":\"{name}\",\"ID\":\"{id}\"}}"));
    assert!(answer.contains("Mountpoint"), "{answer}");
}

fn unmount(daemon: &Daemon, name: &str, id: &str) {
    assert_eq!(daemon.docker("Unmount", &format!("{{\"Name\":\"{name}\",\"ID\":\"{id}\"}}")), "{}");
}

#[test]
fn two_containers_and_a_copy_over_a_kill_and_a_stop() {
    let mut daemon = Daemon::start();
    daemon.docker("Create", r#"{"Name":"vol1"}"#);
    mount(&daemon, "vol1", "first");
    mount(&daemon, "vol1", "second");
    // `docker cp` into the running first one.
    mount(&daemon, "vol1", "first");
    unmount(&daemon, "vol1", "first");
    daemon.kill();
    daemon.launch();
    unmount(&daemon, "vol1", "first");
    assert!(mounted(&daemon, "vol1"), "the second container still uses it");
    assert!(daemon.stop().success());
    daemon.launch();
    assert!(mounted(&daemon, "vol1"));
    let refused = daemon.docker("Remove", r#"{"Name":"vol1"}"#);
    assert_eq!(refused, "{\n\t\"Err\": \"Cannot delete volume vol1. It is still mounted\"\n}");
    unmount(&daemon, "vol1", "second");
    unmount(&daemon, "vol1", "second");
    assert!(!mounted(&daemon, "vol1"));
    assert_eq!(daemon.docker("Remove", r#"{"Name":"vol1"}"#), "{}");
    assert!(daemon.volumes().join("vol1").exists(), "Docker's Remove keeps the data");
}

#[test]
fn what_docker_uses_is_taken_back_by_hand_only_by_force() {
    let daemon = Daemon::start();
    daemon.docker("Create", r#"{"Name":"vol1"}"#);
    mount(&daemon, "vol1", "container");
    let refused = daemon.call("POST", "/v1/volumes/umount", r#"{"VolumeName":"vol1"}"#);
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (400, "volume vol1 is used by 1 container(s): container\n")
    );
    // A mount by hand beside it comes and goes.
    assert_eq!(daemon.call("POST", "/v1/volumes/mount", r#"{"VolumeName":"vol1"}"#).status, 200);
    assert_eq!(daemon.call("POST", "/v1/volumes/umount", r#"{"VolumeName":"vol1"}"#).status, 200);
    assert!(mounted(&daemon, "vol1"));
    let forced = daemon.call("POST", "/v1/volumes/umount", r#"{"VolumeName":"vol1","Force":true}"#);
    assert_eq!(forced.status, 200);
    assert!(!mounted(&daemon, "vol1"));
}

#[test]
fn a_ledger_of_another_boot_is_dropped() {
    let mut daemon = Daemon::start();
    daemon.docker("Create", r#"{"Name":"vol1"}"#);
    mount(&daemon, "vol1", "container");
    daemon.kill();
    let file = daemon.root().join("mounts/vol1.json");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(boot.trim(), "the-boot-before")).unwrap();
    daemon.launch();
    assert!(!mounted(&daemon, "vol1"));
    assert!(!file.exists());
}

#[test]
fn docker_options_of_the_daemon() {
    let daemon = Daemon::with(&["--create-on-docker-mount", "--ignore-docker-delete"]);
    mount(&daemon, "auto1", "container");
    unmount(&daemon, "auto1", "container");
    assert_eq!(daemon.docker("Remove", r#"{"Name":"auto1"}"#), "{}");
    assert!(daemon.docker("Get", r#"{"Name":"auto1"}"#).contains("auto1"));
    let refused = daemon.docker("Mount", r#"{"Name":"../x"}"#);
    assert!(refused.contains("Invalid volume name ../x."), "{refused}");
}

#[test]
fn an_engine_that_speaks_the_plugin_protocol_is_told_more() {
    let daemon = Daemon::start();
    daemon.docker("Create", r#"{"Name":"vol1"}"#);
    let headers = [("Accept", "application/vnd.docker.plugins.v1.2+json")];
    let answer = daemon.try_call("POST", "/VolumeDriver.Get", r#"{"Name":"vol1"}"#, &headers).unwrap();
    for part in ["\"CreatedAt\": \"2", "\"Status\": {", "\"Driver\": \"vfs\""] {
        assert!(answer.body.contains(part), "{part} in {}", answer.body);
    }
}
