//! What is left out of backups: by a call, a schedule and the settings, through a real daemon.

use crate::schedules::{NIGHTLY, Scheduled};
use std::fs;

/// A daemon with a volume `db1` that has something to leave out.
fn start(settings: &str) -> Scheduled {
    let it = Scheduled::start(settings);
    it.volume("db1");
    let root = it.daemon.volumes().join("db1");
    for (path, content) in [
        ("a.tmp", "1"),
        ("b.log", "2"),
        ("cache/deep/data", "3"),
        ("marked/.nobackup", "4"),
        ("marked/data", "5"),
        ("tagged/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55"),
        ("tagged/data", "6"),
        (".convoyignore", "b.log\n"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    it
}

/// The files of a volume that a backup is restored into.
fn restored(it: &Scheduled, name: &str, url: &str) -> Vec<String> {
    let ran = it.daemon.cli(&["create", name, "--backup", url]);
    assert!(ran.status.success(), "{ran:?}");
    let root = it.daemon.volumes().join(name);
    let (mut found, mut dirs) = (Vec::new(), vec![root.clone()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(path.strip_prefix(&root).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_a_call_leaves_out_is_missing_in_the_restore_counted_and_shown() {
    let it = start("");
    it.daemon.cli(&["snapshot", "create", "db1", "--name", "one"]);
    let store = it.store();
    let create = ["backup", "create", "one", "--dest", &store];
    let flags = ["--exclude", "*.tmp", "--exclude", "/cache/", "--exclude-if-present", ".nobackup"];
    let more = ["--exclude-caches", "--allow-convoyignore", "--verbose"];
    let url = it.json(&[&create[..], &flags, &more].concat())["URL"].as_str().unwrap().to_owned();
    let left = [".convoyignore", "file", "marked/.nobackup", "tagged/CACHEDIR.TAG"];
    assert_eq!(restored(&it, "less", &url), left);
    let shown = it.json(&["backup", "inspect", &url]);
    assert_eq!((&shown["ExcludedFiles"], &shown["ExcludedDirectories"]), (&"2".into(), &"3".into()));
    assert_eq!(shown["Excluded.*.tmp"], "1 files, 0 directories");
    assert_eq!(shown["Excluded..convoyignore: b.log"], "1 files, 0 directories");
    assert_eq!(shown["Excluded.has .nobackup"], "0 files, 1 directories");
    assert_eq!(shown["Excluded.CACHEDIR.TAG"], "0 files, 1 directories");
    let told = it.daemon.cli(&[&create[..], &flags, &["--output", "table"]].concat());
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("rules left out 1 files and 2 directories"), "{told}");

    // The next one without rules has everything, though it builds on that.
    let whole = it.json(&[&create[..], &["--verbose"]].concat())["URL"].as_str().unwrap().to_owned();
    assert_eq!(restored(&it, "whole", &whole).len(), 9);
    let verified = it.json(&["backup", "verify", &store, "--read-data"]);
    assert!(verified["Problems"].as_array().is_none_or(Vec::is_empty), "{verified}");

    for (flags, expected) in [
        (&["--exclude", "[z-a]"][..], "expected one as in a .gitignore"),
        (&["--exclude-if-present", "a/b"], "expected the name of a file"),
        (&["--exclude", "*.tmp", "--format", "v0"], "leave out the rules or the format"),
    ] {
        let ran = it.daemon.cli(&[&create[..], flags, &["--output", "table"]].concat());
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!ran.status.success() && told.contains(expected), "{flags:?}: {told}");
    }
    assert_eq!(it.backups().len(), 3);
}

#[test]
fn settings_and_schedules_leave_out_together_and_a_reload_takes_new_rules() {
    let schedule =
        NIGHTLY.to_owned() + "exclude-files = [\"/cache\"]\nexclude-if-present = [\".nobackup\"]\n";
    let settings = |files: &str| format!("{schedule}\n[[exclude]]\nvolumes = [\"db*\"]\nfiles = [{files}]\n");
    let it = start(&settings("\"*.tmp\", \"*.log\""));
    let run = || {
        let report = it.json(&["schedule", "run", "nightly"]);
        assert_eq!(report["Runs"][0]["Error"], "", "{report}");
        // Names are to the second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        report["Runs"][0]["Backup"].as_str().unwrap().to_owned()
    };
    let first = run();
    let expected = [".convoyignore", "file", "marked/.nobackup", "tagged/CACHEDIR.TAG", "tagged/data"];
    assert_eq!(restored(&it, "first", &first), expected);

    let write = |files: &str| {
        let text = settings(files).replace("DIR", it.path("").display().to_string().trim_end_matches('/'));
        fs::write(it.path("convoy.toml"), text).unwrap();
    };
    write("\"*.tmp\", \"[z-a]\"");
    let refused = it.daemon.cli(&["config", "reload"]);
    let told =
        String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && told.contains("[z-a]"), "{told}");
    write("\"*.tmp\"");
    let reloaded = it.daemon.cli(&["config", "reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    let second = run();
    assert!(restored(&it, "second", &second).contains(&"b.log".to_owned()));
}
