//! Backups and restores through the daemon: whole, cancelled, killed, and with what convoy 0.5 got wrong.

use crate::harness::{Daemon, names, write_secret};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

fn destination(daemon: &Daemon) -> String {
    let dir = daemon.dir.path().join("store");
    std::fs::create_dir_all(&dir).unwrap();
    format!("vfs://{}", dir.display())
}

/// A volume with a file, and a snapshot of it.
fn snapshot(daemon: &Daemon, volume: &str, content: &[u8]) {
    assert_eq!(daemon.call("POST", "/volumes/create", &format!("{{\"Name\":\"{volume}\"}}")).status, 200);
    std::fs::write(daemon.volumes().join(volume).join("file"), content).unwrap();
    let body = format!("{{\"VolumeName\":\"{volume}\",\"Name\":\"{volume}-snap\"}}");
    assert_eq!(daemon.call("POST", "/snapshots/create", &body).status, 200);
}

fn back_up(daemon: &Daemon, volume: &str, more: &str) -> String {
    let url = destination(daemon);
    let body = format!("{{\"URL\":\"{url}\",\"SnapshotName\":\"{volume}-snap\"{more}}}");
    let answer = daemon.call("POST", "/backups/create", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body.replace("\\u0026", "&")
}

fn restore(daemon: &Daemon, name: &str, url: &str, more: &str) -> crate::harness::Answer {
    daemon.call("POST", "/volumes/create", &format!("{{\"Name\":\"{name}\",\"BackupURL\":\"{url}\"{more}}}"))
}

fn content(daemon: &Daemon, volume: &str) -> Vec<u8> {
    std::fs::read(daemon.volumes().join(volume).join("file")).unwrap()
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
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

/// A file whose reading and writing takes a while.
const LARGE: usize = 64 << 20;

#[test]
fn both_formats_encrypted_or_not_verified_and_pruned() {
    let mut daemon = Daemon::prepare(&[]);
    // Where Docker may restore from.
    let settings = daemon.dir.path().join("destinations.toml");
    std::fs::write(&settings, format!("[destinations.{:?}]\n", destination(&daemon))).unwrap();
    daemon.add_arguments(&["--destinations", settings.to_str().unwrap()]);
    daemon.launch();
    let key = daemon.dir.path().join("key");
    write_secret(&key, noise(7, 64));
    let key = format!(",\"EncryptionKeyFile\":\"{}\"", key.display());
    for (volume, making, reading) in
        [("plain", "", ""), ("old", ",\"Format\":\"v0\"", ""), ("sealed", key.as_str(), key.as_str())]
    {
        snapshot(&daemon, volume, volume.as_bytes());
        let url = back_up(&daemon, volume, making);
        let name = format!("{volume}2");
        assert_eq!(restore(&daemon, &name, &url, reading).body, name);
        assert_eq!(content(&daemon, &name), volume.as_bytes());
        if !reading.is_empty() {
            let refused = restore(&daemon, "nokey", &url, "");
            assert!(refused.status == 400 && refused.body.contains("encrypted"), "{refused:?}");
        }
        // Docker restores too; over a volume that exists it does nothing.
        if reading.is_empty() {
            let body = format!("{{\"Name\":\"{volume}3\",\"Opts\":{{\"backup\":\"{url}\"}}}}");
            for _ in 0..2 {
                assert_eq!(daemon.docker("Create", &body), "{}");
            }
            assert_eq!(content(&daemon, &format!("{volume}3")), volume.as_bytes());
        }
    }
    let all = format!("{{\"URL\":\"{}\",\"ReadData\":100{key}}}", destination(&daemon));
    // Beside a key, what is in the clear is told, and is well once that is allowed.
    let report = daemon.call("POST", "/backups/verify", &all).body;
    assert_eq!(report.matches("\"Kind\": \"unencrypted\"").count(), 2, "{report}");
    let all = all.replace('}', ",\"AllowUnencrypted\":true}");
    let report = daemon.call("POST", "/backups/verify", &all).body;
    assert!(report.contains("\"Backups\": 3") && report.contains("\"Problems\": []"), "{report}");
    let pruned = daemon.call("POST", "/backups/prune", &all).body;
    assert!(pruned.contains("\"DryRun\": false"), "{pruned}");
    let listed = daemon.call("GET", "/backups/list", &all).body;
    assert_eq!(listed.matches("BackupURL").count(), 3, "{listed}");
}

#[test]
fn a_restore_spares_what_is_not_its_own() {
    let daemon = Daemon::start();
    snapshot(&daemon, "src", b"backed up");
    let url = back_up(&daemon, "src", "");
    // A volume with the name that 0.5 used for what was not finished.
    daemon.docker("Create", r#"{"Name":"foo.tmp"}"#);
    std::fs::write(daemon.volumes().join("foo.tmp/file"), "mine").unwrap();
    assert_eq!(restore(&daemon, "foo", &url, "").status, 200);
    assert_eq!(content(&daemon, "foo.tmp"), b"mine");
    // What was kept by Docker's Remove.
    daemon.docker("Create", r#"{"Name":"kept"}"#);
    std::fs::write(daemon.volumes().join("kept/file"), "kept").unwrap();
    daemon.docker("Remove", r#"{"Name":"kept"}"#);
    let refused = restore(&daemon, "kept", &url, "");
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(content(&daemon, "kept"), b"kept");
    // Its name is that of a volume, or of a snapshot.
    assert_eq!(restore(&daemon, "src", &url, "").body, "Volume src already exists \n");
    assert_eq!(restore(&daemon, "src-snap", &url, "").status, 400);
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    let daemon = Daemon::start();
    snapshot(&daemon, "src", &noise(1, 1 << 20));
    let url = back_up(&daemon, "src", "");
    // The data is gone, the record is there.
    let volume = daemon.dir.path().join("store/convoy-objectstore/volumes/sr/c!/src!");
    for entry in walk(&volume) {
        let name = entry.display().to_string();
        if !name.ends_with("volume.cfg") && !name.contains("/backups/") {
            std::fs::remove_file(&entry).unwrap();
        }
    }
    let before = names(&daemon.volumes());
    let refused = restore(&daemon, "res", &url, "");
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(names(&daemon.volumes()), before);
    assert_eq!(daemon.call("POST", "/volumes/create", r#"{"Name":"res"}"#).body, "res", "its name is free");
    assert_eq!(names(&daemon.volumes().join("res")), Vec::<String>::new());
    let all = format!("{{\"URL\":\"{}\"}}", destination(&daemon));
    let report = daemon.call("POST", "/backups/verify", &all).body;
    assert!(report.contains("\"Message\""), "{report}");
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(walk(&entry));
        } else {
            found.push(entry);
        }
    }
    found
}

/// A call that reports progress, and its lines.
fn stream(daemon: &Daemon, path: &str, body: &str) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: \
         application/x-ndjson\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    BufReader::new(stream)
}

fn lines(reader: BufReader<UnixStream>) -> Vec<String> {
    reader.lines().map(Result::unwrap).filter(|line| line.starts_with('{')).collect()
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < give_up, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn progress_comes_line_by_line() {
    let daemon = Daemon::start();
    snapshot(&daemon, "vol1", &noise(2, LARGE));
    let body = format!("{{\"URL\":\"{}\",\"SnapshotName\":\"vol1-snap\"}}", destination(&daemon));
    let told = lines(stream(&daemon, "/v1/backups/create", &body));
    assert!(told[0].starts_with("{\"Job\":\"job-"), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("{\"Progress\":{\"Phase\":\"")), "{told:?}");
    let last = told.last().unwrap();
    assert!(last.starts_with("{\"Result\":\"vfs://") && last.contains("u0026volume=vol1"), "{last}");
    let failed = lines(stream(&daemon, "/v1/backups/create", "{\"SnapshotName\":\"nosuch\"}"));
    let error = "{\"Error\":{\"Status\":400,\"Kind\":\"not_found\",\"Message\":\"Cannot find volume of snapshot nosuch\",";
    let last = failed.last().unwrap();
    assert!(last.starts_with(error) && last.contains("\"Plain\":\"there is no snapshot nosuch\","), "{last}");
}

#[test]
fn a_backup_delays_no_mount_and_is_cancelled_by_hanging_up() {
    let daemon = Daemon::start();
    snapshot(&daemon, "vol1", &noise(3, LARGE));
    let body =
        format!("{{\"URL\":\"{}\",\"SnapshotName\":\"vol1-snap\",\"Format\":\"v0\"}}", destination(&daemon));
    let reader = stream(&daemon, "/v1/backups/create", &body);
    wait("the backup", || daemon.call("GET", "/jobs", "").body.contains("\"Phase\": \"reading\""));
    let began = Instant::now();
    let volume = r#"{"Name":"vol1","ID":"container"}"#;
    assert!(daemon.docker("Mount", volume).contains("Mountpoint"));
    assert_eq!(daemon.docker("Unmount", volume), "{}");
    assert_eq!(daemon.docker("Create", r#"{"Name":"vol2"}"#), "{}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let refused = daemon.call("DELETE", "/volumes/", r#"{"VolumeName":"vol1"}"#);
    assert_eq!(refused.body, "volume vol1 is being backed up\n");
    assert!(daemon.call("GET", "/jobs", "").body.contains("\"Kind\": \"backup create\""), "it still runs");
    drop(reader);
    wait("the end of the job", || daemon.call("GET", "/jobs", "").body == "{}");
    let listed = daemon.call("GET", "/backups/list", &format!("{{\"URL\":\"{}\"}}", destination(&daemon)));
    assert_eq!(listed.body, "{}", "a cancelled backup is none");
    assert_eq!(daemon.call("DELETE", "/volumes/", r#"{"VolumeName":"vol1"}"#).status, 200);
}

#[test]
fn a_stop_lets_running_work_come_to_an_end() {
    let mut daemon = Daemon::start();
    snapshot(&daemon, "vol1", &noise(6, LARGE));
    let body = format!("{{\"URL\":\"{}\",\"SnapshotName\":\"vol1-snap\"}}", destination(&daemon));
    let reader = stream(&daemon, "/backups/create", &body);
    wait("the backup", || daemon.call("GET", "/jobs", "").body.contains("backup create"));
    assert!(daemon.stop().success());
    let last = lines(reader).pop().unwrap();
    // Finished, or cancelled on a slow machine; told in any case.
    assert!(last.starts_with("{\"Result\"") || last.contains("\"Kind\":\"cancelled\""), "{last}");
    daemon.launch();
    let listed =
        daemon.call("GET", "/backups/list", &format!("{{\"URL\":\"{}\"}}", destination(&daemon))).body;
    assert_eq!(listed.contains("BackupURL"), last.starts_with("{\"Result\""), "{listed}");
}

#[test]
fn a_restore_is_cancelled_by_its_job() {
    let daemon = Daemon::start();
    snapshot(&daemon, "vol1", &noise(4, LARGE));
    let url = back_up(&daemon, "vol1", "");
    let reader = stream(&daemon, "/volumes/create", &format!("{{\"Name\":\"res\",\"BackupURL\":\"{url}\"}}"));
    let mut id = String::new();
    wait("the restore", || {
        let jobs = daemon.call("GET", "/jobs", "").body;
        id = jobs.split("\"ID\": \"").nth(1).unwrap_or_default().split('"').next().unwrap().to_owned();
        !id.is_empty()
    });
    assert!(!daemon.docker("List", "").contains("\"res\""), "it is no volume before it is whole");
    assert_eq!(daemon.call("POST", "/jobs/cancel", &format!("{{\"ID\":\"{id}\"}}")).status, 200);
    let last = lines(reader).pop().unwrap();
    assert!(last.contains("\"Kind\":\"cancelled\""), "{last}");
    assert_eq!(names(&daemon.volumes()), ["config", "vol1"]);
    assert_eq!(daemon.call("DELETE", "/jobs/job-1", "").status, 404);
    assert_eq!(restore(&daemon, "res", &url, "").status, 200);
}

#[test]
fn killed_while_it_backs_up_and_while_it_restores() {
    let mut daemon = Daemon::start();
    let data = noise(5, LARGE);
    snapshot(&daemon, "vol1", &data);
    let destination = destination(&daemon);
    let body = format!("{{\"URL\":\"{destination}\",\"SnapshotName\":\"vol1-snap\"}}");
    let running = stream(&daemon, "/backups/create", &body);
    wait("the backup", || !daemon.call("GET", "/jobs", "").body.contains("{}"));
    daemon.kill();
    drop(running);
    daemon.launch();
    let listed = daemon.call("GET", "/backups/list", &format!("{{\"URL\":\"{destination}\"}}")).body;
    assert_eq!(listed, "{}", "what was not finished is not there");
    let url = back_up(&daemon, "vol1", "");

    let running =
        stream(&daemon, "/volumes/create", &format!("{{\"Name\":\"res\",\"BackupURL\":\"{url}\"}}"));
    wait("the restore", || !daemon.call("GET", "/jobs", "").body.contains("{}"));
    daemon.kill();
    drop(running);
    daemon.launch();
    assert!(!daemon.docker("List", "").contains("\"res\""));
    assert_eq!(names(&daemon.volumes()), ["config", "vol1"], "nothing is left of it");
    assert_eq!(restore(&daemon, "res", &url, "").status, 200);
    assert!(content(&daemon, "res") == data);
}
