//! Data that Docker's Remove and `delete --reference` keep: seen, brought back, and deleted by nobody but
//! operators.

use crate::harness::Daemon;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

const SIZE: usize = 3 << 20;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn kept(daemon: &Daemon) -> Vec<Value> {
    json(&daemon.cli(&["list", "--kept"]))["Kept"].as_array().unwrap().clone()
}

/// The remarks of the doctor on what is kept.
fn remarks(diagnosis: &Value) -> Vec<Value> {
    let of = |one: &&Value| one["Subject"].as_str().unwrap().starts_with("kept volume ");
    diagnosis["Findings"].as_array().unwrap().iter().filter(of).cloned().collect()
}

fn fill(dir: &Path) {
    let mut bytes = vec![0; SIZE];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::try_from(at * at / 7 % 251).unwrap();
    }
    std::fs::write(dir.join("file"), bytes).unwrap();
    std::fs::File::open(dir.join("file")).unwrap().sync_all().unwrap();
}

/// A call at any socket: status line, headers and body together.
fn ask(socket: &Path, call: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    // In one piece: who is refused for the head is not listened to any further.
    let request =
        format!("{call} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A volume with a file and a snapshot, which Docker has removed.
fn removed_by_docker(daemon: &Daemon, name: &str) {
    daemon.docker("Create", &format!(r#"{{"Name":"{name}"}}"#));
    fill(&daemon.volumes().join(name));
    let snapshot = format!(r#"{{"VolumeName":"{name}","Name":"snap-{name}"}}"#);
    assert_eq!(daemon.call("POST", "/snapshots/create", &snapshot).status, 200);
    assert_eq!(daemon.docker("Remove", &format!(r#"{{"Name":"{name}"}}"#)), "{}");
    assert_eq!(daemon.call("GET", "/v1/volumes/list", "").body.trim(), "{}");
}

#[test]
fn what_docker_removed_is_listed_told_brought_back_and_deleted() {
    let mut daemon = Daemon::start();
    let data = daemon.volumes().join("web");
    assert_eq!(kept(&daemon), Vec::<Value>::new());
    removed_by_docker(&daemon, "web");

    let listed = kept(&daemon);
    let [web] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((&web["Name"], &web["Driver"], &web["Snapshots"]), (&"web".into(), &"vfs".into(), &1.into()));
    assert_eq!(web["Path"], data.display().to_string());
    assert!(web["Size"].as_u64().unwrap() >= SIZE as u64 && web.get("AtLeast").is_none(), "{web}");
    assert!(web["Since"].as_str().unwrap().contains(" +0000 "), "{web}");
    let table = text(&daemon.cli(&["list", "--kept", "--output", "table"]));
    assert!(
        table.starts_with("NAME   DRIVER   SIZE") && table.contains("`convoy delete --kept NAME`"),
        "{table}"
    );

    let told = remarks(&json(&daemon.cli(&["doctor"])));
    let [remark] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&remark["Severity"], &remark["Subject"]), (&"info".into(), &"kept volume web".into()));
    let message = remark["Message"].as_str().unwrap();
    assert!(message.contains(&format!("{} bytes are kept since 2", web["Size"])), "{message}");
    assert!(remark["Hint"].as_str().unwrap().contains("`convoy delete --kept web` deletes it"), "{remark}");

    // As it always was in a pipe; the hint is beside it.
    let refused = daemon.cli(&["delete", "web"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("Volume not found."), "{refused:?}");
    let hint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        hint.contains("driver vfs keeps its data") && hint.contains("convoy delete --kept web"),
        "{hint}"
    );
    assert!(data.join("file").exists());

    // Brought back, it is a volume, and no longer kept.
    assert!(daemon.cli(&["create", "web", "--driver", "vfs"]).status.success());
    assert_eq!(std::fs::metadata(data.join("file")).unwrap().len(), SIZE as u64);
    assert_eq!(kept(&daemon), Vec::<Value>::new());
    let refused = daemon.cli(&["delete", "--kept", "web"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("nothing is kept of a volume web: it is a volume"), "{refused:?}");
    assert!(data.join("file").exists(), "a volume was deleted as kept data");

    // Deleted, it is gone for good, over a kill too.
    assert!(daemon.cli(&["delete", "--reference", "web"]).status.success());
    let deleted = daemon.cli(&["delete", "--kept", "web"]);
    assert!(deleted.status.success(), "{deleted:?}");
    daemon.kill();
    daemon.launch();
    assert!(!data.exists());
    assert_eq!(kept(&daemon), Vec::<Value>::new());
    assert_eq!(remarks(&json(&daemon.cli(&["doctor"]))), Vec::<Value>::new());
    let refused = daemon.cli(&["delete", "--kept", "web", "--driver", "vfs"]);
    let said = text(&refused);
    assert!(said.contains("nothing is kept of a volume web") && !said.contains("it is a volume"), "{said}");
    let events = std::fs::read_to_string(daemon.log()).unwrap();
    assert!(events.contains("kept.delete"));
}

#[test]
fn an_unknown_driver_keeps_nothing() {
    let daemon = Daemon::start();
    removed_by_docker(&daemon, "web");
    let refused = daemon.cli(&["delete", "--kept", "web", "--driver", "vsf"]);
    assert!(text(&refused).contains("Cannot find driver vsf"), "{refused:?}");
    assert_eq!(daemon.cli(&["delete", "--kept", "--reference", "web"]).status.code(), Some(1));
    assert_eq!(daemon.cli(&["delete", "--driver", "vfs", "web"]).status.code(), Some(1));
    assert_eq!(kept(&daemon).len(), 1);
}

#[test]
fn no_call_on_dockers_socket_deletes_what_is_kept() {
    let mut daemon = Daemon::prepare(&[]);
    let docker = daemon.dir.path().join("docker.sock");
    daemon.add_arguments(&["--docker-socket", docker.to_str().unwrap()]);
    daemon.launch();
    removed_by_docker(&daemon, "web");
    let asked = |call: &str, body: &str| ask(&docker, call, body);
    for call in ["DELETE /v1/volumes/kept", "DELETE /volumes/kept", "GET /volumes/kept"] {
        let answer = asked(call, r#"{"VolumeName":"web"}"#);
        assert!(answer.starts_with("HTTP/1.1 404"), "{call}: {answer}");
    }
    // Nor does a second Remove, or one of a volume that came back: it keeps again.
    let _ = asked("POST /VolumeDriver.Remove", r#"{"Name":"web"}"#);
    asked("POST /VolumeDriver.Create", r#"{"Name":"web"}"#);
    asked("POST /VolumeDriver.Remove", r#"{"Name":"web"}"#);
    assert_eq!(kept(&daemon).len(), 1);
    assert!(daemon.volumes().join("web/file").exists());
}

#[test]
fn without_a_daemon_the_doctor_tells_what_is_kept() {
    let mut daemon = Daemon::start();
    removed_by_docker(&daemon, "web");
    daemon.stop();
    let root = daemon.root();
    let told = remarks(&json(&daemon.cli(&["doctor", "--root", root.to_str().unwrap()])));
    let [remark] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&remark["Area"], &remark["Subject"]), (&"driver vfs".into(), &"kept volume web".into()));
    assert!(remark["Hint"].as_str().unwrap().contains("`convoy list --kept`"), "{remark}");
}
