//! Tags, notes and pins of backups, through the command line of a real daemon.

use crate::schedules::{NIGHTLY, Scheduled};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

impl Scheduled {
    /// A backup of a new snapshot of a volume.
    fn back_up(&self, volume: &str, snapshot: &str, flags: &[&str]) -> String {
        self.daemon.cli(&["snapshot", "create", volume, "--name", snapshot]);
        let store = self.store();
        let words = [&["backup", "create", snapshot, "--dest", &store, "--verbose"][..], flags].concat();
        self.json(&words)["URL"].as_str().unwrap().to_owned()
    }

    /// What a command that is refused says.
    fn refused(&self, words: &[&str]) -> String {
        let ran = self.daemon.cli(&[words, &["--output", "table"]].concat());
        assert!(!ran.status.success(), "{words:?}: {ran:?}");
        String::from_utf8_lossy(&ran.stderr).into_owned()
    }

    fn done(&self, words: &[&str]) {
        let ran = self.daemon.cli(words);
        assert!(ran.status.success(), "{words:?}: {ran:?}");
    }

    /// The URLs of the backups that a filter wants.
    fn filtered(&self, flags: &[&str]) -> Vec<String> {
        let store = self.store();
        let listed = self.json(&[&["backup", "list", &store][..], flags].concat());
        listed.as_object().unwrap().keys().cloned().collect()
    }
}

#[test]
fn labels_are_shown_changed_and_filtered_by() {
    let it = Scheduled::start("");
    it.volume("web");
    let flags = ["--tag", "env=prod", "--tag", "why=upgrade 7=8", "--note", "before the upgrade"];
    let one = it.back_up("web", "one", &[&flags[..], &["--keep-until", "2999-12-30"]].concat());
    let two = it.back_up("web", "two", &[]);
    let shown = it.json(&["backup", "inspect", &one]);
    assert_eq!(shown["Tag.env"], "prod");
    assert_eq!(shown["Tag.why"], "upgrade 7=8");
    assert_eq!(shown["Note"], "before the upgrade");
    assert_eq!((&shown["KeepUntil"], &shown["Pinned"]), (&"2999-12-31T00:00:00Z".into(), &"true".into()));
    let plain = it.json(&["backup", "inspect", &two]);
    assert!(
        plain.as_object().unwrap().keys().all(|key| !key.starts_with("Tag.") && key != "Pinned"),
        "{plain}"
    );

    it.done(&["backup", "tag", &two, "env=test", "empty=", "--note", "a note"]);
    it.done(&["backup", "tag", &one, "env=live", "--remove", "why"]);
    let both: Vec<String> = BTreeSet::from([one.clone(), two.clone()]).into_iter().collect();
    assert_eq!(it.filtered(&["--tag", "env"]), both);
    assert_eq!(it.filtered(&["--tag", "env=live"]), std::slice::from_ref(&one));
    assert_eq!(it.filtered(&["--tag", "env", "--tag", "empty="]), std::slice::from_ref(&two));
    assert_eq!(it.filtered(&["--pinned"]), std::slice::from_ref(&one));
    assert_eq!(it.filtered(&["--tag", "why"]), Vec::<String>::new());
    let table = it.daemon.cli(&["backup", "list", &it.store(), "--output", "table", "--wide"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("pinned until 2999-12-31T00:00:00Z env=live"), "{table}");
    assert!(table.contains("empty env=test"), "{table}");

    // Bad input is refused, with what was expected, and changes nothing.
    let before = it.json(&["backup", "inspect", &one]);
    for (words, expected) in [
        (&["backup", "tag", &one, "no key=1"][..], "invalid tag"),
        (&["backup", "tag", &one, "k=\u{7}"], "invalid value of tag k"),
        (&["backup", "tag", &one, "k=1", "--remove", "k"], "both set and removed"),
        (&["backup", "tag", &one], "required"),
        (&["backup", "tag", &one, "nothing"], "expected KEY=VALUE"),
        (&["backup", "pin", &one, "--until", "2001-01-01"], "is past"),
        (&["backup", "pin", &one, "--until", "tomorrow"], "a date like 2027-01-31"),
        (&["backup", "pin", &one.replace("volume=web", "volume=wep")], "no backup"),
        (
            &["backup", "create", "two", "--dest", &it.store(), "--keep-until", "soon"],
            "a date like 2027-01-31",
        ),
    ] {
        let told = it.refused(words);
        assert!(told.contains(expected), "{words:?}: {told}");
    }
    let many: Vec<String> = (0..70).map(|number| format!("k{number}=v")).collect();
    let many: Vec<&str> =
        ["backup", "tag", &one].into_iter().chain(many.iter().map(String::as_str)).collect();
    assert!(it.refused(&many).contains("at most 64 tags"));
    assert_eq!(it.json(&["backup", "inspect", &one]), before);
    assert_eq!(it.backups().len(), 2);
}

#[test]
fn what_is_pinned_survives_delete_prune_and_retention() {
    let it = Scheduled::start(NIGHTLY);
    it.volume("db1");
    let mut made = Vec::new();
    for content in ["one", "two", "three", "four"] {
        std::fs::write(it.daemon.volumes().join("db1/changing"), content).unwrap();
        let report = it.json(&["schedule", "run", "nightly"]);
        assert_eq!(report["Runs"][0]["Error"], "", "{report}");
        made.push(report["Runs"][0]["Backup"].as_str().unwrap().to_owned());
        if content == "one" {
            it.done(&["backup", "pin", &made[0]]);
        }
        // Names are to the second.
        std::thread::sleep(Duration::from_millis(1100));
    }
    let left = it.backups();
    assert!(left.contains(&made[0]) && !left.contains(&made[1]) && left.len() == 3, "{left:?}");
    let dry = it.json(&["schedule", "retain", "nightly", "--dry-run"]);
    let kept = dry["Kept"].as_array().unwrap();
    let why = kept.iter().find(|kept| kept["Name"] == *made[0]).unwrap()["Reasons"].clone();
    assert_eq!(why, serde_json::json!(["pinned"]));

    let told = it.refused(&["backup", "delete", &made[0]]);
    assert!(told.contains("is pinned (forever)") && told.contains("convoy backup unpin '"), "{told}");
    it.json(&["backup", "prune", &it.store()]);
    let restored = it.daemon.cli(&["create", "restored", "--backup", &made[0]]);
    assert!(restored.status.success(), "{restored:?}");
    assert_eq!(std::fs::read_to_string(it.daemon.volumes().join("restored/changing")).unwrap(), "one");

    it.done(&["backup", "unpin", &made[0]]);
    let retained = it.json(&["schedule", "retain", "nightly"]);
    assert_eq!(retained["Removed"][0]["Name"], *made[0], "{retained}");
    assert_eq!(it.backups().len(), 2);
}

#[test]
fn a_kill_loses_no_label_that_was_acknowledged() {
    let mut it = Scheduled::start("");
    it.volume("web");
    let url = it.back_up("web", "one", &["--note", "note 0"]);
    let mut told = 0_u64;
    for round in 1..=4_u64 {
        let stop = AtomicBool::new(false);
        let (socket, url) = (it.daemon.socket(), url.clone());
        let first = told;
        let last = std::thread::scope(|scope| {
            let tagging = scope.spawn(|| {
                let mut last = first;
                while !stop.load(Ordering::Relaxed) {
                    let mut command = Command::new(env!("CARGO_BIN_EXE_convoy"));
                    command.arg("--socket").arg(&socket).env("CONVOY_CONFIG", "/dev/null");
                    let note = format!("note {}", last + 1);
                    let ran = command.args(["backup", "tag", &url, "--note", &note]).output().unwrap();
                    if !ran.status.success() {
                        break;
                    }
                    last += 1;
                }
                last
            });
            std::thread::sleep(Duration::from_millis(150 * round));
            it.daemon.kill();
            stop.store(true, Ordering::Relaxed);
            tagging.join().unwrap()
        });
        it.daemon.launch();
        let shown = it.json(&["backup", "inspect", &url]);
        let number: u64 = shown["Note"].as_str().unwrap().strip_prefix("note ").unwrap().parse().unwrap();
        // The one that was under way may have been done.
        assert!(number == last || number == last + 1, "acknowledged {last}, found {shown}");
        told = number;
        // The lock of the daemon that was killed keeps nobody waiting.
        let began = std::time::Instant::now();
        it.done(&["backup", "pin", &url]);
        it.done(&["backup", "unpin", &url]);
        assert!(began.elapsed() < Duration::from_secs(8));
    }
    let verified: Value = it.json(&["backup", "verify", &it.store(), "--read-data"]);
    assert!(verified["Problems"].as_array().is_none_or(Vec::is_empty), "{verified}");
}
