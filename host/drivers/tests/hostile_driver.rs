//! A driver that answers what is not so. Nothing of it is believed: the call fails, and its error names the
//! driver, the method and the rule that was broken. What a driver does to the connection, to its process and
//! to the host's threads is in `carriers/hostile.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use convoy_driver_sdk::dispatch::Dispatch;
use convoy_driver_sdk::protocol::{
    Check, CreateSnapshot, CreateVolume, FinishRestore, GetVolume, Info, ListBackups, ListExtents,
    ListSnapshots, ListVolumes, MountVolume, Open, OpenSnapshot, PrepareRestore, Probe, SourceKind,
};
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Name};
use convoy_drivers::{DriverHandle, Drivers, LoadError, RequestContext, SearchPath, broken_rule};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What an honest driver says of itself.
fn description() -> Value {
    json!({"name": "hostile", "version": "1", "protocol": "1.2", "capabilities":
        ["snapshots", "read_block", "read_tree", "read_either", "restore_tree", "check", "native_backup", "mount_at"]})
}

fn volume(name: &str, more: Value) -> Value {
    let mut volume = json!({"name": name, "size": 0, "created": "2026-11-23T08:38:07Z"});
    volume.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    volume
}

fn snapshot(name: &str, of: &str) -> Value {
    json!({"name": name, "volume": of, "created": "2026-11-23T08:38:07Z"})
}

fn tree(path: &str) -> Value {
    json!({"handle": "h1", "location": {"kind": "tree", "path": path}})
}

fn block(more: Value) -> Value {
    let mut location = json!({"kind": "block", "device": "/dev/null", "size": 4096, "changed_only": false});
    location.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"handle": "h1", "location": location})
}

fn extents(extents: &[(u64, u64)], next: Option<u64>) -> Value {
    let extents: Vec<_> =
        extents.iter().map(|(offset, length)| json!({"offset": offset, "length": length})).collect();
    json!({"extents": extents, "next": next})
}

/// A lie: what is asked, the answer to it, and the rule that it breaks.
fn lies() -> Vec<(&'static str, Value, &'static str)> {
    let listed = |names: &[&str], more: bool| {
        let volumes: Vec<_> = names.iter().map(|name| volume(name, json!({}))).collect();
        json!({"volumes": volumes, "more": more})
    };
    let long = "x".repeat(70_000);
    vec![
        ("volume.create", json!(["vol1", 0, "2026-11-23T08:38:07Z", null, {}, [], "good"]), "R46"),
        ("volume.create", json!("done"), "R46"),
        ("volume.create", json!({}), "R46"),
        ("volume.create", volume("vol2", json!({})), "R46"),
        ("volume.create", volume("../vol1", json!({})), "R46"),
        ("volume.create", volume("vol1", json!({"size": u64::MAX})), "R46"),
        ("volume.create", volume("vol1", json!({"size": -1})), "R46"),
        ("volume.create", volume("vol1", json!({"info": {"key": long}})), "R46"),
        ("volume.create", volume("vol1", json!({"info": {long.clone(): "value"}})), "R46"),
        // In a member of a later version.
        ("volume.create", volume("vol1", json!({"of_a_later_version": [{"text": long}]})), "R46"),
        ("volume.create", volume("vol1", json!({"mountpoint": "vol1"})), "R14"),
        ("volume.get", volume("vol2", json!({})), "R46"),
        ("volume.get", volume("vol1", json!({"health": {"damaged": long}})), "R46"),
        ("volume.get", volume("vol1", json!({"snapshots": [snapshot("s1", "vol2")]})), "R46"),
        (
            "volume.get",
            volume("vol1", json!({"snapshots": [snapshot("s1", "vol1"), snapshot("s1", "vol1")]})),
            "R21",
        ),
        ("volume.mount", json!({"mountpoint": "srv/vol1"}), "R14"),
        ("volume.mount", json!({"mountpoint": "/srv/../etc"}), "R14"),
        ("volume.mount", json!({"mountpoint": format!("/{long}")}), "R14"),
        ("volume.mount", json!({"mountpoint": "/nowhere/at/all"}), "R14"),
        ("volume.mount", json!({"mountpoint": "/proc/self/status"}), "R14"),
        ("volume.mount at", json!({"mountpoint": "/usr"}), "R14"),
        ("volume.list", listed(&["vol1", "vol2", "vol3"], false), "R16"),
        ("volume.list", listed(&["vol2", "vol1"], false), "R16"),
        ("volume.list", listed(&["vol1", "vol1"], false), "R16"),
        ("volume.list", listed(&["aa"], false), "R16"),
        ("volume.list", listed(&[], true), "R16"),
        ("volume.list", json!({"volumes": [], "unchanged": true}), "R17"),
        ("volume.list", json!({"volumes": [], "warnings": vec!["odd"; 10_001]}), "R46"),
        ("snapshot.create", snapshot("s2", "vol1"), "R46"),
        ("snapshot.create", snapshot("s1", "vol2"), "R46"),
        ("snapshot.list", json!({"snapshots": [snapshot("s1", "vol2")]}), "R46"),
        ("snapshot.open", tree("srv/tree"), "R23"),
        ("snapshot.open", json!({"handle": "", "location": {"kind": "tree", "path": "/srv"}}), "R46"),
        ("snapshot.open", block(json!({"changed_only": true})), "R26"),
        ("snapshot.open", block(json!({"size": u64::MAX})), "R46"),
        ("snapshot.open block", tree("/srv"), "R45"),
        ("snapshot.extents", extents(&[(8192, 4096), (4096, 4096)], None), "R24"),
        ("snapshot.extents", extents(&[(4096, 8192), (8192, 4096)], None), "R24"),
        ("snapshot.extents", extents(&[(0, 4096)], None), "R24"),
        ("snapshot.extents", extents(&[(4096, 0)], None), "R24"),
        ("snapshot.extents", extents(&[(4096, u64::MAX)], None), "R24"),
        ("snapshot.extents", extents(&[], Some(4096)), "R24"),
        ("snapshot.extents", extents(&[(4096, 1), (4098, 1), (4100, 1)], None), "R24"),
        ("restore.prepare", block(json!({})), "R27"),
        ("restore.prepare", tree("target"), "R27"),
        ("restore.finish", volume("vol2", json!({})), "R46"),
        (
            "backup.list",
            json!({"backups": [{"url": "hostile://x", "volume": "vol2", "snapshot": "s1",
            "created": "2026-11-23T08:38:07Z"}]}),
            "R43",
        ),
        (
            "driver.check",
            json!({"findings": [{"severity": "error", "subject": "", "message": "odd"}]}),
            "R42",
        ),
        ("driver.info", json!({"info": ["Path", "/srv"]}), "R46"),
        ("driver.info", json!({"info": {"Path": 7}}), "R46"),
        ("driver.probe", json!({"healthy": "yes"}), "R46"),
    ]
}

fn name(text: &'static str) -> Name {
    Name::from_static(text)
}

fn options() -> RequestContext {
    RequestContext::new("hostile").within(Duration::from_secs(60))
}

/// Makes the call of a lie.
async fn ask(driver: &DriverHandle, what: &str) -> Result<(), DriverError> {
    let (vol1, s1) = (name("vol1"), name("s1"));
    let options = options();
    let open = |kind| OpenSnapshot::new(name("vol1"), name("s1")).kind(kind);
    let prepare = || PrepareRestore::new(name("vol1"), SourceKind::Tree);
    match what {
        "volume.create" => driver.call(CreateVolume::new(vol1), options).await.map(drop),
        "volume.get" => driver.call(GetVolume::new(vol1), options).await.map(drop),
        "volume.mount" => driver.call(MountVolume::new(vol1), options).await.map(drop),
        "volume.mount at" => {
            driver.call(MountVolume::new(vol1).mountpoint(Some("/etc".into())), options).await.map(drop)
        }
        "volume.list" => {
            let request = ListVolumes::new().after(Some(name("ab"))).limit(Some(2));
            driver.call(request, options).await.map(drop)
        }
        "snapshot.create" => {
            let request = CreateSnapshot::new(vol1, s1);
            driver.call(request, options).await.map(drop)
        }
        "snapshot.list" => driver.call(ListSnapshots::new(vol1), options).await.map(drop),
        "snapshot.open" => driver.call(open(None), options).await.map(drop),
        "snapshot.open block" => driver.call(open(Some(SourceKind::Block)), options).await.map(drop),
        "snapshot.extents" => {
            let request = ListExtents::new("h1".to_owned()).from(4096).limit(Some(2));
            driver.call(request, options).await.map(drop)
        }
        "restore.prepare" => driver.call(prepare(), options).await.map(drop),
        "restore.finish" => {
            let prepared = driver.call(prepare(), self::options()).await.unwrap();
            driver.call(FinishRestore::new(prepared.handle), options).await.map(drop)
        }
        "backup.list" => {
            let request = ListBackups::new().volume(Some(vol1));
            driver.call(request, options).await.map(drop)
        }
        "driver.check" => driver.call(Check::new(), options).await.map(drop),
        "driver.info" => driver.call(Info::new(), options).await.map(drop),
        "driver.probe" => driver.call(Probe::new(), options).await.map(drop),
        other => panic!("{other}"),
    }
}

/// A driver in this program that gives these answers.
struct Answers(Value);

impl Dispatch for Answers {
    fn dispatch(&self, method: &str, _: &[u8], _: &Context) -> Result<Vec<u8>, DriverError> {
        Ok(self.0[method].to_string().into_bytes())
    }
}

/// All that a driver is asked before and beside the lie, and the lie.
fn answers(what: &str, lie: &Value) -> Value {
    let mut answers =
        json!({"driver.describe": description(), "driver.open": {}, "restore.prepare": tree("/srv")});
    let method = what.split(' ').next().unwrap();
    answers[method] = lie.clone();
    answers
}

fn builtin(answers: Value) -> Drivers {
    Drivers::new(SearchPath::only(&[]))
        .builtin(name("hostile"), move || Arc::new(Answers(answers.clone())) as Arc<dyn Dispatch>)
}

async fn open(drivers: Drivers, spec: &str) -> DriverHandle {
    let driver = drivers.load(&spec.parse().unwrap()).await.unwrap();
    driver.open(Open::new("/nowhere".into()), options()).await.unwrap();
    driver
}

/// The lie was found out.
fn refused(what: &str, lie: &Value, rule: &str, result: Result<(), DriverError>) {
    let lie: String = lie.to_string().chars().take(200).collect();
    let error = result.expect_err(&format!("{what}: {lie} was believed"));
    assert_eq!(error.kind, ErrorKind::Internal, "{what}: {lie}: {error}");
    assert_eq!(broken_rule(&error), Some(rule), "{what}: {lie}: {error}");
    assert!(error.message.starts_with("driver hostile broke the driver protocol"), "{error}");
    assert!(error.message.contains(what.split(' ').next().unwrap()) && error.message.len() < 1000, "{error}");
    assert!(error.hint.unwrap().contains("report it to its author"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lie_of_a_driver_in_this_program_is_believed() {
    for (what, lie, rule) in lies() {
        let driver = open(builtin(answers(what, &lie)), "builtin:hostile").await;
        refused(what, &lie, rule, ask(&driver, what).await);
    }
}

/// A program that gives the answers in a file: `{"result": ...}` or `{"error": ...}` by method.
const PROGRAM: &str = r#"#!/usr/bin/env python3
import json, os, socket
answers = json.load(open(os.path.join(os.path.dirname(os.path.realpath(__file__)), "answers.json")))
answers["hello"] = {"result": {"protocol": "convoy-driver", "version": "1.2", "features": []}}
connection = socket.socket(fileno=int(os.environ["CONVOY_DRIVER_FD"]))
for line in connection.makefile("rb"):
    message = json.loads(line)
    if "id" in message:
        answer = {"jsonrpc": "2.0", "id": message["id"], **answers[message["method"]]}
        connection.sendall(json.dumps(answer).encode() * 1 + b"\n")
        if message["method"] == "volume.delete":
            connection.sendall(json.dumps(answer).encode() + b"\n")
os._exit(0)
"#;

/// Writes the program and what it is to answer.
fn program(dir: &Path, answers: &Value) -> String {
    let file = dir.join("convoy-driver-hostile");
    std::fs::write(&file, PROGRAM).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(dir.join("answers.json"), answers.to_string()).unwrap();
    format!("process:{}", file.display())
}

fn results(answers: &Value) -> Value {
    let results = answers.as_object().unwrap().iter();
    results.map(|(method, answer)| (method.clone(), json!({"result": answer}))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lie_of_a_process_is_believed() {
    // One of each rule is enough: it is the same check.
    let mut rules = std::collections::BTreeSet::new();
    for (what, lie, rule) in lies().into_iter().filter(|(_, _, rule)| rules.insert(*rule)) {
        let dir = tempfile::tempdir().unwrap();
        let spec = program(dir.path(), &results(&answers(what, &lie)));
        let driver = open(Drivers::new(SearchPath::only(&[])), &spec).await;
        refused(what, &lie, rule, ask(&driver, what).await);
        assert_eq!(driver.status().restarts, 0, "an answer that is not so breaks no connection");
    }
}

#[tokio::test]
async fn a_description_that_cannot_be_is_refused_at_load() {
    for (key, lie) in [
        ("name", json!("../x")),
        ("capabilities", json!("all")),
        ("version", json!("1".repeat(2000))),
        ("create_options", json!([{"name": "", "help": "none"}])),
    ] {
        let mut described = description();
        described[key] = lie;
        let error =
            builtin(json!({"driver.describe": described})).load(&"builtin:hostile".parse().unwrap()).await;
        let error = error.unwrap_err();
        assert!(matches!(&error, LoadError::Describe { .. }), "{key}: {error}");
        assert!(error.to_string().contains("broke the driver protocol (R"), "{key}: {error}");
    }
}

#[tokio::test]
async fn what_mounts_elsewhere_is_not_looked_for_here() {
    let driver = builtin(answers("volume.mount", &json!({"mountpoint": "/nowhere/at/all"})));
    let driver = driver.load(&"builtin:hostile".parse().unwrap()).await.unwrap();
    let open = Open::new("/".into()).mount_namespace(Some("/proc/1/ns/mnt".into()));
    driver.open(open, options()).await.unwrap();
    ask(&driver, "volume.mount").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_kind_of_error_is_told_and_kept_short() {
    let dir = tempfile::tempdir().unwrap();
    let mut answers = results(&answers("driver.info", &json!({})));
    let data = json!({"kind": "gone_fishing", "message": "x".repeat(1 << 20), "retryable": true});
    answers["volume.create"] = json!({"error": {"code": -32000, "message": "m", "data": data}});
    answers["volume.get"] =
        json!({"error": {"code": -32000, "message": "m", "data": {"kind": "busy", "message": " "}}});
    let driver = open(Drivers::new(SearchPath::only(&[])), &program(dir.path(), &answers)).await;
    let error = ask(&driver, "volume.create").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert!(
        error.message.len() < 100_000 && error.hint.as_ref().unwrap().contains("gone_fishing"),
        "{:?}",
        error.hint
    );
    let error = ask(&driver, "volume.get").await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Busy, "the driver does not say why"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_answers_twice_is_named() {
    use convoy_driver_sdk::protocol::DeleteVolume;
    let dir = tempfile::tempdir().unwrap();
    let answers = results(&answers("volume.delete", &json!({})));
    let driver = open(Drivers::new(SearchPath::only(&[])), &program(dir.path(), &answers)).await;
    driver.call(DeleteVolume::new(name("vol1")), options()).await.unwrap();
    let told = loop {
        match driver.status().last_error {
            Some(told) => break told,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert!(told.contains("broke the protocol (R47): it answered request"), "{told}");
}
