//! Answers of convoy 0.5, asked again of the daemon under test.
//!
//! A recording is Markdown: `console` blocks with a command line, its exit status and output, and `http`
//! blocks with a request and its answer. What differs from run to run (times, generated names, directories)
//! is made alike on both sides before they are compared; a generated name that was recorded stands for the
//! one generated now.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// One question and what 0.5 answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// A command line.
    Command {
        /// The words after `convoy`.
        words: Vec<String>,
        /// The exit status.
        status: i32,
        /// What it printed.
        stdout: String,
    },
    /// A request on the socket.
    Request {
        /// The HTTP method.
        method: String,
        /// The path with its query.
        path: String,
        /// A header line, if one was added.
        header: Option<String>,
        /// The body of the answer.
        body: String,
        /// The HTTP status.
        status: u16,
        /// What came back.
        answer: String,
    },
}

impl Exchange {
    /// The question as one line, by which a test names it.
    pub fn question(&self) -> String {
        match self {
            Self::Command { words, .. } => format!("convoy {}", words.join(" ")).trim_end().to_owned(),
            Self::Request { method, path, body, .. } => {
                format!("{method} {path} {body}").trim_end().to_owned()
            }
        }
    }

    /// What 0.5 answered, status first.
    pub fn answer(&self) -> (i32, &str) {
        match self {
            Self::Command { status, stdout, .. } => (*status, stdout),
            Self::Request { status, answer, .. } => (i32::from(*status), answer),
        }
    }
}

/// Reads a recording.
///
/// # Errors
/// [`Error::Unexpected`] for a block that is not understood.
pub fn parse(text: &str) -> Result<Vec<Exchange>> {
    let mut exchanges = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let console = line == "```console";
        if !console && line != "```http" {
            continue;
        }
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let parsed = if console { command(&block) } else { request(&block) };
        exchanges
            .push(parsed.ok_or_else(|| Error::Unexpected(format!("a block not understood: {block:#?}")))?);
    }
    Ok(exchanges)
}

fn command(block: &[&str]) -> Option<Exchange> {
    let words = split_words(block.first()?.strip_prefix("$ convoy")?);
    let status = block.get(1)?.strip_prefix("[exit ")?.strip_suffix(']')?.parse().ok()?;
    let rest = block.get(2..)?;
    let rest = rest.get(1..).unwrap_or_default();
    let end = rest.iter().position(|line| line.starts_with("--- stderr")).unwrap_or(rest.len());
    let mut stdout = rest.get(..end)?.join("\n");
    if !rest.is_empty() {
        stdout.push('\n');
    }
    Some(Exchange::Command { words, status, stdout })
}

fn request(block: &[&str]) -> Option<Exchange> {
    let line = block.first()?.strip_prefix("> ")?;
    let (request, comment) = line.split_once("   [").unwrap_or((line, ""));
    let (method, path) = request.split_once(' ')?;
    let header =
        comment.find("User-Agent").and_then(|at| comment.get(at..)?.strip_suffix(']')).map(str::to_owned);
    let body = block.get(1)?.strip_prefix("> ").unwrap_or_default().to_owned();
    let answer = block.iter().position(|line| line.starts_with("< HTTP/1.1 "))?;
    let status = block.get(answer)?.split(' ').nth(2)?.parse().ok()?;
    let blank = answer + block.get(answer..)?.iter().position(|line| line.is_empty())?;
    let answer = block.get(blank + 1..)?.join("\n");
    Some(Exchange::Request { method: method.to_owned(), path: path.to_owned(), header, body, status, answer })
}

/// Splits a command line at spaces; single quotes keep a word together.
fn split_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// What makes a recorded text and one of now alike.
#[derive(Debug, Default)]
pub struct Translation {
    places: Vec<(String, String)>,
    names: BTreeMap<String, String>,
}

impl Translation {
    /// A translation of directories, from the recorded to those of now.
    pub fn new(places: &[(&str, &str)]) -> Self {
        let places = places.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        Self { places, names: BTreeMap::new() }
    }

    /// A recorded question, for now.
    pub fn question(&self, recorded: &str) -> String {
        self.places
            .iter()
            .map(|(from, to)| (from, to))
            .chain(&self.names)
            .fold(recorded.to_owned(), |text, (from, to)| text.replace(from.as_str(), to.as_str()))
    }

    /// Learns which generated names of now stand for the recorded ones.
    pub fn learn(&mut self, recorded: &str, now: &str) {
        let unknown: Vec<_> =
            generated(recorded).into_iter().filter(|name| !self.names.contains_key(*name)).collect();
        let new: Vec<_> = generated(now)
            .into_iter()
            .filter(|name| !self.names.values().any(|known| known == name))
            .collect();
        for (from, to) in unknown.into_iter().zip(new) {
            self.names.insert(from.to_owned(), to.to_owned());
        }
    }

    /// An answer, with times, directories and generated names as they were recorded.
    pub fn answer(&self, now: &str) -> String {
        let names = self.names.iter().map(|(from, to)| (to, from));
        let text = self
            .places
            .iter()
            .map(|(from, to)| (to, from))
            .chain(names)
            .fold(now.to_owned(), |text, (from, to)| text.replace(from.as_str(), to.as_str()));
        without_times(&text)
    }
}

/// Whether two answers are the same. Generated names sort differently from run to run, so with such names in
/// them the order of the lines is not compared.
pub fn same(recorded: &str, now: &str) -> bool {
    if recorded == now {
        return true;
    }
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(|line| line.trim_end_matches(',').to_owned()).collect();
        lines.sort();
        lines
    };
    generated(recorded).len() > 1 && sorted(recorded) == sorted(now)
}

/// Replaces every time by a word.
pub fn without_times(text: &str) -> String {
    const ZONE: &str = " +0000 ";
    let mut rest = text;
    let mut plain = String::new();
    while let Some(at) = rest.find(ZONE) {
        let start = at.saturating_sub("Mon Nov 23 08:38:07".len());
        let end = at + ZONE.len() + "2026".len();
        let (Some(before), Some(after)) = (rest.get(..start), rest.get(end..)) else { break };
        plain.push_str(before);
        plain.push_str("TIME");
        rest = after;
    }
    plain.push_str(rest);
    plain
}

/// The generated names in a text, each once, in order.
fn generated(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for (at, _) in text.char_indices() {
        let Some(rest) = text.get(at..) else { continue };
        for prefix in ["volume-", "snapshot-", "backup-"] {
            let length = prefix.len() + 16;
            let Some(name) = rest.starts_with(prefix).then(|| rest.get(..length)).flatten() else { continue };
            let digits = name.get(prefix.len()..).unwrap_or_default();
            if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Exchange, Translation, parse, same, without_times};

    #[test]
    fn a_command_and_a_request_are_read() {
        let text = "x\n```console\n$ convoy create 'a b' --size 1G\n[exit 1]\n--- stdout (3 bytes)\nno\n\
                    --- stderr (1 bytes)\nno\n```\n\n```http\n> GET /v1/x   [curl; User-Agent: Convoy-Client/2]\n\
                    > {}\n\n< HTTP/1.1 404 Not Found\n< A: b\n\n{\n}\n```\n";
        let exchanges = parse(text).expect("a recording");
        let words = ["create", "a b", "--size", "1G"].map(str::to_owned).to_vec();
        assert_eq!(exchanges[0], Exchange::Command { words, status: 1, stdout: "no\n".to_owned() });
        let Exchange::Request { header, body, status, answer, .. } = &exchanges[1] else { unreachable!() };
        assert_eq!(header.as_deref(), Some("User-Agent: Convoy-Client/2"));
        assert_eq!((body.as_str(), *status, answer.as_str()), ("{}", 404, "{\n}"));
    }

    #[test]
    fn names_and_times_are_made_alike() {
        let mut translation = Translation::new(&[("/srv/volumes", "/tmp/x")]);
        let recorded = "volume-0000000000000001";
        translation.learn(recorded, "volume-00000000000000ff");
        assert_eq!(
            translation.question("inspect volume-0000000000000001"),
            "inspect volume-00000000000000ff"
        );
        let now = "volume-00000000000000ff at /tmp/x, Mon Nov 23 08:38:07 +0000 2026";
        assert_eq!(translation.answer(now), "volume-0000000000000001 at /srv/volumes, TIME");
        assert_eq!(without_times("no time"), "no time");
        assert!(!same("a\nb", "b\na"));
    }
}
