//! Plays the recordings of convoy 0.5.2 against the daemon: every request in its order, every answer to the
//! byte but for times, generated names and paths. What differs on purpose is listed below, with what is
//! answered instead.

use crate::harness::{Answer, Daemon};
use std::collections::HashMap;

const RECORDINGS: &str = include_str!("../recordings/answers.md");

/// Answers that are not those of 0.5, on purpose: section, request, then a part of the new answer.
const DIFFERENT: &[(&str, &str, &str)] = &[
    // The snapshots of a volume go with it.
    ("2.10", "{\"SnapshotName\": \"snap1\"}", "cannot find volume for snapshot snap1\n"),
    // Two containers use the volume and one has stopped.
    ("2.11", "**Path after one of two unmounts**", "\"Mountpoint\": \"/srv/volumes/dvol1\""),
    // An unknown option is a mistake.
    ("2.12", "{\"Name\": \"dv9\", \"Opts\": {\"bogus\": \"1\"}}", "unknown option \\\"bogus\\\""),
    // Docker's users restore only from where the settings say, and do not learn what there is elsewhere.
    ("2.12", "{\"backup\": \"vfs:///nosuch?backup=bb&volume=vv\"}", "that the settings name"),
    // That a name may be too short was not said.
    ("2.12", "{\"Name\": \"x\"}", "dot(.) (a name has 2 to 200 characters"),
    // What was a Go program's own words.
    ("2.12", "{bad", "invalid request"),
    ("2.12", "[]", "invalid request"),
    ("2.12", "{\"Name\":5}", "Name"),
    ("2.12", "{\"Name\":\"dv9\",\"Opts\":{\"size\":10}}", "Opts"),
    ("2.12", "\"size\": \"ten\"", "expected bytes, or a whole number followed by K, M, G or T"),
    ("2.12", "\"size\": \"1.5G\"", "expected bytes, or a whole number followed by K, M, G or T"),
    ("2.12", "\"vm\": \"maybe\"", "expected true or false"),
    ("2.12", "\"iops\": \"x\"", "expected a whole number"),
    ("2.13", "{bad", "invalid request"),
    ("2.13", "{\"Name\":7}", "Name"),
    ("2.13", "{\"Name\": \"ee1\", \"Size\": \"10G\"}", "Size"),
    // Names are checked before anything is done with them.
    ("2.13", "POST /v1/volumes/create {\"Name\": \"../x\"}", "Invalid volume name ../x."),
];

struct Exchange {
    section: String,
    title: String,
    request: Request,
    status: u16,
    content_type: bool,
    nosniff: bool,
    body: String,
}

enum Request {
    Http { method: String, path: String, body: String, agent: Option<String> },
    Cli(Vec<String>),
}

#[test]
fn every_recorded_answer() {
    let mut player = Player::new();
    let mut played = 0;
    for exchange in exchanges(RECORDINGS) {
        player.play(&exchange);
        played += 1;
    }
    assert!(played > 190, "only {played} exchanges were found in the recordings");
}

struct Player {
    daemon: Daemon,
    /// Generated names: recorded to real.
    names: HashMap<String, String>,
}

impl Player {
    fn new() -> Self {
        let player = Self { daemon: Daemon::start(), names: HashMap::new() };
        std::fs::create_dir(player.backups()).unwrap();
        player
    }

    fn play(&mut self, exchange: &Exchange) {
        self.prepare(exchange);
        let what = format!("{} {} {}", exchange.section, exchange.title, exchange.request.text());
        let answer = match &exchange.request {
            Request::Http { method, path, body, agent } => {
                let headers: Vec<(&str, &str)> =
                    agent.iter().map(|agent| ("User-Agent", agent.as_str())).collect();
                self.daemon.try_call(method, path, &self.to_real(body), &headers).unwrap()
            }
            Request::Cli(arguments) => {
                let arguments: Vec<String> = arguments.iter().map(|text| self.to_real(text)).collect();
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let output = self.daemon.cli(&arguments);
                let status = u16::try_from(output.status.code().unwrap()).unwrap();
                Answer { status, headers: String::new(), body: String::from_utf8(output.stdout).unwrap() }
            }
        };
        self.learn(&exchange.body, &answer.body);
        assert_eq!(answer.status, exchange.status, "{what}: {}", answer.body);
        let expected = DIFFERENT
            .iter()
            .find(|(section, request, _)| exchange.section == *section && what.contains(request));
        if let Some((_, _, part)) = expected {
            let body = self.neutral(&answer.body);
            assert!(body.contains(part), "{what}: {body:?} lacks {part:?}");
            return;
        }
        let (recorded, now) =
            (comparable(&self.neutral(&exchange.body)), comparable(&self.neutral(&answer.body)));
        assert_eq!(now, recorded, "{what}");
        if let Request::Http { .. } = exchange.request {
            let has = |header: &str| answer.headers.contains(header);
            assert_eq!(
                has("Content-Type: text/plain; charset=utf-8"),
                exchange.content_type,
                "{what}: {}",
                answer.headers
            );
            assert_eq!(
                has("X-Content-Type-Options: nosniff"),
                exchange.nosniff,
                "{what}: {}",
                answer.headers
            );
        }
    }

    /// What was done to the directories between the recorded requests.
    fn prepare(&self, exchange: &Exchange) {
        let keep = self.daemon.volumes().join("dvol1/keep");
        if exchange.title == "**Remove while mounted**" {
            std::fs::write(&keep, "kept").unwrap();
        }
        if exchange.title == "**re-create after Remove**" {
            assert!(keep.exists(), "Docker's Remove keeps the data");
        }
    }

    /// Pairs the generated name that is new in two answers, if one is.
    fn learn(&mut self, recorded: &str, real: &str) {
        let mut recorded = generated(recorded);
        let mut real = generated(real);
        recorded.retain(|name| !self.names.contains_key(name));
        real.retain(|name| !self.names.values().any(|known| known == name));
        if let ([recorded], [real]) = (recorded.as_slice(), real.as_slice()) {
            self.names.insert(recorded.clone(), real.clone());
        }
    }

    fn to_real(&self, text: &str) -> String {
        let text =
            self.names.iter().fold(text.to_owned(), |text, (recorded, real)| text.replace(recorded, real));
        text.replace("/srv/backups", &self.backups())
    }

    /// With the recorded names and paths, and without times.
    fn neutral(&self, text: &str) -> String {
        let text =
            self.names.iter().fold(text.to_owned(), |text, (recorded, real)| text.replace(real, recorded));
        let text = text.replace(&self.backups(), "/srv/backups");
        let text = text.replace(&self.daemon.volumes().display().to_string(), "/srv/volumes");
        let text = text.replace(&self.daemon.root().display().to_string(), "/var/lib/rancher/convoy");
        without_times(&text)
    }

    fn backups(&self) -> String {
        self.daemon.dir.path().join("backups").display().to_string()
    }
}

impl Request {
    fn text(&self) -> String {
        match self {
            Self::Http { method, path, body, .. } => format!("{method} {path} {body}"),
            Self::Cli(arguments) => format!("convoy {}", arguments.join(" ")),
        }
    }
}

/// Lists are sorted by name; where names were generated, the order may differ. Where a snapshot's files are
/// is the driver's affair.
fn comparable(text: &str) -> String {
    let paths = |line: &str| match line.trim_start().starts_with("\"FilePath\": ") {
        true => line.split(": ").next().unwrap().to_owned(),
        false => line.to_owned(),
    };
    let mut lines: Vec<String> = text.split('\n').map(paths).collect();
    let of = |prefix: &str| generated(text).iter().filter(|name| name.starts_with(prefix)).count();
    if ["volume-", "snapshot-", "backup-"].into_iter().any(|prefix| of(prefix) > 1) {
        for line in &mut lines {
            *line = line.trim_end_matches(',').to_owned();
        }
        lines.sort();
    }
    lines.join("\n")
}

/// `volume-4d5e0c5b35604ccb` and the like, each once, in order.
fn generated(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for prefix in ["volume-", "snapshot-", "backup-"] {
        for (at, _) in text.match_indices(prefix) {
            let digits = &text[at + prefix.len()..];
            if let Some(digits) =
                digits.get(..16).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            {
                let name = format!("{prefix}{digits}");
                if !found.contains(&name) {
                    found.push(name);
                }
            }
        }
    }
    found
}

fn without_times(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(" +0000 20") {
        // `Mon Nov 23 08:38:07` stands before, a year of four digits after.
        let (before, after) = rest.split_at(at);
        out.push_str(&before[..before.len() - "Mon Nov 23 08:38:07".len()]);
        out.push_str("<time>");
        rest = &after[" +0000 2026".len()..];
    }
    out.push_str(rest);
    out
}

fn exchanges(text: &str) -> Vec<Exchange> {
    let mut found = Vec::new();
    let (mut section, mut title) = (String::new(), String::new());
    let mut rest = text;
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.split(' ').next().unwrap().to_owned();
        } else if line.starts_with("**") {
            title = line.to_owned();
        } else if line == "```http" {
            let (block, after) = rest.split_once("\n```\n").unwrap();
            let newline = after.split_once('\n').unwrap().0.contains("trailing newline: True");
            found.push(http(&section, &title, block, newline));
            (title, rest) = (String::new(), after);
        } else if line == "```console" {
            let (block, after) = rest.split_once("\n```\n").unwrap();
            found.push(console(&section, &title, block));
            (title, rest) = (String::new(), after);
        }
    }
    found
}

fn http(section: &str, title: &str, block: &str, newline: bool) -> Exchange {
    let (asked, answered) = block.split_once("\n\n< ").unwrap();
    let mut asked = asked.lines();
    let first = asked.next().unwrap().strip_prefix("> ").unwrap();
    let (target, note) = first.split_once("   [").unwrap();
    let (method, path) = target.split_once(' ').unwrap();
    let agent = note.split_once("User-Agent: ").map(|(_, agent)| agent.trim_end_matches(']').to_owned());
    let body = asked.map(|line| line.strip_prefix("> ").unwrap_or("")).collect::<Vec<_>>().join("\n");
    let (head, mut answer) = answered.split_once("\n\n").unwrap_or((answered, ""));
    answer = answer.trim_end_matches('\n');
    let body_text = if newline { format!("{answer}\n") } else { answer.to_owned() };
    Exchange {
        section: section.to_owned(),
        title: title.to_owned(),
        request: Request::Http { method: method.to_owned(), path: path.to_owned(), body, agent },
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        content_type: head.contains("Content-Type: text/plain; charset=utf-8"),
        nosniff: head.contains("X-Content-Type-Options: nosniff"),
        body: body_text,
    }
}

fn console(section: &str, title: &str, block: &str) -> Exchange {
    let (command, rest) = block.split_once('\n').unwrap();
    let arguments = command.strip_prefix("$ convoy ").unwrap();
    let arguments = arguments.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect();
    let (exit, rest) = rest.split_once('\n').unwrap();
    let exit = exit.trim_start_matches("[exit ").trim_end_matches(']').parse().unwrap();
    let stdout = rest.split_once('\n').map_or("", |(_, stdout)| stdout);
    let stdout = stdout.split("\n--- stderr").next().unwrap();
    Exchange {
        section: section.to_owned(),
        title: title.to_owned(),
        request: Request::Cli(arguments),
        status: exit,
        content_type: false,
        nosniff: false,
        body: format!("{stdout}\n"),
    }
}
