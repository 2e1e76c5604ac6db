//! A look into backups and snapshots: what is asked, what is printed, and what is not taken for whole.

use crate::daemon::{Answer, Daemon, answer, stream};
use crate::run::{convoy, run, words};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

#[test]
fn the_same_is_asked_of_backups_and_snapshots() {
    let (url, snapshot) = (json!({"URL": "u?b"}), json!({"SnapshotName": "s1", "VolumeName": "v1"}));
    let keyed =
        json!({"URL": "u?b", "Endpoint": "http://e", "EncryptionKeyFile": "/k", "AllowUnencrypted": true});
    for (line, call, body) in [
        ("backup ls u?b", "list", json!({"Tree": url, "Path": "", "Recursive": false})),
        ("backup ls u?b /etc -l -R", "list", json!({"Tree": url, "Path": "/etc", "Recursive": true})),
        (
            "snapshot ls s1 'a b' --volume v1",
            "list",
            json!({"Tree": snapshot, "Path": "a b", "Recursive": false}),
        ),
        (
            "backup --s3-endpoint http://e --encryption-key-file /k cat u?b 100% --allow-unencrypted",
            "cat",
            json!({"Tree": keyed, "Path": "100%25"}),
        ),
        ("snapshot cat s1 f --volume v1", "cat", json!({"Tree": snapshot, "Path": "f"})),
        ("backup dump u?b", "dump", json!({"Tree": url, "Path": "", "Format": "tar"})),
        (
            "snapshot dump s1 d --volume v1 --format zip",
            "dump",
            json!({"Tree": snapshot, "Path": "d", "Format": "zip"}),
        ),
        ("backup diff u?b u?c etc", "diff", json!({"Old": url, "New": {"URL": "u?c"}, "Path": "etc"})),
        (
            "snapshot diff s1 s2 --volume v1",
            "diff",
            json!({"Old": snapshot, "New": {"SnapshotName": "s2", "VolumeName": "v1"}, "Path": ""}),
        ),
        (
            "backup find d '*.conf' --volume v1 --since 2026-11-30T00:00:00Z",
            "find",
            json!({"URL": "d", "Pattern": "*.conf", "VolumeName": "v1", "Since": "2026-11-30T00:00:00Z"}),
        ),
        ("snapshot find '*.conf'", "find", json!({"Pattern": "*.conf"})),
    ] {
        let daemon = Daemon::new([answer("")]);
        let ran = run(&daemon.socket(), &words(line));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{line}");
        let asked = daemon.asked();
        assert_eq!(asked[0].call, format!("GET /v1/browse/{call}"), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&asked[0].body).unwrap(), body, "{line}");
    }
    // Names need be no text.
    let daemon = Daemon::new([answer("")]);
    let ran =
        convoy(&daemon.socket()).args(["snapshot", "cat", "s1"]).arg(OsStr::from_bytes(b"a\xff")).output();
    assert!(ran.unwrap().status.success() && daemon.asked()[0].body.contains(r#""Path":"a%FF""#));
    for bad in ["backup find d x --since yesterday", "backup dump u --format rar", "snapshot ls ../s"] {
        let daemon = Daemon::new([]);
        let ran = run(&daemon.socket(), &words(bad));
        assert!(ran.code == Some(1) && daemon.asked().is_empty(), "{bad}: {ran:?}");
    }
}

const FILE: &str = concat!(
    r#"{"Entry":{"Path":"etc/a%0Ab","Type":"file","Mode":"0640","UID":1,"GID":2,"Size":2048,"#,
    r#""Modified":"2026-11-30T06:16:06.5Z"}}"#
);

#[test]
fn lines_are_json_for_scripts_and_aligned_for_people() {
    let lines = || [stream(&[FILE, r#"{"Note":"one was left out"}"#, "", FILE], |_| Ok(()))];
    let daemon = Daemon::new(lines());
    let ran = run(&daemon.socket(), &["backup", "ls", "u"]);
    let printed: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let entry = &serde_json::from_str::<Value>(FILE).unwrap()["Entry"];
    assert_eq!((ran.code, printed), (Some(0), vec![entry.clone(), entry.clone()]));
    assert_eq!(ran.stderr, "note: one was left out\n");
    let daemon = Daemon::new(lines());
    let ran = run(&daemon.socket(), &["backup", "ls", "-l", "u", "--output", "table"]);
    let line = "-rw-r-----      1      2    2.00 KiB  2026-11-30 06:16:06  $'etc/a\\nb'\n";
    assert_eq!(ran.stdout, line.repeat(2));
    let found = FILE.replace(
        "{\"Entry\":",
        r#"{"Entry":{"BackupURL":"u?b","CreatedTime":"Mon Nov 30 06:20:00 +0000 2026","File":"#,
    ) + "}";
    let daemon = Daemon::new([stream(&[&found], |_| Ok(()))]);
    let ran = run(&daemon.socket(), &["backup", "find", "u", "a", "--output", "table"]);
    let expected = "MODIFIED                    SIZE  MADE                 FILE  IN\n\
        2026-11-30 06:16:06     2.00 KiB  2026-11-30 06:20:00  $'etc/a\\nb'  'u?b'\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected));
    let daemon = Daemon::new([stream(&[], |_| Ok(()))]);
    let ran = run(&daemon.socket(), &["snapshot", "diff", "one", "two", "--output", "table"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "No differences\n"));
}

#[test]
fn what_is_not_whole_fails() {
    let error = r#"{"Error":{"Status":400,"Kind":"data_loss","Message":"a pack is damaged","Hint":"look"}}"#;
    let daemon = Daemon::new([stream(&[FILE, error], |_| Ok(()))]);
    let ran = run(&daemon.socket(), &["backup", "ls", "u", "--output", "table"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("etc/a"), "what came before is shown: {ran:?}");
    assert_eq!(ran.stderr, "error: a pack is damaged\nhint: look\n");
}

/// Raw bytes in a chunk, and how the body ends.
fn raw(end: &'static str) -> Answer {
    Box::new(move |asked, connection| {
        assert!(asked.headers.iter().any(|header| header.eq_ignore_ascii_case("te: trailers")));
        write!(
            connection,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: convoy-error\r\n\r\n3\r\nabc\r\n{end}"
        )
    })
}

#[test]
fn raw_bytes_are_printed_as_they_are_and_a_failure_is_not_among_them() {
    for (end, code, said) in [
        ("0\r\n\r\n", 0, ""),
        ("0\r\nconvoy-left-out: /sock (a socket)\r\n\r\n", 0, "left out: /sock (a socket)"),
        ("0\r\nconvoy-error: 50%25 is damaged\r\nconvoy-hint: look\r\n\r\n", 1, "50% is damaged"),
        ("", 1, "broke before the answer"),
        ("5\r\nab", 1, "broke before the answer"),
    ] {
        for command in [&["backup", "cat", "u", "f"][..], &["snapshot", "dump", "s1"]] {
            let daemon = Daemon::new([raw(end)]);
            let ran = run(&daemon.socket(), command);
            assert!(ran.code == Some(code) && ran.stderr.contains(said), "{end:?}: {ran:?}");
            let data = if end.starts_with('5') { "abcab" } else { "abc" };
            assert_eq!(ran.stdout, data, "{end:?}");
        }
    }
    let daemon = Daemon::new([crate::daemon::refuse(400, "there is no backup\n")]);
    let ran = run(&daemon.socket(), &["backup", "cat", "u", "f"]);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("there is no backup") && ran.code == Some(1));
}

#[test]
fn an_archive_is_not_written_to_a_terminal() {
    let daemon = Daemon::new([]);
    let mut command = std::process::Command::new("script");
    let typed = format!("{} backup dump u", env!("CARGO_BIN_EXE_convoy-cli"));
    command.args(["-qec", &typed, "/dev/null"]).env("CONVOY_SOCKET", daemon.socket());
    let ran = command.stdin(std::process::Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(said.contains("an archive is nothing for a terminal") && !ran.status.success(), "{said}");
    assert!(daemon.asked().is_empty());
}
