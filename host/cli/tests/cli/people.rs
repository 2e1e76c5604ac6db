//! What people see. Longer answers are in `snapshots/`: `INSTA_UPDATE=always` writes them anew, to be read
//! before they are committed.

use crate::daemon::{Daemon, answer, stream};
use crate::run::{convoy, run};
use insta::assert_snapshot;
use std::process::Command;

/// The answer that 0.5 gave to this command line, from the recordings.
fn recorded(line: &str) -> String {
    let text = include_str!("../recordings/console.md");
    let start = format!("$ convoy {line}\n[exit 0]\n");
    let block = text.split(&start).nth(1).unwrap().split("\n```").next().unwrap();
    block.split_once('\n').unwrap().1.to_owned()
}

fn seen(line: &[&str], answer_text: &str) -> String {
    let daemon = Daemon::new([answer(answer_text)]);
    let ran = run(&daemon.socket(), &[line, &["--output", "table"]].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(!ran.stdout.contains('\x1b'), "colours in a pipe: {:?}", ran.stdout);
    ran.stdout
}

#[test]
fn volumes_are_a_table() {
    let text = recorded("--verbose create vmvol --vm --size 64M");
    let map = format!("{{\"vmvol\": {text}}}");
    assert_eq!(
        seen(&["list"], &map),
        "NAME    DRIVER   SIZE        USED   SNAPSHOTS   CREATED               MOUNTED AT\n\
         vmvol   vfs      64.00 MiB   -      0           2026-11-23 08:38:07   -\n"
    );
    let used = map.replace("\"Size\":", "\"Used\": \"1048576\", \"Size\":");
    assert!(seen(&["list"], &used).contains(" 64.00 MiB   1.00 MiB   0 "), "{}", seen(&["list"], &used));
    assert_eq!(seen(&["list"], "{}"), "NAME   DRIVER   SIZE   USED   SNAPSHOTS   CREATED   MOUNTED AT\n");
}

#[test]
fn what_drivers_say_is_a_table_for_each_of_them() {
    let info = |driver: &str, own: &str| {
        format!(
            "{{\"Driver\": \"{driver}\", \"MountPoint\": \"\", \"Size\": \"1048576\", \"VolumeName\": \"v\", \
             {own}}}"
        )
    };
    let (one, two) =
        (info("vfs", "\"Path\": \"/srv/v1\""), info("ebs", "\"IOPS\": \"100\", \"State\": \"in-use\""));
    assert_snapshot!(
        "volumes_as_drivers_say",
        seen(&["list", "--driver"], &format!("{{\"v1\": {one}, \"v2\": {two}}}"))
    );
}

#[test]
fn snapshots_are_listed_by_volume_and_age() {
    let volume = |name: &str, snapshots: [(&str, u8); 2]| {
        let one = |(name, hour): (&str, u8)| {
            format!(
                "\"{name}\": {{\"Name\": \"{name}\", \"CreatedTime\": \"Mon Nov 23 0{hour}:00:00 +0000 \
                 2026\", \"DriverInfo\": {{\"Size\": \"1024\"}}}}"
            )
        };
        format!("{{\"Name\": \"{name}\", \"Snapshots\": {{{}, {}}}}}", one(snapshots[0]), one(snapshots[1]))
    };
    let (v1, v2) = (volume("v1", [("first", 2), ("second", 1)]), volume("v2", [("first", 3), ("zz", 4)]));
    assert_snapshot!("snapshots", seen(&["snapshot", "list"], &format!("{{\"v1\": {v1}, \"v2\": {v2}}}")));
    assert_eq!(seen(&["snapshot", "list", "v1"], &v1).lines().count(), 3);
    let daemon = Daemon::new([answer(&v1)]);
    let listed = run(&daemon.socket(), &["snapshot", "list", "v1"]).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (&listed[0]["Name"], &listed[0]["VolumeName"], &listed[1]["Name"]),
        (&"second".into(), &"v1".into(), &"first".into())
    );
}

#[test]
fn a_backup_that_was_made_says_what_it_took() {
    let cost = r#"{"URL": "vfs:///b?backup=backup-1&volume=v", "Bytes": 1073741824, "BytesRead": 10485760,
        "BytesAdded": 5242880, "Files": 12, "Millis": 2340, "Warnings": 2}"#;
    let line = ["backup", "create", "s1", "--dest", "vfs:///b"];
    assert_eq!(
        seen(&line, cost),
        "'vfs:///b?backup=backup-1&volume=v'\n\
         1.00 GiB in 12 files, 10.00 MiB read, 5.00 MiB added to the store, in 2.3 s; 2 left out, see the \
         warnings.\n"
    );
    // A storage system does not say what its own backups cost.
    assert_eq!(seen(&line, r#"{"URL": "ebs://r/snap-1"}"#), "'ebs://r/snap-1'\n");
    // Scripts get the URL as ever.
    let daemon = Daemon::new([answer("vfs:///b?backup=backup-1\\u0026volume=v")]);
    assert_eq!(run(&daemon.socket(), &line).stdout, "vfs:///b?backup=backup-1\\u0026volume=v\n");
    assert!(!daemon.asked()[0].body.contains("Details"), "{:?}", daemon.asked());
}

/// What a terminal of so many columns shows.
fn in_terminal(columns: usize, line: &str, answer_text: &str) -> String {
    let daemon = Daemon::new([answer(answer_text)]);
    let program = convoy(&daemon.socket()).get_program().display().to_string();
    let command =
        format!("stty rows 24 cols {columns}; {program} --socket {} {line}", daemon.socket().display());
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env("TERM", "xterm").env("NO_COLOR", "1").env("TZ", "UTC");
    String::from_utf8(script.output().unwrap().stdout).unwrap().replace('\r', "")
}

#[test]
fn tables_fit_the_terminal_and_wide_shows_them_whole() {
    let listed = recorded("backup list vfs:///srv/backups");
    let whole = "'vfs:///srv/backups?backup=backup-52da4abd281741af&volume=vol3'";
    let fitted = in_terminal(100, "backup list vfs:///srv/backups", &listed);
    assert!(fitted.lines().all(|line| line.chars().count() <= 100), "{fitted}");
    assert!(fitted.contains("'vfs:///srv") && fitted.contains("…") && !fitted.contains(whole), "{fitted}");
    assert!(fitted.ends_with("Shortened to fit: --wide shows all.\n"), "{fitted}");
    let wide = in_terminal(100, "backup list vfs:///srv/backups --wide", &listed);
    assert!(wide.contains(whole) && !wide.contains('…'), "{wide}");
    assert!(in_terminal(200, "backup list d", &listed).contains(whole));
}

#[test]
fn a_backup_shows_its_size_its_files_and_what_it_added() {
    let listed = r#"{"u1": {"BackupName": "b1", "BackupURL": "vfs:///b?backup=b1&volume=v", "VolumeName": "v",
        "VolumeSize": "0", "SnapshotName": "s1", "CreatedTime": "Mon Nov 23 08:38:07 +0000 2026",
        "Bytes": "2048", "BytesAdded": "0", "Files": "3", "Warnings": "0"},
        "u2": {"BackupName": "b2", "BackupURL": "vfs:///b?backup=b2&volume=w", "VolumeName": "w",
        "VolumeSize": "1073741824", "SnapshotName": "s2", "CreatedTime": "Mon Nov 23 08:38:07 +0000 2026",
        "Bytes": "4096", "BytesAdded": "1024", "Warnings": "0"}}"#;
    let text = seen(&["backup", "list", "d"], listed);
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(rows[1][3..7], ["2.00 KiB", "3", "0 B", "no"], "{text}");
    assert_eq!(rows[2][3..7], ["4.00 KiB", "-", "1.00 KiB", "no"], "{text}");
    let one: serde_json::Value = serde_json::from_str(listed).unwrap();
    let text = seen(&["backup", "inspect", "u2"], &one["u2"].to_string());
    assert!(text.contains("4.00 KiB\nSize of the volume:  1.00 GiB\n"), "{text}");
    let text = seen(&["backup", "inspect", "u1"], &one["u1"].to_string());
    assert!(
        text.contains("Size:                2.00 KiB\n") && text.contains("Files:               3\n"),
        "{text}"
    );
}

#[test]
fn what_is_kept_is_a_table_with_what_to_type() {
    let kept = r#"{"Kept": [{"Name": "db", "Driver": "vfs", "Size": 67108864, "AtLeast": true, "Snapshots": 2,
        "Since": "Mon Nov 23 08:38:07 +0000 2026", "Path": "/srv/volumes/db", "Note": "a link\u001b[2J"},
        {"Name": "web", "Driver": "cloud", "Size": null, "Snapshots": 0}], "Failed": {"nfs": "no answer"}}"#;
    assert_snapshot!("kept", seen(&["list", "--kept"], kept));
    assert!(!seen(&["list", "--kept"], r#"{"Kept": []}"#).contains("convoy create"));
}

#[test]
fn everything_recorded_can_be_shown() {
    assert_snapshot!("info", seen(&["info"], &recorded("info")));
    assert_snapshot!("volume", seen(&["inspect", "vol1"], &recorded("inspect vol1")));
    let snapshot = recorded("snapshot inspect snap3");
    assert_snapshot!("snapshot", seen(&["snapshot", "inspect", "snap3"], &snapshot));
    assert_snapshot!("backups", seen(&["backup", "list", "d"], &recorded("backup list vfs:///srv/backups")));
    let mounted = recorded("--verbose mount vol3");
    assert_snapshot!("mounted_volume", seen(&["--verbose", "mount", "vol3"], &mounted));
}

#[test]
fn new_answers_can_be_shown() {
    let jobs = r#"{"j1": {"ID": "j1", "Kind": "backup create", "Volume": "v1", "Snapshot": "s1", "State": "running",
        "StartedAt": "Mon Nov 23 08:38:07 +0000 2026",
        "Progress": {"BytesDone": 1024, "BytesTotal": 2048, "BytesPerSecond": 512, "EtaSeconds": 2}}}"#;
    let text = seen(&["jobs"], jobs);
    assert!(text.contains("j1") && text.contains("1.00 KiB of 2.00 KiB, 512 B/s, 2 s left"), "{text}");
    let text = seen(&["jobs"], &jobs.replace("\"Progress\"", "\"IdleSeconds\": 75, \"Progress\""));
    assert!(text.contains(" 1.00 KiB of 2.00 KiB, nothing for 75 s\n"), "{text}");
    let drivers = r#"{"vfs": {"Name": "vfs", "Version": "0.6.0", "Carrier": "process", "PID": 7, "Healthy": true,
        "Default": true, "Capabilities": ["snapshots", "read_tree"],
        "Options": [{"Name": "vfs.path", "Help": "where", "Default": "/x", "Required": false}]}}"#;
    let text = seen(&["driver"], drivers);
    // What is installed beside the program is listed as well, and makes columns wider.
    let row = text.lines().find(|line| line.starts_with("vfs (default) ")).expect(&text);
    assert_eq!(row.split_whitespace().collect::<Vec<_>>()[2..], ["0.6.0", "process", "7", "ready"]);
    assert!(text.contains(" snapshots, read_tree\n") && text.contains("vfs.path"), "{text}");
    let report =
        r#"{"DryRun": true, "Volumes": 2, "Objects": 3, "Bytes": 4096, "Skipped": ["v1: busy\u001b[2J"]}"#;
    assert_eq!(
        seen(&["backup", "prune", "d", "--dry-run"], report),
        "Left alone: v1: busy\u{fffd}[2J\nWould remove 3 objects with 4.00 KiB of 2 volumes.\n"
    );
}

#[test]
fn events_come_as_they_happen() {
    let event = r#"{"Time":"2026-11-23T08:38:07Z","Kind":"volume.create","Volume":"v1","Driver":"vfs"}"#;
    let daemon = Daemon::new([stream(&["", event], |_| Ok(())), stream(&[event], |_| Ok(()))]);
    assert_eq!(run(&daemon.socket(), &["events"]).stdout, format!("{event}\n"));
    let ran = run(&daemon.socket(), &["events", "--output=table"]);
    assert_eq!(ran.stdout, "2026-11-23 08:38:07  volume.create    v1  vfs\n");
}

#[test]
fn a_terminal_is_noticed_and_coloured() {
    let in_terminal = |no_colour: bool| {
        let daemon = Daemon::new([answer("{}")]);
        let program = convoy(&daemon.socket()).get_program().to_owned();
        let mut script = Command::new("script");
        script.args([
            "-qec",
            &format!("{} --socket {} list", program.display(), daemon.socket().display()),
            "/dev/null",
        ]);
        script.env("TERM", "xterm").env_remove("NO_COLOR").env_remove("CI");
        if no_colour {
            script.env("NO_COLOR", "1");
        }
        String::from_utf8(script.output().unwrap().stdout).unwrap()
    };
    assert!(in_terminal(false).starts_with("\x1b[1mNAME "), "{:?}", in_terminal(false));
    assert!(in_terminal(true).starts_with("NAME "), "{:?}", in_terminal(true));
}
