//! The recorded transcripts of convoy 0.5.2, replayed: given the same answers, the same bytes and the same
//! exit code.

use crate::daemon::{Answer, Daemon, answer, nobody, refuse};
use crate::run::{Ran, run, words};
use convoy_cli::args::Command;

/// Command lines that are answered differently on purpose, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("inspect", "a missing argument is an error of the command line"),
    ("mount", "a missing argument is an error of the command line"),
    ("umount", "a missing argument is an error of the command line"),
    ("snapshot create", "a missing argument is an error of the command line"),
    ("snapshot inspect", "a missing argument is an error of the command line"),
    ("snapshot delete", "a missing argument is an error of the command line"),
    ("backup create", "a missing argument is an error of the command line"),
    ("backup list", "a missing argument is an error of the command line"),
    ("backup inspect", "a missing argument is an error of the command line"),
    ("backup delete", "a missing argument is an error of the command line"),
    ("delete", "0.5 deleted nothing and said that all was well"),
    ("create ../x", "0.5 sent any name and the daemon failed in the midst"),
    ("create ok1 --size 10X", "0.5 said what its parser had said"),
    ("create ok1 --iops abc", "0.5 took it for 0"),
];

struct Transcript {
    line: String,
    ran: Ran,
}

fn transcripts() -> Vec<Transcript> {
    let text = include_str!("../recordings/console.md");
    let blocks = text.split("```console\n$ convoy ").skip(1);
    blocks.map(|block| transcript(block.split("```\n").next().unwrap())).collect()
}

fn transcript(block: &str) -> Transcript {
    let (line, rest) = block.split_once('\n').unwrap();
    let (exit, rest) = rest.split_once("]\n").unwrap();
    let after_heading = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    let (stdout, stderr) = match rest.split_once("--- stderr") {
        Some((stdout, stderr)) => (after_heading(stdout), after_heading(stderr)),
        None => (after_heading(rest), String::new()),
    };
    let code = exit.strip_prefix("[exit ").unwrap().parse().ok();
    Transcript { line: line.to_owned(), ran: Ran { code, stdout, stderr } }
}

/// The answers that the daemon of 0.5 must have given for the program to print this.
fn answers(transcript: &Transcript) -> Vec<Answer> {
    let parsed = convoy_cli::parse(
        std::iter::once("convoy".into()).chain(words(&transcript.line).into_iter().map(Into::into)),
    );
    let convoy_cli::Parsed::Client(cli) = parsed else { return Vec::new() };
    let refused = |text: &str| refuse(if text.starts_with("Volume not found") { 404 } else { 400 }, text);
    if let Command::Delete(args) = cli.command {
        let stdout = &transcript.ran.stdout;
        let of_name = |name: &String| match stdout
            .split_once(&format!("Error deleting {name}: Error response from server, "))
        {
            Some((_, error)) => refused(&format!("{}\n", error.lines().next().unwrap())),
            None => answer(""),
        };
        return args.names.iter().map(of_name).collect();
    }
    if transcript.ran.code == Some(0) {
        return vec![answer(transcript.ran.stdout.strip_suffix('\n').unwrap())];
    }
    let printed: serde_json::Value = serde_json::from_str(&transcript.ran.stdout).unwrap();
    match printed["Error"].as_str().unwrap().strip_prefix("Error response from server, ") {
        Some(error) => vec![refused(error)],
        None => Vec::new(),
    }
}

/// The log line with the recorded time, which is all that may differ.
fn timeless(stderr: &str) -> String {
    match stderr.split_once("\" level=") {
        Some((time, rest)) => {
            assert!(time.starts_with("time=\"20") && time.ends_with('Z'), "{stderr}");
            format!("level={rest}")
        }
        None => stderr.to_owned(),
    }
}

#[test]
fn what_scripts_read_is_as_it_was() {
    let mut replayed = 0;
    for transcript in transcripts() {
        if DIFFERENT.iter().any(|(line, _)| *line == transcript.line) {
            continue;
        }
        let daemon = Daemon::new(answers(&transcript));
        let ran = run(&daemon.socket(), &words(&transcript.line));
        assert_eq!(ran.stdout, transcript.ran.stdout, "stdout of {}", transcript.line);
        let (found, recorded) = (timeless(&ran.stderr), timeless(&transcript.ran.stderr));
        let recorded = recorded.trim_end_matches('\n');
        // What to do about it may follow, in a field of its own.
        let rest = found
            .strip_prefix(recorded)
            .unwrap_or_else(|| panic!("{}: {found:?}, not {recorded:?}", transcript.line));
        assert!(
            rest.trim_end_matches('\n').is_empty() || rest.starts_with("hint=\""),
            "{}: {rest:?}",
            transcript.line
        );
        assert_eq!(ran.code, transcript.ran.code, "exit code of {}", transcript.line);
        replayed += 1;
    }
    assert_eq!(
        replayed + DIFFERENT.len(),
        transcripts().len(),
        "every transcript is replayed or named as different"
    );
}

#[test]
fn what_differs_is_an_error_for_scripts_too() {
    let (_directory, socket) = nobody();
    for (line, _) in DIFFERENT {
        let ran = run(&socket, &words(line));
        let printed: serde_json::Value = serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|error| panic!("{line}: {error}: {}", ran.stdout));
        let error = printed["Error"].as_str().unwrap();
        assert!(!error.contains("connect") && !error.contains('\n') && error.len() > 10, "{line}: {error}");
        assert!(ran.stdout.starts_with("{\n\t\"Error\": \"") && ran.stdout.ends_with("\"\n}\n"));
        assert!(ran.stderr.contains(" level=error msg=\""), "{line}: {}", ran.stderr);
        assert_eq!(ran.code, Some(1), "{line}");
    }
}
