//! Long work: what is shown of it, and Ctrl-C.

use crate::daemon::{Answer, Daemon, answer, stream};
use crate::run::{Ran, convoy, run};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const JOB: &str = r#"{"Job":"j1"}"#;
const PROGRESS: &str = r#"{"Progress":{"Phase":"reading","BytesDone":512,"BytesTotal":1024}}"#;
const RESULT: &str = r#"{"Result":"vfs:///b?backup=backup-1\\u0026volume=v1"}"#;

fn backup(arguments: &[&str], answers: Vec<Answer>) -> (Ran, Daemon) {
    let daemon = Daemon::new(answers);
    let ran = run(&daemon.socket(), &[&["backup", "create", "s1", "--dest", "vfs:///b"], arguments].concat());
    (ran, daemon)
}

#[test]
fn nothing_extra_for_scripts() {
    let (ran, daemon) = backup(&[], vec![stream(&[JOB, "", PROGRESS, RESULT], |_| Ok(()))]);
    assert_eq!(
        ran,
        Ran {
            code: Some(0),
            stdout: "vfs:///b?backup=backup-1\\u0026volume=v1\n".into(),
            stderr: String::new()
        }
    );
    assert!(
        daemon.asked()[0]
            .headers
            .iter()
            .any(|header| header.eq_ignore_ascii_case("accept: application/x-ndjson"))
    );
}

#[test]
fn a_line_of_json_an_event() {
    let (ran, _daemon) = backup(&["--progress", "json"], vec![stream(&[JOB, PROGRESS, RESULT], |_| Ok(()))]);
    assert_eq!(ran.stdout, "vfs:///b?backup=backup-1\\u0026volume=v1\n");
    assert_eq!(ran.stderr, format!("{JOB}\n{PROGRESS}\n"));
}

#[test]
fn people_can_copy_the_url() {
    let result = r#"{"Result":"{\"URL\": \"vfs:///b?backup=backup-1\\u0026volume=v1\"}"}"#;
    let (ran, _daemon) = backup(&["--output", "table"], vec![stream(&[JOB, result], |_| Ok(()))]);
    assert_eq!(ran.stdout, "'vfs:///b?backup=backup-1&volume=v1'\n");
}

#[test]
fn a_failure_at_the_end_is_as_one_at_the_beginning() {
    let error = r#"{"Error":{"Status":400,"Kind":"exhausted","Message":"no space left","Hint":"free some"}}"#;
    let (ran, _daemon) = backup(&[], vec![stream(&[JOB, PROGRESS, error], |_| Ok(()))]);
    assert_eq!(ran.stdout, "{\n\t\"Error\": \"Error response from server, no space left\\n\"\n}\n");
    assert!(
        ran.stderr.ends_with("msg=\"Error response from server, no space left\\n\" hint=\"free some\" \n"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.code, Some(1));
}

#[test]
fn damage_has_an_exit_code_of_its_own() {
    let whole = r#"{"Backups": 1, "Problems": []}"#;
    let damaged = r#"{"Backups": 1, "Problems": [{"BackupURL": "u", "Object": "o", "Message": "missing"}]}"#;
    for (report, code) in [(whole, 0), (damaged, 3)] {
        let daemon = Daemon::new([answer(report), answer(report)]);
        let ran = run(&daemon.socket(), &["backup", "verify", "vfs:///b"]);
        assert_eq!((ran.code, ran.stdout), (Some(code), format!("{report}\n")));
        let ran = run(&daemon.socket(), &["backup", "verify", "vfs:///b", "--output", "table"]);
        assert_eq!((ran.code, ran.stdout.contains("missing")), (Some(code), code == 3), "{}", ran.stdout);
    }
}

/// Work that goes on until the other end of the returned channel speaks: then `end` is written.
fn work_until(end: &'static str) -> (Answer, std::sync::mpsc::Sender<()>) {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let work = stream(&[JOB, PROGRESS], move |connection| {
        let _ = receiver.recv();
        writeln!(connection, "{end}")
    });
    (work, sender)
}

/// The answer to `jobs cancel`, which ends the work.
fn cancel(work: std::sync::mpsc::Sender<()>) -> Answer {
    Box::new(move |asked, connection| {
        assert_eq!((asked.call.as_str(), asked.body.as_str()), ("POST /v1/jobs/cancel", r#"{"ID":"j1"}"#));
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        let _ = work.send(());
        Ok(())
    })
}

/// A process that is ended whatever becomes of the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a backup and waits until it has shown progress.
fn start(daemon: &Daemon) -> Guard {
    let mut command = convoy(&daemon.socket());
    command.args(["backup", "create", "s1", "--dest", "d", "--progress", "json"]);
    let mut child = Guard(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut shown = vec![0; JOB.len() + PROGRESS.len() + 2];
    child.0.stderr.as_mut().unwrap().read_exact(&mut shown).unwrap();
    child
}

fn interrupt(child: &Guard) {
    let status = Command::new("kill").args(["-INT", &child.0.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn ended(mut child: Guard) -> Ran {
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the client does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.0.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    Ran { code: child.0.wait().unwrap().code(), stdout, stderr }
}

#[test]
fn ctrl_c_cancels_and_says_what_became_of_it() {
    let (work, ends) = work_until(
        r#"{"Error":{"Status":400,"Kind":"cancelled","Message":"backup of v1 cancelled; nothing was kept"}}"#,
    );
    let daemon = Daemon::new([work, cancel(ends)]);
    let child = start(&daemon);
    interrupt(&child);
    let ran = ended(child);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.stdout.contains("interrupted: backup of v1 cancelled; nothing was kept"), "{ran:?}");
}

#[test]
fn ctrl_c_too_late_is_a_success() {
    let (work, ends) = work_until(RESULT);
    let daemon = Daemon::new([work, cancel(ends)]);
    let child = start(&daemon);
    interrupt(&child);
    let ran = ended(child);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "vfs:///b?backup=backup-1\\u0026volume=v1\n"));
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    let (work, ends) = work_until(RESULT);
    let daemon = Daemon::new([work, answer("")]);
    let child = start(&daemon);
    interrupt(&child);
    let deadline = Instant::now() + Duration::from_secs(10);
    while daemon.asked().len() < 2 {
        assert!(Instant::now() < deadline, "nothing was cancelled");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(50));
    interrupt(&child);
    let ran = ended(child);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.stdout.contains("job j1 was told to stop: see `convoy jobs`"), "{ran:?}");
    drop(ends);
}
