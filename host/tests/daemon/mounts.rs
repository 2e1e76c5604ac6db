//! Mounts, counted by Docker's ids, over restarts.

use crate::harness::Daemon;
use std::os::unix::fs::DirBuilderExt as _;

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
        (400, "volume vol1 is mounted for 1 container(s), by Docker's mount ids container\n")
    );
    assert!(refused.headers.contains("`docker ps --all --filter volume=vol1`"), "{}", refused.headers);
    // A mount by hand beside it comes and goes.
    assert_eq!(daemon.call("POST", "/v1/volumes/mount", r#"{"VolumeName":"vol1"}"#).status, 200);
    assert_eq!(daemon.call("POST", "/v1/volumes/umount", r#"{"VolumeName":"vol1"}"#).status, 200);
    assert!(mounted(&daemon, "vol1"));
    let forced = daemon.call("POST", "/v1/volumes/umount", r#"{"VolumeName":"vol1","Force":true}"#);
    assert_eq!(forced.status, 200);
    assert!(!mounted(&daemon, "vol1"));
}

#[test]
fn podman_is_told_of_errors_where_it_looks_for_them() {
    let daemon = Daemon::start();
    let ask = |call: &str, kind: &str| {
        let path = format!("/VolumeDriver.{call}");
        daemon.try_call("POST", &path, r#"{"Name":"none","ID":"a"}"#, &[("Content-Type", kind)]).unwrap()
    };
    for call in ["Mount", "Path", "Get"] {
        let (podman, other) =
            (ask(call, "application/vnd.docker.plugins.v1.1+json"), ask(call, "text/plain"));
        assert_eq!((podman.status, other.status), (500, 200), "{call}");
        assert!(podman.body.contains("Err") && podman.body == other.body, "{podman:?}");
    }
    assert_eq!(ask("Create", "application/vnd.docker.plugins.v1.1+json").status, 200);
}

#[test]
fn a_ledger_of_another_boot_is_dropped() {
    let mut daemon = Daemon::start();
    daemon.docker("Create", r#"{"Name":"vol1"}"#);
    mount(&daemon, "vol1", "container");
    daemon.kill();
    let file = daemon.ledger().join("vol1.json");
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

/// A volume of convoy 0.5, as it left it when it was stopped while a container used the volume. Its mount is
/// the directory.
fn left_by_0_5(daemon: &Daemon) {
    let (volumes, config) = (daemon.volumes(), daemon.volumes().join("config"));
    for dir in [&volumes, &config, &volumes.join("data")] {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).unwrap();
    }
    std::fs::write(volumes.join("data/file"), "precious").unwrap();
    let at = volumes.join("data").display().to_string();
    let record = format!(
        "{{\"Name\":\"data\",\"Size\":0,\"Path\":\"{at}\",\"MountPoint\":\"{at}\",\"PrepareForVM\":false,\
         \"CreatedTime\":\"Mon Nov 23 09:48:38 +0000 2026\",\"Snapshots\":{{}}}}"
    );
    std::fs::write(config.join("vfs_volume_data.json"), record).unwrap();
}

fn is_in_use(daemon: &Daemon) {
    let at = daemon.volumes().join("data").display().to_string();
    let inspected = daemon.call("GET", "/v1/volumes/", r#"{"VolumeName":"data"}"#).body;
    assert!(inspected.contains(&format!("\"MountPoint\": \"{at}\"")), "{inspected}");
    assert!(daemon.docker("Path", r#"{"Name":"data"}"#).contains(&at));
    let refused = daemon.call("DELETE", "/v1/volumes/", r#"{"VolumeName":"data"}"#);
    assert!(refused.status != 200 && refused.body.contains("still mounted"), "{refused:?}");
    assert!(daemon.docker("Remove", r#"{"Name":"data"}"#).contains("still mounted"));
    assert_eq!(std::fs::read_to_string(daemon.volumes().join("data/file")).unwrap(), "precious");
}

#[test]
fn what_0_5_had_mounted_is_in_use() {
    let mut daemon = Daemon::prepare(&[]);
    left_by_0_5(&daemon);
    daemon.launch();
    is_in_use(&daemon);
    // Another life, and another boot, which drops the ledger.
    daemon.kill();
    daemon.launch();
    is_in_use(&daemon);
    daemon.kill();
    for file in std::fs::read_dir(daemon.ledger()).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "json") {
            std::fs::remove_file(file).unwrap();
        }
    }
    daemon.launch();
    is_in_use(&daemon);
    // The container stops: Docker gives an id that was never heard of. That is so for good.
    unmount(&daemon, "data", "of a container of 0.5");
    assert!(!mounted(&daemon, "data"));
    daemon.kill();
    daemon.launch();
    assert!(!mounted(&daemon, "data"));
    // Back to 0.5, which mounts it, and here again.
    daemon.kill();
    left_by_0_5(&daemon);
    daemon.launch();
    is_in_use(&daemon);
    assert_eq!(daemon.call("POST", "/v1/volumes/umount", r#"{"VolumeName":"data"}"#).status, 200);
    assert_eq!(daemon.call("DELETE", "/v1/volumes/", r#"{"VolumeName":"data"}"#).status, 200);
    assert!(!daemon.volumes().join("data").exists());
}
