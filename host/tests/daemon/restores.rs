//! Parts of backups and snapshots, brought back into volumes that are there.

use crate::harness::{Daemon, names, write_secret};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(len)
    .collect()
}

pub(crate) fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap().trim().replace("\\u0026", "&")
}

/// A number of a report.
pub(crate) fn number(report: &str, key: &str) -> u64 {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report}"))
}

/// Tells contents apart, quickly.
fn sum(bytes: &[u8]) -> String {
    let some = bytes.iter().step_by(61);
    let sum = some.fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    format!("{} {sum:x}", bytes.len())
}

/// Everything below a directory that a restore brings back, by path.
pub(crate) fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    fn visit(root: &Path, at: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for name in names(&root.join(at)) {
            let path = at.join(name);
            let full = root.join(&path);
            let meta = std::fs::symlink_metadata(&full).unwrap();
            let content = match meta.is_file() {
                true => sum(&std::fs::read(&full).unwrap()),
                false => std::fs::read_link(&full).map(|to| to.display().to_string()).unwrap_or_default(),
            };
            let told = format!(
                "{:o} {}:{} {}.{:09} {} {content}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec(),
                if meta.is_dir() { 0 } else { meta.nlink() }
            );
            found.insert(path.clone(), told);
            if meta.is_dir() {
                visit(root, &path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(root, Path::new(""), &mut found);
    found
}

/// A volume with a little of everything, and a snapshot of it.
pub(crate) fn prepare(daemon: &Daemon) -> BTreeMap<PathBuf, String> {
    ok(&daemon.cli(&["create", "data"]));
    let volume = daemon.volumes().join("data");
    std::fs::create_dir_all(volume.join("www/img")).unwrap();
    std::fs::create_dir(volume.join("etc")).unwrap();
    for (path, content) in [("www/index.html", "first"), ("www/img/a.png", "png"), ("etc/app.conf", "port=1")]
    {
        std::fs::write(volume.join(path), content).unwrap();
    }
    std::fs::write(volume.join("www/large"), noise(3, 3 << 20)).unwrap();
    std::fs::hard_link(volume.join("www/large"), volume.join("www/same")).unwrap();
    symlink("index.html", volume.join("www/link")).unwrap();
    std::os::unix::fs::chown(volume.join("www/index.html"), Some(33), Some(34)).unwrap();
    std::fs::set_permissions(volume.join("www/img"), std::fs::Permissions::from_mode(0o2770)).unwrap();
    ok(&daemon.cli(&["snapshot", "create", "data", "--name", "monday"]));
    seen(&volume)
}

#[test]
fn parts_come_back_into_a_volume_in_use() {
    let daemon = Daemon::start();
    let before = prepare(&daemon);
    let volume = daemon.volumes().join("data");
    let store = daemon.dir.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let (dest, key) = (format!("vfs://{}", store.display()), daemon.dir.path().join("key"));
    write_secret(&key, noise(7, 64));
    let key = ["--encryption-key-file", key.to_str().unwrap()];
    for dir in ["plain", "sealed"] {
        std::fs::create_dir(store.join(dir)).unwrap();
    }
    let plain = ok(&daemon.cli(&["backup", "create", "monday", "--dest", &format!("{dest}/plain")]));
    let args = ["backup", "create", "monday", "--dest", &format!("{dest}/sealed")];
    let sealed = ok(&daemon.cli(&[&args[..], &key].concat()));
    // A container uses it.
    daemon.docker("Mount", r#"{"Name":"data","ID":"container"}"#);
    for (source, more) in [("monday", &[][..]), (&plain, &[][..]), (&sealed, &key[..])] {
        let restore = |words: &[&str]| {
            let all = [&["restore", source, "--into", "data", "--output", "json"][..], words, more].concat();
            daemon.cli(&all)
        };
        // Something is lost, something else was changed since.
        std::fs::remove_dir_all(volume.join("www")).unwrap();
        std::fs::write(volume.join("etc/app.conf"), "port=2").unwrap();
        let would = ok(&restore(&["--path", "www", "--path", "etc/app.conf", "--dry-run"]));
        assert!(!volume.join("www").exists() && would.contains("\"Path\": \"www/img/a.png\""), "{would}");
        let report = ok(&restore(&["--path", "www", "--path", "etc/app.conf"]));
        for key in ["Created", "Kept", "Files"] {
            let expected = number(&report, key);
            assert!(key == "Files" || number(&would, key) == expected, "{key}: {would} {report}");
        }
        assert_eq!((number(&report, "Created"), number(&report, "Kept")), (7, 1), "{report}");
        assert_eq!(std::fs::read(volume.join("etc/app.conf")).unwrap(), b"port=2");
        // Over what is there; and beside it.
        ok(&restore(&["--path", "/etc/", "--existing", "replace"]));
        assert_eq!(seen(&volume), before, "from {source}");
        ok(&restore(&["--path", "www", "--exclude", "*.png", "--at", "old"]));
        assert_eq!(names(&volume.join("old/www")), ["img", "index.html", "large", "link", "same"]);
        assert_eq!(std::fs::metadata(volume.join("old/www/same")).unwrap().nlink(), 2);
        std::fs::remove_dir_all(volume.join("old")).unwrap();
        // What came since goes only when that is asked for.
        std::fs::write(volume.join("www/new"), "new").unwrap();
        ok(&restore(&["--path", "www", "--existing", "replace"]));
        assert!(volume.join("www/new").exists());
        let report = ok(&restore(&["--path", "www", "--existing", "replace", "--delete-extra"]));
        assert_eq!(number(&report, "Deleted"), 1, "{report}");
        assert_eq!(seen(&volume), before, "from {source}");
        // The container still has it, and nobody else.
        let ledger = std::fs::read_to_string(daemon.ledger().join("data.json")).unwrap();
        assert!(ledger.contains("container") && !ledger.contains("convoy:restore"), "{ledger}");
    }
    let refused = daemon.cli(&["restore", &sealed, "--into", "data", "--path", "www"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("encrypted"), "{refused:?}");
    let events =
        daemon.call("GET", "/v1/events?kind=volume.restore&since=2020-01-01T00:00:00Z&follow=false", "");
    assert_eq!(events.body.lines().filter(|line| line.contains("volume.restore")).count(), 15, "{events:?}");
    let metrics = daemon.call("GET", "/v1/metrics", "").body;
    assert!(metrics.contains("kind=\"restore parts\""), "{metrics}");
}

pub(crate) fn stream(daemon: &Daemon, body: &str) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    let request = format!(
        "POST /v1/restores HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: application/x-ndjson\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    BufReader::new(stream)
}

pub(crate) fn last_line(reader: BufReader<UnixStream>) -> String {
    reader.lines().map(Result::unwrap).filter(|line| line.starts_with('{')).last().unwrap()
}

pub(crate) fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < give_up, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A volume with files that take a while, a snapshot of it, and an empty volume.
pub(crate) fn prepare_much(daemon: &Daemon) -> BTreeMap<PathBuf, String> {
    for name in ["data", "target"] {
        ok(&daemon.cli(&["create", name]));
    }
    let volume = daemon.volumes().join("data");
    for number in 0..24u64 {
        let dir = volume.join(format!("d{}", number % 5));
        std::fs::create_dir_all(&dir).unwrap();
        let content = noise(number, 1 << 20).repeat(8);
        std::fs::write(dir.join(format!("f{number}")), content).unwrap();
    }
    ok(&daemon.cli(&["snapshot", "create", "data", "--name", "monday"]));
    ok(&daemon.cli(&["snapshot", "create", "target", "--name", "empty"]));
    seen(&volume)
}

const ALL: &str = r#"{"SnapshotName":"monday","VolumeName":"target"}"#;

/// Waits until some of the files are there.
fn wait_for_some(target: &Path) {
    wait("the first files", || {
        let whole = |dir: &String| names(&target.join(dir)).iter().any(|name| name.starts_with('f'));
        target.is_dir() && names(target).iter().filter(|name| name.starts_with('d')).any(whole)
    });
}

/// Every file is that of before, and none has another name.
fn whole(there: &BTreeMap<PathBuf, String>, expected: &BTreeMap<PathBuf, String>, root: &Path) {
    for (path, told) in there.iter().filter(|(path, _)| root.join(path).is_file()) {
        assert_eq!(Some(told), expected.get(path), "{path:?}");
    }
}

#[test]
fn a_restore_of_parts_is_alone_and_cancelled_without_half_files() {
    let daemon = Daemon::start();
    let expected = prepare_much(&daemon);
    let target = daemon.volumes().join("target");
    let running = stream(&daemon, ALL);
    wait("the restore", || daemon.call("GET", "/jobs", "").body.contains("restore parts"));
    wait_for_some(&target);
    let deleted = daemon.call("DELETE", "/volumes/", r#"{"VolumeName":"target"}"#);
    let second = daemon.call("POST", "/v1/restores", ALL);
    let reverted = daemon.call("POST", "/snapshots/revert", r#"{"SnapshotName":"empty"}"#);
    let unmounted = daemon.call("POST", "/volumes/umount", r#"{"VolumeName":"target","Force":true}"#);
    let jobs = daemon.call("GET", "/jobs", "").body;
    let id = jobs.split("\"ID\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(daemon.call("POST", "/jobs/cancel", &format!("{{\"ID\":\"{id}\"}}")).status, 200);
    for refused in [&deleted, &second, &reverted, &unmounted] {
        assert!(refused.body.contains("a restore into volume target is running"), "{refused:?}");
    }
    let last = last_line(running);
    assert!(last.contains("\"Kind\":\"cancelled\""), "{last}");
    let there = seen(&target);
    assert!(!there.is_empty() && there.len() < expected.len());
    whole(&there, &expected, &target);
    let answer = daemon.call("POST", "/v1/restores", ALL);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(seen(&target), expected);
    assert_eq!(daemon.call("DELETE", "/volumes/", r#"{"VolumeName":"target"}"#).status, 200);
}

#[test]
fn killed_while_it_restores_parts() {
    let mut daemon = Daemon::start();
    let expected = prepare_much(&daemon);
    let target = daemon.volumes().join("target");
    let running = stream(&daemon, ALL);
    wait_for_some(&target);
    daemon.kill();
    drop(running);
    let there = seen(&target);
    assert!(there.len() < expected.len());
    let ledger = std::fs::read_to_string(daemon.ledger().join("target.json")).unwrap();
    assert!(ledger.contains("convoy:restore"), "{ledger}");
    daemon.launch();
    assert!(!daemon.ledger().join("target.json").exists(), "{:?}", names(&daemon.ledger()));
    let log = std::fs::read_to_string(daemon.log()).unwrap();
    assert!(log.contains("a restore into this volume was cut off"), "{log}");
    let answer = daemon.call("POST", "/v1/restores", ALL);
    assert_eq!((answer.status, number(&answer.body, "Kept")), (200, 0), "{answer:?}");
    assert_eq!(seen(&target), expected);
    assert_eq!(daemon.call("DELETE", "/volumes/", r#"{"VolumeName":"target"}"#).status, 200);
    // The snapshot was closed: it can be deleted.
    ok(&daemon.cli(&["snapshot", "delete", "monday"]));
}

#[test]
fn what_cannot_be_restored_in_parts_is_told() {
    let daemon = Daemon::start();
    prepare(&daemon);
    let volume = daemon.volumes().join("data");
    symlink("/etc", volume.join("elsewhere")).unwrap();
    std::fs::write(volume.join("www/index.html"), "second").unwrap();
    let before = seen(&volume);
    for (words, told) in [
        (&["restore", "monday", "--into", "nosuch"][..], "nosuch"),
        (&["restore", "nosuch", "--into", "data"], "no snapshot nosuch"),
        (&["restore", "vfs:///nowhere?backup=backup-1&volume=vol1", "--into", "data"], "nowhere"),
        (
            &["restore", "monday", "--into", "data", "--path", "www/imgs/a.png"],
            "the nearest that it has is /www",
        ),
        (&["restore", "monday", "--into", "data", "--path", "../etc"], "invalid path"),
        (&["restore", "monday", "--into", "data", "--exclude", "a["], "no pattern"),
        (&["restore", "monday", "--into", "data", "--at", "elsewhere/x"], "is a symbolic link"),
        (
            &["restore", "monday", "--into", "data", "--path", "etc/app.conf", "--delete-extra"],
            "name its directory",
        ),
        (
            &["restore", "monday", "--into", "data", "--path", "www", "--exclude", "www"],
            "both selected and excluded",
        ),
    ] {
        let refused = daemon.cli(&[words, &["--output", "table"]].concat());
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(1) && text.contains(told), "{words:?}: {refused:?}");
    }
    for (body, told) in [
        (r#"{"VolumeName":"data"}"#, "either the URL of a backup or the name of a snapshot"),
        (
            r#"{"VolumeName":"data","SnapshotName":"monday","Existing":"never"}"#,
            "expected keep, replace, rename",
        ),
    ] {
        let refused = daemon.call("POST", "/v1/restores", body);
        assert!(refused.status == 400 && refused.body.contains(told), "{refused:?}");
    }
    assert_eq!(seen(&volume), before);
    // Something that cannot be done as asked fails by its name, and has an exit code of its own.
    std::fs::remove_file(volume.join("etc/app.conf")).unwrap();
    std::fs::create_dir(volume.join("etc/app.conf")).unwrap();
    std::fs::write(volume.join("etc/app.conf/mine"), "mine").unwrap();
    let failed =
        daemon.cli(&["restore", "monday", "--into", "data", "--existing", "replace", "--output", "table"]);
    let text = String::from_utf8_lossy(&failed.stdout);
    assert!(failed.status.code() == Some(3) && text.contains("fail     etc/app.conf"), "{failed:?}");
    assert_eq!(std::fs::read(volume.join("etc/app.conf/mine")).unwrap(), b"mine");
    assert_eq!(std::fs::read(volume.join("www/index.html")).unwrap(), b"first");
    let events =
        daemon.call("GET", "/v1/events?kind=volume.failure&since=2020-01-01T00:00:00Z&follow=false", "");
    assert!(events.body.contains("/etc/app.conf was not restored"), "{events:?}");
}
