//! What is said when things go wrong, to scripts and to people.

use crate::daemon::{Answer, Daemon, answer, nobody, refuse, respond, stale, stream};
use crate::run::{convoy, run};
use std::process::Stdio;

#[test]
fn a_daemon_that_does_not_run() {
    let (_directory, socket) = nobody();
    for left_behind in [false, true] {
        if left_behind {
            stale(&socket);
        }
        let ran = run(&socket, &["list"]);
        let expected = format!("cannot connect to {}: is `convoy daemon` running?", socket.display());
        assert!(ran.stdout.starts_with(&format!("{{\n\t\"Error\": \"{expected}")), "{}", ran.stdout);
        assert!(ran.stderr.contains("hint=\"start it with `convoy daemon`"), "{}", ran.stderr);
        assert_eq!(ran.code, Some(1));

        let ran = run(&socket, &["list", "--output", "table"]);
        assert_eq!((ran.stdout.as_str(), ran.code), ("", Some(1)));
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(lines[0].starts_with(&format!("error: {expected}")), "{lines:?}");
        assert!(lines[1].starts_with("hint: start it with `convoy daemon`") && lines.len() == 2, "{lines:?}");
    }
}

#[test]
fn another_version_and_an_unknown_call() {
    let daemon = Daemon::new([
        refuse(404, "client version 1 doesn't match with server 2\n"),
        refuse(404, "Handler not found: GET /v1/jobs"),
    ]);
    let ran = run(&daemon.socket(), &["list"]);
    assert!(ran.stdout.contains("client version 1 doesn't match with server 2"));
    assert!(ran.stderr.contains("hint=\"install the same version"), "{}", ran.stderr);
    let ran = run(&daemon.socket(), &["jobs"]);
    assert!(ran.stdout.contains("the daemon does not know the call GET /v1/jobs"));
    assert!(ran.stderr.contains("hint=\"the daemon is older than this command"), "{}", ran.stderr);
}

#[test]
fn the_daemons_hint_is_shown() {
    let hint = "Convoy-Hint: unmount it first%3A `convoy umount v1` %C3%A4";
    let refused = || respond("400 Bad Request", &[hint, "Convoy-Error-Kind: in_use"], "v1 is mounted\n");
    let daemon = Daemon::new([refused(), refused()]);
    let ran = run(&daemon.socket(), &["resize", "v1", "1G", "--output=table"]);
    assert_eq!(ran.stderr, "error: v1 is mounted\nhint: unmount it first: `convoy umount v1` ä\n");
    let ran = run(&daemon.socket(), &["resize", "v1", "1G"]);
    assert_eq!(ran.stdout, "{\n\t\"Error\": \"Error response from server, v1 is mounted\\n\"\n}\n");
    assert!(ran.stderr.ends_with("hint=\"unmount it first: `convoy umount v1` ä\" \n"), "{}", ran.stderr);
}

#[test]
fn a_connection_that_breaks() {
    let cut = |text: &'static str| -> Answer {
        Box::new(move |_, connection| std::io::Write::write_all(connection, text.as_bytes()))
    };
    for text in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nvol", "garbage\r\n\r\n"] {
        let daemon = Daemon::new([cut(text)]);
        let ran = run(&daemon.socket(), &["create", "v1"]);
        assert!(
            ran.stdout.contains("broke before the answer to POST /v1/volumes/create was complete"),
            "{}",
            ran.stdout
        );
        assert_eq!(ran.code, Some(1));
    }
    let daemon = Daemon::new([stream(&[r#"{"Job":"j1"}"#], |_| Ok(()))]);
    let ran = run(&daemon.socket(), &["backup", "create", "s1", "--dest", "d"]);
    assert!(ran.stdout.contains("broke before the answer to POST /v1/backups/create"), "{}", ran.stdout);
}

#[test]
fn people_see_which_of_several_failed() {
    let daemon = Daemon::new([answer(""), refuse(404, "Volume not found.\n"), answer("")]);
    let ran = run(&daemon.socket(), &["delete", "aa", "bb", "cc", "--output", "table"]);
    assert_eq!(ran.stdout, "Deleted aa\nDeleted cc\n");
    assert_eq!(ran.stderr, "error: bb: Volume not found.\nerror: 1 of 3 volumes could not be deleted\n");
    assert_eq!(ran.code, Some(1));
}

#[test]
fn people_are_told_in_plain_words_where_scripts_know_others() {
    let headers = ["convoy-plain: there is no volume %C3%A4", "convoy-hint: see the list"];
    let refusal = || respond("404 Bad", &headers, "Volume not found.\n");
    let daemon = Daemon::new([refusal(), refusal()]);
    let ran = run(&daemon.socket(), &["inspect", "v1", "--output", "table"]);
    assert_eq!(ran.stderr, "error: there is no volume ä\nhint: see the list\n");
    let ran = run(&daemon.socket(), &["inspect", "v1"]);
    assert_eq!(ran.stdout, "{\n\t\"Error\": \"Error response from server, Volume not found.\\n\"\n}\n");
    // The same at the end of long work.
    let error = r#"{"Error":{"Status":400,"Message":"old words","Plain":"plain words"}}"#;
    let daemon = Daemon::new([stream(&[error], |_| Ok(())), stream(&[error], |_| Ok(()))]);
    let line = ["backup", "create", "s1", "--dest", "d"];
    assert!(run(&daemon.socket(), &line).stdout.contains("old words"));
    let ran = run(&daemon.socket(), &[&line[..], &["--output", "table"]].concat());
    assert_eq!(ran.stderr, "error: plain words\n");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let big = format!("\"{}\"", "x".repeat(1 << 20));
    let daemon = Daemon::new([answer(&big)]);
    let mut child =
        convoy(&daemon.socket()).arg("list").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let daemon = Daemon::new([answer("{}")]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = convoy(&daemon.socket()).arg("list").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write the output"));
}

#[test]
fn the_arguments() {
    let (_directory, socket) = nobody();
    let ran = run(&socket, &["info", "--bogus"]);
    assert_eq!(ran.stdout, "{\n\t\"Error\": \"unexpected argument '--bogus' found\"\n}\n");
    assert_eq!(ran.code, Some(1));
    let ran = run(&socket, &["--output", "table", "info", "--bogus"]);
    assert_eq!((ran.stdout.as_str(), ran.code), ("", Some(1)));
    assert!(
        ran.stderr.starts_with("error: unexpected argument '--bogus' found\n")
            && ran.stderr.contains("Usage: convoy")
    );
    for words in [&["--version"][..], &["-v"]] {
        let ran = run(&socket, words);
        assert_eq!(ran.stdout, concat!("Convoy version v", env!("CARGO_PKG_VERSION"), "\n"));
    }
    for words in [&[][..], &["--help"], &["help"], &["snapshot"], &["backup", "-h"]] {
        let ran = run(&socket, words);
        assert!(
            ran.stdout.contains("Usage: convoy") && ran.stderr.is_empty() && ran.code == Some(0),
            "{words:?}: {ran:?}"
        );
    }
    let ran = run(&socket, &["daemon"]);
    assert!(ran.stdout.contains("the client alone"), "{ran:?}");
}

#[test]
fn variables_count_unless_they_are_empty() {
    let daemon = Daemon::new([answer("{}"), answer("{}")]);
    let with = |pairs: &[(&str, &str)]| -> crate::run::Ran {
        convoy(&daemon.socket()).envs(pairs.iter().copied()).arg("list").output().unwrap().into()
    };
    let empty = [
        "CONVOY_DEBUG",
        "CONVOY_OUTPUT",
        "CONVOY_ENCRYPTION_KEY_FILE",
        "CONVOY_PASSPHRASE_FILE",
        "CONVOY_IGNORE_CONFIG_FILE",
    ];
    let ran = with(&empty.map(|name| (name, "")));
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "{}\n", ""));
    let ran = with(&[("CONVOY_DEBUG", "yes"), ("CONVOY_OUTPUT", "table")]);
    assert!(
        ran.stdout.starts_with("NAME ")
            && ran.stderr.contains("level=debug msg=\"GET /v1/volumes/list?details=1\""),
        "{ran:?}"
    );
    let ran = with(&[("CONVOY_OUTPUT", "xml")]);
    assert!(ran.code == Some(1) && ran.stdout.contains("invalid value 'xml'"), "{ran:?}");
}
