//! Schedules: what is missed, cut off, kept and told; on a real daemon with the embedded driver.

#![allow(unsafe_code, reason = "a test does by hand what the product must withstand")]

use crate::harness::Daemon;
use serde_json::Value;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A daemon with schedules in its settings, and a directory beside it.
pub(crate) struct Scheduled {
    pub(crate) daemon: Daemon,
    dir: tempfile::TempDir,
}

impl Scheduled {
    /// `DIR` in the settings is the directory.
    pub(crate) fn start(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("convoy.toml");
        std::fs::create_dir(dir.path().join("store")).unwrap();
        std::fs::write(&file, settings.replace("DIR", &dir.path().display().to_string())).unwrap();
        let mut daemon = Daemon::prepare(&["--config", &file.display().to_string()]);
        daemon.launch();
        Self { daemon, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn store(&self) -> String {
        format!("vfs://{}", self.path("store").display())
    }

    /// A volume with something in it.
    pub(crate) fn volume(&self, name: &str) {
        self.daemon.docker("Create", &format!(r#"{{"Name":"{name}"}}"#));
        std::fs::write(self.daemon.volumes().join(name).join("file"), name).unwrap();
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.daemon.cli(arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {output:?}"))
    }

    fn known(&self, schedule: &str, volume: &str) -> Value {
        self.json(&["schedule", "list"])[schedule]["Volumes"][volume].clone()
    }

    pub(crate) fn backups(&self) -> Vec<String> {
        // The command line says that there was never a backup at a destination; the API answers as 0.5 did.
        let listed = self.daemon.call("GET", "/backups/list", &format!("{{\"URL\":\"{}\"}}", self.store()));
        let listed: Value = serde_json::from_str(&listed.body).unwrap();
        listed.as_object().unwrap().keys().cloned().collect()
    }

    fn snapshots(&self, volume: &str) -> Vec<String> {
        let inspected = self.json(&["inspect", volume]);
        inspected["Snapshots"].as_object().unwrap().keys().cloned().collect()
    }

    /// Has the record say that nothing ran since then, while the daemon is down.
    fn backdate(&self, schedule: &str, volume: &str, last: &str) {
        let record =
            format!(r#"{{"version":1,"schedule":"{schedule}","volume":"{volume}","last":"{last}"}}"#);
        std::fs::write(
            self.daemon.root().join("schedules").join(schedule).join(format!("{volume}.json")),
            record,
        )
        .unwrap();
    }

    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let give_up = Instant::now() + Duration::from_secs(30);
        while !done(self) {
            assert!(Instant::now() < give_up, "{what}: {}", self.json(&["schedule", "list"]));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

pub(crate) const NIGHTLY: &str = r#"
[[schedule]]
name = "nightly"
cron = "0 3 * * *"
timezone = "UTC"
volumes = ["db*"]
exclude = ["*-cache"]
kind = "backup"
destination = "vfs://DIR/store"
keep = { last = 2 }
"#;

#[test]
fn what_was_missed_is_made_good_once_over_kills() {
    let mut it = Scheduled::start(NIGHTLY);
    for volume in ["db1", "db-cache", "web"] {
        it.volume(volume);
    }
    let listed = it.json(&["schedule", "list"]);
    let volumes: Vec<_> = listed["nightly"]["Volumes"].as_object().unwrap().keys().collect();
    assert_eq!(volumes, ["db1"], "neither what is excluded nor what is not meant");
    assert!(it.known("nightly", "db1")["Next"].as_str().unwrap().ends_with("T03:00:00Z"));
    assert!(it.backups().is_empty(), "nothing runs before its time");

    it.daemon.stop();
    it.backdate("nightly", "db1", "2026-01-01T03:00:00Z");
    it.daemon.launch();
    it.wait("a missed run is made good", |it| it.known("nightly", "db1")["State"] == "success");
    let made = it.backups();
    assert_eq!(made.len(), 1, "once, however many were missed");
    it.daemon.kill();
    it.daemon.launch();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(it.backups(), made, "and not again after a kill");
    let events = String::from_utf8(it.daemon.cli(&["events", "--no-follow"]).stdout).unwrap();
    assert!(!events.contains("schedule."), "{events}");
}

#[test]
fn a_run_that_was_killed_is_repeated_and_leaves_one_of_each() {
    let slow = format!(
        "{NIGHTLY}\n[[schedule.after]]\ncommand = [\"sh\", \"-c\", \"test -e DIR/again || sleep 60\"]\n"
    );
    let mut it = Scheduled::start(&slow);
    it.volume("db1");
    it.daemon.stop();
    it.backdate("nightly", "db1", "2026-01-01T03:00:00Z");
    it.daemon.launch();
    it.wait("the snapshot is made", |it| it.snapshots("db1").len() == 1);
    assert_eq!(it.known("nightly", "db1")["State"], "running");
    let jobs = it.json(&["jobs"]);
    assert!(jobs.as_object().unwrap().values().any(|job| job["Kind"] == "scheduled backup"), "{jobs}");
    it.daemon.kill();
    std::fs::write(it.path("again"), "").unwrap();
    let before = it.snapshots_after_launch();
    it.wait("it is repeated", |it| it.known("nightly", "db1")["State"] == "success");
    assert_eq!((it.snapshots("db1"), it.backups().len()), (before, 1), "with what was made before the kill");
}

impl Scheduled {
    fn snapshots_after_launch(&mut self) -> Vec<String> {
        self.daemon.launch();
        self.snapshots("db1")
    }
}

#[test]
fn what_is_old_is_deleted_and_what_is_left_is_whole() {
    let it = Scheduled::start(NIGHTLY);
    it.volume("db1");
    let by_hand = {
        it.daemon.cli(&["snapshot", "create", "db1", "--name", "mine"]);
        it.json(&["backup", "create", "mine", "--dest", &it.store(), "--verbose"])["URL"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut made = Vec::new();
    for content in ["one", "two", "three"] {
        std::fs::write(it.daemon.volumes().join("db1/changing"), content).unwrap();
        let report = it.json(&["schedule", "run", "nightly"]);
        assert_eq!(report["Runs"][0]["Error"], "", "{report}");
        made.push(report["Runs"][0]["Backup"].as_str().unwrap().to_owned());
        // Names are to the second.
        std::thread::sleep(Duration::from_millis(1100));
    }
    let left = it.backups();
    assert_eq!(left.len(), 3, "two of the schedule's and mine: {left:?}");
    assert!(left.contains(&by_hand) && !left.contains(&made[0]));
    let snapshots = it.snapshots("db1");
    assert_eq!(snapshots.len(), 2, "mine, and the one the next backup builds on: {snapshots:?}");
    for (number, content) in [(1, "two"), (2, "three")] {
        let name = format!("restored{number}");
        let restored = it.daemon.cli(&["create", &name, "--backup", &made[number]]);
        assert!(restored.status.success(), "{restored:?}");
        let dir = it.daemon.volumes().join(&name);
        assert_eq!(std::fs::read_to_string(dir.join("changing")).unwrap(), content);
        assert_eq!(std::fs::read_to_string(dir.join("file")).unwrap(), "db1", "what all of them share");
    }
    let verified = it.json(&["backup", "verify", &it.store(), "--read-data"]);
    assert!(verified["Problems"].as_array().is_none_or(Vec::is_empty), "{verified}");

    let dry = it.json(&["schedule", "retain", "nightly", "--dry-run"]);
    let why = |name: &str| {
        let kept = dry["Kept"].as_array().unwrap();
        kept.iter().find(|kept| kept["Name"] == name).unwrap()["Reasons"].to_string()
    };
    assert!(why(&by_hand).contains("not made by this schedule"), "{dry}");
    assert!(why(&made[2]).contains("the last good backup") && why(&made[1]).contains("last"), "{dry}");
    assert_eq!(dry["Removed"], Value::Array(vec![]));
    assert!(
        it.daemon
            .cli(&["schedule", "run", "none"])
            .stdout
            .starts_with(b"{\n\t\"Error\": \"Error response from server, schedule none not found")
    );
}

#[test]
fn a_schedule_that_is_for_no_volume_says_so() {
    let settings = "[[schedule]]\nname = \"nightly\"\ncron = \"@daily\"\nvolumes = [\"db-*\", \
        \"web\"]\nexclude = [\"db-test\"]\nkind = \"snapshot\"\n";
    let it = Scheduled::start(settings);
    it.volume("db-test");
    for form in ["json", "table"] {
        let ran = it.daemon.cli(&["schedule", "run", "nightly", "--output", form]);
        let told = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{told}");
        assert!(
            told.contains("nothing was run") && told.contains("volumes db-*, web; exclude db-test"),
            "{told}"
        );
        match form {
            "json" => {
                let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
                let expected =
                    serde_json::json!({ "Runs": [], "ChosenBy": "volumes db-*, web; exclude db-test" });
                assert_eq!(report, expected);
            }
            _ => assert_eq!(String::from_utf8_lossy(&ran.stdout), ""),
        }
    }
    it.volume("web");
    let ran = it.json(&["schedule", "run", "nightly"]);
    assert_eq!(ran["Runs"][0]["Volume"], "web");
    assert_eq!(ran["ChosenBy"], Value::Null);
}

const FAILING: &str = r#"
[[schedule]]
name = "often"
cron = "@yearly"
volumes = ["vol1"]
kind = "snapshot"
timeout = "2s"
before = [{ command = ["sh", "-c", "echo $CONVOY_SCHEDULE $CONVOY_VOLUME >> DIR/before; . DIR/before.sh"] }]
after = [{ command = ["sh", "-c", "echo $CONVOY_RESULT >> DIR/after"] }]
notify = [{ webhook = "http://127.0.0.1:PORT/hook", headers = { X-Token = "abc" } },
          { command = ["sh", "-c", "cat >> DIR/told"], on = "always" }]
"#;

#[test]
fn hooks_decide_failures_are_told_and_time_is_limited() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || (0..2).map(|_| answer(&listener)).collect::<Vec<String>>());
    let it = Scheduled::start(&FAILING.replace("PORT", &port.to_string()));
    it.volume("vol1");
    let script = it.path("before.sh");

    std::fs::write(&script, "exit 0").unwrap();
    assert_eq!(it.json(&["schedule", "run", "often"])["Runs"][0]["Error"], "");
    assert_eq!(it.snapshots("vol1").len(), 1);

    std::fs::write(&script, "echo the database is away >&2; exit 7").unwrap();
    let output = it.daemon.cli(&["schedule", "run", "often"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("before the snapshot: sh failed (exit status: 7): the database is away"), "{text}");
    assert_eq!(it.snapshots("vol1").len(), 1, "what could not be prepared is not kept");

    std::fs::write(&script, "sleep 30").unwrap();
    let began = Instant::now();
    let late = it.json(&["schedule", "run", "often"]);
    assert_eq!(late["Runs"][0]["Error"], "it took longer than 2 s and was cancelled");
    assert!(began.elapsed() < Duration::from_secs(20));

    let heard = heard.join().unwrap();
    for request in &heard {
        assert!(request.starts_with("POST /hook ") && request.contains("x-token: abc"), "{request}");
        assert!(request.contains(r#""Schedule":"often""#) && request.contains(r#""Result":"failure""#));
    }
    assert!(heard[0].contains("the database is away") && heard[1].contains("longer than 2 s"));
    let read = |name: &str| std::fs::read_to_string(it.path(name)).unwrap();
    assert_eq!(read("before"), "often vol1\n".repeat(3));
    assert_eq!(read("after"), "success\nfailure\nfailure\n", "also when it failed");
    assert_eq!(read("told").matches(r#""Volume":"vol1""#).count(), 3);
    let known = it.known("often", "vol1");
    assert!(known["State"] == "failure" && known["LastSuccess"] != "", "{known}");

    let doctor = it.daemon.cli(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(3), "errors");
    let told = String::from_utf8(doctor.stdout).unwrap();
    assert!(told.contains("the last run for volume vol1 failed"), "{told}");
}

#[test]
fn a_backup_whose_hook_failed_is_no_success() {
    let it = Scheduled::start(&format!(
        "{NIGHTLY}after = [{{ command = [\"sh\", \"-c\", \"test -e DIR/well\"] }}]\n"
    ));
    it.volume("db");
    std::fs::write(it.path("well"), "").unwrap();
    assert_eq!(it.json(&["schedule", "run", "nightly"])["Runs"][0]["Error"], "");
    let well = it.known("nightly", "db")["LastSuccess"].clone();
    std::fs::remove_file(it.path("well")).unwrap();
    // Times are told in seconds.
    std::thread::sleep(Duration::from_millis(1100));
    let ran = it.json(&["schedule", "run", "nightly"])["Runs"][0].clone();
    assert!(
        ran["Backup"] != "" && ran["Error"].as_str().unwrap().starts_with("after the snapshot: "),
        "{ran}"
    );
    let known = it.known("nightly", "db");
    assert_eq!((&known["State"], &known["LastSuccess"]), (&"failure".into(), &well), "{known}");
    assert_eq!(it.backups().len(), 2, "the backup is there all the same");
}

/// Answers one request and returns it.
fn answer(listener: &std::net::TcpListener) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if count == 0 || length == Some(body.len()) {
            break;
        }
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
    String::from_utf8(request).unwrap()
}

const TWO: &str = r#"
[scheduling]
parallel = 1
stalled-after = "2s"

[[schedule]]
name = "away"
cron = "@yearly"
volumes = ["db1"]
kind = "backup"
destination = "vfs://DIR/away"
notify = [{ command = ["sh", "-c", "cat >> DIR/told"] }]

[[schedule]]
name = "here"
cron = "@yearly"
volumes = ["web"]
kind = "backup"
destination = "vfs://DIR/store"
"#;

/// Lets every opening of a file hang in the kernel until the descriptor is closed, as with a file whose
/// server is gone; at the latest until the time to break a lease is over, which is 45 s.
fn hang(path: &std::path::Path) -> std::fs::File {
    use std::os::fd::AsRawFd;
    const F_SETSIG: libc::c_int = 10;
    let file = std::fs::File::options().write(true).open(path).unwrap();
    // SAFETY: neither call touches memory. The signal that tells of an opening is one that is ignored.
    unsafe {
        assert_eq!(libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG), 0);
        assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK), 0);
    }
    file
}

#[test]
fn a_run_whose_storage_hangs_is_told_of_and_holds_up_nobody() {
    let it = Scheduled::start(TWO);
    std::fs::create_dir(it.path("away")).unwrap();
    for volume in ["db1", "web"] {
        it.volume(volume);
    }
    let first = it.json(&["schedule", "run", "away"]);
    assert_eq!(first["Runs"][0]["Error"], "", "{first}");
    let record = it.path("away/convoy-objectstore/volumes/db/1!/db1!/volume.cfg");
    let held = hang(&record);

    let mut away = it.daemon.command().args(["schedule", "run", "away"]).spawn().unwrap();
    it.wait("the run has the only slot", |it| it.known("away", "db1")["State"] == "running");
    let here = it.json(&["schedule", "run", "here"]);
    assert_eq!(here["Runs"][0]["Error"], "", "{here}");
    assert!(away.try_wait().unwrap().is_none(), "it hangs");
    let jobs = it.json(&["jobs"]);
    let job = jobs.as_object().unwrap().values().find(|job| job["Volume"] == "db1").unwrap();
    assert!(job["IdleSeconds"].as_u64().unwrap() >= 2, "{jobs}");
    let told = || std::fs::read_to_string(it.path("told")).unwrap_or_default();
    it.wait("somebody is told", |_| told().ends_with('}'));
    let report: Value = serde_json::from_str(&told()).unwrap();
    assert_eq!(report["Result"], "stall", "{report}");
    assert!(report["Error"].as_str().unwrap().starts_with("nothing has moved for 2 s"), "{report}");
    let events =
        String::from_utf8(it.daemon.cli(&["events", "--no-follow", "--since", "1h"]).stdout).unwrap();
    assert_eq!(events.matches("\"schedule.stall\"").count(), 1, "{events}");

    // It answers again.
    drop(held);
    assert!(away.wait().unwrap().success());
    assert_eq!(it.known("away", "db1")["State"], "success");
}

#[test]
fn a_run_that_is_under_way_is_not_begun_again() {
    let slow = FAILING.replace("timeout = \"2s\"\n", "").replace("PORT", "1");
    let it = Scheduled::start(&slow);
    it.volume("vol1");
    std::fs::write(
        it.path("before.sh"),
        "while ! test -e $0.go && ! test -e DIR/go; do sleep 0.05; done"
            .replace("DIR", &it.dir.path().display().to_string()),
    )
    .unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| it.json(&["schedule", "run", "often"]));
        it.wait("it runs", |it| it.known("often", "vol1")["State"] == "running");
        let second = it.json(&["schedule", "run", "often"]);
        assert_eq!(second["Runs"][0]["Error"], "a run of this schedule is under way for it");
        let told = it.json(&["events", "--no-follow", "--kind", "schedule.skip"]);
        assert_eq!(told["Message"], "often: a run of this schedule is under way for it");
        std::fs::write(it.path("go"), "").unwrap();
        assert_eq!(first.join().unwrap()["Runs"][0]["Error"], "");
    });
    assert_eq!(it.snapshots("vol1").len(), 1);
}
