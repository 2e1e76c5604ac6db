//! What those who watch see: metrics, events, request ids, the doctor.

use crate::harness::Daemon;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// The client that Prometheus publishes, as Debian packages it for its own Python, reads the metrics, and
/// says them again in a plain form.
const PARSER: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        labels = ','.join(f'{key}={value}' for key, value in sorted(sample.labels.items()))
        print(f'{sample.name}{{{labels}}} {sample.value}')
";

fn parsed(text: &str) -> BTreeMap<String, f64> {
    let mut parser = Command::new("/usr/bin/python3")
        .args(["-c", PARSER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = parser.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    said.lines().map(sample).collect()
}

fn metrics(daemon: &Daemon) -> BTreeMap<String, f64> {
    let output = daemon.cli(&["metrics"]);
    assert!(output.status.success(), "{output:?}");
    parsed(&String::from_utf8(output.stdout).unwrap())
}

#[test]
fn metrics_count_what_happens_and_a_parser_of_others_reads_them() {
    let store = tempfile::tempdir().unwrap();
    let told_at = store.path().join("metrics.sock");
    let daemon = Daemon::with(&["--metrics-listen", &format!("unix:{}", told_at.display())]);
    let destination = format!("vfs://{}", store.path().display());
    let odd = r#"no "such" \ volume"#;
    for name in ["vol1", "vol2"] {
        assert_eq!(daemon.docker("Create", &format!(r#"{{"Name":"{name}"}}"#)), "{}");
    }
    std::fs::write(daemon.volumes().join("vol1/file"), vec![7; 100_000]).unwrap();
    daemon.docker("Mount", r#"{"Name":"vol1","ID":"a"}"#);
    daemon.docker("Mount", &serde_json::json!({ "Name": odd, "ID": "a" }).to_string());
    daemon.cli(&["snapshot", "create", "vol1", "--name", "snap1"]);
    assert!(daemon.cli(&["backup", "create", "snap1", "--dest", &destination]).status.success());
    let asked = daemon.try_call(
        "POST",
        "/VolumeDriver.Get",
        r#"{"Name":"vol1"}"#,
        &[("Accept", "application/vnd.docker.plugins.v1.2+json")],
    );
    let status = asked.unwrap().body;
    assert!(status.contains("\"LastBackup\": \"20") && status.contains(&destination), "{status}");
    let told = daemon.cli(&["doctor"]).stdout;
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("it can be reached"), "{told}");
    let lines = std::os::unix::net::UnixStream::connect(&told_at);
    let mut lines = lines.unwrap();
    lines.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    lines.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("convoy_build_info"), "{text}");
    let answer = daemon.call("GET", "/metrics", "");
    assert!(answer.headers.contains("application/openmetrics-text"), "{}", answer.headers);
    let seen = metrics(&daemon);
    for (name, value) in [
        ("convoy_volumes{driver=vfs}", 2.0),
        ("convoy_volumes_mounted{driver=vfs}", 1.0),
        ("convoy_snapshots{driver=vfs}", 1.0),
        ("convoy_driver_up{driver=vfs}", 1.0),
        ("convoy_requests_total{call=POST /VolumeDriver.Create,result=ok}", 2.0),
        ("convoy_requests_total{call=POST /VolumeDriver.Mount,result=error}", 1.0),
        ("convoy_driver_calls_total{driver=vfs,method=volume.create,result=ok}", 2.0),
        ("convoy_driver_call_duration_seconds_count{driver=vfs,method=volume.create}", 2.0),
        ("convoy_data_bytes_total{what=backed_up}", 100_000.0),
        ("convoy_events_total{kind=volume.create}", 2.0),
        ("convoy_job_duration_seconds_count{kind=backup create}", 1.0),
    ] {
        assert_eq!(seen.get(name), Some(&value), "{name} in {seen:#?}");
    }
    let last = format!("convoy_backup_last_timestamp_seconds{{destination={destination},volume=vol1}}");
    assert!(seen[&last] > 1.7e9 && seen["process_resident_memory_bytes{}"] > 1e6);
    assert!(seen[&format!("convoy_build_info{{version={}}}", env!("CARGO_PKG_VERSION"))] > 0.0);
}

/// The dashboard asks for nothing that is not there.
#[test]
fn every_metric_of_the_dashboard_exists() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grafana-dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    assert!(asked.len() > 10);
    let source = [
        include_str!("../../activity/src/metrics.rs"),
        include_str!("../../src/scrape.rs"),
        include_str!("../../src/scrape/gauges.rs"),
        include_str!("../../src/scrape/process.rs"),
    ]
    .concat();
    for expression in asked {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<&str> =
            words.filter(|word| word.starts_with("convoy_") || word.starts_with("process_")).collect();
        assert!(!names.is_empty(), "{expression}");
        for name in names {
            let base = ["_bucket", "_count", "_sum", "_total"]
                .iter()
                .fold(name, |name, end| name.trim_end_matches(end));
            let base = base.strip_prefix("convoy_").unwrap_or(base);
            let base_without_unit = base.trim_end_matches("_seconds").trim_end_matches("_bytes");
            let there = |name: &str| source.contains(&format!("{name}\""));
            assert!(there(base) || there(base_without_unit), "{name} of {expression} does not exist");
        }
    }
}

fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(|expr| expr.as_str()).map(str::to_owned));
            fields.values().for_each(|value| expressions(value, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn events_of_the_past_are_told_as_far_as_they_are_wanted() {
    let daemon = Daemon::start();
    for name in ["vol1", "vol2"] {
        daemon.docker("Create", &format!(r#"{{"Name":"{name}"}}"#));
    }
    daemon.cli(&["snapshot", "create", "vol2", "--name", "snap2"]);
    let lines = |arguments: &[&str]| {
        let all: Vec<&str> = ["events", "--no-follow"].iter().chain(arguments).copied().collect();
        let output = daemon.cli(&all);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let kind = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["Kind"].as_str().unwrap().to_owned()
        };
        text.lines().map(kind).collect::<Vec<_>>()
    };
    assert_eq!(lines(&[]), ["volume.create", "volume.create", "snapshot.create"]);
    assert_eq!(lines(&["--volume", "vol2"]), ["volume.create", "snapshot.create"]);
    assert_eq!(lines(&["--kind", "snapshot", "--since", "1h"]), ["snapshot.create"]);
    assert!(lines(&["--since", "2036-01-01T00:00:00Z"]).is_empty());
    let people = daemon.cli(&["events", "--no-follow", "--output", "table"]);
    assert!(String::from_utf8(people.stdout).unwrap().contains("vol1"));
    let refused = daemon.call("GET", "/events?since=soon", "");
    assert!(refused.status == 400 && refused.body.contains("invalid time"), "{refused:?}");
    let refused = daemon.call("GET", "/events?kind=schedule.failed", "");
    assert!(refused.status == 400 && refused.body.contains("schedule.failure"), "{refused:?}");
    let refused = daemon.call("GET", "/events?knd=x", "");
    assert!(refused.status == 400 && refused.body.contains("knd"), "{refused:?}");
}

#[test]
fn an_error_names_the_request_as_the_log_does() {
    let daemon = Daemon::start();
    let answer = daemon.call("GET", "/v1/volumes/", r#"{"VolumeName":"none"}"#);
    let id = answer.headers.lines().find_map(|line| line.strip_prefix("Convoy-Request-Id: ")).unwrap();
    let log = std::fs::read_to_string(daemon.log()).unwrap();
    assert!(
        log.lines().any(|line| line.contains(id) && line.contains("answered with an error")),
        "{id} in {log}"
    );
    let other = daemon.call("GET", "/v1/info", "");
    assert!(!other.headers.contains(id) && other.headers.contains("Convoy-Request-Id: "));
}

#[test]
fn the_doctor_tells_what_is_wrong_with_and_without_a_daemon() {
    let mut daemon = Daemon::start();
    daemon.docker("Create", r#"{"Name":"vol1"}"#);
    daemon.docker("Create", r#"{"Name":"used"}"#);
    daemon.docker("Mount", r#"{"Name":"used","ID":"a"}"#);
    let root = daemon.root().display().to_string();
    let examined = |daemon: &Daemon, more: &[&str]| {
        let all: Vec<&str> = ["doctor", "--root", &root].iter().chain(more).copied().collect();
        let output = daemon.cli(&all);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = told["Findings"].as_array().unwrap().clone();
        (output.status.code().unwrap(), told["Daemon"] == true, findings)
    };
    let is = |findings: &[serde_json::Value], severity: &str, text: &str| {
        findings.iter().any(|it| it["Severity"] == severity && it.to_string().contains(text))
    };
    let (code, asked, findings) = examined(&daemon, &[]);
    assert!(asked && code != 1);
    assert!(is(&findings, "info", "\"Subject\":\"kernel\""), "{findings:?}");
    assert!(is(&findings, "info", "driver vfs"), "{findings:?}");
    assert!(is(&findings, "warning", "Docker does not know the daemon"), "{findings:?}");

    // A volume that somebody uses is gone.
    std::fs::rename(daemon.volumes().join("used"), daemon.volumes().join("away")).unwrap();
    let (code, _, findings) = examined(&daemon, &[]);
    assert!(code == 3 && is(&findings, "error", "it is used, but "), "{findings:?}");
    std::fs::rename(daemon.volumes().join("away"), daemon.volumes().join("used")).unwrap();

    daemon.stop();
    std::fs::write(daemon.root().join(".convoy-1-1.tmp"), "half").unwrap();
    let (code, asked, findings) = examined(&daemon, &["--repair"]);
    assert!(!asked && code == 3);
    assert!(is(&findings, "error", "it does not run"), "{findings:?}");
    assert!(findings.iter().any(|it| it["Repaired"] == true), "{findings:?}");
    assert!(!daemon.root().join(".convoy-1-1.tmp").exists());
    let people = daemon.cli(&["doctor", "--root", &root, "--output", "table"]);
    assert!(String::from_utf8(people.stdout).unwrap().contains("error    daemon: daemon: it does not run"));
}

/// Whoever asked for it, and whatever it was: the next one who looks finds that it failed, and why.
#[test]
fn what_was_asked_for_and_failed_leaves_an_event_and_a_line_in_the_log() {
    let store = tempfile::tempdir().unwrap();
    let daemon = Daemon::with(&["--log-format", "json"]);
    let destination = format!("vfs://{}", store.path().display());
    let backup = format!("{destination}?backup=backup-0123456789abcdef&volume=vol1");
    assert_eq!(daemon.docker("Create", r#"{"Name":"vol1"}"#), "{}");
    std::fs::write(daemon.volumes().join("vol1/file"), "a").unwrap();
    assert!(daemon.cli(&["snapshot", "create", "vol1", "--name", "snap1"]).status.success());
    assert!(daemon.cli(&["backup", "create", "snap1", "--dest", &destination]).status.success());
    let nowhere = format!("vfs://{}", store.path().join("none").display());
    daemon.docker("Mount", r#"{"Name":"vol1","ID":"a"}"#);
    let asked: &[(&[&str], &str, &str, &str)] = &[
        (&["create", "vol1"], "volume.failure", "vol1", "volume create: "),
        (&["create", "vol2", "--backup", &backup], "volume.failure", "vol2", "restore: "),
        (&["delete", "vol1"], "volume.failure", "vol1", "volume delete: "),
        (&["mount", "none"], "volume.failure", "none", "volume mount: "),
        (&["umount", "vol1"], "volume.failure", "vol1", "volume unmount: "),
        (&["resize", "none", "1G"], "volume.failure", "none", "volume resize: "),
        (&["snapshot", "create", "none"], "snapshot.failure", "none", "snapshot create: "),
        (&["snapshot", "delete", "none"], "snapshot.failure", "", "snapshot delete: "),
        (&["snapshot", "revert", "snap1"], "snapshot.failure", "vol1", "snapshot revert: "),
        (&["backup", "create", "none", "--dest", &destination], "backup.failure", "", "backup create: "),
        (&["backup", "delete", &backup], "backup.failure", "", "backup delete: "),
        (&["backup", "verify", &nowhere], "backup.failure", "", "backup verify: "),
        (&["backup", "prune", &nowhere], "backup.failure", "", "backup prune: "),
        (&["schedule", "run", "none"], "schedule.failure", "", "none: schedule run: "),
        (&["schedule", "retain", "none"], "schedule.failure", "", "none: schedule retain: "),
    ];
    for (words, ..) in asked {
        let ran = daemon.cli(words);
        assert_eq!(ran.status.code(), Some(1), "{words:?}: {ran:?}");
    }
    // Docker's users get a text, and an operator finds the same. What Docker takes back twice is no failure.
    let refused = daemon.docker("Mount", r#"{"Name":"none","ID":"b"}"#);
    assert!(refused.contains("Err"), "{refused}");
    assert_eq!(daemon.docker("Unmount", r#"{"Name":"none","ID":"b"}"#), "{}");
    let refused = daemon.call("POST", "/v1/volumes/create", r#"{"Name":"vol2","SnapshotName":"none"}"#);
    assert_eq!(refused.status, 400, "{refused:?}");
    // Damage is no error of the verify, and bad news all the same.
    for entry in walk(store.path())
        .into_iter()
        .filter(|path| path.components().any(|part| part.as_os_str() == "packs"))
    {
        std::fs::remove_file(entry).unwrap();
    }
    assert_eq!(daemon.cli(&["backup", "verify", &destination]).status.code(), Some(3));

    let text = String::from_utf8(daemon.cli(&["events", "--no-follow"]).stdout).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let failures: Vec<_> =
        events.filter(|event| event["Kind"].as_str().unwrap().ends_with(".failure")).collect();
    let log = std::fs::read_to_string(daemon.log()).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(r#""WARN""#)).collect();
    let last: [(&[&str], &str, &str, &str); 3] = [
        (&["docker"], "volume.failure", "none", "volume mount: "),
        (&["clone"], "snapshot.failure", "vol2", "snapshot clone: "),
        (&["damage"], "backup.failure", "", "backup verify: "),
    ];
    let expected: Vec<_> = asked.iter().chain(&last).collect();
    assert_eq!(failures.len(), expected.len(), "{failures:#?}");
    for ((words, kind, volume, begins), told) in expected.iter().zip(&failures) {
        let message = told["Message"].as_str().unwrap();
        assert!(told["Kind"] == *kind && message.starts_with(begins), "{words:?}: {told}");
        assert_eq!(told["Volume"].as_str().unwrap_or_default(), *volume, "{told}");
        let driver = if *volume == "vol1" { "vfs" } else { "" };
        assert_eq!(told["Driver"].as_str().unwrap_or_default(), driver, "{told}");
        let why = serde_json::to_string(&message[begins.len()..]).unwrap();
        let what = begins.trim_start_matches("none: ").trim_end_matches(": ");
        let of_it =
            lines.iter().filter(|line| line.contains(&why) && line.contains(&format!("{what} failed")));
        let of_it: Vec<_> = of_it.collect();
        assert!(!of_it.is_empty() && of_it[0].contains(r#""id":"r"#), "{words:?}, {why}: {lines:#?}");
        let job = told["Job"].as_str().unwrap_or_default();
        assert!(job.is_empty() || of_it.iter().any(|line| line.contains(job)), "{told}: {of_it:#?}");
    }
    assert_eq!(lines.iter().filter(|line| line.contains(" failed\"")).count(), failures.len(), "{lines:#?}");
    let seen = metrics(&daemon);
    for (name, value) in [
        ("convoy_jobs_total{kind=backup create,result=failure}", 1.0),
        ("convoy_jobs_total{kind=backup create,result=success}", 1.0),
        ("convoy_jobs_total{kind=backup verify,result=failure}", 2.0),
        ("convoy_jobs_total{kind=schedule run,result=failure}", 1.0),
        ("convoy_jobs_total{kind=scheduled backup,result=failure}", 0.0),
        ("convoy_events_total{kind=backup.failure}", 5.0),
    ] {
        assert_eq!(seen.get(name), Some(&value), "{name} in {seen:#?}");
    }
}

/// Every file below a directory.
fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
