//! What people see.

use crate::daemon::{Daemon, answer, stream};
use crate::run::{convoy, run};
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
        "NAME    DRIVER   SIZE        SNAPSHOTS   CREATED               MOUNTED AT\n\
         vmvol   vfs      64.00 MiB   0           2026-11-23 08:38:07   -\n"
    );
    assert_eq!(seen(&["list"], "{}"), "NAME   DRIVER   SIZE   SNAPSHOTS   CREATED   MOUNTED AT\n");
}

#[test]
fn what_is_kept_is_a_table_with_what_to_type() {
    let kept = r#"{"Kept": [{"Name": "db", "Driver": "vfs", "Size": 67108864, "AtLeast": true, "Snapshots": 2,
        "Since": "Mon Nov 23 08:38:07 +0000 2026", "Path": "/srv/volumes/db", "Note": "a link\u001b[2J"},
        {"Name": "web", "Driver": "cloud", "Size": null, "Snapshots": 0}], "Failed": {"nfs": "no answer"}}"#;
    let [header, db, web, note, failed, _, hint] = &seen(&["list", "--kept"], kept)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()[..]
    else {
        panic!("{}", seen(&["list", "--kept"], kept))
    };
    assert_eq!(header, "NAME DRIVER SIZE SNAPSHOTS KEPT SINCE AT");
    assert_eq!(db, "db vfs > 64.00 MiB 2 2026-11-23 08:38:07 /srv/volumes/db");
    assert_eq!(web, "web cloud - 0 - -");
    assert_eq!(note, "db: a link\u{fffd}[2J");
    assert_eq!(failed, "Driver nfs cannot tell what it keeps: no answer");
    assert!(
        hint.contains("`convoy create NAME --driver DRIVER`") && hint.contains("`convoy delete --kept NAME`")
    );
    assert!(!seen(&["list", "--kept"], r#"{"Kept": []}"#).contains("convoy create"));
}

#[test]
fn everything_recorded_can_be_shown() {
    let info = seen(&["info"], &recorded("info"));
    assert!(info.lines().any(|line| line.split_whitespace().eq(["Default", "driver:", "vfs"])), "{info}");
    let volume = seen(&["inspect", "vol1"], &recorded("inspect vol1"));
    assert!(
        volume.starts_with("Name:        vol1\nDriver:      vfs\n") && volume.contains("/srv/volumes/vol1"),
        "{volume}"
    );
    let snapshot = seen(&["snapshot", "inspect", "snap3"], &recorded("snapshot inspect snap3"));
    assert!(snapshot.contains("Volume:   vol3\n"), "{snapshot}");
    let backups = seen(&["backup", "list", "d"], &recorded("backup list vfs:///srv/backups"));
    assert_eq!(backups.lines().count(), 5);
    assert!(
        backups.contains(" 'vfs:///srv/backups?backup=backup-52da4abd281741af&volume=vol3'\n"),
        "{backups}"
    );
    let volume = seen(&["--verbose", "mount", "vol3"], &recorded("--verbose mount vol3"));
    assert!(volume.contains("Mounted at:  /srv/volumes/vol3\n"), "{volume}");
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
