//! What backups take, and the sizes of volumes, snapshots and backups, through the command line and the API
//! of a real daemon.

use crate::harness::write_secret;
use crate::schedules::{NIGHTLY, Scheduled};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes that do not compress, others for each seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ seed;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(bytes).collect()
}

impl Scheduled {
    /// What people see of a command, which ends with this code.
    fn seen(&self, code: i32, words: &[&str]) -> String {
        let ran = self.daemon.cli(&[words, &["--output", "table", "--wide"]].concat());
        assert_eq!(ran.status.code(), Some(code), "{words:?}: {ran:?}");
        String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr)
    }

    /// A backup of a new snapshot of a volume, which has a MiB of noise.
    fn backed_up(&self, volume: &str, snapshot: &str, flags: &[&str]) -> String {
        std::fs::write(self.daemon.volumes().join(volume).join("noise"), noise(1, 1 << 20)).unwrap();
        self.daemon.cli(&["snapshot", "create", volume, "--name", snapshot]);
        let store = self.store();
        let words = [&["backup", "create", snapshot, "--dest", &store, "--verbose"][..], flags].concat();
        self.json(&words)["URL"].as_str().unwrap().to_owned()
    }

    /// The files of a volume in the store whose names end so.
    fn stored(&self, volume: &str, end: &str) -> Vec<PathBuf> {
        let padded = format!("{volume:!<4}");
        let top = self.path("store/convoy-objectstore/volumes");
        let mut dirs = vec![top.join(&padded[..2]).join(&padded[2..4]).join(&padded)];
        let mut found = Vec::new();
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else if path.to_string_lossy().ends_with(end) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

#[test]
fn what_backups_take_is_counted_by_volume_and_in_all() {
    let it = Scheduled::start("");
    for volume in ["data", "web"] {
        it.volume(volume);
    }
    it.backed_up("data", "one", &[]);
    it.backed_up("data", "two", &[]);
    it.backed_up("web", "three", &[]);
    let store = it.store();
    let told = it.json(&["backup", "stats", &store]);
    let [data, web] = told["Volumes"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!((&data["Volume"], &data["Backups"], &data["Files"]), (&"data".into(), &2.into(), &4.into()));
    assert_eq!(data["LogicalBytes"], 2 * ((1 << 20) + 4));
    assert_eq!((&web["Volume"], &web["Backups"]), (&"web".into(), &1.into()));
    for volume in [data, web] {
        let name = volume["Volume"].as_str().unwrap();
        let bytes: u64 = it.stored(name, "").iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(volume["StoredBytes"], bytes, "{volume}");
        assert_eq!(volume["Packs"], it.stored(name, ".pack").len(), "{volume}");
        assert_eq!(volume["UnneededBytes"], 0);
    }
    let dedup = data["DedupRatio"].as_f64().unwrap();
    assert!((1.8..=2.0).contains(&dedup), "two backups of the same: {data}");
    assert!(data["CompressionRatio"].as_f64().unwrap() >= 0.99, "{data}");
    let total = &told["Total"];
    assert_eq!(total["Backups"], 3);
    let chunks = |volume: &Value| volume["Chunks"].as_u64().unwrap();
    assert_eq!(chunks(total), chunks(data) + chunks(web));
    assert!(told["Problems"].as_array().unwrap().is_empty(), "{told}");

    let table = it.seen(0, &["backup", "stats", &store]);
    assert!(table.starts_with("VOLUME   BACKUPS   FILES"), "{table}");
    assert!(table.contains("\nall ") && table.contains("3.00 MiB in 3 backups take"), "{table}");
    let one = it.json(&["backup", "stats", &store, "--volume", "web"]);
    assert_eq!((one["Volumes"].as_array().unwrap().len(), &one["Total"]["Backups"]), (1, &1.into()));

    // Line by line, as a job.
    let body = format!("{{\"URL\":\"{store}\"}}");
    let accept = [("Accept", "application/x-ndjson")];
    let lines = it.daemon.try_call("POST", "/v1/backups/stats", &body, &accept).unwrap().body;
    let lines: Vec<Value> = lines
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines[0]["Job"].as_str().unwrap().starts_with("job-"), "{lines:?}");
    let result: Value = serde_json::from_str(lines.last().unwrap()["Result"].as_str().unwrap()).unwrap();
    assert_eq!(result["Total"], told["Total"]);

    // What an interrupted backup left is told, and a prune removes it.
    let pack = it.stored("data", ".pack").remove(0);
    let stray = pack.parent().unwrap().parent().unwrap().join("00000000000000ab/00000000.pack");
    std::fs::create_dir(stray.parent().unwrap()).unwrap();
    std::fs::copy(&pack, &stray).unwrap();
    let bytes = stray.metadata().unwrap().len();
    assert_eq!(it.json(&["backup", "stats", &store])["Total"]["UnneededBytes"], bytes);
    assert!(it.seen(0, &["backup", "stats", &store]).contains("which `convoy backup prune` removes"));
    it.json(&["backup", "prune", &store]);
    assert_eq!(it.json(&["backup", "stats", &store])["Total"]["UnneededBytes"], 0);
}

#[test]
fn encrypted_stores_are_counted_with_the_key_and_as_far_as_can_be_without() {
    let it = Scheduled::start("");
    it.volume("data");
    let key = it.path("key");
    write_secret(&key, [7; 64]);
    let key = key.display().to_string();
    it.backed_up("data", "one", &["--encryption-key-file", &key]);
    let store = it.store();
    let without = it.json(&["backup", "stats", &store]);
    assert_eq!((&without["Sealed"], &without["Total"]["Chunks"]), (&1.into(), &Value::Null), "{without}");
    assert_eq!((&without["Total"]["Files"], &without["Total"]["UnneededBytes"]), (&2.into(), &0.into()));
    assert!(it.seen(0, &["backup", "stats", &store]).contains("name the key (--encryption-key-file"));
    let with = it.json(&["backup", "stats", &store, "--encryption-key-file", &key]);
    assert!(with["Total"]["Chunks"].as_u64().unwrap() > 0 && with.get("Sealed").is_none(), "{with}");
    let wrong = it.path("wrong");
    write_secret(&wrong, [8; 64]);
    let told =
        it.seen(1, &["backup", "stats", &store, "--encryption-key-file", &wrong.display().to_string()]);
    assert!(told.contains("is not one of this store's keys"), "{told}");
}

#[test]
fn what_cannot_be_counted_is_named_and_the_rest_is_counted() {
    let it = Scheduled::start("");
    let store = it.store();
    let told = it.seen(1, &["backup", "stats", &store]);
    assert!(told.contains("there are no backups at") && told.contains("hint"), "{told}");
    assert!(it.seen(1, &["backup", "stats", "nowhere"]).contains("is no destination"));

    it.volume("data");
    let gone = it.backed_up("data", "one", &[]);
    it.backed_up("data", "two", &[]);
    let told = it.seen(1, &["backup", "stats", &store, "--volume", "other"]);
    assert!(told.contains("there are no backups of volume other"), "{told}");

    let name = gone.split(['?', '&']).find_map(|part| part.strip_prefix("backup=")).unwrap();
    let record = it.stored("data", &format!("backup_{name}.cfg")).remove(0);
    let text = std::fs::read(&record).unwrap();
    std::fs::write(&record, "{").unwrap();
    let pack = it.stored("data", ".pack").remove(0);
    let whole = std::fs::read(&pack).unwrap();
    let mut damaged = whole.clone();
    let at = damaged.len() - 60;
    damaged[at] ^= 1;
    std::fs::write(&pack, damaged).unwrap();
    let told = it.seen(3, &["backup", "stats", &store]);
    assert!(told.contains("data     1 "), "the other backup is counted: {told}");
    assert!(told.contains("Not counted: ") && told.contains(name), "{told}");
    assert!(told.contains(".pack is damaged: its index does not have its checksum"), "{told}");
    let json = it.daemon.cli(&["backup", "stats", &store]);
    assert_eq!(json.status.code(), Some(3));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json["Total"]["UnneededBytes"], json["Problems"].as_array().unwrap().len()),
        (&Value::Null, 2)
    );
    std::fs::write(&record, text).unwrap();
    std::fs::write(&pack, whole).unwrap();

    // When the last backup is gone, the destination stays.
    for url in it.backups() {
        assert!(it.daemon.cli(&["backup", "delete", &url]).status.success());
    }
    let told = it.json(&["backup", "stats", &store]);
    assert_eq!(told["Total"]["Backups"], 0, "{told}");
}

#[test]
fn people_see_sizes_and_files_and_scripts_what_0_5_told() {
    let it = Scheduled::start("");
    it.volume("data");
    let url = it.backed_up("data", "one", &[]);
    let listed = it.seen(0, &["snapshot", "list"]);
    assert!(listed.starts_with("VOLUME   SNAPSHOT   CREATED               SIZE       FILES\n"), "{listed}");
    assert!(listed.contains("1.00 MiB   2\n"), "{listed}");
    assert!(it.seen(0, &["snapshot", "inspect", "one"]).contains("Size:   1.00 MiB\nFiles:  2\n"));
    let listed = it.seen(0, &["list"]);
    assert!(listed.contains("LAST BACKUP   FILES"), "{listed}");
    assert!(listed.contains("1.00 MiB      2 "), "{listed}");
    let inspected = it.seen(0, &["inspect", "data"]);
    assert!(inspected.contains(", 1.00 MiB in 2 files\n") && inspected.contains(&url), "{inspected}");
    assert!(inspected.contains("It added to the store:") && inspected.contains("FILES"), "{inspected}");
    let backups = it.seen(0, &["backup", "list", &it.store()]);
    assert!(backups.contains("1.00 MiB   2 "), "{backups}");

    // As 0.5 told it.
    for words in [
        &["list"][..],
        &["inspect", "data"],
        &["snapshot", "list"],
        &["snapshot", "inspect", "one"],
        &["backup", "inspect", &url],
    ] {
        let text = it.json(words).to_string();
        for key in ["\"Bytes", "\"Files\"", "\"LastBackup", "\"Used\""] {
            assert!(!text.contains(key), "{words:?}: {text}");
        }
    }
    // It survives a restart.
    let mut it = it;
    it.daemon.kill();
    it.daemon.launch();
    assert!(it.seen(0, &["list"]).contains("1.00 MiB      2 "));
}

#[test]
fn a_schedule_gives_its_backups_tags_a_note_and_a_pin() {
    let labels =
        "tags = { env = \"prod\", by = \"nightly\" }\nnote = \"made at night\"\nkeep-until = \"+90d\"\n";
    let it = Scheduled::start(&format!("{NIGHTLY}{labels}"));
    it.volume("db1");
    // A daemon answers a moment before it has taken its schedules.
    let give_up = Instant::now() + Duration::from_secs(20);
    let nightly = loop {
        let listed = it.json(&["schedule", "list"]);
        if listed["nightly"].is_object() {
            break listed["nightly"].clone();
        }
        assert!(Instant::now() < give_up, "{listed}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!((&nightly["Tags"]["env"], &nightly["KeepUntil"]), (&"prod".into(), &"+90d".into()));
    let told = it.seen(0, &["schedule", "list"]);
    assert!(told.contains("by=nightly env=prod; each pinned for 90d; note: made at night\n"), "{told}");

    let report = it.json(&["schedule", "run", "nightly"]);
    assert_eq!(report["Runs"][0]["Error"], "", "{report}");
    let url = report["Runs"][0]["Backup"].as_str().unwrap().to_owned();
    let made = it.json(&["backup", "inspect", &url]);
    assert_eq!((&made["Tag.env"], &made["Tag.by"]), (&"prod".into(), &"nightly".into()));
    assert_eq!((&made["Note"], &made["Pinned"]), (&"made at night".into(), &"true".into()));
    let until: jiff::Timestamp = made["KeepUntil"].as_str().unwrap().parse().unwrap();
    let days = until.duration_since(jiff::Timestamp::now()).as_hours() / 24;
    assert!((89..=90).contains(&days), "{until}");

    let retained = it.json(&["schedule", "retain", "nightly", "--dry-run"]);
    let kept = &retained["Kept"][0];
    assert_eq!((&kept["Reasons"][0], &kept["Tags"]["env"]), (&"pinned".into(), &"prod".into()), "{retained}");
    assert_eq!(kept["KeepUntil"], made["KeepUntil"]);
    let told = it.seen(0, &["schedule", "retain", "nightly", "--dry-run"]);
    assert!(told.contains("LABELS") && told.contains("pinned until 2"), "{told}");
    assert!(told.contains("by=nightly env=prod"), "{told}");
}

/// A comparison has no limit but the tree, and neither side holds it.
#[test]
fn a_diff_of_very_many_changes_is_told_to_its_end() {
    const MANY: usize = 12_000;
    let it = Scheduled::start("");
    it.volume("data");
    it.daemon.cli(&["snapshot", "create", "data", "--name", "before"]);
    let top = it.daemon.volumes().join("data");
    for number in 0..MANY {
        std::fs::write(top.join(format!("{number:05}")), "").unwrap();
    }
    it.daemon.cli(&["snapshot", "create", "data", "--name", "after"]);
    let store = it.store();
    let url = |snapshot: &str| {
        let made = it.json(&["backup", "create", snapshot, "--dest", &store, "--verbose"]);
        made["URL"].as_str().unwrap().to_owned()
    };
    let (one, other) = (url("before"), url("after"));
    for words in [["snapshot", "diff", "before", "after"], ["backup", "diff", &one, &other]] {
        let ran = it.daemon.cli(&words);
        assert!(ran.status.success(), "{ran:?}");
        let text = String::from_utf8(ran.stdout).unwrap();
        let added = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        assert_eq!(added.filter(|change| change["Change"] == "added").count(), MANY);
        let seen = it.seen(0, &words);
        assert!(seen.contains(&format!("{MANY} added (0 B)")) && seen.contains("+ 11999"), "{words:?}");
    }
}
