//! convoy 0.5's answers, one after the other in one run, asked again of this daemon: scripts see the same.

use std::collections::BTreeMap;
use std::fs;

use convoy_tests::error::{Error, check};
use convoy_tests::recording::{self, Exchange, Translation};
use convoy_tests::{Carrier, Convoy, Lab, Result, Setup, each_carrier};

each_carrier!(the_recorded_answers_are_given);

const RECORDING: &str = include_str!("../fixtures/convoy-0.5/answers.md");

/// What 0.5 accepted and convoy refuses: a mistake of the caller that was swallowed.
const NOW_REFUSED: [&str; 5] = [
    // Docker's users restore only from where the settings say: refused in other words.
    r#"POST /VolumeDriver.Create {"Name": "dv9", "Opts": {"backup": "vfs:///nosuch?backup=bb&volume=vv"}}"#,
    // An option nobody knows was ignored.
    r#"POST /VolumeDriver.Create {"Name": "dv9", "Opts": {"bogus": "1"}}"#,
    // A number that is none was taken for 0.
    "convoy create ok1 --iops abc",
    "convoy delete ok1",
    // Nothing was deleted, successfully.
    "convoy delete",
];

/// What 0.5 named after its own insides, or answered by accident: here only that it fails, and says why.
const ONLY_REFUSED: [&str; 12] = [
    "invalid character",
    "json:",
    "strconv.",
    "EOF",
    "flock",
    "%!",
    "Incorrect Usage",
    "Driver  is",
    "driver  for",
    "Invalid volume name",
    "Invalid name",
    "volume  doesn't",
];

/// What is asked for nothing at all: 0.5 looked for a thing without a name. Here only that it fails, and says
/// why.
const WITHOUT_A_NAME: [&str; 4] =
    ["convoy backup create", "convoy inspect", "convoy snapshot inspect", "convoy snapshot delete"];

/// Answers that are better now: the question, its how-manieth time, and the answer.
const BETTER: [(&str, usize, &str); 2] = [
    // 0.5 had unmounted it under the other container.
    (r#"POST /VolumeDriver.Path {"Name": "dvol1"}"#, 3, "{\n\t\"Mountpoint\": \"/srv/volumes/dvol1\"\n}"),
    // 0.5 kept the names of snapshots whose volume was gone.
    (r#"GET /v1/snapshots/ {"SnapshotName": "snap1"}"#, 2, "cannot find volume for snapshot snap1"),
];

/// Answers that hold 0.5's places or formats of snapshots, which are others now: compared without them.
const OWN_PLACES: [&str; 1] = ["FilePath"];

fn the_recorded_answers_are_given(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let setup = Setup::vfs(lab, carrier);
        let convoy = setup.start()?;
        let store = lab.make("store")?;
        let mut translation = Translation::new(&[
            ("/var/lib/rancher/convoy", &setup.root.to_string_lossy()),
            ("/srv/volumes", &setup.volumes.to_string_lossy()),
            ("/srv/backups", &store.to_string_lossy()),
        ]);
        let mut differences = Vec::new();
        let mut asked: BTreeMap<String, usize> = BTreeMap::new();
        let exchanges = recording::parse(RECORDING)?;
        check(exchanges.len() > 200, || "the recording is incomplete".to_owned())?;
        for exchange in &exchanges {
            let (status, answer) = ask(&convoy, &translation, exchange)?;
            let (old_status, old_answer) = exchange.answer();
            if old_status == status {
                translation.learn(old_answer, &answer);
            }
            let times = asked.entry(exchange.question()).or_default();
            *times += 1;
            let better =
                BETTER.iter().find(|(question, time, _)| *question == exchange.question() && time == times);
            if let Some((question, _, expected)) = better {
                let now = translation.answer(&answer);
                if now.trim_end() != *expected {
                    differences.push(format!("{question}\n  expected: {expected}\n  now: {now}"));
                }
            } else if let Some(difference) = compare(exchange, &translation, status, &answer) {
                differences.push(difference);
            }
        }
        // The world is as the recording left it: nothing outside the two directories, no volume but those
        // listed.
        check(fs::metadata(lab.path("escaped")).is_err(), || "something was made outside".to_owned())?;
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::Unexpected(format!("{} answers differ:\n{}", differences.len(), differences.join("\n"))))
    })
}

fn ask(convoy: &Convoy, translation: &Translation, exchange: &Exchange) -> Result<(i32, String)> {
    match exchange {
        Exchange::Command { words, .. } => {
            let words: Vec<_> = words.iter().map(|word| translation.question(word)).collect();
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let output = convoy.run(&words)?;
            Ok((output.status.code().unwrap_or(-1), output.stdout))
        }
        Exchange::Request { method, path, header, body, .. } => {
            let headers: Vec<_> = header.as_deref().into_iter().collect();
            let answer = convoy.connect()?.ask_with(method, path, &headers, &translation.question(body))?;
            Ok((i32::from(answer.status), answer.body))
        }
    }
}

/// Says how an answer differs from the recorded one, if it does where it must not.
fn compare(exchange: &Exchange, translation: &Translation, status: i32, answer: &str) -> Option<String> {
    let (old_status, old_answer) = exchange.answer();
    let question = exchange.question();
    let failed = failure(exchange, status, answer);
    let fine = if NOW_REFUSED.contains(&question.as_str()) {
        failed
    } else if WITHOUT_A_NAME.contains(&question.as_str())
        || ONLY_REFUSED.iter().any(|words| old_answer.contains(words))
    {
        failed && status == old_status && answer.trim().len() >= 3
    } else {
        let [old, now] =
            [recording::without_times(old_answer), translation.answer(answer)].map(|text| general(&text));
        status == old_status && recording::same(old.trim_end(), now.trim_end())
    };
    (!fine).then(|| {
        format!(
            "{question}\n  0.5 ({old_status}): {}\n  now ({status}): {}",
            recording::without_times(old_answer),
            translation.answer(answer)
        )
    })
}

fn failure(exchange: &Exchange, status: i32, answer: &str) -> bool {
    match exchange {
        Exchange::Command { .. } => status != 0 && answer.contains("\"Error\""),
        Exchange::Request { path, .. } if path.starts_with("/VolumeDriver") => {
            status == 404 || answer.contains("\"Err\"")
        }
        Exchange::Request { .. } => status >= 400,
    }
}

/// An answer without what is convoy's own affair: where snapshots are, and how the driver is reached.
fn general(text: &str) -> String {
    let kept: Vec<_> =
        text.lines().filter(|line| !OWN_PLACES.iter().any(|place| line.contains(place))).collect();
    kept.join("\n").replace("library:vfs", "vfs").replace("process:vfs", "vfs")
}
