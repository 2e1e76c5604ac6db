//! Starts and stops: one daemon a root and a socket, saved settings, what convoy 0.5 left.

use crate::harness::{Daemon, names};
use std::path::Path;

fn error_of(output: &std::process::Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_daemon_without_options_runs_with_vfs_under_its_root() {
    let mut daemon = Daemon::bare(&[]);
    daemon.launch();
    assert_eq!(daemon.call("POST", "/volumes/create", r#"{"Name":"vol1"}"#).body, "vol1");
    let info = daemon.call("GET", "/info", "").body;
    let root = daemon.root().display().to_string();
    assert!(info.contains(&format!("\"Path\": \"{root}/vfs/volumes\"")), "{info}");
    assert!(daemon.root().join("vfs/volumes/vol1").is_dir());
    let saved = std::fs::read_to_string(daemon.root().join("convoy.cfg")).unwrap();
    assert_eq!(
        saved,
        format!(
            "{{\"Root\":\"{root}\",\"DriverList\":[\"vfs\"],\"DefaultDriver\":\"vfs\",\"MountNamespaceFD\":\"\",\
             \"IgnoreDockerDelete\":false,\"CreateOnDockerMount\":false,\"CmdTimeout\":\"\"}}\n"
        )
    );
}

#[test]
fn a_second_daemon_is_refused_and_a_stale_socket_taken() {
    let mut first = Daemon::start();
    first.call("POST", "/volumes/create", r#"{"Name":"onfirst"}"#);
    let same_root = error_of(&first.refused());
    assert!(same_root.contains("Failed to lock the file at "), "{same_root}");
    // Another root, the same socket.
    let other = Daemon::prepare(&[]);
    let output = first.command().arg("daemon").arg("--root").arg(other.root()).output().unwrap();
    let same_socket = error_of(&output);
    assert!(same_socket.contains("another convoy daemon is listening at"), "{same_socket}");
    assert!(first.docker("List", "{}").contains("onfirst"));

    first.kill();
    assert!(first.socket().exists(), "a killed daemon leaves its socket");
    first.launch();
    assert!(first.docker("List", "{}").contains("onfirst"));
    assert!(first.stop().success());
    assert!(!first.socket().exists(), "a stopped one does not");
}

#[test]
fn saved_settings_are_not_overridden_in_silence() {
    let mut daemon = Daemon::start();
    daemon.stop();
    let mut other = Daemon::with(&[]);
    other.stop();
    // The same root with a flag that differs.
    let mut command = other.command();
    command.args(["daemon", "--create-on-docker-mount", "--root"]).arg(other.root());
    let refused = error_of(&command.output().unwrap());
    for part in [
        "--create-on-docker-mount",
        "saved is \\\"false\\\"",
        "given is \\\"true\\\"",
        "--ignore-config-file",
    ] {
        assert!(refused.contains(part), "{part} in {refused}");
    }
}

#[test]
fn bad_arguments_are_refused_with_what_to_do() {
    for (arguments, expected) in [
        (&["--drivers", "nosuch"][..], "nosuch"),
        (&["--drivers", "vfs", "--driver-opts", "vfs.pth=/x"], "known are vfs.path"),
        (&["--driver-opts", "vfs.path"], "KEY=VALUE"),
        (&["--driver-opts", "vfs.path=relative"], "absolute"),
        (&["--cmd-timeout", "5s"], "at least 1m"),
        (&["--mnt-ns", "/nonexistent"], "/proc/1/ns/mnt"),
        (&["--log", "/nonexistent/dir/log"], "cannot open the log file"),
    ] {
        let daemon = Daemon::bare(arguments);
        let output = daemon.refused();
        let all = format!("{}{}", error_of(&output), String::from_utf8_lossy(&output.stderr));
        assert!(all.contains(expected), "{arguments:?}: {expected} in {all}");
        assert!(
            !daemon.root().join("convoy.cfg").exists(),
            "{arguments:?}: nothing is saved by a start that failed"
        );
        assert!(!daemon.socket().exists());
    }
}

#[test]
fn a_driver_that_is_gone_costs_only_its_own_volumes() {
    let mut daemon = Daemon::start();
    daemon.stop();
    let file = daemon.root().join("convoy.cfg");
    let saved = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, saved.replace("[\"vfs\"]", "[\"vfs\",\"gone\"]")).unwrap();
    std::fs::create_dir(daemon.root().join("gone")).unwrap();
    std::fs::write(daemon.root().join("gone/gone_volume_lost.json"), "{}").unwrap();
    daemon.launch();
    assert_eq!(daemon.docker("Create", r#"{"Name":"vol1"}"#), "{}");
    let info = daemon.call("GET", "/info", "").body;
    assert!(info.contains("\"gone\": {\n\t\"Error\": \"driver gone did not start: "), "{info}");
    // Docker is not told that its volume is gone, and makes no empty one in its place.
    assert_eq!(daemon.docker("Create", r#"{"Name":"lost"}"#), "{}");
    let refused = daemon.docker("Mount", r#"{"Name":"lost","ID":"a"}"#);
    assert!(refused.contains("driver gone did not start"), "{refused}");
    assert!(!daemon.volumes().join("lost").exists());
    let drivers = daemon.call("GET", "/drivers", "").body;
    assert!(drivers.contains("\"Healthy\": false") && drivers.contains("\"Healthy\": true"), "{drivers}");
}

#[test]
fn a_driver_that_was_started_again_is_ready_and_says_why() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("convoy-driver-folder");
    std::fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python/convoy-driver-folder"),
        &file,
    )
    .unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    let path = dir.path().display().to_string();
    let mut daemon = Daemon::bare(&["--driver-path", &path, "--drivers", "folder"]);
    daemon.launch();
    let told = || {
        let text = daemon.call("GET", "/drivers", "").body;
        let drivers: serde_json::Value = serde_json::from_str(&text).unwrap();
        drivers["folder"].clone()
    };
    let first = told();
    assert_eq!((&first["Healthy"], &first["Message"]), (&true.into(), &serde_json::Value::Null), "{first}");
    let pid = i32::try_from(first["PID"].as_i64().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let again = loop {
        let again = told();
        if again["Healthy"] == true && again["PID"] != first["PID"] {
            break again;
        }
        assert!(std::time::Instant::now() < end, "{again}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let message = again["Message"].as_str().unwrap();
    assert!(message.starts_with("started again (restart 1) after it ended: "), "{message}");
}

#[test]
fn events_are_told_as_they_happen() {
    use std::io::{BufRead, BufReader, Write};
    let daemon = Daemon::start();
    let mut stream = std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "Content-Type: application/x-ndjson"));
    assert!(lines.any(|line| line.is_empty()));
    daemon.docker("Create", r#"{"Name":"vol1"}"#);
    let event = lines.find(|line| line.starts_with('{')).unwrap();
    for part in ["\"Kind\":\"volume.create\"", "\"Driver\":\"vfs\"", "\"Volume\":\"vol1\"", "\"Time\":\"2"] {
        assert!(event.contains(part), "{part} in {event}");
    }
}

#[test]
fn the_socket_is_for_root_alone() {
    use std::os::unix::fs::PermissionsExt;
    let daemon = Daemon::start();
    let mode = std::fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// A state directory that convoy 0.5.2 wrote, volumes and snapshots in it; only its paths are made this
/// test's.
#[test]
fn what_0_5_left_is_there_after_the_first_start() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vfs");
    let mut daemon = Daemon::bare(&[]);
    let root = daemon.root();
    copy(&fixture.join("root"), &root);
    copy(&fixture.join("config"), &daemon.volumes().join("config"));
    for volume in ["ab", "db", "web"] {
        std::fs::create_dir(daemon.volumes().join(volume)).unwrap();
    }
    let volumes = daemon.volumes();
    let rewrite = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.replace("/var/lib/rancher/convoy", &root.display().to_string());
        std::fs::write(path, text.replace("/srv/volumes", &volumes.display().to_string())).unwrap();
    };
    rewrite(&root.join("convoy.cfg"));
    rewrite(&root.join("vfs/vfs.cfg"));
    for record in names(&volumes.join("config")) {
        rewrite(&volumes.join("config").join(record));
    }
    daemon.launch();
    let expected = std::fs::read_to_string(fixture.join("list.json")).unwrap();
    let expected = expected.replace("/var/lib/rancher/convoy", &root.display().to_string());
    let expected = expected.replace("/srv/volumes", &volumes.display().to_string());
    let listed = daemon.call("GET", "/v1/volumes/list", "").body;
    assert_eq!(listed.trim(), expected.trim());
    assert!(daemon.call("GET", "/v1/snapshots/", r#"{"SnapshotName":"first"}"#).body.contains("\"web\""));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
