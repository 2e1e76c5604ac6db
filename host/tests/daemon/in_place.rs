//! Whole volumes in place: from every source, refused while they are used, with containers that an engine stops
//! and starts, and after a kill.

use crate::harness::{Daemon, names, write_secret};
use crate::restores::{last_line, noise, number, ok, prepare, prepare_much, seen, stream, wait};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};

/// A container of the engine: its id and name, its labels, and whether it uses the volume `data`.
#[derive(Debug, Clone, Default)]
struct Container {
    name: &'static str,
    labels: Vec<(&'static str, &'static str)>,
    uses: &'static str,
    runs: bool,
}

/// What the engine has, and what it was asked to do.
#[derive(Debug, Default)]
struct State {
    containers: Vec<Container>,
    log: Vec<String>,
    /// Stops of this container are not answered.
    hangs: &'static str,
}

/// An engine that answers as Docker does, and has its containers mount and unmount the volume.
#[derive(Debug, Clone)]
struct Engine {
    state: Arc<Mutex<State>>,
    daemon: PathBuf,
}

/// A daemon that knows an engine with these containers, which run and have their volumes mounted.
fn start(containers: Vec<Container>) -> (Daemon, Engine) {
    let mut daemon = Daemon::prepare(&[]);
    let socket = daemon.dir.path().join("engine.sock");
    let settings = daemon.dir.path().join("convoy.toml");
    let text = format!("[scheduling]\ndocker-socket = \"{}\"\n", socket.display());
    std::fs::write(&settings, text).unwrap();
    daemon.add_arguments(&["--config", settings.to_str().unwrap()]);
    let state = State { containers, ..State::default() };
    let engine = Engine { state: Arc::new(Mutex::new(state)), daemon: daemon.socket() };
    let (listener, served) = (UnixListener::bind(&socket).unwrap(), engine.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let engine = served.clone();
            std::thread::spawn(move || engine.answer(stream.unwrap()));
        }
    });
    daemon.launch();
    (daemon, engine)
}

impl Engine {
    /// Has the containers that run mount their volume.
    fn mount(&self) {
        let all = self.state.lock().unwrap().containers.clone();
        for container in all.iter().filter(|one| one.runs && !one.uses.is_empty()) {
            assert_eq!(self.ask("Mount", container), "");
        }
    }

    /// Calls the plugin, and gives the error.
    fn ask(&self, call: &str, container: &Container) -> String {
        let body = format!("{{\"Name\":\"{}\",\"ID\":\"{}\"}}", container.uses, container.name);
        let mut stream = UnixStream::connect(&self.daemon).unwrap();
        let request = format!(
            "POST /VolumeDriver.{call} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let told: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        told["Err"].as_str().unwrap_or_default().to_owned()
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }

    fn running(&self) -> Vec<&'static str> {
        let state = self.state.lock().unwrap();
        state.containers.iter().filter(|one| one.runs).map(|one| one.name).collect()
    }

    fn answer(&self, mut stream: UnixStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).unwrap_or_default() == 0 {
                return;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let Some((status, body)) = self.act(&path) else {
            // It hangs until whoever asked is gone.
            let _ = stream.read(&mut byte);
            return;
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(answer.as_bytes());
    }

    fn act(&self, path: &str) -> Option<(&'static str, String)> {
        if path.starts_with("/containers/json") {
            return Some(("200 OK", self.list(path)));
        }
        let mut parts = path.trim_start_matches("/containers/").split('/');
        let (name, verb) = (parts.next().unwrap(), parts.next().unwrap());
        let found = {
            let mut state = self.state.lock().unwrap();
            state.log.push(format!("{verb} {name}"));
            if verb == "stop" && state.hangs == name {
                return None;
            }
            state.containers.iter().find(|one| one.name == name).cloned()
        };
        let Some(container) = found else {
            return Some(("404 Not Found", r#"{"message":"none"}"#.to_owned()));
        };
        let runs = verb == "start";
        if container.runs == runs {
            return Some(("304 Not Modified", String::new()));
        }
        let error = self.ask(if runs { "Mount" } else { "Unmount" }, &container);
        if !error.is_empty() {
            return Some(("500 Internal Server Error", serde_json::json!({ "message": error }).to_string()));
        }
        let mut state = self.state.lock().unwrap();
        state.containers.iter_mut().find(|one| one.name == name).unwrap().runs = runs;
        Some(("204 No Content", String::new()))
    }

    fn list(&self, path: &str) -> String {
        let of_project = path.contains("com.docker.compose.project");
        let state = self.state.lock().unwrap();
        let all = state.containers.iter().filter(|one| of_project || one.runs);
        let shown: Vec<serde_json::Value> = all
            .map(|one| {
                let labels: BTreeMap<_, _> = one.labels.iter().copied().collect();
                let mounts = match one.uses {
                    "" => serde_json::json!([]),
                    volume => serde_json::json!([{"Type": "volume", "Name": volume, "Driver": "convoy"}]),
                };
                serde_json::json!({
                    "Id": one.name, "Names": [format!("/{}", one.name)], "Labels": labels, "Mounts": mounts,
                })
            })
            .collect();
        serde_json::Value::from(shown).to_string()
    }
}

fn container(name: &'static str, uses: &'static str) -> Container {
    Container { name, uses, runs: true, ..Container::default() }
}

/// A service of a project, and those that it waits for.
fn service(name: &'static str, uses: &'static str, needs: &'static str) -> Container {
    let labels = vec![
        ("com.docker.compose.project", "shop"),
        ("com.docker.compose.service", name),
        ("com.docker.compose.depends_on", needs),
    ];
    Container { labels, ..container(name, uses) }
}

fn shop(volume: &'static str) -> Vec<Container> {
    vec![
        service("db", volume, ""),
        service("web", volume, "cache:service_started:false"),
        service("cache", "", "db:service_healthy:true"),
    ]
}

/// Changes a volume of `prepare`.
fn spoil(volume: &Path) {
    std::fs::remove_dir_all(volume.join("etc")).unwrap();
    std::fs::write(volume.join("etc"), "no directory").unwrap();
    std::fs::write(volume.join("www/index.html"), "other").unwrap();
    std::fs::remove_file(volume.join("www/same")).unwrap();
    std::fs::create_dir(volume.join("new")).unwrap();
    std::fs::write(volume.join("new/file"), "new").unwrap();
}

fn error(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn restore(daemon: &Daemon, source: &str, words: &[&str]) -> Output {
    let form = if words.contains(&"table") { &[][..] } else { &["--output", "json"] };
    daemon.cli(&[&["restore", source, "--in-place", "data"][..], words, form].concat())
}

#[test]
fn a_volume_in_place_is_exactly_the_source_and_what_it_was_is_kept() {
    let daemon = Daemon::start();
    let before = prepare(&daemon);
    let volume = daemon.volumes().join("data");
    let store = daemon.dir.path().join("store");
    let (dest, key) = (format!("vfs://{}", store.display()), daemon.dir.path().join("key"));
    write_secret(&key, noise(7, 64));
    let key = ["--encryption-key-file", key.to_str().unwrap()];
    for dir in ["plain", "sealed", "old"] {
        std::fs::create_dir_all(store.join(dir)).unwrap();
    }
    let plain = ok(&daemon.cli(&["backup", "create", "monday", "--dest", &format!("{dest}/plain")]));
    let args = ["backup", "create", "monday", "--dest", &format!("{dest}/sealed")];
    let sealed = ok(&daemon.cli(&[&args[..], &key].concat()));
    for (source, more) in [("monday", &[][..]), (&plain, &[][..]), (&sealed, &key[..])] {
        spoil(&volume);
        let spoiled = seen(&volume);
        let would = ok(&restore(&daemon, source, &[more, &["--dry-run"]].concat()));
        assert_eq!(seen(&volume), spoiled);
        let report = ok(&restore(&daemon, source, more));
        assert_eq!(seen(&volume), before, "from {source}");
        for key in ["Created", "Replaced", "Updated", "Deleted", "Same", "Failed"] {
            assert_eq!(number(&would, key), number(&report, key), "{key}: {would} {report}");
        }
        // The large file and its second name: the first is there, and stays.
        assert!(number(&report, "Bytes") < 100, "{report}");
        let told: serde_json::Value = serde_json::from_str(&report).unwrap();
        let kept = told["Snapshot"].as_str().unwrap().to_owned();
        assert!(kept.starts_with("before-restore-"), "{kept}");
        ok(&daemon.cli(&["snapshot", "revert", &kept]));
        assert_eq!(seen(&volume), spoiled);
        let report = ok(&restore(&daemon, source, &[more, &["--no-keep"]].concat()));
        assert!(!report.contains("Snapshot") && seen(&volume) == before, "{report}");
        // Nothing differs: nothing is written.
        let report = ok(&restore(&daemon, source, &[more, &["--keep-as", "mine"]].concat()));
        assert!(report.contains("\"mine\"") && number(&report, "Files") == 0, "{report}");
        ok(&daemon.cli(&["snapshot", "delete", "mine"]));
        ok(&daemon.cli(&["snapshot", "delete", &kept]));
    }
    assert!(!daemon.ledger().join("data.json").exists());
    assert_eq!(names(&daemon.root().join("half-restored")), [""; 0]);
    // An archive as 0.5 made them has whole seconds alone.
    let old =
        ok(&daemon.cli(&["backup", "create", "monday", "--dest", &format!("{dest}/old"), "--format", "v0"]));
    spoil(&volume);
    ok(&restore(&daemon, &old, &["--no-keep"]));
    assert_eq!(names(&volume), ["etc", "www"]);
    assert_eq!(std::fs::read(volume.join("etc/app.conf")).unwrap(), b"port=1");
    assert_eq!(std::fs::read(volume.join("www/index.html")).unwrap(), b"first");
    ok(&restore(&daemon, "monday", &["--no-keep"]));
    assert_eq!(seen(&volume), before);
    // What cannot be is refused, and nothing is changed.
    let nowhere = format!("{dest}/plain?backup=backup-0000000000000000&volume=data");
    for (source, words, told) in [
        (&sealed[..], &[][..], "encrypted"),
        (&nowhere, &[], "backup-0000000000000000"),
        ("nosuch", &[], "no snapshot nosuch"),
        ("monday", &["--keep-as", "monday"], "monday already exists"),
    ] {
        let text = error(&restore(&daemon, source, &[words, &["--output", "table"]].concat()));
        assert!(text.contains(told), "{source}: {text}");
    }
    for (body, told) in [
        (r#"{"VolumeName":"data","SnapshotName":"monday","InPlace":true,"Paths":["a"]}"#, "are for parts"),
        (r#"{"VolumeName":"data","SnapshotName":"monday","Stop":true}"#, "for a restore in place"),
        (
            r#"{"VolumeName":"data","SnapshotName":"monday","InPlace":true,"NoKeep":true,"KeepAs":"x1"}"#,
            "either",
        ),
        (r#"{"VolumeName":"data","InPlace":true}"#, "either the URL of a backup or the name of a snapshot"),
    ] {
        let refused = daemon.call("POST", "/v1/restores", body);
        assert!(refused.status == 400 && refused.body.contains(told), "{refused:?}");
    }
    assert_eq!(seen(&volume), before);
    let snapshots = ok(&daemon.cli(&["snapshot", "list"]));
    assert!(!snapshots.contains("before-restore"), "{snapshots}");
}

#[test]
fn a_volume_in_use_is_not_restored_in_place_and_its_users_are_named() {
    let task = Container {
        labels: vec![("com.docker.swarm.service.name", "shop_db")],
        ..container("task", "other")
    };
    let (daemon, engine) = start(vec![container("db", "data"), task]);
    let before = prepare(&daemon);
    ok(&daemon.cli(&["create", "other"]));
    engine.mount();
    let text = error(&restore(&daemon, "monday", &["--output", "table"]));
    assert!(text.contains("used by the containers db") && text.contains("--stop"), "{text}");
    // What would be done can be seen.
    ok(&restore(&daemon, "monday", &["--dry-run"]));
    let words = ["restore", "monday", "--in-place", "other", "--stop", "--output", "table"];
    let text = error(&daemon.cli(&words));
    assert!(text.contains("Swarm service shop_db") && text.contains("scale"), "{text}");
    assert_eq!(engine.log(), [""; 0]);
    assert_eq!(engine.ask("Unmount", &container("db", "data")), "");
    ok(&daemon.cli(&["mount", "data"]));
    for words in [&["--output", "table"][..], &["--output", "table", "--stop"]] {
        let text = error(&restore(&daemon, "monday", words));
        assert!(text.contains("volume data is mounted"), "{text}");
    }
    assert_eq!(seen(&daemon.volumes().join("data")), before);
    assert_eq!(names(&daemon.root().join("stopped-containers")), [""; 0]);
}

#[test]
fn containers_are_stopped_and_started_in_the_order_of_their_project() {
    let (daemon, engine) = start(shop("data"));
    let before = prepare(&daemon);
    let volume = daemon.volumes().join("data");
    engine.mount();
    spoil(&volume);
    let report = ok(&restore(&daemon, "monday", &["--stop"]));
    assert_eq!(engine.log(), ["stop web", "stop db", "start db", "start web"]);
    assert_eq!(engine.running(), ["db", "web", "cache"]);
    assert_eq!(seen(&volume), before);
    let told: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(told["Restarted"], serde_json::json!(["db", "web"]), "{report}");
    assert_eq!(names(&daemon.root().join("stopped-containers")), [""; 0]);
    // A revert does the same.
    let kept = told["Snapshot"].as_str().unwrap();
    let text = error(&daemon.cli(&["snapshot", "revert", kept, "--output", "table"]));
    assert!(text.contains("is mounted"), "{text}");
    ok(&daemon.cli(&["snapshot", "revert", kept, "--stop"]));
    assert_eq!(engine.log(), ["stop web", "stop db", "start db", "start web"]);
    assert!(volume.join("new/file").exists());
    // What fails before anything is changed starts them again, too.
    let text = error(&daemon.cli(&["snapshot", "revert", "nosuch", "--stop", "--output", "table"]));
    assert!(text.contains("nosuch"), "{text}");
    let args =
        ["restore", "monday", "--in-place", "data", "--stop", "--keep-as", "monday", "--output", "table"];
    let text = error(&daemon.cli(&args));
    assert!(text.contains("started again: db, web"), "{text}");
    assert_eq!(engine.log(), ["stop web", "stop db", "start db", "start web"]);
}

#[test]
fn a_restore_that_fails_takes_the_volume_back_and_starts_its_containers() {
    let (daemon, engine) = start(shop("data"));
    prepare(&daemon);
    let volume = daemon.volumes().join("data");
    let store = daemon.dir.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let url =
        ok(&daemon.cli(&["backup", "create", "monday", "--dest", &format!("vfs://{}", store.display())]));
    spoil(&volume);
    std::fs::write(volume.join("www/large"), noise(4, 2 << 20)).unwrap();
    let spoiled = seen(&volume);
    damage(&store);
    engine.mount();
    // Without containers to be started, it stays half restored, and what to do is told.
    let failed = restore(&daemon, &url, &["--stop"]);
    assert_eq!(failed.status.code(), Some(3), "{failed:?}");
    let report = String::from_utf8(failed.stdout).unwrap();
    assert!(number(&report, "Failed") > 0 && report.contains("\"Reverted\": true"), "{report}");
    assert_eq!(seen(&volume), spoiled);
    assert_eq!(engine.running(), ["db", "web", "cache"]);
    assert_eq!(names(&daemon.root().join("half-restored")), [""; 0]);
    for name in ["web", "db"] {
        assert_eq!(engine.act(&format!("/containers/{name}/stop")).unwrap().0, "204 No Content");
    }
    let failed = restore(&daemon, &url, &[]);
    assert_eq!(failed.status.code(), Some(3), "{failed:?}");
    let report = String::from_utf8(failed.stdout).unwrap();
    assert!(report.contains("convoy restore --accept data"), "{report}");
    let refused = engine.ask("Mount", &container("db", "data"));
    assert!(refused.contains("half restored") && refused.contains("snapshot revert"), "{refused}");
    ok(&daemon.cli(&["restore", "--accept", "data"]));
    assert_eq!(engine.ask("Mount", &container("db", "data")), "");
}

/// Changes a byte in the middle of every pack of a store.
fn damage(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage(&path);
        } else if path.components().any(|part| part.as_os_str() == "packs") {
            let mut bytes = std::fs::read(&path).unwrap();
            for byte in bytes.iter_mut().step_by(4096) {
                *byte ^= 0xff;
            }
            let mut permissions = path.metadata().unwrap().permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
            std::fs::set_permissions(&path, permissions).unwrap();
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

const ALL: &str = r#"{"SnapshotName":"monday","VolumeName":"target","InPlace":true,"Stop":true}"#;

/// Waits until some of the files are there.
fn wait_for_some(target: &Path) {
    wait("the first files", || {
        let whole = |dir: &String| names(&target.join(dir)).iter().any(|name| name.starts_with('f'));
        target.is_dir() && names(target).iter().filter(|name| name.starts_with('d')).any(whole)
    });
}

#[test]
fn killed_while_it_restores_in_place() {
    let (mut daemon, engine) = start(shop("target"));
    let expected = prepare_much(&daemon);
    let target = daemon.volumes().join("target");
    std::fs::write(target.join("mine"), "mine").unwrap();
    engine.mount();
    let running = stream(&daemon, ALL);
    wait_for_some(&target);
    // Nobody gets in.
    for (method, path, body) in [
        ("DELETE", "/volumes/", r#"{"VolumeName":"target"}"#),
        ("POST", "/v1/restores", ALL),
        ("POST", "/v1/restores", r#"{"SnapshotName":"monday","VolumeName":"target"}"#),
        ("POST", "/snapshots/revert", r#"{"SnapshotName":"empty"}"#),
        ("POST", "/volumes/mount", r#"{"VolumeName":"target"}"#),
    ] {
        let refused = daemon.call(method, path, body);
        assert!(refused.body.contains("a restore into volume target is running"), "{refused:?}");
    }
    daemon.kill();
    drop(running);
    assert_eq!(engine.log(), ["stop web", "stop db"]);
    assert!(seen(&target).len() < expected.len());
    daemon.launch();
    let log = std::fs::read_to_string(daemon.log()).unwrap();
    assert!(log.contains("a restore into this volume is not finished"), "{log}");
    wait("word of the containers", || {
        std::fs::read_to_string(daemon.log()).unwrap().contains("these containers stay stopped")
    });
    let refused = engine.ask("Mount", &container("db", "target"));
    for way in
        ["convoy restore monday --volume data --in-place target", "convoy snapshot revert before-restore-"]
    {
        assert!(refused.contains(way), "{refused}");
    }
    let doctor = daemon.call("POST", "/v1/doctor", "{}").body;
    assert!(
        doctor.contains("a restore in place from snapshot monday of volume data is not finished"),
        "{doctor}"
    );
    assert!(doctor.contains("these containers were stopped for it: db, web"), "{doctor}");
    let inspected = ok(&daemon.cli(&["inspect", "target"]));
    assert!(inspected.contains("UnfinishedRestore"), "{inspected}");
    // Again, as before.
    let answer = daemon.call("POST", "/v1/restores", ALL);
    assert_eq!((answer.status, number(&answer.body, "Failed")), (200, 0), "{answer:?}");
    assert_eq!(seen(&target), expected);
    assert_eq!(engine.log(), ["start db", "start web"]);
    assert_eq!(engine.running(), ["db", "web", "cache"]);
    let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    for name in ["web", "db"] {
        engine.act(&format!("/containers/{name}/stop"));
    }
    // What is kept is the state of before the first one.
    ok(&daemon.cli(&["snapshot", "revert", told["Snapshot"].as_str().unwrap(), "--volume", "target"]));
    assert_eq!(std::fs::read(target.join("mine")).unwrap(), b"mine");
    assert_eq!(names(&target), ["mine"]);
    let doctor = daemon.call("POST", "/v1/doctor", "{}").body;
    assert!(!doctor.contains("not finished") && !doctor.contains("stopped for it"), "{doctor}");
}

#[test]
fn a_killed_restore_is_taken_back_by_its_snapshot_and_its_containers_start() {
    let (mut daemon, engine) = start(shop("target"));
    prepare_much(&daemon);
    let target = daemon.volumes().join("target");
    std::fs::write(target.join("mine"), "mine").unwrap();
    engine.mount();
    let running = stream(&daemon, ALL);
    wait_for_some(&target);
    daemon.kill();
    drop(running);
    daemon.launch();
    let snapshots = ok(&daemon.cli(&["snapshot", "list", "target"]));
    let kept = snapshots.split('"').find(|word| word.starts_with("before-restore-")).unwrap().to_owned();
    ok(&daemon.cli(&["snapshot", "revert", &kept]));
    assert_eq!(names(&target), ["mine"]);
    assert_eq!(engine.log(), ["stop web", "stop db", "start db", "start web"]);
}

#[test]
fn containers_that_a_killed_daemon_had_stopped_start_with_the_next_one() {
    let (mut daemon, engine) = start(shop("target"));
    prepare_much(&daemon);
    engine.mount();
    // Killed while it stops them: nothing was changed yet.
    engine.state.lock().unwrap().hangs = "db";
    let running = stream(&daemon, ALL);
    wait("the stop", || engine.state.lock().unwrap().log.len() == 2);
    daemon.kill();
    drop(running);
    assert_eq!(engine.log(), ["stop web", "stop db"]);
    daemon.launch();
    wait("the start", || engine.state.lock().unwrap().log.len() == 2);
    wait("the containers", || engine.running() == ["db", "web", "cache"]);
    assert_eq!(engine.log(), ["start db", "start web"]);
    wait("the record", || names(&daemon.root().join("stopped-containers")).is_empty());
}

#[test]
fn a_cancelled_restore_in_place_takes_the_volume_back() {
    let (daemon, engine) = start(shop("target"));
    prepare_much(&daemon);
    let target = daemon.volumes().join("target");
    std::fs::write(target.join("mine"), "mine").unwrap();
    engine.mount();
    let running = stream(&daemon, ALL);
    wait("the restore", || daemon.call("GET", "/jobs", "").body.contains("restore in place"));
    wait_for_some(&target);
    let jobs = daemon.call("GET", "/jobs", "").body;
    let id = jobs.split("\"ID\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(daemon.call("POST", "/jobs/cancel", &format!("{{\"ID\":\"{id}\"}}")).status, 200);
    let last = last_line(running);
    assert!(last.contains("\"Kind\":\"cancelled\"") && last.contains("as it was before"), "{last}");
    assert_eq!(names(&target), ["mine"]);
    assert_eq!(engine.log(), ["stop web", "stop db", "start db", "start web"]);
}
