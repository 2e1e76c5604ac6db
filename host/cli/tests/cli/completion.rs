//! What a shell completes: commands and flags from the definition, names from the daemon.

use crate::daemon::{Answer, Daemon, answer, nobody};
use crate::run::{convoy, run};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VOLUMES: &str = r#"{"data": {"Name": "data", "Driver": "vfs", "Snapshots": {"monday": {"Name": "monday"}}},
    "database": {"Name": "database", "Driver": "vfs", "Snapshots": {"sunday": {"Name": "sunday"}}},
    "web": {"Name": "web", "Driver": "vfs"}}"#;
const BACKUPS: &str = r#"{"vfs:///srv/b?backup=backup-1\u0026volume=data":
    {"BackupURL": "vfs:///srv/b?backup=backup-1\u0026volume=data", "VolumeName": "data", "SnapshotName": "monday"}}"#;

/// What an interactive bash, in a terminal, completes after Tab at the end of a line.
fn completed(socket: &Path, line: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::os::unix::fs::symlink(convoy(socket).get_program(), at.join("convoy")).unwrap();
    std::fs::write(at.join("convoy.bash"), run(socket, &["completions", "bash"]).stdout).unwrap();
    let rc = format!(
        "PS1='ready> '; cd {}; source convoy.bash; bind 'set completion-query-items 0'\n\
         noted() {{ _convoy \"$@\"; printf '%s\\n' \"${{COMPREPLY[@]}}\" > got; mv got done; }}\n\
         complete -o bashdefault -F noted convoy\n",
        at.display()
    );
    std::fs::write(at.join("rc"), rc).unwrap();
    let mut shell = Command::new("script");
    shell.args([
        "-qec",
        &format!("exec bash --noprofile --rcfile {} -i", at.join("rc").display()),
        "/dev/null",
    ]);
    let path = format!("{}:{}", at.display(), std::env::var("PATH").unwrap());
    shell.env("PATH", path).env("HISTFILE", "").env("INPUTRC", "/dev/null").env("TERM", "dumb");
    shell.env("CONVOY_SOCKET", socket).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = Shell(shell.spawn().unwrap());
    let mut input = shell.0.stdin.take().unwrap();
    // Before it reads lines itself the terminal would take Tab and all for its own.
    let mut seen = String::new();
    let mut output = shell.0.stdout.take().unwrap();
    while !seen.contains("ready> ") {
        let mut buffer = [0; 1024];
        let read = output.read(&mut buffer).unwrap();
        assert!(read > 0, "bash ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    input.write_all(format!("{line}\t").as_bytes()).unwrap();
    let give_up = Instant::now() + Duration::from_secs(60);
    while !at.join("done").exists() {
        assert!(Instant::now() < give_up, "nothing was completed: {line:?} after {seen}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let got = std::fs::read_to_string(at.join("done")).unwrap();
    got.lines().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A process that ends with the test.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn bash_completes_commands_and_flags_without_a_daemon() {
    let (_directory, socket) = nobody();
    assert_eq!(completed(&socket, "convoy backup cr"), ["create"]);
    assert_eq!(completed(&socket, "convoy snapshot create data --fr"), ["--freeze"]);
}

#[test]
fn bash_completes_the_names_that_the_daemon_knows() {
    let of = |line: &str| completed(&Daemon::new([answer(VOLUMES)]).socket(), line);
    assert_eq!(of("convoy inspect da"), ["data", "database"]);
    assert_eq!(of("convoy delete data we"), ["web"]);
    assert_eq!(of("convoy snapshot create we"), ["web"]);
    assert_eq!(of("convoy snapshot delete "), ["monday", "sunday"]);
    assert_eq!(of("convoy backup create m"), ["monday"]);
    assert_eq!(of("convoy snapshot inspect s --volume we"), ["web"]);
}

#[test]
fn bash_completes_what_is_kept_where_that_is_to_be_deleted() {
    let kept = Daemon::new([answer(r#"{"Kept": [{"Name": "gone", "Driver": "vfs"}]}"#)]);
    assert_eq!(completed(&kept.socket(), "convoy delete --kept g"), ["gone"]);
    assert_eq!(kept.asked()[0].call, "GET /v1/volumes/kept");
}

#[test]
fn bash_completes_urls_of_backups_though_it_takes_them_apart() {
    let of = |line: &str| {
        let daemon = Daemon::new([answer(BACKUPS)]);
        let got = completed(&daemon.socket(), line);
        let asked: serde_json::Value = serde_json::from_str(&daemon.asked()[0].body).unwrap();
        assert_eq!(asked["URL"], "vfs:///srv/b", "{line}");
        got
    };
    let whole = "vfs:///srv/b?backup=backup-1&volume=data";
    assert_eq!(of("convoy backup inspect 'vfs:///srv/b"), [whole]);
    // Without quotes bash replaces what comes after its last colon, and takes no special letter as it is.
    assert_eq!(of("convoy backup delete vfs:///srv/b"), [r"///srv/b\?backup=backup-1\&volume=data"]);
    assert_eq!(of(r"convoy create x --backup vfs:///srv/b\?backup="), [r"backup-1\&volume=data"]);
}

#[test]
fn a_daemon_that_is_away_silent_or_talks_nonsense_puts_nothing_into_the_prompt() {
    let asked = |socket: &Path| {
        let mut command = convoy(socket);
        command.env("CONVOY_COMPLETE", "bash").env("_CONVOY_LINE", "convoy inspect ").args(["--", "convoy"]);
        let begun = Instant::now();
        let output = command.output().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{output:?}");
        let offered = String::from_utf8(output.stdout).unwrap();
        // Flags need no daemon.
        assert!(offered.lines().all(|line| line.starts_with("--")), "{offered}");
    };
    asked(&nobody().1);
    for wrong in ["nonsense", "[]", r#"{"x": 1}"#] {
        asked(&Daemon::new([answer(wrong)]).socket());
    }
    let never: Answer = Box::new(|_, _| {
        // Longer than anybody waits for a completion.
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    let silent = Daemon::new([never]);
    asked(&silent.socket());
    let (_directory, socket) = nobody();
    let wrong_shell = convoy(&socket).env("CONVOY_COMPLETE", "nosuch").output().unwrap();
    assert_eq!((wrong_shell.status.code(), wrong_shell.stderr.as_slice()), (Some(0), &b""[..]));
}
